//! Whether an executor takes tasks: for orchestrators, and for people who ask why it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use springald_core::error::{Error, Result};

use crate::pull::PullStatus;

/// Tells whether an executor takes tasks. Cheap to ask and to keep: it holds nothing of the executor alive.
#[derive(Clone, Debug)]
pub struct Readiness {
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) status: Arc<PullStatus>,
}

impl Readiness {
    /// Fails while the executor takes no tasks.
    ///
    /// # Errors
    /// What is in the way: it drains, or has no stream to a scheduler.
    pub fn check(&self) -> Result<()> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Error::unavailable("draining: no more tasks are taken"));
        }
        if self.status.connected() == 0 {
            return Err(Error::unavailable("no control stream to a scheduler is open"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn missing(readiness: &Readiness) -> String {
        readiness.check().map_or_else(|error| error.to_string(), |()| "nothing".to_owned())
    }

    #[tokio::test]
    async fn given_an_executor_when_asked_then_ready_with_a_stream_and_while_it_does_not_drain() {
        let (tasks, ..) = testing::tasks(1);
        let status = Arc::new(PullStatus::default());
        let readiness = Readiness { draining: tasks.draining(), status: Arc::clone(&status) };
        assert!(missing(&readiness).contains("no control stream"), "{}", missing(&readiness));

        let (first, second) = (status.opened(), status.opened());
        drop(first);
        assert_eq!(missing(&readiness), "nothing", "one stream is enough");

        tasks.drain();
        assert!(missing(&readiness).starts_with("draining"), "{}", missing(&readiness));
        drop(second);
        assert!(missing(&readiness).starts_with("draining"), "what the operator has asked for comes first");
    }
}
