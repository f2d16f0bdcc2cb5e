//! A file that is set aside when it is full, so that events do not fill the disk.
//!
//! `events.jsonl` becomes `events.jsonl.1`, that one `events.jsonl.2`, and so on; the oldest is dropped. A reader that knows
//! files by their contents, as Vector's file source does, goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::metrics::springald_telemetry as metrics;

/// Files that are kept at most: each is looked for when one is set aside.
const MOST_KEPT: u32 = 100;

/// Appends to a file until it has so many bytes, and then to a new one of that name.
pub(super) struct RotatingFile {
    path: PathBuf,
    /// Bytes after which it is set aside; 0: never.
    limit: u64,
    /// Files that are kept beside it.
    keep: u32,
    file: File,
    size: u64,
    /// What was written last ended a line: lines are not divided between files.
    between_lines: bool,
}

impl RotatingFile {
    /// Opens the file at its end, or makes it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path, limit: u64, keep: u32) -> io::Result<Self> {
        let file = append_to(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, keep: keep.clamp(1, MOST_KEPT), file, size, between_lines: true })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        // It is gone already if only the new one could not be opened.
        if self.path.exists() {
            for number in (1..self.keep).rev().filter(|number| self.older(*number).exists()) {
                fs::rename(self.older(number), self.older(number + 1))?;
            }
            fs::rename(&self.path, self.older(1))?;
        }
        self.file = append_to(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit > 0 && self.size >= self.limit && self.between_lines {
            // Where that fails, as in a directory that may not be changed, a file that grows is better than a loss.
            if self.set_aside().is_err() {
                metrics::event_files_not_set_aside_total().inc();
            }
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        self.between_lines = bytes[..written].ends_with(b"\n");
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(directory: &Path) -> Vec<String> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(directory).expect("read").map(|entry| entry.expect("one").path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read_to_string(path).expect("text")).collect()
    }

    #[test]
    fn given_a_full_file_when_more_comes_then_it_is_set_aside_whole_lines_only_and_the_oldest_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("e.jsonl");
        fs::write(&path, "0\n").expect("written by an earlier process");
        let mut file = RotatingFile::open(&path, 4, 2).expect("opened");
        for part in ["1\n", "2", "2", "2\n", "3333\n", "4444\n"] {
            file.write_all(part.as_bytes()).expect("written");
        }
        assert_eq!(texts(directory.path()), ["4444\n", "3333\n", "222\n"]);
    }

    #[test]
    fn given_no_limit_then_all_is_in_one_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut file = RotatingFile::open(&directory.path().join("e.jsonl"), 0, 4).expect("opened");
        (0..100).for_each(|_| file.write_all(b"line\n").expect("written"));
        assert_eq!(texts(directory.path()), ["line\n".repeat(100)]);
    }

    #[test]
    fn given_a_file_when_it_cannot_be_set_aside_then_nothing_is_lost() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("e.jsonl");
        // A directory of that name is in the way.
        fs::create_dir(directory.path().join("e.jsonl.1")).expect("made");
        fs::write(directory.path().join("e.jsonl.1/full"), "").expect("made");
        let mut file = RotatingFile::open(&path, 1, 1).expect("opened");
        let before = metrics::event_files_not_set_aside_total().get();
        (0..3).for_each(|_| file.write_all(b"line\n").expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("text"), "line\n".repeat(3));
        assert_eq!(metrics::event_files_not_set_aside_total().get(), before + 2);
    }
}
