//! Chance, from a seed: the same seed gives the same choices.

/// A source of choices.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number of `from..=to`.
    pub(super) fn number(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// A number of `from..=to`.
    pub(super) fn small(&mut self, from: u32, to: u32) -> u32 {
        u32::try_from(self.number(from.into(), to.into())).expect("within the bounds")
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// One of these; `None` of none.
    pub(super) fn one_of<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        let at = self.next() % (choices.len().max(1) as u64);
        choices.get(usize::try_from(at).expect("an index")).cloned()
    }
}

/// A number in which every bit of another one matters (the finalizer of MurmurHash3).
pub(super) fn mix(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    number ^= number >> 33;
    number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}
