//! The time as the shell around the jobs sees it. Nothing there reads a clock or waits but through this.

use std::time::{Duration, Instant};

/// Now.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until then; not at all if that has passed.
pub(crate) async fn sleep_until(then: Instant) {
    sleep(then.saturating_duration_since(now())).await;
}
