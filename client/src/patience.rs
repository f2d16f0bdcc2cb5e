//! How long a lost server is made up for, and how fast.

use std::time::{Duration, Instant};

use crate::error::{ClientError, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits between tries, each time longer, until too much time has passed without progress.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: None, pause: FIRST_PAUSE }
    }

    /// There was progress.
    pub(crate) fn renew(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Waits before another try; after too long without progress, gives the error instead.
    pub(crate) async fn wait_after(&mut self, error: ClientError) -> Result<()> {
        if self.since.get_or_insert_with(Instant::now).elapsed() >= self.limit {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
