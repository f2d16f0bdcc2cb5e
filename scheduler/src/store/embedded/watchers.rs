//! Hands committed changes to the watches of this process.
//!
//! ```text
//! transaction ──▶ Watchers ──(prefix matches?)──▶ bounded queue ──▶ change stream of one watch
//! ```
//!
//! A queue never makes a writer wait: when a reader falls behind by more than [`QUEUE_EVENTS`], the last slot of its
//! queue takes an error item and the watch is over.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use springald_core::error::{Error, Result};
use tokio::sync::mpsc;

use crate::store::WatchEvent;

/// How many events a watch may be behind its store.
pub(super) const QUEUE_EVENTS: usize = 4096;

struct Watcher {
    prefix: String,
    queue: mpsc::Sender<Result<WatchEvent>>,
}

/// The open watches. Used under the store's writer lock, so that queues get events in the order of revisions.
#[derive(Default)]
pub(super) struct Watchers {
    open: Vec<Watcher>,
}

impl Watchers {
    /// A stream of the events below `prefix` that are published from now on.
    pub(super) fn open(&mut self, prefix: &str) -> BoxStream<'static, Result<WatchEvent>> {
        self.open.retain(|watcher| !watcher.queue.is_closed());
        // One slot more, for the error that ends a lagging watch.
        let (queue, events) = mpsc::channel(QUEUE_EVENTS + 1);
        self.open.push(Watcher { prefix: prefix.to_owned(), queue });
        change_stream(events)
    }

    pub(super) fn publish(&mut self, events: &[WatchEvent]) {
        self.open.retain(|watcher| events.iter().all(|event| watcher.offer(event)));
    }
}

impl Watcher {
    /// False when the watch is over.
    fn offer(&self, event: &WatchEvent) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        if !key_of(event).starts_with(&self.prefix) {
            return true;
        }
        if self.queue.capacity() > 1 {
            return self.queue.try_send(Ok(event.clone())).is_ok();
        }
        let lagging = Error::unavailable(format!(
            "the watch of {:?} is more than {QUEUE_EVENTS} changes behind the state store: watch anew",
            self.prefix
        ));
        // If the reader has gone meanwhile there is nobody to tell.
        let _ = self.queue.try_send(Err(lagging));
        false
    }
}

fn key_of(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Put(entry) => &entry.key,
        WatchEvent::Deleted { key, .. } => key,
    }
}

/// The queue as a stream that ends after its first error, and never without one.
fn change_stream(events: mpsc::Receiver<Result<WatchEvent>>) -> BoxStream<'static, Result<WatchEvent>> {
    stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        match events.recv().await {
            Some(Ok(event)) => Some((Ok(event), Some(events))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(Error::unavailable("the state store was closed")), None)),
        }
    })
    .boxed()
}
