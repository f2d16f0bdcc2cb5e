//! What went wrong in a task, as the scheduler is told.

use std::io;

use datafusion::error::DataFusionError;
use springald_core::compute::panicked;
use springald_core::error::{Error, ErrorCode, FailureClass, InputLost, classify, find_source};
use springald_core::text;
use springald_proto::control;
use tokio::task::JoinError;

/// The failure of a task that ended with `error`. Of a message that quotes megabytes of data, the beginning has to do.
pub(crate) fn failed(error: DataFusionError) -> control::Failed {
    let error = naming_settings(error);
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
        message: text::head(error.message().to_owned(), text::FAILURE_BYTES),
        lost,
    }
}

/// The class's name in events.
pub(crate) fn class_name(class: control::FailureClass) -> &'static str {
    let known = match class {
        control::FailureClass::Transient => FailureClass::Transient,
        control::FailureClass::InputLost => FailureClass::InputLost,
        control::FailureClass::ExecutorLost => FailureClass::ExecutorLost,
        control::FailureClass::OutOfMemory => FailureClass::OutOfMemory,
        control::FailureClass::Fatal | control::FailureClass::Unspecified => FailureClass::Fatal,
    };
    known.as_str()
}

/// What DataFusion's disk manager says when its limit is reached: in words only, and with a setting that is not ours.
const OPERATORS_LIMIT: &str = "datafusion.runtime.max_temp_directory_size";

/// The error with the settings to change, where the disk for spilled data takes no more: to operators that is one error
/// of input and output among others.
fn naming_settings(error: DataFusionError) -> DataFusionError {
    let Some(source) = find_source::<io::Error>(&error) else { return error };
    if is_full(source) {
        let message = format!(
            "{}. The disk for spilled data is full: executor.spill_dir says where it is, executor.spill_limit how much is \
             spilled at most",
            error.strip_backtrace()
        );
        return Error::new(ErrorCode::ResourcesExhausted, message).with_source(error).into();
    }
    if source.to_string().contains(OPERATORS_LIMIT) {
        let message = "an operator spills more than there is room for on disk (setting executor.spill_limit)";
        return DataFusionError::ResourcesExhausted(message.to_owned());
    }
    error
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// As the core says; what is unavailable now may be there later, and a disk that is full may be so here only.
fn class(error: &DataFusionError) -> FailureClass {
    match find_source::<Error>(error).map(Error::code) {
        Some(ErrorCode::Unavailable) => FailureClass::Transient,
        Some(ErrorCode::ResourcesExhausted) if find_source::<io::Error>(error).is_some_and(is_full) => {
            FailureClass::Transient
        }
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
        Ok(panic) => return panicked(panic.as_ref()).into(),
        Err(error) => format!("the task was broken off: {error}"),
    };
    Error::new(ErrorCode::Query, message).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::error::ArrowError;
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
    fn given_an_error_that_quotes_a_large_value_when_reported_then_its_beginning_is() {
        let error =
            ArrowError::CastError(format!("Cannot cast string '{}' to value of Int64 type", "x".repeat(2 << 20)));
        let failed = failed(error.into());
        assert_eq!(failed.class(), control::FailureClass::Fatal);
        assert!(failed.message.contains("Cannot cast string 'xxx"), "{}", failed.message);
        assert!(failed.message.ends_with("bytes in all)") && failed.message.len() <= text::FAILURE_BYTES);
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
            (
                DataFusionError::IoError(io::Error::from(io::ErrorKind::StorageFull)).context("sorting"),
                control::FailureClass::Transient,
                "RESOURCES_EXHAUSTED",
            ),
            (
                ArrowError::from(io::Error::other(format!("too much, see {OPERATORS_LIMIT}"))).into(),
                control::FailureClass::OutOfMemory,
                "RESOURCES_EXHAUSTED",
            ),
        ];
        for (error, class, code) in cases {
            let failed = failed(error);
            assert_eq!((failed.class(), failed.code), (class, format!("SPRINGALD_{code}")));
        }
    }
}
