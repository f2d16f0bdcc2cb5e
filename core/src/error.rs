//! The error that every room speaks, and the failure classes that decide what happens next.
//!
//! An [`Error`] has a stable [`ErrorCode`] that clients can match on, a message that says what was being done and
//! what the user can change, and the cause. Whether work is tried again is decided by [`FailureClass`] alone,
//! never by looking at message text.

use std::sync::Arc;
use std::{fmt, io};

use datafusion::error::DataFusionError;

use crate::secrets;

/// Result with Springald's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Stable name of a kind of error. The documentation explains each; clients may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request itself is wrong: SQL, a setting, an id, a ticket.
    Invalid,
    /// What was named does not exist (any more).
    NotFound,
    /// What is to be made exists already.
    AlreadyExists,
    /// A valid request for something that Springald does not do.
    Unsupported,
    /// The query's own error while it ran: a cast, a division by zero, a bad file.
    Query,
    /// Memory, disk, queue or connection limit reached.
    ResourcesExhausted,
    /// A peer, the store or the executors cannot be reached now; the same request may succeed later.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The client or an operator cancelled it.
    Cancelled,
    /// This process no longer owns what it tried to change.
    Fenced,
    /// A defect of Springald.
    Internal,
}

impl ErrorCode {
    /// The name shown to users: `SPRINGALD_…`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "SPRINGALD_INVALID",
            Self::NotFound => "SPRINGALD_NOT_FOUND",
            Self::AlreadyExists => "SPRINGALD_ALREADY_EXISTS",
            Self::Unsupported => "SPRINGALD_UNSUPPORTED",
            Self::Query => "SPRINGALD_QUERY",
            Self::ResourcesExhausted => "SPRINGALD_RESOURCES_EXHAUSTED",
            Self::Unavailable => "SPRINGALD_UNAVAILABLE",
            Self::DeadlineExceeded => "SPRINGALD_DEADLINE_EXCEEDED",
            Self::Cancelled => "SPRINGALD_CANCELLED",
            Self::Fenced => "SPRINGALD_FENCED",
            Self::Internal => "SPRINGALD_INTERNAL",
        }
    }

    /// The code with that name; `Internal` for one this version does not know.
    pub fn from_name(name: &str) -> Self {
        const ALL: [ErrorCode; 10] = [
            ErrorCode::Invalid,
            ErrorCode::NotFound,
            ErrorCode::AlreadyExists,
            ErrorCode::Unsupported,
            ErrorCode::Query,
            ErrorCode::ResourcesExhausted,
            ErrorCode::Unavailable,
            ErrorCode::DeadlineExceeded,
            ErrorCode::Cancelled,
            ErrorCode::Fenced,
        ];
        ALL.into_iter().find(|code| code.as_str() == name).unwrap_or(Self::Internal)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a failed task means for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureClass {
    /// May pass elsewhere or later: a broken connection, a full disk on one node.
    Transient,
    /// An input partition could not be fetched: its producer runs again, the reader is not to blame.
    InputLost,
    /// The executor that ran it is gone.
    ExecutorLost,
    /// The operator could not reserve memory: tried again with fewer neighbours.
    OutOfMemory,
    /// The query's own error; trying again gives the same.
    Fatal,
}

impl FailureClass {
    /// Its name in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::InputLost => "input_lost",
            Self::ExecutorLost => "executor_lost",
            Self::OutOfMemory => "out_of_memory",
            Self::Fatal => "fatal",
        }
    }
}

/// An error with a stable code, a message for the user, and its cause.
#[derive(Clone, Debug)]
pub struct Error {
    code: ErrorCode,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that says `message`: what was being done, what went wrong, what the user can change. Secrets in it are
    /// replaced: errors are shown everywhere.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: secrets::owned(message.into()), source: None }
    }

    /// [`ErrorCode::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// [`ErrorCode::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// [`ErrorCode::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    /// [`ErrorCode::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Keeps `source` as the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts what was being done before the message: `reading table t: …`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{}: {}", secrets::text(&doing.to_string()), self.message);
        self
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The message without the code.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        if let Some(own) = find_source::<Error>(&error) {
            return own.clone();
        }
        let code = code_of(&error);
        Self::new(code, error.strip_backtrace()).with_source(error)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        use tonic::Code;
        let code = match error.code {
            ErrorCode::Invalid | ErrorCode::Query => Code::InvalidArgument,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::AlreadyExists => Code::AlreadyExists,
            ErrorCode::Unsupported => Code::Unimplemented,
            ErrorCode::ResourcesExhausted => Code::ResourceExhausted,
            ErrorCode::Unavailable | ErrorCode::Fenced => Code::Unavailable,
            ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
            ErrorCode::Cancelled => Code::Cancelled,
            ErrorCode::Internal => Code::Internal,
        };
        let mut status = tonic::Status::new(code, format!("[{}] {}", error.code, error.message));
        if let Ok(value) = error.code.as_str().parse() {
            status.metadata_mut().insert(ERROR_CODE_HEADER, value);
        }
        status
    }
}

/// gRPC trailer that carries the [`ErrorCode`] of a failed call.
pub const ERROR_CODE_HEADER: &str = "springald-error-code";

/// Searches an error and its causes for one of type `T`.
pub fn find_source<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        // What an I/O error is made of is not its source: it speaks for it.
        let within = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match within {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => current.source(),
        };
    }
    None
}

/// The root of a DataFusion error decides its code: wrappers only add context.
fn code_of(error: &DataFusionError) -> ErrorCode {
    match error.find_root() {
        DataFusionError::Plan(_) | DataFusionError::SQL(..) | DataFusionError::SchemaError(..) => ErrorCode::Invalid,
        DataFusionError::Configuration(_) => ErrorCode::Invalid,
        DataFusionError::NotImplemented(_) => ErrorCode::Unsupported,
        DataFusionError::ResourcesExhausted(_) => ErrorCode::ResourcesExhausted,
        DataFusionError::Internal(_) => ErrorCode::Internal,
        _ => ErrorCode::Query,
    }
}

/// How a failure inside a task is to be handled.
pub fn classify(error: &DataFusionError) -> FailureClass {
    if find_source::<InputLost>(error).is_some() {
        return FailureClass::InputLost;
    }
    if let DataFusionError::ResourcesExhausted(_) = error.find_root() {
        return FailureClass::OutOfMemory;
    }
    // Readers of files wrap what a store says in errors of their own. A store's error comes before what caused it.
    let may_pass = match (find_source::<object_store::Error>(error), find_source::<io::Error>(error)) {
        (Some(store), _) => store_may_recover(store),
        (None, Some(system)) => system_may_recover(system),
        (None, None) => false,
    };
    if may_pass { FailureClass::Transient } else { FailureClass::Fatal }
}

/// Everything else that a store says of a file is said again the next time.
fn store_may_recover(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
}

/// False if what was read makes no sense. All other troubles (connections, disks, missing scratch files) are those of
/// one moment or one node.
fn system_may_recover(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof, Unsupported};
    !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | Unsupported)
}

/// A piece of a stage's output that a reader could not fetch: which task wrote it, and where it was.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not fetch the output of task {task} from executor {executor}: {reason}")]
pub struct InputLost {
    /// The task attempt whose output is gone.
    pub task: crate::ids::TaskId,
    /// The executor that should have held it.
    pub executor: crate::ids::ExecutorId,
    /// What the fetch said.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use datafusion::parquet::errors::ParquetError;

    use super::*;

    /// The ways in which readers of files pass on what a store says.
    const READERS: [fn(object_store::Error) -> DataFusionError; 4] = [
        |store| DataFusionError::ObjectStore(Box::new(store)),
        |store| DataFusionError::ParquetError(Box::new(ParquetError::from(store))).context("reading a page"),
        |store| ArrowError::ExternalError(Box::new(DataFusionError::ObjectStore(Box::new(store)))).into(),
        |store| DataFusionError::IoError(io::Error::other(DataFusionError::ObjectStore(Box::new(store)))),
    ];

    #[test]
    fn given_a_store_that_breaks_off_when_its_error_is_classified_then_it_may_pass_whatever_reader_it_came_through() {
        for reader in READERS {
            let error = reader(object_store::Error::Generic { store: "S3", source: "connection closed".into() });
            assert_eq!(classify(&error), FailureClass::Transient, "{error:?}");
        }
    }

    #[test]
    fn given_a_store_that_refuses_when_its_error_is_classified_then_it_is_final() {
        let path = || "a.parquet".to_owned();
        let refusals: [fn(String) -> object_store::Error; 3] = [
            |path| object_store::Error::NotFound { path, source: "404".into() },
            |path| object_store::Error::PermissionDenied { path, source: "403".into() },
            |path| object_store::Error::Precondition { path, source: "it has changed".into() },
        ];
        for (reader, refusal) in READERS.into_iter().flat_map(|reader| refusals.map(|refusal| (reader, refusal))) {
            let error = reader(refusal(path()));
            assert_eq!(classify(&error), FailureClass::Fatal, "{error:?}");
        }
    }

    #[test]
    fn given_errors_of_input_and_output_when_classified_then_only_those_of_what_was_read_are_final() {
        let class = |kind: io::ErrorKind| classify(&ArrowError::from(io::Error::from(kind)).into());
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::StorageFull, io::ErrorKind::NotFound] {
            assert_eq!(class(kind), FailureClass::Transient, "{kind}");
        }
        for kind in [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::UnexpectedEof] {
            assert_eq!(class(kind), FailureClass::Fatal, "{kind}");
        }
    }

    #[test]
    fn given_errors_of_the_query_itself_when_classified_then_trying_again_is_no_use() {
        let malformed = DataFusionError::ParquetError(Box::new(ParquetError::General("no magic number".to_owned())));
        for error in [DataFusionError::Execution("division by zero".to_owned()), malformed] {
            assert_eq!(classify(&error), FailureClass::Fatal, "{error:?}");
        }
        assert_eq!(classify(&DataFusionError::ResourcesExhausted(String::new())), FailureClass::OutOfMemory);
    }
}
