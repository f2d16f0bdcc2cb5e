//! The sessions as this scheduler knows them: a pure value.

use std::collections::HashMap;
use std::sync::Arc;

use springald_core::error::Result;
use springald_core::ids::SessionId;
use springald_core::telemetry::events::names;

use super::{PREFIX, Session, decode};
use crate::follow::Update;
use crate::store::{Entry, WatchEvent};

/// A session as of one revision of its record.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) session: Arc<Session>,
    pub(super) expires_micros: i64,
    revision: u64,
}

impl Known {
    pub(super) fn decode(entry: &Entry) -> Result<Self> {
        let record = decode(entry)?;
        let id: SessionId = entry.key.strip_prefix(PREFIX).unwrap_or_default().parse()?;
        let settings = record.settings.into_iter().collect();
        let session = Arc::new(Session { id, user: record.user, settings, kept: true });
        Ok(Self { session, expires_micros: record.expires_micros, revision: entry.mod_revision })
    }
}

/// All sessions, by key.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    sessions: HashMap<String, Known>,
    /// Changes are arriving: what is here is what is stored.
    live: bool,
}

impl Mirror {
    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Snapshot { entries, .. } => {
                self.sessions.clear();
                entries.iter().for_each(|entry| self.put(entry));
                self.live = true;
            }
            Update::Event(WatchEvent::Put(entry)) => self.put(&entry),
            Update::Event(WatchEvent::Deleted { key, .. }) => self.remove(&key),
            Update::Lost => self.live = false,
        }
    }

    /// Takes in an entry, unless something newer is known.
    pub(super) fn put(&mut self, entry: &Entry) {
        match Known::decode(entry) {
            Ok(known) if self.sessions.get(&entry.key).is_none_or(|old| old.revision < known.revision) => {
                self.sessions.insert(entry.key.clone(), known);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(event = names::SESSION_UNUSABLE, %error, "a session cannot be used"),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.sessions.remove(key);
    }

    /// The session, if what is known of it can be relied on.
    pub(super) fn get(&self, key: &str) -> Option<Known> {
        if self.live { self.sessions.get(key).cloned() } else { None }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions whose time is over, with their revisions.
    pub(super) fn ended(&self, now_micros: i64) -> Vec<(SessionId, u64)> {
        let ended = self.sessions.values().filter(|known| known.expires_micros <= now_micros);
        ended.map(|known| (known.session.id.clone(), known.revision)).collect()
    }
}
