//! Makes the line of an event from what `tracing` says of it.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::events::{self, Kind};
use crate::secrets;

/// Strings are cut here: an event must fit a message of the pipeline.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// Fields that are JSON already are left out past this.
const MAX_JSON_BYTES: usize = 512 << 10;

/// The ids of the envelope that a span gives to what happens within it.
pub(super) const IDS: [&str; 7] = ["job_id", "stage_id", "task_id", "attempt", "trace_id", "span_id", "user"];

/// Ids that a span has, as JSON values.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids([Option<Box<str>>; IDS.len()]);

impl Ids {
    fn put(&mut self, name: &str, json: &[u8]) {
        if let (Some(at), Ok(json)) = (IDS.iter().position(|id| *id == name), std::str::from_utf8(json)) {
            self.0[at] = Some(json.into());
        }
    }
}

impl Visit for Ids {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut json = vec![];
        put_text(&mut json, value);
        self.put(field.name(), &json);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.to_string().as_bytes());
    }
}

/// A line in the making. Reused: it keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Fields of the envelope.
    envelope: Vec<u8>,
    /// All others: fields of the event, or of a library's line.
    own: Vec<u8>,
    /// Which of [`IDS`] are there.
    ids: [bool; IDS.len()],
    event: Option<&'static events::Definition>,
    has_message: bool,
    target: Option<String>,
    /// For values that must be formatted first.
    scratch: String,
}

thread_local! {
    static LINE: RefCell<Line> = RefCell::default();
}

impl Line {
    /// Makes the line of an event in memory of this thread, and passes it on. Without effect inside of itself, as when a
    /// value that is shown logs something.
    pub(super) fn with<R>(make: impl FnOnce(&mut Self) -> R) -> Option<R> {
        LINE.with(|line| Some(make(&mut *line.try_borrow_mut().ok()?)))
    }

    /// Begins the line, from behind its number: time, level, and what is the same for all lines of the process.
    pub(super) fn begin(&mut self, metadata: &Metadata<'_>, process: &[u8]) {
        self.envelope.clear();
        self.own.clear();
        self.ids = [false; IDS.len()];
        self.event = None;
        self.has_message = false;
        self.target = None;
        self.envelope.extend_from_slice(b",\"ts\":\"");
        put_time(&mut self.envelope, SystemTime::now());
        self.envelope.extend_from_slice(b"\",\"level\":\"");
        self.envelope.extend_from_slice(level(*metadata.level()).as_bytes());
        self.envelope.push(b'"');
        self.envelope.extend_from_slice(process);
    }

    /// Adds the ids of a span that the line has not yet; inner spans come first.
    pub(super) fn inherit(&mut self, ids: &Ids) {
        for ((name, seen), json) in IDS.iter().zip(&mut self.ids).zip(&ids.0) {
            if let (false, Some(json)) = (*seen, json) {
                put_key(&mut self.envelope, name);
                self.envelope.extend_from_slice(json.as_bytes());
                *seen = true;
            }
        }
    }

    /// Ends the line.
    pub(super) fn end(&mut self, metadata: &Metadata<'_>) -> &[u8] {
        let name = self.event.map_or(events::LOG, |event| event.name);
        put_key(&mut self.envelope, "event");
        put_text(&mut self.envelope, name);
        if !self.has_message {
            put_key(&mut self.envelope, "message");
            put_text(&mut self.envelope, metadata.name());
        }
        put_key(&mut self.envelope, "target");
        put_text(&mut self.envelope, self.target.as_deref().unwrap_or(metadata.target()));
        if self.event.is_some() {
            self.envelope.extend_from_slice(&self.own);
        } else if let Some((_comma, fields)) = self.own.split_first() {
            put_key(&mut self.envelope, "fields");
            self.envelope.push(b'{');
            self.envelope.extend_from_slice(fields);
            self.envelope.push(b'}');
        }
        self.envelope.extend_from_slice(b"}\n");
        &self.envelope
    }

    /// Where the value of a field goes.
    fn place(&mut self, name: &'static str) -> &mut Vec<u8> {
        if let Some(at) = IDS.iter().position(|id| *id == name) {
            self.ids[at] = true;
            put_key(&mut self.envelope, name);
            return &mut self.envelope;
        }
        put_key(&mut self.own, name);
        &mut self.own
    }

    fn text(&mut self, name: &'static str, value: &str) {
        match name {
            "message" => {
                self.has_message = true;
                put_key(&mut self.envelope, name);
                put_clean(&mut self.envelope, value);
            }
            "event" if events::find(value).is_some() => self.event = events::find(value),
            // The crate `log` has lines of its own, with their place in fields.
            "log.target" => self.target = Some(value.to_owned()),
            "log.module_path" | "log.file" => {}
            _ if is_json(name, value) => self.place(name).extend_from_slice(value.as_bytes()),
            _ => put_clean(self.place(name), value),
        }
    }

    fn number(&mut self, name: &'static str, value: impl fmt::Display) {
        if name != "log.line" {
            // Into memory: cannot fail.
            let _ = write!(self.place(name), "{value}");
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{value:?}");
        self.text(field.name(), &scratch);
        self.scratch = scratch;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows neither infinity nor NaN.
        match value.is_finite() {
            true => self.number(field.name(), value),
            false => self.text(field.name(), &value.to_string()),
        }
    }
}

/// True for the text of a field that is declared as JSON, and is that, on one line.
fn is_json(name: &str, value: &str) -> bool {
    events::field(name).is_some_and(|field| field.kind == Kind::Json)
        && value.len() <= MAX_JSON_BYTES
        && !value.contains(['\n', '\r'])
        && serde_json::from_str::<IgnoredAny>(value).is_ok()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// `,"name":`
fn put_key(line: &mut Vec<u8>, name: &str) {
    line.push(b',');
    put_text(line, name);
    line.push(b':');
}

/// A JSON string, without secrets and not too long.
fn put_clean(line: &mut Vec<u8>, text: &str) {
    let clean = secrets::text(text);
    match clean.len() <= MAX_TEXT_BYTES {
        true => put_text(line, &clean),
        false => put_text(line, &cut(&clean, MAX_TEXT_BYTES)),
    }
}

/// At most `limit` bytes of a text, and `…` if that is not all.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit)])
}

pub(super) fn put_text(line: &mut Vec<u8>, text: &str) {
    // Into memory, and a string: cannot fail.
    let _ = serde_json::to_writer(line, text);
}

/// RFC 3339 with microseconds, in UTC.
fn put_time(line: &mut Vec<u8>, time: SystemTime) {
    thread_local! {
        /// The last second that was written, and its text.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since_epoch.as_secs() {
            *second = since_epoch.as_secs();
            text.clear();
            let _ = write!(text, "{}", DateTime::<Utc>::from(time).format("%Y-%m-%dT%H:%M:%S"));
        }
        let _ = write!(line, "{text}.{:06}Z", since_epoch.subsec_micros());
    });
}
