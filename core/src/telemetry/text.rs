//! Events as text, for people at a terminal.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use tracing::field::Field;
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::field::Visit;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::layer::Flush;
use super::writer::EventWriter;
use crate::secrets;

/// Left out: names for machines, and what does not fit a screen.
const NOT_SHOWN: [&str; 5] = ["event", "profile", "log.target", "log.module_path", "log.file"];

/// The layer that writes text.
pub(super) struct TextLayer;

impl TextLayer {
    /// Writes to `sink`, with colours if that is a terminal, from a thread of its own. At most `buffer` bytes wait.
    pub(super) fn start<S>(
        sink: Box<dyn Write + Send>,
        colours: bool,
        buffer: usize,
    ) -> io::Result<(Box<dyn Layer<S> + Send + Sync>, Flush)>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        // Without numbers nothing says where lines are missing but the metric.
        let writer = EventWriter::start(sink, vec![], buffer, Box::new(|_| vec![]))?;
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(Shown)
            .with_ansi(colours)
            .with_writer(Lines(Arc::clone(&writer)));
        Ok((layer.boxed(), Flush(writer)))
    }
}

/// Hands each line to the writer whole.
struct Lines(Arc<EventWriter>);

struct LineWriter<'a>(&'a EventWriter);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

impl Write for LineWriter<'_> {
    /// `tracing_subscriber` writes an event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push_text(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats fields as `tracing_subscriber` does, without some of them and without secrets.
struct Shown;

impl<'writer> FormatFields<'writer> for Shown {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, empty: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'writer> {
    writer: Writer<'writer>,
    empty: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        if self.result.is_err() || NOT_SHOWN.contains(&field.name()) {
            return;
        }
        let separator = if std::mem::take(&mut self.empty) { "" } else { " " };
        let value = one_line(&secrets::text(value));
        self.result = match (field.name(), self.writer.has_ansi_escapes()) {
            ("message", _) => write!(self.writer, "{separator}{value}"),
            (name, true) => write!(self.writer, "{separator}\x1b[2m{name}=\x1b[0m{value}"),
            (name, false) => write!(self.writer, "{separator}{name}={value}"),
        };
    }
}

/// The text without characters that would begin a line or command the terminal: it may come from a client.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn given_text_with_control_characters_then_it_stays_one_line() {
        assert_eq!(one_line("SELECT 'é'\n\u{1b}[31m;\t1"), "SELECT 'é'\\n\\u{1b}[31m;\\t1");
    }
}
