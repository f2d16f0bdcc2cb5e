//! The slots of the process: how many tasks' worth of work runs at one time, whichever scheduler sent it.

use std::sync::Arc;

use tokio::sync::watch;

/// All slots; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    total: u32,
    /// Holds the number of free slots; pull streams watch it to renew their offers.
    free: Arc<watch::Sender<u32>>,
}

/// Slots that a task holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct SlotPermit {
    slots: u32,
    free: Arc<watch::Sender<u32>>,
}

impl Slots {
    /// `total` slots, all free.
    pub(crate) fn new(total: u32) -> Self {
        Self { total, free: Arc::new(watch::Sender::new(total)) }
    }

    /// All slots of the process, free or not.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Free slots now.
    pub(crate) fn free(&self) -> u32 {
        *self.free.borrow()
    }

    /// Takes `wanted` slots (at least one, at most all there are), or none if they are not free.
    pub(crate) fn try_take(&self, wanted: u32) -> Option<SlotPermit> {
        let wanted = wanted.clamp(1, self.total.max(1));
        let taken = self.free.send_if_modified(|free| match free.checked_sub(wanted) {
            Some(rest) => {
                *free = rest;
                true
            }
            None => false,
        });
        taken.then(|| SlotPermit { slots: wanted, free: Arc::clone(&self.free) })
    }

    /// Lets those who watch look again.
    pub(crate) fn wake(&self) {
        self.free.send_modify(|_| {});
    }

    /// Changes whenever slots are taken or given back.
    pub(crate) fn watch(&self) -> watch::Receiver<u32> {
        self.free.subscribe()
    }
}

impl SlotPermit {
    /// How many slots these are.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        self.free.send_modify(|free| *free += self.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_four_slots_when_taken_and_dropped_then_the_free_count_follows() {
        let slots = Slots::new(4);
        let three = slots.try_take(3).expect("free");
        assert_eq!(slots.free(), 1);
        assert!(slots.try_take(2).is_none());
        drop(three);
        assert_eq!(slots.free(), 4);
    }

    #[test]
    fn given_a_task_that_wants_more_than_there_are_when_taken_then_it_gets_all() {
        let slots = Slots::new(2);
        let _all = slots.try_take(8).expect("free");
        assert_eq!(slots.free(), 0);
    }
}
