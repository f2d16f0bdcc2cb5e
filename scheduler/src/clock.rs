//! The time as the shell around the jobs sees it. Nothing there reads a clock or waits but through this, so that a
//! simulation can give it another time than the machine's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(test)]
use crate::sim::agenda;

/// Now.
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(agenda) = agenda::current() {
        return agenda.instant();
    }
    Instant::now()
}

/// Microseconds since the Unix epoch.
pub(crate) fn micros_since_epoch() -> i64 {
    #[cfg(test)]
    if let Some(agenda) = agenda::current() {
        return agenda.micros_since_epoch();
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    #[cfg(test)]
    if let Some(agenda) = agenda::current() {
        return agenda.sleep(time).await;
    }
    tokio::time::sleep(time).await;
}

/// Waits for something no longer than that; `None`: it has not come.
pub(crate) async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = sleep(time) => None,
    }
}

/// Waits until then; not at all if that has passed.
pub(crate) async fn sleep_until(then: Instant) {
    sleep(then.saturating_duration_since(now())).await;
}
