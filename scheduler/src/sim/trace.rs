//! What is told of a simulation: nothing, a fingerprint of every event, or the events themselves. The events are those of
//! the simulation and those of the schedulers' own code, with the virtual time.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::agenda;
use super::chance::mix;

/// The virtual time, and whose code runs.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Some(agenda) = agenda::current() else { return Ok(()) };
        write!(writer, "{:>11.6}", agenda.now() as f64 / 1e6)?;
        match agenda.running() {
            Some(scheduler) => write!(writer, " scheduler-{scheduler}"),
            None => write!(writer, "            "),
        }
    }
}

#[derive(Clone, Default)]
struct Fingerprint(Arc<Mutex<(u64, u64)>>);

impl Write for Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        // The ids of traces and spans are random, and nothing depends on them: hexadecimal words as long as theirs.
        let words = bytes.split(|byte| !byte.is_ascii_alphanumeric());
        let told = words.filter(|word| !(word.len() >= 16 && word.iter().all(u8::is_ascii_hexdigit)));
        state.0 = told.flatten().fold(state.0, |hash, byte| mix(hash ^ u64::from(*byte)));
        state.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs something, and gives a fingerprint of all that was told meanwhile, and how often something was.
pub(super) fn fingerprint(run: impl FnOnce()) -> (u64, u64) {
    let print = Fingerprint::default();
    let writer = print.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_timer(VirtualTime)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    *print.0.lock()
}

/// Runs something, and prints all that is told meanwhile.
pub(super) fn printed<T>(run: impl FnOnce() -> T) -> T {
    let subscriber = tracing_subscriber::fmt()
        .with_timer(VirtualTime)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_target(false)
        .with_writer(io::stdout)
        .finish();
    tracing::subscriber::with_default(subscriber, run)
}
