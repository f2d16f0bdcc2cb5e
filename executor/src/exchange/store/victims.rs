//! Which pieces are spilled first.
//!
//! Every piece is read about once, and readers go through partitions in ascending order. So the coldest pieces are
//! those that were read already (they wait for being freed), then those of the highest partitions (they are read
//! last), and among these the oldest. Pieces that somebody reads at the moment are passed over
//! (see [spilling](super::spilling)).

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Position of a piece in the order of spilling: the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Coldness {
    read: Reverse<bool>,
    partition: Reverse<u32>,
    /// Pieces are numbered as they are made.
    pub(super) piece: u64,
}

impl Coldness {
    pub(super) fn new(read: bool, partition: u32, piece: u64) -> Self {
        Self { read: Reverse(read), partition: Reverse(partition), piece }
    }

    /// The output partition of the piece.
    pub(super) fn partition(&self) -> u32 {
        self.partition.0
    }

    /// The same piece after a reader opened it.
    pub(super) fn after_read(self) -> Self {
        Self { read: Reverse(true), ..self }
    }
}

/// The pieces that hold memory and may be spilled, coldest first.
#[derive(Debug, Default)]
pub(super) struct Victims(BTreeSet<Coldness>);

impl Victims {
    pub(super) fn insert(&mut self, coldness: Coldness) {
        self.0.insert(coldness);
    }

    pub(super) fn remove(&mut self, coldness: Coldness) -> bool {
        self.0.remove(&coldness)
    }

    pub(super) fn pop_coldest(&mut self) -> Option<Coldness> {
        self.0.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_pieces_when_popped_then_read_ones_high_partitions_and_old_ones_go_first() {
        let mut victims = Victims::default();
        let order = [
            Coldness::new(true, 0, 9),
            Coldness::new(false, 15, 1),
            Coldness::new(false, 15, 2),
            Coldness::new(false, 3, 0),
        ];
        for coldness in order.iter().rev() {
            victims.insert(*coldness);
        }
        let popped: Vec<_> = std::iter::from_fn(|| victims.pop_coldest()).collect();
        assert_eq!(popped, order);
    }
}
