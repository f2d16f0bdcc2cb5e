//! Which leases of this process are alive. Pure: the time comes in with the call.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::LeaseId;

struct Lease {
    ttl: Duration,
    /// From here on the lease has ended, whether or not its keys have been removed yet.
    end: Instant,
}

/// The leases that were granted and not yet forgotten.
#[derive(Default)]
pub(super) struct Leases {
    granted: HashMap<LeaseId, Lease>,
}

impl Leases {
    pub(super) fn grant(&mut self, lease: LeaseId, ttl: Duration, now: Instant) {
        self.granted.insert(lease, Lease { ttl, end: now + ttl });
    }

    /// False when the lease has ended: it does not come back to life, even if its keys are still there.
    pub(super) fn renew(&mut self, lease: LeaseId, now: Instant) -> bool {
        match self.granted.get_mut(&lease) {
            Some(granted) if now < granted.end => {
                granted.end = now + granted.ttl;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_live(&self, lease: LeaseId, now: Instant) -> bool {
        self.granted.get(&lease).is_some_and(|granted| now < granted.end)
    }

    /// The leases whose time is over, and whose keys are to be removed before they are forgotten.
    pub(super) fn ended(&self, now: Instant) -> Vec<LeaseId> {
        self.granted.iter().filter(|(_, granted)| now >= granted.end).map(|(lease, _)| *lease).collect()
    }

    pub(super) fn forget(&mut self, lease: LeaseId) {
        self.granted.remove(&lease);
    }

    /// When the next lease ends, if nobody renews it.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.granted.values().map(|granted| granted.end).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);
    const LEASE: LeaseId = LeaseId(7);

    #[test]
    fn given_a_lease_when_it_is_renewed_in_time_then_it_lives_a_full_ttl_from_there() {
        let start = Instant::now();
        let mut leases = Leases::default();
        leases.grant(LEASE, TTL, start);
        let renewed = start + TTL - Duration::from_millis(1);
        assert!(leases.renew(LEASE, renewed));
        assert!(leases.is_live(LEASE, start + TTL));
        assert_eq!(leases.next_end(), Some(renewed + TTL));
        assert!(leases.ended(start + TTL).is_empty());
    }

    #[test]
    fn given_a_lease_when_its_time_is_over_then_it_cannot_be_renewed_even_before_it_is_forgotten() {
        let start = Instant::now();
        let mut leases = Leases::default();
        leases.grant(LEASE, TTL, start);
        assert!(!leases.is_live(LEASE, start + TTL));
        assert!(!leases.renew(LEASE, start + TTL));
        assert_eq!(leases.ended(start + TTL), vec![LEASE]);
        leases.forget(LEASE);
        assert_eq!(leases.next_end(), None);
    }
}
