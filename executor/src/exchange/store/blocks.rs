//! Bytes in blocks, each with a checksum: what is read is what was written, or there is an error.
//!
//! ```text
//!   write ──▶ block ──checksum──▶ file      the checksums stay in memory, beside what else is known of the file
//!   read  ◀── block ◀──checked─── file      no byte is given before its whole block was checked
//! ```
//!
//! The file itself has the bytes and nothing else. Because the checksums are not in it, bytes of another file, of an
//! older write or of another place do not pass either.

use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes of all blocks but the last: much more than a checksum, and little enough to be held by every reader.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// What the blocks of one file must be.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    bytes: u64,
    blocks: Vec<u32>,
}

/// Cuts what is written into blocks, and sums them up.
pub(super) struct BlockWriter<W> {
    output: W,
    block: Vec<u8>,
    sums: Checksums,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, block: vec![], sums: Checksums::default() }
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> io::Result<Checksums> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        self.output.flush()?;
        Ok(self.sums)
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.output.write_all(&self.block)?;
        self.sums.bytes += self.block.len() as u64;
        self.sums.blocks.push(crc32fast::hash(&self.block));
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (taken, _) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken.len())
    }

    /// Does nothing: only the last block may be short, and [`end`](BlockWriter::end) writes it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads blocks back, one at a time.
///
/// Input that ends too early is [`io::ErrorKind::InvalidData`], not `UnexpectedEof`: Arrow's readers take the latter
/// for the end of a stream, and the rows after it would be missed by nobody.
pub(super) struct BlockReader<R> {
    input: R,
    sums: Arc<Checksums>,
    /// Number of blocks that were read.
    read: usize,
    block: Vec<u8>,
    /// Bytes of the block that were given.
    given: usize,
}

impl<R: Read> BlockReader<R> {
    pub(super) fn new(input: R, sums: Arc<Checksums>) -> Self {
        Self { input, sums, read: 0, block: vec![], given: 0 }
    }

    fn read_block(&mut self, wanted: u32) -> io::Result<()> {
        let start = self.read as u64 * BLOCK_BYTES as u64;
        let length = self.sums.bytes.saturating_sub(start).min(BLOCK_BYTES as u64) as usize;
        // Not kept unless it is right.
        let mut block = std::mem::take(&mut self.block);
        self.given = 0;
        block.resize(length, 0);
        self.input.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("is cut short"),
            _ => error,
        })?;
        if crc32fast::hash(&block) != wanted {
            return Err(self.damaged("is not what was written"));
        }
        self.block = block;
        self.read += 1;
        Ok(())
    }

    fn damaged(&self, how: &str) -> io::Error {
        let message = format!("block {} of {} {how}", self.read + 1, self.sums.blocks.len());
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.block.len() {
            match self.sums.blocks.get(self.read).copied() {
                Some(wanted) => self.read_block(wanted)?,
                None => return Ok(0),
            }
        }
        let mut rest = self.block.get(self.given..).unwrap_or_default();
        let count = rest.read(into)?;
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 5] = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 77];

    fn written(length: usize) -> (Vec<u8>, Arc<Checksums>) {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut file = vec![];
        let mut writer = BlockWriter::new(&mut file);
        for part in bytes.chunks(10_007) {
            writer.write_all(part).expect("memory takes all");
        }
        let sums = writer.end().expect("memory takes all");
        assert_eq!(file, bytes, "the file has the bytes and nothing else");
        (file, Arc::new(sums))
    }

    fn read(file: &[u8], sums: &Arc<Checksums>) -> (Vec<u8>, Option<io::Error>) {
        let mut bytes = vec![];
        let failure = BlockReader::new(file, Arc::clone(sums)).read_to_end(&mut bytes).err();
        (bytes, failure)
    }

    #[test]
    fn given_bytes_of_any_length_when_read_back_then_the_same() {
        for length in LENGTHS {
            let (file, sums) = written(length);
            let (bytes, failure) = read(&file, &sums);
            assert!(failure.is_none() && bytes == file, "{length} bytes: {failure:?}");
        }
    }

    #[test]
    fn given_one_bit_that_changed_when_read_then_no_byte_of_its_block_is_given() {
        let (file, sums) = written(2 * BLOCK_BYTES + 77);
        for at in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES - 1, 2 * BLOCK_BYTES, file.len() - 1] {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            let (bytes, failure) = read(&damaged, &sums);
            let failure = failure.expect("it is noticed");
            assert_eq!((failure.kind(), bytes.len()), (io::ErrorKind::InvalidData, at / BLOCK_BYTES * BLOCK_BYTES));
        }
    }

    #[test]
    fn given_a_file_that_is_cut_short_anywhere_when_read_then_that_is_no_end() {
        let (file, sums) = written(2 * BLOCK_BYTES + 77);
        for length in [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES, file.len() - 1] {
            let (_, failure) = read(&file[..length], &sums);
            assert_eq!(failure.expect("it is noticed").kind(), io::ErrorKind::InvalidData, "{length} bytes are left");
        }
    }

    #[test]
    fn given_blocks_that_changed_places_when_read_then_it_is_noticed() {
        let (mut file, sums) = written(2 * BLOCK_BYTES);
        // The same bytes in another order.
        file.rotate_left(BLOCK_BYTES);
        assert!(read(&file, &sums).1.is_some());
    }
}
