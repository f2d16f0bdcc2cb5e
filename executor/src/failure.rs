//! What went wrong in a task, as the scheduler is told.

use std::any::Any;

use datafusion::error::DataFusionError;
use springald_core::error::{Error, ErrorCode, FailureClass, InputLost, classify, find_source};
use springald_proto::control;
use tokio::task::JoinError;

/// The failure of a task that ended with `error`.
pub(crate) fn failed(error: DataFusionError) -> control::Failed {
    let class = class(&error);
    let lost = find_source::<InputLost>(&error).map(|lost| control::LostInput {
        stage: lost.task.stage.0,
        task: lost.task.task,
        attempt: lost.task.attempt,
        executor_id: lost.executor.to_string(),
    });
    let error = Error::from(error);
    control::Failed {
        class: proto_class(class).into(),
        code: error.code().as_str().to_owned(),
        message: error.message().to_owned(),
        lost,
    }
}

/// As the core says; what is unavailable now may be there later.
fn class(error: &DataFusionError) -> FailureClass {
    match find_source::<Error>(error).map(Error::code) {
        Some(ErrorCode::Unavailable) => FailureClass::Transient,
        _ => classify(error),
    }
}

fn proto_class(class: FailureClass) -> control::FailureClass {
    match class {
        FailureClass::Transient => control::FailureClass::Transient,
        FailureClass::InputLost => control::FailureClass::InputLost,
        FailureClass::ExecutorLost => control::FailureClass::ExecutorLost,
        FailureClass::OutOfMemory => control::FailureClass::OutOfMemory,
        FailureClass::Fatal => control::FailureClass::Fatal,
    }
}

/// The error of a task that panicked (or was stopped from outside).
pub(crate) fn from_join_error(error: JoinError) -> DataFusionError {
    let message = match error.try_into_panic() {
        Ok(panic) => format!("operator panicked: {}", panic_message(panic.as_ref())),
        Err(error) => format!("the task was broken off: {error}"),
    };
    Error::new(ErrorCode::Query, message).into()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use springald_core::ids::{StageId, TaskId};

    use super::*;

    #[test]
    fn given_lost_input_below_wrappers_when_reported_then_whose_it_was() {
        let task = TaskId { stage: StageId(3), task: 4, attempt: 5 };
        let executor = "e-1".parse().expect("valid");
        let lost = InputLost { task, executor, reason: "connection refused".to_owned() };
        let error = DataFusionError::External(Box::new(lost)).context("collecting a build side");
        let failed = failed(DataFusionError::Shared(Arc::new(error)));
        assert_eq!(failed.class(), control::FailureClass::InputLost);
        let lost = failed.lost.expect("whose");
        assert_eq!((lost.stage, lost.task, lost.attempt, lost.executor_id.as_str()), (3, 4, 5, "e-1"));
    }

    #[test]
    fn given_errors_when_reported_then_class_and_code_follow_from_their_kind() {
        let cases = [
            (
                DataFusionError::ResourcesExhausted("m".into()),
                control::FailureClass::OutOfMemory,
                "RESOURCES_EXHAUSTED",
            ),
            (DataFusionError::Execution("division by zero".into()), control::FailureClass::Fatal, "QUERY"),
            (Error::unavailable("no plan").into(), control::FailureClass::Transient, "UNAVAILABLE"),
        ];
        for (error, class, code) in cases {
            let failed = failed(error);
            assert_eq!((failed.class(), failed.code), (class, format!("SPRINGALD_{code}")));
        }
    }
}
