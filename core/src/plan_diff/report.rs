//! How a comparison ends before all is compared: with the first difference, or with what cannot be read.

use std::fmt::{Debug, Write};

use crate::error::Error;

/// Characters of a value that are shown.
const MAX_VALUE_CHARS: usize = 300;

/// Result of comparing a part of two plans.
pub(super) type Check = Result<(), Box<Stop>>;

/// Reason to end a comparison, and the place in the plan, innermost part first.
pub(super) struct Stop {
    reason: Reason,
    path: Vec<String>,
}

enum Reason {
    Differs { left: String, right: String },
    Unreadable(String),
}

impl Stop {
    /// Adds an outer part to the path.
    pub(super) fn at(mut self: Box<Self>, part: &str) -> Box<Self> {
        self.path.push(part.to_owned());
        self
    }

    /// Returns true for a difference, false for what cannot be read.
    pub(super) fn is_difference(&self) -> bool {
        matches!(self.reason, Reason::Differs { .. })
    }

    /// Returns the difference as text, or the error for what cannot be read.
    pub(super) fn into_result(self) -> Result<Option<String>, Error> {
        let path = self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join("/");
        match self.reason {
            Reason::Differs { left, right } => Ok(Some(format!("{path}: {left} and {right}"))),
            Reason::Unreadable(what) => Err(Error::unsupported(format!("cannot compare plans at {path}: {what}"))),
        }
    }
}

/// Adds the place to a [`Check`].
pub(super) trait Located {
    /// Adds an outer part to the path if the check has stopped.
    fn located(self, part: impl FnOnce() -> String) -> Self;
}

impl Located for Check {
    fn located(self, part: impl FnOnce() -> String) -> Self {
        self.map_err(|stop| stop.at(&part()))
    }
}

/// Compares a field by its own equality.
pub(super) fn same<T: PartialEq + Debug + ?Sized>(field: &str, left: &T, right: &T) -> Check {
    if left == right { Ok(()) } else { Err(differs(field, &left, &right)) }
}

/// Compares debug texts, and shows the first line that differs.
pub(super) fn same_text(field: &str, left: &str, right: &str) -> Check {
    if left == right {
        return Ok(());
    }
    let mut lines = left.lines().zip(right.lines());
    let (one, other) = lines.find(|(one, other)| one != other).unwrap_or((left, right));
    Err(differs(field, &Plain(one.trim()), &Plain(other.trim())))
}

/// Shows a text as it is.
struct Plain<'a>(&'a str);

impl Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Returns the difference of a field.
pub(super) fn differs(field: &str, left: &dyn Debug, right: &dyn Debug) -> Box<Stop> {
    let reason = Reason::Differs { left: shown(left), right: shown(right) };
    Box::new(Stop { reason, path: vec![field.to_owned()] })
}

/// Returns the stop for a field that cannot be read.
pub(super) fn unreadable(field: &str, reason: impl Into<String>) -> Box<Stop> {
    Box::new(Stop { reason: Reason::Unreadable(reason.into()), path: vec![field.to_owned()] })
}

fn shown(value: &dyn Debug) -> String {
    let mut text = String::new();
    // An error while formatting leaves the text that was written before it.
    let _ = write!(text, "{value:?}");
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
