//! Writes lines of events on a thread of its own, and never makes anybody wait.
//!
//! ```text
//!   any thread ──push──▶ buffer (bounded in bytes) ──swap──▶ writer thread ──write_all──▶ file, standard output
//!                          │ full?
//!                          └──▶ dropped: its number is used up, and it is counted
//! ```
//!
//! Numbers are given where the line enters the buffer, under the buffer's lock, so that the lines of a process stand in the
//! order of their numbers, and a gap in the numbers is a loss. The lock is held for as long as it takes to copy a line.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::metrics::springald_telemetry as metrics;

/// Where lines go.
pub(super) type Sink = Box<dyn Write + Send>;

/// Makes the line that says how many were dropped, without its number.
pub(super) type DroppedLine = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// A pause after a sink that took nothing: a full disk is not asked a million times a second.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Numbers lines and hands them to the thread that writes.
pub(super) struct EventWriter {
    /// What stands before the number: `{"v":1,"event_id":"<instance>-`.
    head: Vec<u8>,
    limit: usize,
    state: Mutex<State>,
    /// There is something to write, or the end has come.
    wanted: Condvar,
    /// All that was there has been written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    lines: u64,
    /// The number of the last line, dropped ones included.
    sequence: u64,
    /// Dropped since the last line that says so.
    dropped: u64,
    /// The writer has taken lines and not written them yet.
    writing: bool,
    ended: bool,
}

/// What the writer thread takes at one time.
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    dropped: u64,
}

impl EventWriter {
    /// Starts the thread. At most `limit` bytes wait to be written. Lines are numbered if they are events: `head` and the
    /// number stand before each then.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        sink: Sink,
        head: Vec<u8>,
        limit: usize,
        dropped_line: DroppedLine,
    ) -> std::io::Result<Arc<Self>> {
        let writer =
            Arc::new(Self { head, limit, state: Mutex::default(), wanted: Condvar::new(), written: Condvar::new() });
        let own = Arc::clone(&writer);
        std::thread::Builder::new().name("events".to_owned()).spawn(move || own.run(sink, &dropped_line))?;
        Ok(writer)
    }

    /// Takes a line: all of it but its number, from the comma behind that to the end of the line. Never waits for the sink.
    pub(super) fn push(&self, rest: &[u8]) {
        let mut state = self.state.lock();
        state.sequence += 1;
        let room = self.limit.saturating_sub(state.buffer.len());
        if self.head.len() + rest.len() + 64 > room || state.ended {
            state.dropped += 1;
            return;
        }
        let was_empty = state.buffer.is_empty();
        self.append(&mut state, rest);
        drop(state);
        if was_empty {
            self.wanted.notify_one();
        }
    }

    /// Takes text as it is, without a number.
    pub(super) fn push_text(&self, text: &[u8]) {
        let mut state = self.state.lock();
        if state.buffer.len() + text.len() > self.limit || state.ended {
            state.dropped += 1;
            return;
        }
        state.buffer.extend_from_slice(text);
        state.lines += 1;
        drop(state);
        self.wanted.notify_one();
    }

    /// Waits until all that was pushed is written, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while !state.buffer.is_empty() || state.writing {
            self.wanted.notify_one();
            if self.written.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Writes what is there and takes nothing more.
    pub(super) fn end(&self, patience: Duration) {
        self.flush(patience);
        self.state.lock().ended = true;
        self.wanted.notify_one();
    }

    fn append(&self, state: &mut State, rest: &[u8]) {
        state.buffer.extend_from_slice(&self.head);
        // Into memory: cannot fail.
        let _ = write!(state.buffer, "{0}\",\"sequence\":{0}", state.sequence);
        state.buffer.extend_from_slice(rest);
        state.lines += 1;
    }

    fn run(&self, mut sink: Sink, dropped_line: &DroppedLine) {
        let mut spare = Vec::new();
        // A line may be broken off where the sink failed: the next one begins on a line of its own.
        let mut broken = false;
        while let Some(batch) = self.next(std::mem::take(&mut spare), dropped_line) {
            metrics::events_dropped_total("buffer_full").inc_by(batch.dropped);
            let result = if broken { sink.write_all(b"\n") } else { Ok(()) };
            match result.and_then(|()| sink.write_all(&batch.bytes)).and_then(|()| sink.flush()) {
                Ok(()) => {
                    broken = false;
                    metrics::events_written_total().inc_by(batch.lines);
                    metrics::event_bytes_written_total().inc_by(batch.bytes.len() as u64);
                }
                Err(_) => {
                    broken = true;
                    metrics::events_dropped_total("write_failed").inc_by(batch.lines);
                    // The next line that is written says so; there is nowhere else to say it.
                    self.state.lock().dropped += batch.lines;
                    std::thread::sleep(PAUSE_AFTER_FAILURE);
                }
            }
            spare = batch.bytes;
            spare.clear();
            self.state.lock().writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for lines; `None` at the end. `spare` becomes the next buffer.
    fn next(&self, spare: Vec<u8>, dropped_line: &DroppedLine) -> Option<Batch> {
        let mut state = self.state.lock();
        while state.buffer.is_empty() {
            if state.ended {
                return None;
            }
            self.wanted.wait(&mut state);
        }
        let bytes = std::mem::replace(&mut state.buffer, spare);
        let lines = std::mem::take(&mut state.lines);
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 && !self.head.is_empty() {
            state.sequence += 1;
            let line = dropped_line(dropped);
            self.append(&mut state, &line);
        }
        state.writing = true;
        Some(Batch { bytes, lines, dropped })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;

    /// A sink that stops at each write until it is let on, and then takes it or fails.
    struct Gate {
        arrived: mpsc::Sender<usize>,
        go_on: mpsc::Receiver<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.arrived.send(bytes.len());
            if self.go_on.recv().unwrap_or(false) {
                self.written.lock().extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            Err(io::Error::other("no room"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        writer: Arc<EventWriter>,
        arrived: mpsc::Receiver<usize>,
        go_on: mpsc::Sender<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    fn fixture(limit: usize) -> Fixture {
        let (arrived_sender, arrived) = mpsc::channel();
        let (go_on, go_on_receiver) = mpsc::channel();
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let gate = Gate { arrived: arrived_sender, go_on: go_on_receiver, written: Arc::clone(&written) };
        let dropped = |count| format!(",\"dropped\":{count}}}\n").into_bytes();
        let writer =
            EventWriter::start(Box::new(gate), b"{\"id\":\"i-".to_vec(), limit, Box::new(dropped)).expect("a thread");
        Fixture { writer, arrived, go_on, written }
    }

    impl Fixture {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.written.lock().clone()).expect("text").lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn given_a_sink_that_stops_when_events_are_pushed_then_nobody_waits_and_what_is_dropped_is_counted_and_said() {
        let fixture = fixture(1000);
        fixture.writer.push(b",\"n\":1}\n");
        fixture.arrived.recv().expect("the first line is being written");
        // Nothing is taken from the buffer now, and 100 lines do not fit.
        for _ in 0..100 {
            fixture.writer.push(b",\"n\":2}\n");
        }
        let dropped = fixture.writer.state.lock().dropped;
        assert!(dropped > 0 && dropped < 100, "{dropped}");
        for _ in 0..3 {
            let _ = fixture.go_on.send(true);
        }
        fixture.writer.flush(Duration::from_secs(10));
        let lines = fixture.lines();
        let said = format!(",\"dropped\":{dropped}}}");
        assert_eq!(lines.iter().filter(|line| line.ends_with(&said)).count(), 1, "{lines:?}");
        // 101 events and the word of what was dropped.
        let last = lines.last().expect("lines");
        assert!(last.starts_with("{\"id\":\"i-102\",\"sequence\":102"), "{last}");
        assert_eq!(lines.len() as u64, 102 - dropped);
    }

    #[test]
    fn given_a_sink_that_fails_when_it_works_again_then_lines_go_on_whole_and_the_loss_is_said() {
        let fixture = fixture(1000);
        fixture.writer.push(b",\"n\":1}\n");
        fixture.go_on.send(false).expect("the writer lives");
        fixture.writer.flush(Duration::from_secs(10));
        for _ in 0..4 {
            let _ = fixture.go_on.send(true);
        }
        fixture.writer.push(b",\"n\":2}\n");
        fixture.writer.flush(Duration::from_secs(10));
        assert_eq!(
            fixture.lines(),
            ["", "{\"id\":\"i-2\",\"sequence\":2,\"n\":2}", "{\"id\":\"i-3\",\"sequence\":3,\"dropped\":1}"]
        );
    }
}
