//! The changes below a prefix since a revision, across broken connections.
//!
//! ```text
//!            ┌────────────── connection ends ───────────────┐
//!            ▼                                              │
//! (re)open from `next` ──▶ responses ──▶ `ready` ──▶ reader
//! ```
//!
//! Nothing runs unless the reader asks: a slow reader holds back etcd's own stream, which etcd buffers within its
//! history. If that is compacted meanwhile the watch ends with an error, and never with a gap.
//!
//! A member that hangs breaks no connection: when there is nothing new for a while, the reader's wait is used to ask it
//! whether it is there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use springald_core::error::{Error, Result};
use springald_core::telemetry::events::names;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Backoff, Connection, MAX_ANSWER_BYTES, Repeat};
use super::failure::{may_pass, translate};
use super::keys::{range_end, revision};
use super::members::Turn;
use crate::store::WatchEvent;

/// After so long without a word etcd is asked for one, and given up after as long again.
const QUIET: Duration = Duration::from_millis(750);

/// Since when, and how, the watch has been without a healthy connection.
struct Broken {
    since: Instant,
    backoff: Backoff,
    last: Error,
}

pub(super) struct Changes {
    connection: Arc<Connection>,
    /// Full prefix of the watched keys.
    prefix: String,
    /// The first revision that the reader has not been given.
    next: i64,
    stream: Option<WatchStream>,
    /// Whose turn it was when the stream was opened.
    turn: Turn,
    /// Events that were received and not yet asked for: at most one answer of etcd.
    ready: VecDeque<WatchEvent>,
    broken: Option<Broken>,
    /// etcd was asked whether it is there, and has not answered yet.
    asked: bool,
    over: bool,
}

impl Changes {
    /// Opens the watch at revision `next`. `prefix` is below the cluster's.
    pub(super) async fn open(connection: Arc<Connection>, prefix: &str, next: i64) -> Result<Self> {
        let prefix = connection.keys.full(prefix);
        let (stream, ready, broken) = (None, VecDeque::new(), None);
        let turn = connection.members.turn();
        let mut changes = Self { connection, prefix, next, stream, turn, ready, broken, asked: false, over: false };
        changes.stream = Some(changes.open_stream().await?);
        Ok(changes)
    }

    /// The stream that the reader gets. It ends after its first error.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<WatchEvent>> {
        stream::unfold(self, |mut changes| async move { Some((changes.next_event().await?, changes)) }).boxed()
    }

    async fn next_event(&mut self) -> Option<Result<WatchEvent>> {
        while !self.over {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if let Err(error) = self.advance().await {
                self.over = true;
                return Some(Err(error));
            }
        }
        None
    }

    /// Takes one answer of etcd, or one step towards a new connection.
    async fn advance(&mut self) -> Result<()> {
        let Some(mut stream) = self.stream.take() else {
            return self.reopen().await;
        };
        let answer = match timeout(QUIET, stream.message()).await {
            Ok(answer) => answer,
            Err(_) if self.asked => return self.broke(Error::unavailable("etcd does not answer on the watch")),
            Err(_) => return self.ask(stream).await,
        };
        match answer {
            Ok(Some(answer)) if answer.canceled() => self.cancelled(&answer),
            Ok(Some(answer)) => {
                self.stream = Some(stream);
                self.broken = None;
                self.accept(&answer)
            }
            Ok(None) => self.broke(Error::unavailable("etcd ended the watch")),
            Err(error) => self.broke(translate("watching", &self.connection.endpoints, error)),
        }
    }

    /// Asks etcd for a sign of life.
    async fn ask(&mut self, mut stream: WatchStream) -> Result<()> {
        match timeout(QUIET, stream.request_progress()).await {
            Ok(Ok(())) => {
                (self.asked, self.stream) = (true, Some(stream));
                Ok(())
            }
            Ok(Err(error)) => self.broke(translate("watching", &self.connection.endpoints, error)),
            Err(_) => self.broke(Error::unavailable("etcd takes no requests on the watch")),
        }
    }

    fn accept(&mut self, answer: &WatchResponse) -> Result<()> {
        for event in answer.events() {
            self.accept_event(event)?;
        }
        // An answer without events, other than that to the request, says that there was nothing up to its revision. What
        // etcd answers when it is asked does not (before 3.5.8): events up to there may still be under way.
        let asked = std::mem::take(&mut self.asked);
        if answer.events().is_empty() && !answer.created() && !asked {
            let seen = answer.header().map_or(0, |header| header.revision());
            self.next = self.next.max(seen + 1);
        }
        Ok(())
    }

    fn accept_event(&mut self, event: &Event) -> Result<()> {
        let found = event.kv().ok_or_else(|| Error::internal("etcd sent a watch event without a key"))?;
        let changed = match event.event_type() {
            EventType::Put => WatchEvent::Put(self.connection.keys.entry(found.clone())?),
            EventType::Delete => WatchEvent::Deleted {
                key: self.connection.keys.stripped(found.key())?,
                revision: revision(found.mod_revision())?,
            },
        };
        self.next = self.next.max(found.mod_revision() + 1);
        self.ready.push_back(changed);
        Ok(())
    }

    fn cancelled(&mut self, answer: &WatchResponse) -> Result<()> {
        if answer.compact_revision() > 0 {
            return Err(Error::unavailable(format!(
                "etcd at {} has compacted its history up to revision {}, past revision {} of the watch: watch anew",
                self.connection.endpoints,
                answer.compact_revision(),
                self.next
            )));
        }
        // A cancelled watch may be a token that has expired: reopening gets a new one, or the error that lasts.
        self.broke(Error::unavailable(format!("etcd cancelled the watch: {}", answer.cancel_reason())))
    }

    /// Notes that there is no connection; an error when that cannot change.
    fn broke(&mut self, error: Error) -> Result<()> {
        if !may_pass(&error) {
            return Err(error);
        }
        self.asked = false;
        self.connection.members.pass(self.turn);
        tracing::debug!(event = names::STORE_WATCH_BROKEN, %error, prefix = self.prefix, "a watch lost its connection to etcd");
        match &mut self.broken {
            Some(broken) => broken.last = error,
            None => self.broken = Some(Broken { since: Instant::now(), backoff: Backoff::new(), last: error }),
        }
        Ok(())
    }

    async fn reopen(&mut self) -> Result<()> {
        if let Some(broken) = &mut self.broken {
            let bound = self.connection.reconnect_deadline;
            if broken.since.elapsed() >= bound {
                return Err(broken.last.clone().context(format!("the watch could not be resumed within {bound:?}")));
            }
            sleep(broken.backoff.next()).await;
        }
        match self.open_stream().await {
            Ok(stream) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => self.broke(error),
        }
    }

    async fn open_stream(&mut self) -> Result<WatchStream> {
        let deadline = self.connection.deadline();
        if self.broken.is_some() {
            // etcd refuses a stale token inside the stream, where the client does not renew it; here it does.
            let options = GetOptions::new().with_keys_only().with_limit(1).with_range(range_end(&self.prefix));
            self.connection.range("watching", self.prefix.as_bytes(), &options, deadline).await?;
        }
        let attempt = || {
            let mut client = self.connection.client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES);
            let options = WatchOptions::new()
                .with_range(range_end(&self.prefix))
                .with_start_revision(self.next)
                .with_progress_notify();
            let key = self.prefix.clone();
            async move { client.watch(key, Some(options)).await }
        };
        let stream = self.connection.call("watching", Repeat::Always, deadline, attempt).await?;
        self.turn = self.connection.members.turn();
        Ok(stream)
    }
}
