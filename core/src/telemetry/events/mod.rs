//! The contract of the events: every line that a process writes, by name, with its fields.
//!
//! Declared once, here: call sites use the constants of [`names`], `docs/events.md` is generated from the tables
//! ([`reference`]), and [`check_line`] holds a written line to them.

mod check;
pub mod names;
mod reference;

pub use check::check_line;
pub use names::{ENVELOPE, EVENTS, FIELDS, LOG};
pub use reference::reference;

/// Version of the schema: the field `v` of every line. Fields and events are added without a new version; it changes when
/// one is removed or means something else.
pub const SCHEMA_VERSION: u32 = 1;

/// What kind of JSON value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// An object or array.
    Json,
}

impl Kind {
    /// Its name in the reference.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Flag => "flag",
            Self::Json => "JSON",
        }
    }
}

/// A field: its name means the same, and has the same kind, in every event.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it says.
    pub doc: &'static str,
}

/// An event: something that a process says by this name.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its stable name.
    pub name: &'static str,
    /// The fields that it may have beside those of the envelope.
    pub fields: &'static [&'static str],
    /// When it is written, and by whom.
    pub doc: &'static str,
}

/// The event with this name.
pub fn find(name: &str) -> Option<&'static Definition> {
    EVENTS.binary_search_by(|event| event.name.cmp(name)).ok().and_then(|at| EVENTS.get(at))
}

/// The field with this name, of the envelope or of an event.
pub fn field(name: &str) -> Option<&'static Field> {
    ENVELOPE.iter().chain(FIELDS).find(|field| field.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn given_the_tables_names_are_sorted_unique_and_well_formed() {
        assert!(EVENTS.is_sorted_by(|a, b| a.name < b.name), "events stand in the order of their names");
        let mut names = BTreeSet::new();
        for field in ENVELOPE.iter().chain(FIELDS) {
            assert!(names.insert(field.name), "{} is declared twice", field.name);
            assert!(field.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", field.name);
            assert!(!field.doc.trim().is_empty(), "{} says nothing", field.name);
        }
        for event in EVENTS {
            let well_formed = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.';
            assert!(event.name.bytes().all(well_formed), "{}", event.name);
            assert!(event.name.contains('.') || event.name == LOG, "{}", event.name);
            assert!(!event.doc.trim().is_empty(), "{} says nothing", event.name);
        }
    }

    #[test]
    fn given_the_tables_every_field_of_an_event_is_declared_and_every_declared_field_is_used() {
        let declared: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
        let used: BTreeSet<&str> = EVENTS.iter().flat_map(|event| event.fields).copied().collect();
        assert_eq!(declared, used);
    }

    #[test]
    fn given_the_events_reference_then_it_says_what_the_code_says() {
        let committed = include_str!("../../../../docs/events.md");
        assert!(reference() == committed, "docs/events.md is old: run `make reference`");
    }
}
