//! A Bloom filter whose bits for one key lie in one block of 32 bytes, so that asking for a key touches memory once.
//!
//! The split block Bloom filter of Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007),
//! with one bit in each of the eight words of a block, as Apache Parquet describes it.

/// Odd numbers, one for each word of a block: multiplied by them, a hash gives bits that have nothing in common.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
/// Of keys that are not there, about one in 250 is found all the same.
const BITS_PER_KEY: usize = 12;
const BLOCK_BITS: usize = 256;

/// A set of hashes. Finds all that are in it, and few others.
#[derive(Debug)]
pub(super) struct Bloom {
    /// At least one.
    blocks: Vec<[u32; 8]>,
}

impl Bloom {
    /// The set of these hashes.
    pub(super) fn of(hashes: &[u32]) -> Self {
        let mut bloom = Self { blocks: vec![[0; 8]; Self::blocks_for(hashes.len())] };
        for hash in hashes {
            let (block, bits) = bloom.place(*hash);
            if let Some(words) = bloom.blocks.get_mut(block) {
                words.iter_mut().zip(bits).for_each(|(word, bit)| *word |= bit);
            }
        }
        bloom
    }

    fn blocks_for(keys: usize) -> usize {
        (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1)
    }

    /// Bytes of a set of so many hashes.
    pub(super) fn bytes_for(keys: usize) -> usize {
        Self::blocks_for(keys) * BLOCK_BITS / 8
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BITS / 8
    }

    /// False: it is not in the set.
    #[inline]
    pub(super) fn may_contain(&self, hash: u32) -> bool {
        let (block, bits) = self.place(hash);
        let Some(words) = self.blocks.get(block) else { return false };
        let missing = words.iter().zip(bits).fold(0, |missing, (word, bit)| missing | (!word & bit));
        missing == 0
    }

    /// The block of a hash, and its bit in each word of it.
    #[inline]
    fn place(&self, hash: u32) -> (usize, [u32; 8]) {
        // Spread over 64 bits, of which the upper half chooses the block, and the lower the bits.
        let spread = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let block = ((spread >> 32) * self.blocks.len() as u64) >> 32;
        let key = (spread >> 7) as u32 ^ hash;
        (block as usize, SALTS.map(|salt| 1 << (key.wrapping_mul(salt) >> 27)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_hashes_then_they_are_found_and_about_one_in_250_others() {
        let hash = |number: u32| number.wrapping_mul(2_654_435_761) ^ 0x5bd1_e995;
        for count in [1, 100, 10_000, 1_000_000] {
            let hashes: Vec<u32> = (0..count).map(hash).collect();
            let bloom = Bloom::of(&hashes);
            assert_eq!(bloom.bytes(), Bloom::bytes_for(hashes.len()));
            assert!(hashes.iter().all(|hash| bloom.may_contain(*hash)));
            let others = (count..count + 100_000).filter(|number| bloom.may_contain(hash(*number))).count();
            assert!(others < 1_000, "{others} of 100000 others are found among {count}");
        }
    }

    #[test]
    fn given_nothing_then_nothing_is_found() {
        let bloom = Bloom::of(&[]);
        assert!((0..10_000).all(|hash| !bloom.may_contain(hash)));
    }
}
