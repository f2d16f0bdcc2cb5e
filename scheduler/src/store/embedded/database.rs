//! The state store's tables in redb: blocking calls, no leases' clocks, no watches.
//!
//! ```text
//! entries   key            → (revision of its last change, lease or 0, value)
//! attached  (lease, key)   → ()       the keys of a lease, side by side
//! counters  name           → number   "revision": the last one given; "format": the layout of these tables
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use springald_core::error::{Error, ErrorCode, Result};

use crate::store::{Change, Condition, Entry, LeaseId, Transaction, WatchEvent};

type EntryValue<'a> = (u64, i64, &'a [u8]);

const ENTRIES: TableDefinition<'_, &str, EntryValue<'static>> = TableDefinition::new("entries");
const ATTACHED: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("attached");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

const REVISION: &str = "revision";
const FORMAT: &str = "format";

/// The layout that this version writes, and the newest it reads.
const CURRENT_FORMAT: u64 = 1;

/// Stands for "no lease" in an entry.
const NO_LEASE: i64 = 0;

/// Page cache of a file; the state of a cluster is small.
const FILE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// In memory the pages are there already, and the cache holds second copies.
const MEMORY_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// What became of a transaction.
pub(super) enum Outcome {
    /// It is durable. `revision` is the store's newest; there are no events when nothing was to be changed.
    Committed { revision: u64, events: Vec<WatchEvent> },
    /// A condition did not hold.
    Refused,
    /// It puts a key under a lease that has ended.
    LeaseEnded(LeaseId),
}

/// A redb database with the store's tables.
pub(super) struct Database {
    redb: redb::Database,
    /// For messages; `None` when in memory.
    file: Option<PathBuf>,
}

impl Database {
    /// An empty database in memory.
    pub(super) fn in_memory() -> Result<Self> {
        let redb = Builder::new()
            .set_cache_size(MEMORY_CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| Error::internal("creating the state store in memory").with_source(error))?;
        Self { redb, file: None }.prepared()
    }

    /// The database in `file`, which is created if it does not exist. Keys that were attached to leases are removed:
    /// the process that held the leases is gone.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let handle = open_private(file).map_err(|error| {
            Error::invalid(format!("opening the state store {}: {error}", file.display())).with_source(error)
        })?;
        let redb = Builder::new()
            .set_cache_size(FILE_CACHE_BYTES)
            .create_with_backend(FileBackend::new(handle).map_err(|error| open_error(file, error))?)
            .map_err(|error| open_error(file, error))?;
        Self { redb, file: Some(file.to_owned()) }.prepared()
    }

    /// `None` when in memory.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>> {
        let read = || -> Result<_, redb::Error> {
            let entries = self.redb.begin_read()?.open_table(ENTRIES)?;
            Ok(entries.get(key)?.map(|found| entry(key, found.value())))
        };
        read().map_err(|error| self.failed("reading", error))
    }

    /// The revision of the last change.
    pub(super) fn revision(&self) -> Result<u64> {
        let read = || -> Result<_, redb::Error> {
            Ok(self.redb.begin_read()?.open_table(COUNTERS)?.get(REVISION)?.map_or(0, |stored| stored.value()))
        };
        read().map_err(|error| self.failed("reading", error))
    }

    /// Entries below `prefix` and after `after`, in key order, at most `limit`.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        let read = || -> Result<_, redb::Error> {
            let start = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix),
            };
            let entries = self.redb.begin_read()?.open_table(ENTRIES)?;
            let mut listed = Vec::new();
            for found in entries.range::<&str>((start, Bound::Unbounded))?.take(limit) {
                let (key, value) = found?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                listed.push(entry(key.value(), value.value()));
            }
            Ok(listed)
        };
        read().map_err(|error| self.failed("listing", error))
    }

    /// Carries out a transaction; `is_live` tells which leases keys may be attached to.
    pub(super) fn transact(&self, transaction: &Transaction, is_live: impl Fn(LeaseId) -> bool) -> Result<Outcome> {
        self.change(|tables| {
            if !tables.all_hold(&transaction.conditions)? {
                return Ok(Outcome::Refused);
            }
            if let Some(ended) = leases_of(&transaction.changes).find(|lease| !is_live(*lease)) {
                return Ok(Outcome::LeaseEnded(ended));
            }
            tables.apply(&transaction.changes)
        })
    }

    /// Removes the keys that are attached to a lease.
    pub(super) fn remove_attached(&self, lease: LeaseId) -> Result<Outcome> {
        self.change(|tables| {
            let keys = tables.attached_keys(Some(lease))?;
            tables.apply(&deletes(keys))
        })
    }

    /// Creates the tables if they are missing, and clears what only a living process may hold.
    fn prepared(self) -> Result<Self> {
        let format = self.format().map_err(|error| self.failed("opening", error))?;
        if format > CURRENT_FORMAT {
            return Err(Error::unsupported(format!(
                "the state store {} was written by a newer version (format {format}, this version reads up to \
                 {CURRENT_FORMAT})",
                self.name()
            )));
        }
        self.change(|tables| {
            let keys = tables.attached_keys(None)?;
            tables.apply(&deletes(keys))
        })?;
        Ok(self)
    }

    /// The layout that the file has; creates the tables in a new one.
    fn format(&self) -> Result<u64, redb::Error> {
        let write = self.redb.begin_write()?;
        let format = {
            let mut tables = Tables::open(&write)?;
            let stored = tables.counters.get(FORMAT)?.map(|stored| stored.value());
            if stored.is_none() {
                tables.counters.insert(FORMAT, CURRENT_FORMAT)?;
            }
            stored.unwrap_or(CURRENT_FORMAT)
        };
        write.commit()?;
        Ok(format)
    }

    /// Runs `body` in a write transaction and makes its events durable (redb's default: before `commit` returns).
    fn change(&self, body: impl FnOnce(&mut Tables<'_>) -> Result<Outcome, redb::Error>) -> Result<Outcome> {
        let write = || -> Result<_, redb::Error> {
            let write = self.redb.begin_write()?;
            let outcome = body(&mut Tables::open(&write)?)?;
            match &outcome {
                Outcome::Committed { events, .. } if !events.is_empty() => write.commit()?,
                _ => write.abort()?,
            }
            Ok(outcome)
        };
        write().map_err(|error| self.failed("writing", error))
    }

    fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "in memory".to_owned(), |file| file.display().to_string())
    }

    fn failed(&self, doing: &str, error: redb::Error) -> Error {
        let code = match &error {
            redb::Error::Io(io) if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                ErrorCode::ResourcesExhausted
            }
            redb::Error::Io(_) | redb::Error::PreviousIo => ErrorCode::Unavailable,
            _ => ErrorCode::Internal,
        };
        Error::new(code, format!("{doing} the state store {}: {error}", self.name())).with_source(error)
    }
}

// === impl Tables ===

struct Tables<'t> {
    entries: Table<'t, &'static str, EntryValue<'static>>,
    attached: Table<'t, (i64, &'static str), ()>,
    counters: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(write: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: write.open_table(ENTRIES)?,
            attached: write.open_table(ATTACHED)?,
            counters: write.open_table(COUNTERS)?,
        })
    }

    fn all_hold(&self, conditions: &[Condition]) -> Result<bool, redb::Error> {
        for condition in conditions {
            let holds = match condition {
                Condition::Unchanged { key, mod_revision } => self.revision_of(key)? == Some(*mod_revision),
                Condition::Absent { key } => self.revision_of(key)?.is_none(),
                Condition::Present { key } => self.revision_of(key)?.is_some(),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn revision_of(&self, key: &str) -> Result<Option<u64>, redb::Error> {
        Ok(self.entries.get(key)?.map(|found| found.value().0))
    }

    /// Makes the changes under one new revision; keeps the old one when there was nothing to change.
    fn apply(&mut self, changes: &[Change]) -> Result<Outcome, redb::Error> {
        let last = self.counters.get(REVISION)?.map_or(0, |stored| stored.value());
        let revision = last + 1;
        let mut events = Vec::new();
        for change in changes {
            match change {
                Change::Put { key, value, lease } => events.push(self.put(key, value, *lease, revision)?),
                Change::Delete { key } => events.extend(self.delete(key, revision)?),
                Change::DeletePrefix { prefix } => {
                    for key in self.keys_below(prefix)? {
                        events.extend(self.delete(&key, revision)?);
                    }
                }
            }
        }
        if events.is_empty() {
            return Ok(Outcome::Committed { revision: last, events });
        }
        self.counters.insert(REVISION, revision)?;
        Ok(Outcome::Committed { revision, events })
    }

    fn put(
        &mut self,
        key: &str,
        value: &Bytes,
        lease: Option<LeaseId>,
        revision: u64,
    ) -> Result<WatchEvent, redb::Error> {
        let lease = lease.map_or(NO_LEASE, |lease| lease.0);
        let replaced = self.entries.insert(key, (revision, lease, value.as_ref()))?.map(|old| old.value().1);
        if let Some(old) = replaced.filter(|old| *old != NO_LEASE) {
            self.attached.remove((old, key))?;
        }
        if lease != NO_LEASE {
            self.attached.insert((lease, key), ())?;
        }
        Ok(WatchEvent::Put(Entry { key: key.to_owned(), value: value.clone(), mod_revision: revision }))
    }

    /// `None` if the key does not exist.
    fn delete(&mut self, key: &str, revision: u64) -> Result<Option<WatchEvent>, redb::Error> {
        let Some(lease) = self.entries.remove(key)?.map(|old| old.value().1) else {
            return Ok(None);
        };
        if lease != NO_LEASE {
            self.attached.remove((lease, key))?;
        }
        Ok(Some(WatchEvent::Deleted { key: key.to_owned(), revision }))
    }

    fn keys_below(&self, prefix: &str) -> Result<Vec<String>, redb::Error> {
        let mut keys = Vec::new();
        for found in self.entries.range::<&str>(prefix..)? {
            let (key, _) = found?;
            if !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_owned());
        }
        Ok(keys)
    }

    /// The keys that are attached to a lease, or to any.
    fn attached_keys(&self, lease: Option<LeaseId>) -> Result<Vec<String>, redb::Error> {
        let start = lease.map_or(i64::MIN, |lease| lease.0);
        let mut keys = Vec::new();
        for found in self.attached.range::<(i64, &str)>((start, "")..)? {
            let (attached, ()) = found.map(|(key, value)| (key, value.value()))?;
            let (of, key) = attached.value();
            if lease.is_some_and(|lease| lease.0 != of) {
                break;
            }
            keys.push(key.to_owned());
        }
        Ok(keys)
    }
}

// === helpers ===

fn entry(key: &str, (mod_revision, _, value): EntryValue<'_>) -> Entry {
    Entry { key: key.to_owned(), value: Bytes::copy_from_slice(value), mod_revision }
}

fn leases_of(changes: &[Change]) -> impl Iterator<Item = LeaseId> + '_ {
    changes.iter().filter_map(|change| match change {
        Change::Put { lease, .. } => *lease,
        Change::Delete { .. } | Change::DeletePrefix { .. } => None,
    })
}

fn deletes(keys: Vec<String>) -> Vec<Change> {
    keys.into_iter().map(|key| Change::Delete { key }).collect()
}

/// Opens or creates the file and its directory. It will hold the cluster's users: nobody else may read it.
fn open_private(file: &Path) -> std::io::Result<File> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

fn open_error(file: &Path, error: DatabaseError) -> Error {
    let file = file.display();
    let refused = match &error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Error::unavailable(format!("the state store {file} is in use by another process"))
        }
        DatabaseError::UpgradeRequired(format) => {
            Error::unsupported(format!("the state store {file} has an old file format ({format})"))
        }
        other => Error::invalid(format!("{file} cannot be opened as a state store: {other}")),
    };
    refused.with_source(error)
}
