//! What can go wrong with what stands around a cluster.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with what was being done, and what to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is none.
    #[error("{given:?} is no address: write {wanted}")]
    Address {
        /// What was given.
        given: String,
        /// What it should look like.
        wanted: &'static str,
    },
    /// A server cannot be reached, or broke off.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the connection says.
        why: String,
    },
    /// A server refused what it was told.
    #[error("{server} refuses {what}: {why}")]
    Refused {
        /// Its address.
        server: String,
        /// What it was to do.
        what: String,
        /// What it says.
        why: String,
    },
    /// A migration that was applied is not what the binary has now.
    #[error("migration {name} was changed after it was applied: write a new one instead")]
    MigrationChanged {
        /// Its file.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// `read`, `write`, `create`, `delete`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A program cannot be started, or ended early.
    #[error("{program}: {why}")]
    Program {
        /// Its name.
        program: String,
        /// What happened.
        why: String,
    },
    /// Something is not as it must be for a command.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// For a file that could not be handled.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
