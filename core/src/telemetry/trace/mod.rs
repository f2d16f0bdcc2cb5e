//! Traces: what a query did, where and when, as spans of one W3C trace.
//!
//! ```text
//! client's traceparent ─▶ query ─┬─▶ planning                       scheduler
//!                                └─▶ stage ──traceparent──▶ task ─▶ fetch     executors
//! ```
//!
//! A span is made known when it has ended ([`Finished::export`]); until then only its [`SpanContext`] exists, which is a
//! value: it crosses processes in the control protocol and a takeover in the job's record. Exporting never waits: spans
//! go through a bounded queue, and what does not fit is dropped and counted.

mod export;

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use springald_proto::otlp::any_value::Value;
use springald_proto::otlp::{AnyValue, KeyValue, Span, SpanKind, Status, StatusCode};

pub(super) use export::Exporter;

use crate::secrets;

/// Which span of which trace, and whether it is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl SpanContext {
    /// The first span of a new trace; exported if `telemetry.trace_sample_percent` says so.
    pub fn root() -> Self {
        let trace = uuid::Uuid::new_v4().as_u128();
        Self { trace, span: new_span(), sampled: sampled(trace, super::process::trace_sample_percent()) }
    }

    /// A new span of the same trace.
    pub fn child(&self) -> Self {
        Self { span: new_span(), ..*self }
    }

    /// The trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }
}

/// As a W3C `traceparent`.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent: 00-<32 hexadecimal digits>-<16>-<2>")]
pub struct NoTraceparent;

/// Reads a W3C `traceparent`, of this version or a later one.
impl FromStr for SpanContext {
    type Err = NoTraceparent;

    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.trim().split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits).ok_or(NoTraceparent)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if is_hex { u128::from_str_radix(part, 16).map_err(|_| NoTraceparent) } else { Err(NoTraceparent) }
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let more = parts.next().is_some();
        if trace == 0 || span == 0 || version == 0xff || (version == 0 && more) {
            return Err(NoTraceparent);
        }
        // 16 digits fit.
        Ok(Self { trace, span: span as u64, sampled: flags & 1 == 1 })
    }
}

fn new_span() -> u64 {
    // The version bits of a UUID keep it from being zero.
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// Decides by the trace's id, so that all who are asked decide alike.
fn sampled(trace: u128, percent: u8) -> bool {
    const RANDOM_BITS: u32 = 56;
    let random = trace & ((1 << RANDOM_BITS) - 1);
    random * 100 < u128::from(percent) << RANDOM_BITS
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    span: Span,
    sampled: bool,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// A text, which has no secrets.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

fn key_value(name: &str, value: Attribute) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => Value::StringValue(secrets::owned(text)),
        Attribute::Number(number) => Value::IntValue(number),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

impl Finished {
    /// The span `context` of `parent`, from `start_micros` to `end_micros` since the Unix epoch.
    pub fn new(
        name: impl Into<String>,
        context: SpanContext,
        parent: Option<SpanContext>,
        (start_micros, end_micros): (i64, i64),
    ) -> Self {
        let span = Span {
            trace_id: context.trace.to_be_bytes().to_vec(),
            span_id: context.span.to_be_bytes().to_vec(),
            parent_span_id: parent.map(|parent| parent.span.to_be_bytes().to_vec()).unwrap_or_default(),
            name: name.into(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(start_micros),
            end_time_unix_nano: nanos(end_micros.max(start_micros)),
            attributes: vec![],
            status: Some(Status { message: String::new(), code: StatusCode::Ok.into() }),
            flags: context.sampled.into(),
        };
        Self { span, sampled: context.sampled }
    }

    /// It answers a request of another process.
    #[must_use]
    pub fn server(mut self) -> Self {
        self.span.set_kind(SpanKind::Server);
        self
    }

    /// It asks another process.
    #[must_use]
    pub fn client(mut self) -> Self {
        self.span.set_kind(SpanKind::Client);
        self
    }

    /// Says more of it; secrets in texts are masked.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> Self {
        self.span.attributes.push(key_value(name, value.into()));
        self
    }

    /// It failed, if there is an error.
    #[must_use]
    pub fn failed(mut self, error: Option<impl Into<String>>) -> Self {
        if let Some(error) = error {
            self.span.status = Some(Status { message: secrets::owned(error.into()), code: StatusCode::Error.into() });
        }
        self
    }

    /// Hands it to the exporter, if there is one and the trace is sampled. Never waits.
    pub fn export(self) {
        if let Some(exporter) = super::process::span_exporter()
            && self.sampled
        {
            exporter.take(self.span);
        }
    }
}

fn nanos(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or_default().saturating_mul(1000)
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_traceparent_when_read_and_written_then_the_same() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ] {
            assert_eq!(text.parse::<SpanContext>().expect(text).to_string(), text);
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(later.parse::<SpanContext>().is_ok());
    }

    #[test]
    fn given_no_traceparent_then_it_is_refused() {
        for text in [
            "",
            "00",
            "{\"a\":1}",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<SpanContext>(), Err(NoTraceparent), "{text}");
        }
    }

    #[test]
    fn given_a_share_of_the_traces_then_about_so_many_are_sampled() {
        let count = |percent| (0..10_000).filter(|_| sampled(uuid::Uuid::new_v4().as_u128(), percent)).count();
        assert_eq!(count(0), 0);
        assert_eq!(count(100), 10_000);
        // Six standard deviations and more.
        assert!((1_700..2_300).contains(&count(20)));
    }
}
