//! The reviewed list of expected differences. It may only shrink.
//!
//! One difference a line: id of the record, modes, kind of the difference, reason.
//!
//! ```text
//! limit.slt:12   staged,tiny   rows           a LIMIT in a subquery chooses any rows
//! ddl.slt:40     *             server-error   CREATE FUNCTION is not supported
//! ```
//!
//! A `?` behind the modes marks a difference that does not occur in every run. Every other line must occur in each of its
//! modes: one that does not any more is to be removed.

use std::collections::BTreeSet;

use super::rows::Class;
use super::server::Mode;

/// A line of the list.
#[derive(Clone, Debug)]
struct Entry {
    id: String,
    modes: Vec<Mode>,
    class: String,
    is_optional: bool,
    reason: String,
    seen: BTreeSet<Mode>,
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    entries: Vec<Entry>,
}

impl Expected {
    /// Reads the list.
    ///
    /// # Errors
    /// Names the line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let entries = lines.map(|(index, line)| {
            entry(line).ok_or_else(|| format!("line {}: expected `id modes class reason`: {line}", index + 1))
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// The reason for a difference, if it is expected; notes that it has occurred.
    pub fn reason(&mut self, id: &str, mode: Mode, class: Class) -> Option<String> {
        let fits = |entry: &&mut Entry| entry.id == id && entry.class == class.name() && entry.modes.contains(&mode);
        let entry = self.entries.iter_mut().find(fits)?;
        entry.seen.insert(mode);
        Some(entry.reason.clone())
    }

    /// Lines that did not occur although their records were run in these modes.
    pub fn stale(&self, ids: &BTreeSet<String>, modes: &[Mode]) -> Vec<String> {
        let entries = self.entries.iter().filter(|entry| !entry.is_optional && ids.contains(&entry.id));
        entries
            .flat_map(|entry| {
                let missing = entry.modes.iter().filter(|mode| modes.contains(mode) && !entry.seen.contains(mode));
                missing.map(|mode| format!("{} {} {}: {}", entry.id, mode.name(), entry.class, entry.reason))
            })
            .collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let (id, modes, class) = (words.next()?, words.next()?, words.next()?);
    let reason = words.collect::<Vec<_>>().join(" ");
    let (modes, is_optional) = match modes.strip_suffix('?') {
        Some(modes) => (modes, true),
        None => (modes, false),
    };
    let modes = match modes {
        "*" => Mode::ALL.to_vec(),
        list => list.split(',').map(mode).collect::<Option<Vec<_>>>()?,
    };
    let entry = Entry { id: id.to_owned(), modes, class: class.to_owned(), is_optional, reason, seen: BTreeSet::new() };
    (!entry.reason.is_empty()).then_some(entry)
}

fn mode(name: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_differences_are_found_and_stale_ones_named() {
        let text = "# reviewed\na.slt:1 staged,tiny rows any rows\n\nb.slt:2 *? order may differ\n";
        let mut list = Expected::parse(text).expect("a list");
        assert_eq!(list.reason("a.slt:1", Mode::Staged, Class::Rows).as_deref(), Some("any rows"));
        assert_eq!(list.reason("a.slt:1", Mode::Default, Class::Rows), None);
        assert_eq!(list.reason("a.slt:1", Mode::Staged, Class::Order), None);
        let ids: BTreeSet<String> = ["a.slt:1".to_owned(), "b.slt:2".to_owned()].into();
        assert_eq!(list.stale(&ids, &Mode::ALL), ["a.slt:1 tiny rows: any rows"]);
        assert!(list.stale(&ids, &[Mode::Staged]).is_empty());
        assert!(list.stale(&BTreeSet::new(), &Mode::ALL).is_empty());
    }

    #[test]
    fn expected_difference_without_reason_is_refused() {
        for line in ["a.slt:1 * rows", "a.slt:1 nowhere rows reason", "a"] {
            assert!(Expected::parse(line).is_err(), "{line}");
        }
    }
}
