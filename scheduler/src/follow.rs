//! Keeps something in memory equal to a prefix of the state store, across lost watches.
//!
//! ```text
//! watch ──▶ Snapshot ──▶ Event, Event, … ──▶ Lost ──(back-off)──▶ watch ──▶ Snapshot …
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use springald_core::error::Result;
use springald_core::telemetry::events::names;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::metrics::springald_store as metrics;
use crate::store::{Entry, StateStore, Watch, WatchEvent};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a follower is told.
#[derive(Debug)]
pub enum Update {
    /// The whole content, in place of all that was said before.
    Snapshot {
        /// All keys below the prefix.
        entries: Vec<Entry>,
        /// The store's revision at that time.
        revision: u64,
    },
    /// One change to it.
    Event(WatchEvent),
    /// Changes are not seen until the next snapshot.
    Lost,
}

/// Reads all of `prefix` into `apply`, then keeps it informed for as long as the handle lives.
///
/// # Errors
/// Those of the first watch. Later ones are logged, and the watch is tried again for ever, with a growing pause.
pub async fn follow(
    store: Arc<dyn StateStore>,
    prefix: &'static str,
    mut apply: impl FnMut(Update) + Send + 'static,
) -> Result<AbortOnDropHandle<()>> {
    let first = store.watch(prefix).await?;
    let changes = begin(first, &mut apply);
    let task = tokio::spawn(async move {
        let mut changes = changes;
        loop {
            pass_on(changes, prefix, &mut apply).await;
            apply(Update::Lost);
            changes = begin(watch_again(store.as_ref(), prefix).await, &mut apply);
        }
    });
    Ok(AbortOnDropHandle::new(task))
}

type Changes = futures::stream::BoxStream<'static, Result<WatchEvent>>;

fn begin(watch: Watch, apply: &mut impl FnMut(Update)) -> Changes {
    apply(Update::Snapshot { entries: watch.snapshot, revision: watch.revision });
    watch.changes
}

/// Returns when the watch has ended.
async fn pass_on(mut changes: Changes, prefix: &str, apply: &mut impl FnMut(Update)) {
    while let Some(change) = changes.next().await {
        match change {
            Ok(event) => apply(Update::Event(event)),
            Err(error) => {
                tracing::warn!(event = names::STORE_WATCH_ENDED, %prefix, %error, "a watch of the state store ended; watching anew");
                return;
            }
        }
    }
    tracing::debug!(event = names::STORE_WATCH_ENDED, %prefix, "a watch of the state store ended; watching anew");
}

async fn watch_again(store: &dyn StateStore, prefix: &str) -> Watch {
    let mut pause = FIRST_PAUSE;
    loop {
        clock::sleep(pause).await;
        match store.watch(prefix).await {
            Ok(watch) => {
                metrics::watches_renewed_total().inc();
                return watch;
            }
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(event = names::STORE_WATCH_FAILED, %prefix, %error, retry_millis = pause.as_millis() as u64, "the state store cannot be watched");
            }
        }
    }
}
