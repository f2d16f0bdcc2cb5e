//! Which rows a sample keeps.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::common::{Result, plan_err};

/// Rows of one block of a `SYSTEM` sample.
const BLOCK_ROWS: u64 = 1024;

/// 2^64 divided by the golden ratio: consecutive positions become values that share no pattern.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The parameters of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub struct Sample {
    /// The unit that is kept or dropped.
    pub method: SampleMethod,
    /// The part of the rows that is kept.
    pub percent: Percent,
    /// Two samples with the same seed keep the same rows of the same input.
    pub seed: u64,
}

/// The unit that is kept or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub enum SampleMethod {
    /// Each row by itself.
    Bernoulli,
    /// Blocks of consecutive rows.
    System,
}

impl fmt::Display for SampleMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bernoulli => "BERNOULLI",
            Self::System => "SYSTEM",
        })
    }
}

/// A number from 0 to 100.
#[derive(Clone, Copy, Debug)]
pub struct Percent(f64);

impl Percent {
    /// Fails on a number that is not from 0 to 100.
    pub fn new(percent: f64) -> Result<Self> {
        match (0.0..=100.0).contains(&percent) {
            // Negative zero becomes zero.
            true => Ok(Self(percent + 0.0)),
            false => plan_err!("TABLESAMPLE keeps a percentage of the rows: it must be from 0 to 100, not {percent}"),
        }
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// How many of 2^64 hash values are kept.
    fn threshold(self) -> u128 {
        (self.0 / 100.0 * 2_f64.powi(64)) as u128
    }
}

impl PartialEq for Percent {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Percent {}

impl Hash for Percent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl PartialOrd for Percent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.0.total_cmp(&other.0))
    }
}

/// Selects the rows of one sequence: a file, or a partition.
#[derive(Debug)]
pub(super) struct Sampler {
    method: SampleMethod,
    threshold: u128,
    key: u64,
    /// Number of the next row.
    row: u64,
}

impl Sampler {
    /// The sampler of the sequence that `sequence` identifies.
    pub(super) fn new(sample: &Sample, sequence: u64) -> Self {
        let key = mix(sample.seed ^ mix(sequence));
        Self { method: sample.method, threshold: sample.percent.threshold(), key, row: 0 }
    }

    /// Selects among the next `rows` rows.
    pub(super) fn select(&mut self, rows: usize) -> BooleanArray {
        let first = self.row;
        self.row += rows as u64;
        let selected = BooleanBuffer::collect_bool(rows, |offset| self.keeps(first + offset as u64));
        BooleanArray::new(selected, None)
    }

    fn keeps(&self, row: u64) -> bool {
        let position = match self.method {
            SampleMethod::Bernoulli => row,
            SampleMethod::System => row / BLOCK_ROWS,
        };
        u128::from(mix(self.key.wrapping_add(position.wrapping_mul(GOLDEN)))) < self.threshold
    }
}

/// Spreads the bits of `value`: the last step of SplitMix64.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of `bytes` that is the same in every process and version (FNV-1a, mixed).
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash)
}
