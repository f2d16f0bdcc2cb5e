//! Private fields of DataFusion's types, read from their derived `Debug` text.
//!
//! A field is read only where its place in the text is certain: at the end, which no value before it can imitate, or
//! behind a prefix that is known to the last byte. Text of any other form is an error.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Write};

use datafusion::common::{Result, internal_err};

/// Keeps the last bytes of what is written.
struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
}

impl Write for Tail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = &text.as_bytes()[text.len().saturating_sub(self.limit)..];
        self.bytes.extend(kept);
        let excess = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..excess);
        Ok(())
    }
}

/// Keeps the first bytes of what is written, and ends the writing after them.
struct Head {
    text: String,
    limit: usize,
}

impl Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() > self.limit { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Returns the last bytes of the `Debug` text, at most `limit`.
pub(super) fn tail(value: &dyn Debug, limit: usize) -> String {
    let mut tail = Tail { bytes: VecDeque::with_capacity(2 * limit), limit };
    // Writing into memory does not fail.
    let _ = write!(tail, "{value:?}");
    String::from_utf8_lossy(tail.bytes.make_contiguous()).into_owned()
}

/// True if the `Debug` text starts with `prefix`. Long texts are not written to their end.
pub(super) fn starts_with(value: &dyn Debug, prefix: &str) -> bool {
    let mut head = Head { text: String::new(), limit: prefix.len() };
    let _ = write!(head, "{value:?}");
    head.text.starts_with(prefix)
}

/// Reads the last field, a flag, of the `Debug` text.
pub(super) fn last_flag(value: &dyn Debug, field: &str) -> Result<bool> {
    let text = tail(value, field.len() + 16);
    for flag in [false, true] {
        if text.ends_with(&format!(", {field}: {flag} }}")) {
            return Ok(flag);
        }
    }
    internal_err!("{field} cannot be read: the text ends with {text}")
}

/// Reads the last two fields, both flags, of the `Debug` text.
pub(super) fn last_flags(value: &dyn Debug, fields: [&str; 2]) -> Result<[bool; 2]> {
    let [first, second] = fields;
    let text = tail(value, first.len() + second.len() + 32);
    for flags in [[false, false], [false, true], [true, false], [true, true]] {
        if text.ends_with(&format!(", {first}: {}, {second}: {} }}", flags[0], flags[1])) {
            return Ok(flags);
        }
    }
    internal_err!("{first} and {second} cannot be read: the text ends with {text}")
}

/// A reader of `Debug` text from its start.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Reads exactly this text.
    pub(super) fn expect(&mut self, text: &str) -> Result<()> {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => {
                let found: String = self.rest.chars().take(60).collect();
                internal_err!("a field cannot be read: expected {text:?}, found {found:?}")
            }
        }
    }

    /// Reads this text if it is next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<usize> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        match number.parse() {
            Ok(number) => Ok(number),
            Err(error) => internal_err!("a number cannot be read: {error}"),
        }
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&mut self) -> Result<bool> {
        let flag = self.take("true");
        if !flag {
            self.expect("false")?;
        }
        Ok(flag)
    }

    /// Reads an `Option` of what `read` reads.
    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.take("None") {
            return Ok(None);
        }
        self.expect("Some(")?;
        let value = read(self)?;
        self.expect(")")?;
        Ok(Some(value))
    }

    /// Reads a list of what `read` reads.
    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut values = vec![];
        self.expect("[")?;
        while !self.take("]") {
            if !values.is_empty() {
                self.expect(", ")?;
            }
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// Reads a string in quotation marks.
    pub(super) fn string(&mut self) -> Result<String> {
        self.expect("\"")?;
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((place, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[place + 1..];
                    return Ok(text);
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some(escaped @ ('\\' | '"' | '\'')) => text.push(escaped),
                    _ => return internal_err!("a text with unusual characters cannot be read"),
                },
                other => text.push(other),
            }
        }
        internal_err!("a text without an end cannot be read")
    }

    /// Checks that all is read.
    pub(super) fn expect_end(&self) -> Result<()> {
        match self.rest {
            "" => Ok(()),
            rest => internal_err!("a field cannot be read: {} more bytes than expected", rest.len()),
        }
    }
}
