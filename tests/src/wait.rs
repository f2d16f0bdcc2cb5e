//! Waiting for a condition, with a deadline: what tests do instead of sleeping.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long processes may take to start, on a machine that is busy with other tests.
pub const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long the cluster may take to follow what happened to it.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a query may take that something befalls, on a machine that is busy with other tests.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(180);

/// Looks until `look` gives a value. Its errors say what was seen instead.
///
/// # Panics
/// If there is none within `deadline`, with `what` was waited for and what was seen last.
pub async fn eventually<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match look().await {
            Ok(value) => return value,
            Err(seen) => assert!(Instant::now() < end, "{what}: not within {deadline:?}; seen last: {seen}"),
        }
    }
}

/// `Ok` if both are equal; else what was found.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what} is {found:?}, not {wanted:?}")) }
}
