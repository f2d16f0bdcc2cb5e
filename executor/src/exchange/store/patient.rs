//! Reading files with patience: trouble of a moment is told from a file that is lost.

use std::io::{self, Read};
use std::time::Duration;

/// Waits before the system is asked again: long enough for others to close some files, and much less than making an
/// output again takes.
const WAITS: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(100)];
/// `ENFILE` and `EMFILE`, which have no [`io::ErrorKind`]: too many open files, in the system or in the process.
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// True if an error that stayed means that the file cannot be had as it was written. Only of what is known to say something of
/// the process, and nothing of the file, is the contrary believed.
pub(super) fn means_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, WouldBlock};
    let of_the_process = matches!(error.kind(), Interrupted | OutOfMemory | WouldBlock)
        || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
    !of_the_process
}

/// True if the file is not there, or has something else in it: asked again, the system would say the same.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | InvalidData | UnexpectedEof)
}

/// Makes an attempt, and some more after short waits while its error may pass. Blocks.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for wait in WAITS {
        match attempt() {
            Err(error) if !is_final(&error) => std::thread::sleep(wait),
            done => return done,
        }
    }
    attempt()
}

/// Reads [`patiently`]. A read that fails has taken nothing: the next one begins where it did.
pub(super) struct Patient<R>(pub(super) R);

impl<R: Read> Read for Patient<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        patiently(|| self.0.read(into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: i32 = 2;
    const DISK_ERROR: i32 = 5;
    const NO_PERMISSION: i32 = 13;
    const TOO_MANY_OPEN_FILES: i32 = 24;

    /// Fails with these errors of the system, the last one first, and reads then.
    struct Shaky {
        errors: Vec<i32>,
        reads: usize,
    }

    impl Read for Shaky {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            match self.errors.pop() {
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => {
                    into.fill(7);
                    Ok(into.len())
                }
            }
        }
    }

    fn read(errors: Vec<i32>) -> (io::Result<[u8; 3]>, usize) {
        let mut reader = Patient(Shaky { errors, reads: 0 });
        let mut bytes = [0; 3];
        let outcome = reader.read_exact(&mut bytes).map(|()| bytes);
        (outcome, reader.0.reads)
    }

    #[test]
    fn given_errors_that_stay_when_classified_then_all_but_those_of_the_process_mean_that_it_is_lost() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof] {
            assert!(means_lost(&io::Error::from(kind)), "{kind}");
        }
        for code in [NOT_FOUND, DISK_ERROR, NO_PERMISSION] {
            assert!(means_lost(&io::Error::from_raw_os_error(code)), "{code}");
        }
        // Interrupted, try again, no memory, too many open files of the machine and of the process.
        for code in [4, 11, 12, 23, TOO_MANY_OPEN_FILES] {
            assert!(!means_lost(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }

    #[test]
    fn given_trouble_that_passes_when_read_then_it_was_asked_again_and_nothing_is_missing() {
        let (outcome, reads) = read(vec![DISK_ERROR, TOO_MANY_OPEN_FILES]);
        assert_eq!((outcome.expect("it passed"), reads), ([7; 3], 3));
    }

    #[test]
    fn given_trouble_that_stays_when_read_then_its_own_error_after_a_few_attempts() {
        for code in [DISK_ERROR, TOO_MANY_OPEN_FILES] {
            let (outcome, reads) = read(vec![code; 100]);
            let error = outcome.expect_err("it stays");
            assert_eq!((error.raw_os_error(), reads), (Some(code), WAITS.len() + 1));
        }
    }

    #[test]
    fn given_a_file_that_is_not_there_when_read_then_nobody_waits_for_it() {
        let (outcome, reads) = read(vec![NOT_FOUND; 100]);
        assert_eq!((outcome.expect_err("it stays").kind(), reads), (io::ErrorKind::NotFound, 1));
    }
}
