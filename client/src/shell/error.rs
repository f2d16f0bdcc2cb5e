//! What can end a statement, or the shell.

use std::io;

use arrow::error::ArrowError;

use crate::error::ClientError;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// There is no session.
    #[error("error: [{code}] {0}", code = .0.code())]
    Connect(ClientError),
    /// A statement failed.
    #[error("error: [{code}] {0}", code = .0.code())]
    Statement(#[from] ClientError),
    /// The user pressed Ctrl-C.
    #[error("cancelled")]
    Cancelled,
    /// The result could not be written.
    #[error("error: cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// What was asked of the shell makes no sense.
    #[error("error: {0}")]
    Usage(String),
}

impl From<ArrowError> for ShellError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => ShellError::Output(error),
            error => ShellError::Output(io::Error::other(error)),
        }
    }
}
