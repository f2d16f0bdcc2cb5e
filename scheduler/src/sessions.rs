//! Client sessions: who it is, and what was SET. Kept in the store, so that any scheduler can serve any request.
//!
//! ```text
//! handshake ──create──▶ store ──watch──▶ mirror at every scheduler ──find──▶ each request
//! SET, RESET ──change─▶   │                    ▲
//!                         └── a miss, or no watch: read through
//! ```
//!
//! A session ends a day after its last use, or when it is closed. A change is seen at once where it was made, and at
//! other schedulers as soon as their watch has it.

mod mirror;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prost::Message;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::SessionId;
use springald_core::telemetry::events::names;
use springald_proto::records::SessionRecord;
use tokio_util::task::AbortOnDropHandle;

use self::mirror::{Known, Mirror};
use crate::clock;
use crate::follow::{Update, follow};
use crate::store::{Change, Committed, Condition, Entry, StateStore, Transaction};

const PREFIX: &str = "sessions/";

/// How long a session lives after its last use.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A use of a session prolongs it when its last prolongation is this long ago.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// How often ended sessions are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Most sessions of a cluster at one time.
const MAX_SESSIONS: usize = 100_000;

/// How often a change is tried when other requests change the same session.
const ATTEMPTS: usize = 10;

/// Longest user name, in bytes.
const MAX_USER_BYTES: usize = 128;

/// The user of requests that name none.
pub const ANONYMOUS: &str = "anonymous";

/// A client's session as of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id, which is also the token that requests carry: not to be shown to others.
    pub id: SessionId,
    /// Whose it is.
    pub user: String,
    /// What was SET: names in lower case, as given to DataFusion or starting with `springald.`.
    pub settings: BTreeMap<String, String>,
    /// False for a request without a session: nothing of it lasts.
    pub kept: bool,
}

/// All sessions of the cluster.
#[derive(Debug)]
pub struct Sessions {
    shared: Arc<Shared>,
    _watch: AbortOnDropHandle<()>,
    _sweep: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn StateStore>,
    mirror: RwLock<Mirror>,
}

impl Sessions {
    /// The sessions in `store`.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn open(store: Arc<dyn StateStore>) -> Result<Arc<Self>> {
        let shared = Arc::new(Shared { store: Arc::clone(&store), mirror: RwLock::default() });
        let target = Arc::clone(&shared);
        let watch = follow(store, PREFIX, move |update| target.update(update)).await?;
        let sweep = AbortOnDropHandle::new(tokio::spawn(sweep(Arc::clone(&shared))));
        Ok(Arc::new(Self { shared, _watch: watch, _sweep: sweep }))
    }

    /// A new session of `user`.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] for an impossible user name, [`ErrorCode::ResourcesExhausted`] if there are too many.
    pub async fn create(&self, user: &str) -> Result<Arc<Session>> {
        check_user(user)?;
        if self.shared.mirror.read().len() >= MAX_SESSIONS {
            return Err(Error::new(
                ErrorCode::ResourcesExhausted,
                format!("there are {MAX_SESSIONS} sessions already: clients should close theirs"),
            ));
        }
        let id = SessionId::generate();
        let record = SessionRecord {
            session_id: id.to_string(),
            user: user.to_owned(),
            expires_micros: now_micros() + micros(LIFETIME),
            ..SessionRecord::default()
        };
        let condition = Condition::Absent { key: key(&id) };
        match self.shared.write(&id, &record, condition).await? {
            Some(session) => Ok(session),
            None => Err(Error::internal("two sessions were given the same id")),
        }
    }

    /// A session for one request that has none.
    pub fn anonymous(&self, user: &str) -> Arc<Session> {
        let settings = BTreeMap::new();
        Arc::new(Session { id: SessionId::generate(), user: user.to_owned(), settings, kept: false })
    }

    /// The session with this id, and prolongs it.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] if it has ended or never was.
    pub async fn find(&self, id: &SessionId) -> Result<Arc<Session>> {
        let known = self.shared.known(id).await?;
        let now = now_micros();
        if known.expires_micros <= now {
            return Err(ended());
        }
        if known.expires_micros - now < micros(LIFETIME) - micros(RENEW_AFTER) {
            // Not worth failing the request: the next one tries again.
            if let Err(error) = self.change(id, |_| Ok(())).await {
                tracing::debug!(event = names::SESSION_NOT_PROLONGED, %error, "a session could not be prolonged");
            }
        }
        Ok(known.session)
    }

    /// Changes a setting, for the session's requests from now on.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] for an unknown name, a value that does not fit, or a request without a session.
    pub async fn set(&self, session: &Session, name: &str, value: &str) -> Result<()> {
        let name = settings::check(name, value)?;
        self.check_kept(session, "SET")?;
        self.change(&session.id, |record| {
            settings::put(&mut record.settings, &name, value);
            Ok(())
        })
        .await
    }

    /// Takes back what was SET: one name, or everything with `None`.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] for an unknown name or a request without a session.
    pub async fn reset(&self, session: &Session, name: Option<&str>) -> Result<()> {
        let name = name.map(settings::known).transpose()?;
        self.check_kept(session, "RESET")?;
        self.change(&session.id, |record| {
            match &name {
                Some(name) => drop(record.settings.remove(name)),
                None => record.settings.clear(),
            }
            Ok(())
        })
        .await
    }

    /// Ends a session. No error if it has ended already.
    pub async fn close(&self, id: &SessionId) -> Result<()> {
        self.shared.remove(id, None).await
    }

    fn check_kept(&self, session: &Session, statement: &str) -> Result<()> {
        if session.kept {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{statement} needs a session: do a handshake first and send the token it answers with (drivers do so when \
             given a user name and a password; any will do)"
        )))
    }

    async fn change(&self, id: &SessionId, edit: impl Fn(&mut SessionRecord) -> Result<()>) -> Result<()> {
        let key = key(id);
        for _ in 0..ATTEMPTS {
            let entry = self.shared.store.get(&key).await?.ok_or_else(ended)?;
            let mut record = decode(&entry)?;
            edit(&mut record)?;
            record.expires_micros = now_micros() + micros(LIFETIME);
            let condition = Condition::Unchanged { key: key.clone(), mod_revision: entry.mod_revision };
            if self.shared.write(id, &record, condition).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::unavailable("the session is being changed by other requests all the time; try again"))
    }
}

// === impl Shared ===

impl Shared {
    fn update(&self, update: Update) {
        self.mirror.write().update(update);
    }

    async fn known(&self, id: &SessionId) -> Result<Known> {
        let key = key(id);
        if let Some(known) = self.mirror.read().get(&key) {
            return Ok(known);
        }
        let entry = self.store.get(&key).await?.ok_or_else(ended)?;
        let known = Known::decode(&entry)?;
        self.mirror.write().put(&entry);
        Ok(known)
    }

    /// Writes the session if `condition` holds.
    async fn write(
        &self,
        id: &SessionId,
        record: &SessionRecord,
        condition: Condition,
    ) -> Result<Option<Arc<Session>>> {
        let key = key(id);
        let value = bytes::Bytes::from(record.encode_to_vec());
        let put = Change::Put { key: key.clone(), value: value.clone(), lease: None };
        let transaction = Transaction { conditions: vec![condition], changes: vec![put] };
        let Committed::Yes { revision } = self.store.transact(transaction).await? else { return Ok(None) };
        let entry = Entry { key, value, mod_revision: revision };
        self.mirror.write().put(&entry);
        Ok(Some(Known::decode(&entry)?.session))
    }

    /// Removes the session, if it still has that revision.
    async fn remove(&self, id: &SessionId, revision: Option<u64>) -> Result<()> {
        let key = key(id);
        let conditions =
            revision.map(|mod_revision| Condition::Unchanged { key: key.clone(), mod_revision }).into_iter().collect();
        let transaction = Transaction { conditions, changes: vec![Change::Delete { key: key.clone() }] };
        if let Committed::Yes { .. } = self.store.transact(transaction).await? {
            self.mirror.write().remove(&key);
        }
        Ok(())
    }
}

/// Removes ended sessions. Every scheduler does; the revision keeps a session that was used just now.
async fn sweep(shared: Arc<Shared>) {
    loop {
        clock::sleep(SWEEP_EVERY).await;
        let ended = shared.mirror.read().ended(now_micros());
        for (id, revision) in ended {
            if let Err(error) = shared.remove(&id, Some(revision)).await {
                tracing::warn!(event = names::SESSION_NOT_REMOVED, %error, "an ended session could not be removed yet");
                break;
            }
        }
    }
}

fn key(id: &SessionId) -> String {
    format!("{PREFIX}{id}")
}

fn decode(entry: &Entry) -> Result<SessionRecord> {
    SessionRecord::decode(entry.value.as_ref())
        .map_err(|error| Error::internal("a session's record is damaged").with_source(error))
}

fn ended() -> Error {
    Error::not_found("the session has ended: connect again")
}

fn now_micros() -> i64 {
    clock::micros_since_epoch()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A user name becomes part of records and events: plain text, not too long.
pub(crate) fn check_user(user: &str) -> Result<()> {
    if user.is_empty() || user.len() > MAX_USER_BYTES || user.chars().any(char::is_control) {
        return Err(Error::invalid(format!("a user name has 1 to {MAX_USER_BYTES} bytes and no control characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    async fn two_schedulers() -> (Arc<Sessions>, Arc<Sessions>) {
        let store: Arc<dyn StateStore> = Arc::new(EmbeddedStore::in_memory().expect("store"));
        let one = Sessions::open(Arc::clone(&store)).await.expect("one");
        (one, Sessions::open(store).await.expect("other"))
    }

    #[tokio::test]
    async fn given_a_session_made_at_one_scheduler_the_other_knows_it_and_what_was_set() {
        let (one, other) = two_schedulers().await;
        let session = one.create("ann").await.expect("session");
        one.set(&session, "springald.Partitions", "8").await.expect("set");
        one.set(&session, "datafusion.execution.batch_size", "100").await.expect("set");
        let found = one.find(&session.id).await.expect("found where it was set");
        assert_eq!(found.settings["springald.partitions"], "8");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while other.find(&session.id).await.expect("found elsewhere").settings.len() != 2 {
            assert!(std::time::Instant::now() < deadline, "the other scheduler never saw the settings");
            tokio::task::yield_now().await;
        }
        assert_eq!(found.user, "ann");
    }

    #[tokio::test]
    async fn given_reset_one_setting_or_all_are_gone() {
        let (sessions, _) = two_schedulers().await;
        let session = sessions.create("ann").await.expect("session");
        for (name, value) in [("springald.partitions", "8"), ("springald.deadline", "30s")] {
            sessions.set(&session, name, value).await.expect(name);
        }
        sessions.reset(&session, Some("springald.partitions")).await.expect("reset one");
        let left = sessions.find(&session.id).await.expect("found").settings.clone();
        assert_eq!(left.into_keys().collect::<Vec<_>>(), ["springald.deadline"]);
        sessions.reset(&session, None).await.expect("reset all");
        assert!(sessions.find(&session.id).await.expect("found").settings.is_empty());
    }

    #[tokio::test]
    async fn given_a_request_without_a_session_set_says_how_to_get_one() {
        let (sessions, _) = two_schedulers().await;
        let error = sessions.set(&sessions.anonymous("ann"), "springald.partitions", "8").await.expect_err("anonymous");
        assert_eq!(error.code(), ErrorCode::Invalid);
        assert!(error.message().starts_with("SET needs a session"), "{error}");
    }

    #[tokio::test]
    async fn given_a_closed_session_or_one_past_its_time_it_is_gone_everywhere() {
        let (one, other) = two_schedulers().await;
        let session = one.create("ann").await.expect("session");
        other.find(&session.id).await.expect("known to the other");
        one.close(&session.id).await.expect("close");
        assert_eq!(one.find(&session.id).await.expect_err("closed").code(), ErrorCode::NotFound);
        one.close(&session.id).await.expect("twice is fine");

        let old = SessionId::generate();
        let record = SessionRecord { session_id: old.to_string(), expires_micros: 1, ..SessionRecord::default() };
        let written = one.shared.write(&old, &record, Condition::Absent { key: key(&old) }).await.expect("write");
        assert!(written.is_some());
        assert_eq!(one.find(&old).await.expect_err("past its time").code(), ErrorCode::NotFound);
        assert!(one.shared.mirror.read().ended(now_micros()).iter().any(|(id, _)| *id == old));
    }

    #[tokio::test]
    async fn given_a_user_name_that_could_break_a_log_line_it_is_refused() {
        let (sessions, _) = two_schedulers().await;
        for bad in ["", "a\nb", "x".repeat(200).as_str()] {
            assert_eq!(sessions.create(bad).await.expect_err("bad name").code(), ErrorCode::Invalid);
        }
    }
}
