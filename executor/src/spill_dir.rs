//! The directory of this process for spilled data, and what earlier processes left behind.
//!
//! ```text
//!   <executor.spill_dir>/
//!     springald-<executor id>.lock    held with an OS file lock while the process lives
//!     springald-<executor id>/
//!       operators/                    DataFusion's operators
//!       exchange/<job>/               pieces of stage outputs
//! ```
//!
//! The lock is taken before the directory is made and given up after it is gone, so a directory whose lock is free has
//! no owner: the sweep at start deletes it. No clock and no process id is asked. A directory without a lock file was not
//! made here, whatever its name, and is left alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::ExecutorId;
use springald_core::telemetry::events::names;

const PREFIX: &str = "springald-";
const LOCK_SUFFIX: &str = ".lock";

/// How often a lock file that the sweep of another process deleted at the same moment is made anew.
const LOCK_ATTEMPTS: usize = 10;

/// The spill directory of this process; deleted when dropped.
#[derive(Debug)]
pub(crate) struct SpillDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Kept open: the operating system gives the lock up with the last handle, however the process ends.
    _lock: File,
}

impl SpillDir {
    /// Deletes what dead processes left in `parent` (empty: the system's temporary directory), then makes the
    /// directory of executor `id` there.
    pub(crate) fn create(parent: &Path, id: &ExecutorId) -> Result<Self> {
        let parent = if parent.as_os_str().is_empty() { std::env::temp_dir() } else { parent.to_owned() };
        let problem = |doing: &str, error: io::Error| {
            Error::new(
                ErrorCode::Unavailable,
                format!("{doing} in {} (setting executor.spill_dir): {error}", parent.display()),
            )
            .with_source(error)
        };
        std::fs::create_dir_all(&parent).map_err(|error| problem("making the spill directory", error))?;
        sweep(&parent);
        let lock_path = parent.join(format!("{PREFIX}{id}{LOCK_SUFFIX}"));
        let lock = take_lock(&lock_path).map_err(|error| problem("locking the spill directory", error))?;
        let path = parent.join(format!("{PREFIX}{id}"));
        let made = Self { path, lock_path, _lock: lock };
        for below in [made.operators(), made.exchange()] {
            std::fs::create_dir_all(below).map_err(|error| problem("making the spill directory", error))?;
        }
        Ok(made)
    }

    /// For DataFusion's operators.
    pub(crate) fn operators(&self) -> PathBuf {
        self.path.join("operators")
    }

    /// For the exchange.
    pub(crate) fn exchange(&self) -> PathBuf {
        self.path.join("exchange")
    }
}

impl Drop for SpillDir {
    fn drop(&mut self) {
        let gone = remove_dir(&self.path).and_then(|()| std::fs::remove_file(&self.lock_path));
        if let Err(error) = gone {
            tracing::warn!(event = names::SPILL_DIRECTORY_KEPT, directory = %self.path.display(), %error, "could not delete the spill directory");
        }
    }
}

/// Opens and locks the file at `path`. A sweep may delete the file between opening and locking; then the lock is on
/// a file that nobody else can see, and it is taken again.
fn take_lock(path: &Path) -> io::Result<File> {
    for _ in 0..LOCK_ATTEMPTS {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another executor with the same id uses it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let visible = std::fs::metadata(path).and_then(|seen| Ok(seen.ino() == file.metadata()?.ino()));
        if visible.unwrap_or(false) {
            return Ok(file);
        }
    }
    Err(io::Error::other("its lock file is deleted again and again"))
}

/// Deletes the directories in `parent` whose owner is dead. What cannot be deleted is left and said.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(stem) = name.strip_suffix(LOCK_SUFFIX) else { continue };
        match sweep_locked(&parent.join(stem), &entry.path()) {
            Ok(true) => tracing::info!(
                event = names::SPILL_ORPHAN_DELETED,
                directory = name,
                "deleted the spill directory of a dead executor"
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(event = names::SPILL_DIRECTORY_KEPT, directory = name, %error, "could not delete an orphaned spill directory")
            }
        }
    }
}

/// Deletes `directory` and its lock file if nobody holds the lock; says whether it did.
fn sweep_locked(directory: &Path, lock_path: &Path) -> io::Result<bool> {
    let lock = OpenOptions::new().write(true).open(lock_path)?;
    match lock.try_lock() {
        Ok(()) => {
            remove_dir(directory)?;
            std::fs::remove_file(lock_path)?;
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ExecutorId {
        text.parse().expect("a valid id")
    }

    #[test]
    fn given_a_dead_and_a_living_owner_when_an_executor_starts_then_only_the_dead_ones_data_goes() {
        let parent = tempfile::tempdir().expect("a directory");
        let living = SpillDir::create(parent.path(), &id("living")).expect("created");
        let dead = parent.path().join("springald-dead");
        std::fs::create_dir_all(dead.join("exchange/j")).expect("made");
        std::fs::write(dead.join("exchange/j/1-0-0-0.arrow"), b"x").expect("written");
        std::fs::write(parent.path().join("springald-dead.lock"), b"").expect("written");
        let foreign = ["springald-data", "somebody-elses"].map(|name| parent.path().join(name));
        foreign.iter().for_each(|directory| std::fs::create_dir(directory).expect("made"));

        let new = SpillDir::create(parent.path(), &id("new")).expect("created");

        assert!(!dead.exists() && !parent.path().join("springald-dead.lock").exists());
        assert!(living.exchange().exists() && new.operators().exists());
        assert!(foreign.iter().all(|directory| directory.exists()));
    }

    #[test]
    fn given_a_spill_directory_when_dropped_then_nothing_remains() {
        let parent = tempfile::tempdir().expect("a directory");
        drop(SpillDir::create(parent.path(), &id("e1")).expect("created"));
        assert_eq!(std::fs::read_dir(parent.path()).expect("readable").count(), 0);
    }

    #[test]
    fn given_an_id_in_use_when_created_again_then_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let _first = SpillDir::create(parent.path(), &id("e1")).expect("created");
        let error = SpillDir::create(parent.path(), &id("e1")).expect_err("the id is in use");
        assert!(error.message().contains("same id"), "{error}");
    }
}
