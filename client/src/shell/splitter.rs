//! Finds the statements in a script, line by line.
//!
//! ```text
//! line ──▶ Splitter ──▶ statements that ended in it, without their ';', and commands (`\d`)
//!             └ what has not ended yet: quotes, comments and dollar quotes go on over lines
//! ```
//!
//! A statement ends at a ';' outside of `'…'`, `E'…\'…'`, `"…"`, `` `…` ``, `$tag$…$tag$`, `-- …` and `/* … /* */ … */`.
//! A line that begins with '\' where a statement could begin is a command. A splitter must not know more of SQL.

/// A statement or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its text: without the ';', or without the line's end.
    pub text: String,
    /// The line where it begins, from 1.
    pub line: usize,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SQL.
    Statement,
    /// For the shell itself, beginning with '\'.
    Command,
}

/// What the place that was reached is within.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Sql,
    /// Up to the quote. Doubled quotes look like two texts, which comes to the same.
    Quotes(char),
    /// `E'…'`, where '\' escapes.
    EscapeQuotes,
    /// Up to this `$tag$`.
    Dollars(String),
    /// Comments, so many levels deep.
    Comment(usize),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The statement that has not ended, as far as it was read.
    pending: String,
    within: Within,
    /// Whether `pending` has more than comments.
    has_content: bool,
    /// Whether the last token is the `E` that makes the quotes after it escape.
    after_e: bool,
    /// Lines read.
    lines: usize,
    /// Line where `pending` begins.
    first_line: usize,
}

impl Splitter {
    /// Reads one more line, with or without its end, and returns what ended in it.
    pub fn push_line(&mut self, line: &str) -> Vec<Item> {
        self.lines += 1;
        let mut items = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            if self.within == Within::Sql && !self.has_content && rest.starts_with('\\') {
                // Comments before a command are of no use to anyone.
                self.pending.clear();
                items.push(Item { kind: Kind::Command, text: rest.trim().to_owned(), line: self.lines });
                return items;
            }
            let (token, after) = rest.split_at(self.step(rest));
            rest = after;
            if token == ";" && self.within == Within::Sql {
                items.extend(self.take());
            } else if !self.pending.is_empty() || !token.trim().is_empty() {
                if self.pending.is_empty() {
                    self.first_line = self.lines;
                }
                self.pending.push_str(token);
            }
        }
        // A line's end ends words and comments, whether or not the line came with it.
        self.after_e = false;
        if !self.pending.is_empty() && !self.pending.ends_with('\n') {
            self.pending.push('\n');
        }
        items
    }

    /// The statement that the input ended in, if it has one; the server says what is missing of it.
    pub fn finish(&mut self) -> Option<Item> {
        self.within = Within::Sql;
        self.take()
    }

    /// True if a statement or a comment has begun and not ended.
    pub fn is_within_statement(&self) -> bool {
        self.has_content || self.within != Within::Sql
    }

    /// Bytes of the statement that has not ended.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    fn take(&mut self) -> Option<Item> {
        let text = std::mem::take(&mut self.pending).trim_end().to_owned();
        let has_content = std::mem::take(&mut self.has_content);
        has_content.then_some(Item { kind: Kind::Statement, text, line: self.first_line })
    }

    /// Length of the token at the beginning of `rest`, at least one character; updates what the place after it is in.
    fn step(&mut self, rest: &str) -> usize {
        let after_e = std::mem::take(&mut self.after_e);
        match &self.within {
            Within::Sql => self.step_in_sql(rest, after_e),
            Within::Quotes(quote) => self.leave_at(rest, &quote.to_string()),
            Within::Dollars(tag) => self.leave_at(rest, &tag.clone()),
            Within::EscapeQuotes => self.step_in_escape_quotes(rest),
            Within::Comment(depth) => self.step_in_comment(rest, *depth),
        }
    }

    fn step_in_sql(&mut self, rest: &str, after_e: bool) -> usize {
        let blanks = rest.len() - rest.trim_start().len();
        if blanks > 0 {
            return blanks;
        }
        if rest.starts_with("--") {
            return rest.find('\n').unwrap_or(rest.len());
        }
        if rest.starts_with("/*") {
            self.within = Within::Comment(1);
            return 2;
        }
        if rest.starts_with(';') {
            return 1;
        }
        self.has_content = true;
        if let Some(tag) = dollar_tag(rest) {
            self.within = Within::Dollars(tag.to_owned());
            return tag.len();
        }
        let word = rest.find(|next: char| !is_of_word(next)).unwrap_or(rest.len());
        if word > 0 && !rest.starts_with('$') {
            self.after_e = rest.get(..word).is_some_and(|word| word.eq_ignore_ascii_case("e"));
            return word;
        }
        let first = rest.chars().next().unwrap_or_default();
        match first {
            '\'' if after_e => self.within = Within::EscapeQuotes,
            '\'' | '"' | '`' => self.within = Within::Quotes(first),
            _ => {}
        }
        first.len_utf8()
    }

    fn leave_at(&mut self, rest: &str, end: &str) -> usize {
        match rest.find(end) {
            Some(position) => {
                self.within = Within::Sql;
                position + end.len()
            }
            None => rest.len(),
        }
    }

    fn step_in_escape_quotes(&mut self, rest: &str) -> usize {
        let mut characters = rest.char_indices();
        while let Some((position, character)) = characters.next() {
            match character {
                '\\' => drop(characters.next()),
                '\'' => {
                    self.within = Within::Sql;
                    // `E'a''b'`: what looks like a second text escapes too.
                    self.after_e = true;
                    return position + 1;
                }
                _ => {}
            }
        }
        rest.len()
    }

    fn step_in_comment(&mut self, rest: &str, depth: usize) -> usize {
        let (opens, closes) = (rest.find("/*"), rest.find("*/"));
        let (end, depth) = match (opens, closes) {
            (Some(opens), Some(closes)) if opens < closes => (opens, depth + 1),
            (Some(opens), None) => (opens, depth + 1),
            (_, Some(closes)) => (closes, depth - 1),
            (None, None) => return rest.len(),
        };
        self.within = if depth == 0 { Within::Sql } else { Within::Comment(depth) };
        end + 2
    }
}

/// True if `text`, as typed so far, has no statement that has not ended.
pub(super) fn is_complete(text: &str) -> bool {
    let mut splitter = Splitter::default();
    text.lines().for_each(|line| drop(splitter.push_line(line)));
    !splitter.is_within_statement()
}

/// All of a text that is there as a whole; the last statement needs no ';'.
pub(super) fn split(text: &str) -> Vec<Item> {
    let mut splitter = Splitter::default();
    let mut items: Vec<Item> = text.lines().flat_map(|line| splitter.push_line(line)).collect();
    items.extend(splitter.finish());
    items
}

/// The `$tag$` at the beginning of `text`. `$1` is a parameter, and no tag.
fn dollar_tag(text: &str) -> Option<&str> {
    let (tag, _) = text.strip_prefix('$')?.split_once('$')?;
    let fits = tag.chars().all(|next| next.is_alphanumeric() || next == '_');
    let is_tag = fits && !tag.starts_with(|first: char| first.is_ascii_digit());
    is_tag.then(|| text.get(..tag.len() + 2)).flatten()
}

fn is_of_word(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '_' | '$' | '@' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split(script).into_iter().map(|item| item.text).collect()
    }

    #[test]
    fn given_semicolons_in_quotes_and_comments_then_they_end_nothing() {
        for whole in [
            "SELECT ';'",
            "SELECT 'it''s; fine'",
            "SELECT E'it\\'s; fine'",
            "SELECT E'\\\\' || e'a''\\';'",
            "SELECT \"a;b\", `c;d`",
            "SELECT 1 -- one; two",
            "SELECT 1 /* a; /* b; */ c; */ + 1",
            "SELECT $$ a; 'b $$",
            "SELECT $x$ a; $$ b; $x$",
            "SELECT 'a;\nb;'",
            "SELECT 'ü;ö'",
        ] {
            assert_eq!(texts(&format!("{whole}\n; SELECT 2")), [whole, "SELECT 2"], "{whole}");
        }
    }

    #[test]
    fn given_what_only_looks_like_quotes_then_semicolons_end_statements() {
        assert_eq!(texts("SELECT '\\'; SELECT 2"), ["SELECT '\\'", "SELECT 2"]);
        assert_eq!(texts("SELECT $1; SELECT $2"), ["SELECT $1", "SELECT $2"]);
        assert_eq!(texts("SELECT a$b$; SELECT c$b$"), ["SELECT a$b$", "SELECT c$b$"]);
        assert_eq!(texts("SELECT thee '\\'; SELECT 2"), ["SELECT thee '\\'", "SELECT 2"]);
        assert_eq!(texts("SELECT 1 - -1; SELECT 4 / 2 * 2"), ["SELECT 1 - -1", "SELECT 4 / 2 * 2"]);
    }

    #[test]
    fn given_blanks_and_comments_only_then_there_is_no_statement() {
        assert!(texts(" ;; -- no;\n/* no; */ ;\n").is_empty());
        assert_eq!(texts("-- why\nSELECT 1"), ["-- why\nSELECT 1"]);
    }

    #[test]
    fn given_a_script_then_each_item_knows_its_line() {
        let items = split("SELECT 1;\n\nSELECT\n  2; SELECT 3;\n-- note\n\\timing on\nSELECT 4");
        let found: Vec<_> = items.iter().map(|item| (item.kind, item.text.as_str(), item.line)).collect();
        let wanted = [
            (Kind::Statement, "SELECT 1", 1),
            (Kind::Statement, "SELECT\n  2", 3),
            (Kind::Statement, "SELECT 3", 4),
            (Kind::Command, "\\timing on", 6),
            (Kind::Statement, "SELECT 4", 7),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn given_a_backslash_within_a_statement_then_it_is_no_command() {
        assert_eq!(texts("SELECT\n\\d"), ["SELECT\n\\d"]);
        assert_eq!(texts("SELECT 1; \\d nation"), ["SELECT 1", "\\d nation"]);
    }

    #[test]
    fn given_what_was_typed_then_it_is_complete_when_nothing_is_open() {
        for complete in ["", "  ", "SELECT 1;", "SELECT 1; -- done", "\\d", "SELECT 1;\n\\d x", "-- nothing"] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT 1; SELECT", "SELECT 'a;", "/* ;", "SELECT $$;", "SELECT 1 -- ;"] {
            assert!(!is_complete(open), "{open:?}");
        }
    }

    #[test]
    fn given_lines_one_by_one_then_statements_come_out_as_they_end() {
        let mut splitter = Splitter::default();
        assert!(splitter.push_line("SELECT\n").is_empty());
        assert!(splitter.is_within_statement());
        assert_eq!(splitter.push_line("1; SELECT 2\n").len(), 1);
        assert_eq!(splitter.finish().map(|item| item.text), Some("SELECT 2".to_owned()));
        assert_eq!((splitter.finish(), splitter.pending_bytes()), (None, 0));
    }
}
