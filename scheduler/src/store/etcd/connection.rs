//! Calls to etcd with a deadline: what may be tried again is, what may have happened is not.

use std::time::Duration;

use etcd_client::{Channel, Client, Error as EtcdError, GetOptions, GetResponse, KvClient};
use springald_core::error::{Error, Result};
use springald_core::telemetry::events::names;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::util::BoxCloneSyncService;

use super::failure::{has_old_token, may_pass, never_sent, translate};
use super::keys::{Keys, just_after, range_end, revision};
use super::members::Members;
use super::options::EtcdOptions;
use crate::store::Entry;

/// Entries per request. Listings are read in pages of one revision, so that no answer is over [`MAX_ANSWER_BYTES`].
const PAGE_ENTRIES: usize = 128;

/// Largest answer taken from etcd: a page of entries as large as etcd's default settings allow (1.5 MiB).
pub(super) const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// So many members that hang can be tried within the time for a call.
const ATTEMPTS: u32 = 5;

/// When a call may be tried again after an error that may pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is as good as once.
    Always,
    /// Only when the request cannot have reached etcd.
    IfNeverSent,
}

/// Growing pauses between tries.
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(500);

    pub(super) fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The pause before the next try.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// A connection to the etcd members.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) members: Members,
    kv: KvClient,
    pub(super) keys: Keys,
    /// The members, as messages name them.
    pub(super) endpoints: String,
    pub(super) request_timeout: Duration,
    /// How long a watch waits for etcd to come back.
    pub(super) reconnect_deadline: Duration,
}

impl Connection {
    /// Connects, and waits until etcd answers or the options' deadline has passed.
    pub(super) async fn establish(options: &EtcdOptions) -> Result<Self> {
        let members = Members::new(&options.to_endpoints()?);
        let endpoints = options.endpoint_names();
        let client = first_answer(options, &members, &endpoints).await?;
        let kv = client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self {
            client,
            members,
            kv,
            keys: Keys::below(&options.prefix),
            endpoints,
            request_timeout: options.request_timeout,
            reconnect_deadline: options.connect_deadline,
        })
    }

    pub(super) fn kv(&self) -> KvClient {
        self.kv.clone()
    }

    /// When a call that starts now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.request_timeout
    }

    /// How long one member may take for one answer.
    pub(super) fn attempt_timeout(&self) -> Duration {
        self.request_timeout / ATTEMPTS
    }

    /// Makes a call, again if that is allowed and helps, until `deadline`.
    pub(super) async fn call<T, F>(
        &self,
        doing: &str,
        repeat: Repeat,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        let mut backoff = Backoff::new();
        loop {
            let until = match repeat {
                Repeat::Always => deadline.min(Instant::now() + self.attempt_timeout()),
                Repeat::IfNeverSent => deadline,
            };
            let turn = self.members.turn();
            let elsewhere = async {
                // Others may be too slow here for what this one asks.
                sleep(self.attempt_timeout() / 2).await;
                self.members.passed(turn).await;
            };
            let answer = tokio::select! {
                biased;
                answer = timeout_at(until, attempt()) => answer.ok(),
                // Somebody else has found that this member hangs.
                () = elsewhere, if repeat == Repeat::Always => continue,
            };
            let error = match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => error,
                // A member that hangs must not use up the time: another one may answer.
                None => {
                    self.members.pass(turn);
                    if until < deadline {
                        continue;
                    }
                    return Err(self.too_slow(doing));
                }
            };
            // Refused before anything was done: users or roles were changed since the token was given out.
            let outdated = has_old_token(&error);
            if outdated {
                let _ = timeout_at(until, self.client.refresh_token()).await;
            }
            let again = repeat == Repeat::Always || outdated || never_sent(&error);
            let error = translate(doing, &self.endpoints, error);
            if may_pass(&error) && !outdated {
                self.members.pass(turn);
            }
            let pause = backoff.next();
            if !again || !may_pass(&error) || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Entries below `prefix` and after `after`, at most `limit`, all of one revision, and that revision.
    pub(super) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<(Vec<Entry>, u64)> {
        let prefix = self.keys.full(prefix);
        let end = range_end(&prefix);
        let mut start = match after.map(|after| self.keys.full(after)) {
            Some(after) if after >= prefix => just_after(&after),
            _ => prefix.into_bytes(),
        };
        let deadline = self.deadline();
        let mut listed = Vec::new();
        let mut at_revision = 0;
        loop {
            let page = PAGE_ENTRIES.min(limit - listed.len());
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(i64::try_from(page).unwrap_or(i64::MAX))
                .with_revision(at_revision);
            let mut answer = self.range("listing", &start, &options, deadline).await?;
            at_revision = header_revision(answer.header())?;
            for found in answer.take_kvs() {
                start = just_after(found.key_str().unwrap_or_default());
                listed.push(self.keys.entry(found)?);
            }
            if !answer.more() || listed.len() >= limit {
                return Ok((listed, revision(at_revision)?));
            }
        }
    }

    /// One range request.
    pub(super) async fn range(
        &self,
        doing: &str,
        key: &[u8],
        options: &GetOptions,
        deadline: Instant,
    ) -> Result<GetResponse> {
        let attempt = || {
            let (mut kv, key, options) = (self.kv(), key.to_vec(), options.clone());
            async move { kv.get(key, Some(options)).await }
        };
        self.call(doing, Repeat::Always, deadline, attempt).await
    }

    fn too_slow(&self, doing: &str) -> Error {
        Error::unavailable(format!(
            "{doing} state in etcd at {}: no answer within {:?}",
            self.endpoints, self.request_timeout
        ))
    }
}

/// The revision in an answer's header, which etcd always sends.
pub(super) fn header_revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64> {
    header.map(|header| header.revision()).ok_or_else(|| Error::internal("etcd answered without a header"))
}

/// A client that etcd has answered once. Tries until the deadline; errors that cannot pass end it at once.
async fn first_answer(options: &EtcdOptions, members: &Members, endpoints: &str) -> Result<Client> {
    let client_options = options.to_client();
    let deadline = Instant::now() + options.connect_deadline;
    let mut backoff = Backoff::new();
    let mut waiting_was_said = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let turn = members.turn();
        let attempt = async {
            let channel = Channel::Custom(BoxCloneSyncService::new(members.clone()));
            let mut client = Client::from_channel(channel, Some(client_options.clone())).await?;
            client.get(options.prefix.as_bytes(), None).await?;
            Ok(client)
        };
        let error = match timeout((options.request_timeout / 2).min(left), attempt).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => translate("looking for", endpoints, error),
            Err(_) => Error::unavailable(format!("looking for state in etcd at {endpoints}: no answer")),
        };
        if !may_pass(&error) {
            return Err(error);
        }
        members.pass(turn);
        let pause = backoff.next();
        if Instant::now() + pause >= deadline {
            return Err(error.context(format!("etcd did not answer within {:?}", options.connect_deadline)));
        }
        if !waiting_was_said {
            tracing::warn!(event = names::STORE_WAITING, %error, deadline_millis = options.connect_deadline.as_millis() as u64, "waiting for etcd");
            waiting_was_said = true;
        }
        sleep(pause).await;
    }
}
