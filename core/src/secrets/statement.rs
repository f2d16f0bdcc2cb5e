//! Secrets and literals in SQL, by its tokens.

use std::collections::BTreeSet;
use std::fmt::Write;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::{MASK, SUSPICIOUS, is_secret_name, scrub};

/// The statement without secrets: what stands behind a name that sounds secret, and credentials in URLs.
pub fn sql(statement: &str) -> String {
    if !SUSPICIOUS.is_match(statement) {
        return statement.to_owned();
    }
    masked(statement, |_| ())
}

/// The values that [`sql`] masks in a statement: as they are written, and without their escapes.
pub(super) fn values(statement: &str) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    if !SUSPICIOUS.is_match(statement) {
        return values;
    }
    let mut found = |value: &str| {
        values.insert(value.to_owned());
    };
    masked(statement, &mut found);
    if let Some(tokens) = tokens(statement, Escapes::Resolved) {
        Scrubber::default().run(&tokens, &mut found);
    }
    values.remove("");
    // The patterns see what stands in a value's place already.
    values.remove(MASK);
    values
}

/// The statement with [`MASK`] for its secrets; `found` is told each.
fn masked(statement: &str, mut found: impl FnMut(&str)) -> String {
    match tokens(statement, Escapes::Kept) {
        Some(tokens) => {
            let clean = Scrubber::default().run(&tokens, &mut found);
            scrub(&clean, found).into_owned()
        }
        // Not SQL, as far as the tokenizer can tell; what was sent instead may hold secrets all the same.
        None => scrub(statement, found).into_owned(),
    }
}

/// The statement with `?` for every literal, and without comments.
pub fn redacted(statement: &str) -> String {
    let Some(tokens) = tokens(statement, Escapes::Kept) else { return "?".to_owned() };
    let mut shown = String::with_capacity(statement.len());
    for token in &tokens {
        match token {
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                shown.push(' ');
            }
            literal if is_literal(literal) => shown.push('?'),
            other => drop(write!(shown, "{other}")),
        }
    }
    shown
}

/// What becomes of escapes in literals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// The tokens print as they were written.
    Kept,
    /// The tokens have the values that are meant, as a parser sees them.
    Resolved,
}

fn tokens(statement: &str, escapes: Escapes) -> Option<Vec<Token>> {
    Tokenizer::new(&GenericDialect {}, statement).with_unescape(escapes == Escapes::Resolved).tokenize().ok()
}

fn is_literal(token: &Token) -> bool {
    is_text(token) || matches!(token, Token::Number(..))
}

fn is_text(token: &Token) -> bool {
    text_of(token).is_some()
}

/// What stands between the quotes of a literal.
fn text_of(token: &Token) -> Option<&str> {
    match token {
        Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::TripleSingleQuotedString(text)
        | Token::TripleDoubleQuotedString(text)
        | Token::SingleQuotedByteStringLiteral(text)
        | Token::DoubleQuotedByteStringLiteral(text)
        | Token::TripleSingleQuotedByteStringLiteral(text)
        | Token::TripleDoubleQuotedByteStringLiteral(text)
        | Token::SingleQuotedRawStringLiteral(text)
        | Token::DoubleQuotedRawStringLiteral(text)
        | Token::TripleSingleQuotedRawStringLiteral(text)
        | Token::TripleDoubleQuotedRawStringLiteral(text)
        | Token::NationalStringLiteral(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::HexStringLiteral(text) => Some(text),
        Token::DollarQuotedString(quoted) => Some(&quoted.value),
        Token::QuoteDelimitedStringLiteral(quoted) | Token::NationalQuoteDelimitedStringLiteral(quoted) => {
            Some(&quoted.value)
        }
        _ => None,
    }
}

/// The value that a token stands for, or is a part of.
fn value_of(token: &Token) -> &str {
    match token {
        Token::Word(word) => &word.value,
        Token::Number(number, _) => number,
        other => text_of(other).unwrap_or_default(),
    }
}

fn is_word(token: &Token, keyword: &str) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case(keyword))
}

/// Follows the tokens, and knows whether a value that comes next is secret.
#[derive(Default)]
struct Scrubber {
    /// The name before has a part that sounds secret.
    secret: bool,
    /// A `.` has just joined the name before to what comes.
    joined: bool,
    /// Something like `=` came after the name.
    assigned: bool,
    /// The token before was masked.
    masked: bool,
    /// A token of the statement was seen.
    begun: bool,
    /// The statement begins with SET: words behind a name are values, even if `=` was forgotten.
    begins_with_set: bool,
    /// The statement sets a variable.
    set: bool,
    /// Depth of parentheses within OPTIONS (…); there, words are values, too.
    options: u32,
    /// OPTIONS was the last word.
    options_named: bool,
    /// IDENTIFIED was the last word: what comes BY it is secret.
    identified: bool,
}

impl Scrubber {
    /// The statement without secrets; `found` is told each.
    fn run(mut self, tokens: &[Token], mut found: impl FnMut(&str)) -> String {
        let mut clean = String::new();
        for token in tokens {
            if self.is_secret_value(token) {
                found(value_of(token));
                if !self.masked {
                    let quote = if is_text(token) { "'" } else { "" };
                    let _ = write!(clean, "{quote}{MASK}{quote}");
                }
                // Adjacent literals are one value.
                self.masked = true;
                continue;
            }
            let _ = write!(clean, "{token}");
            self.follow(token);
        }
        clean
    }

    fn is_secret_value(&self, token: &Token) -> bool {
        if !self.secret || self.joined {
            return false;
        }
        if self.masked && (self.set || self.options > 0) && !ends_word(token) {
            // hun-ter2 and hun.ter2 are one value, where words are values.
            return true;
        }
        match token {
            Token::Word(word) => {
                self.options > 0
                    || (self.assigned && (self.set || word.quote_style.is_some()))
                    || (self.begins_with_set && !is_word(token, "TO"))
            }
            literal => is_literal(literal),
        }
    }

    fn follow(&mut self, token: &Token) {
        self.masked = false;
        match token {
            Token::Whitespace(_) => return,
            Token::Period | Token::Minus | Token::DoubleColon => self.joined = true,
            Token::Eq | Token::RArrow | Token::Colon | Token::Assignment => self.assigned = true,
            to if self.set && is_word(to, "TO") => self.assigned = true,
            by if self.identified && is_word(by, "BY") => {
                self.secret = true;
                self.assigned = true;
            }
            Token::Word(word) => self.name(&word.value),
            Token::LParen => {
                self.options += u32::from(self.options > 0 || self.options_named);
                self.end_of_name();
            }
            Token::RParen => {
                self.options = self.options.saturating_sub(1);
                self.end_of_name();
            }
            text if is_text(text) => self.name(&text.to_string()),
            _ => self.end_of_name(),
        }
        self.options_named = is_word(token, "OPTIONS");
        self.identified = is_word(token, "IDENTIFIED");
        self.begins_with_set = if self.begun { self.begins_with_set } else { is_word(token, "SET") };
        self.begun = *token != Token::SemiColon;
        self.set = self.begun && (self.set || is_word(token, "SET"));
    }

    fn name(&mut self, name: &str) {
        self.secret = is_secret_name(name) || (self.joined && self.secret);
        self.joined = false;
        self.assigned = false;
    }

    fn end_of_name(&mut self) {
        self.secret = false;
        self.joined = false;
        self.assigned = false;
    }
}

/// No unquoted value goes on with this.
fn ends_word(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::Comma | Token::SemiColon | Token::LParen | Token::RParen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_statements_with_secrets_then_none_is_left_and_the_rest_stays() {
        let cases = [
            (
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://b/x' OPTIONS ('aws.secret_access_key' 'hunter2', 'has_header' 'true')",
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://b/x' OPTIONS ('aws.secret_access_key' '***', 'has_header' 'true')",
            ),
            ("OPTIONS (aws.secret_access_key 'hunter2', a 1)", "OPTIONS (aws.secret_access_key '***', a 1)"),
            ("OPTIONS ('aws.token' /* ' */ 'hunter2')", "OPTIONS ('aws.token' /* ' */ '***')"),
            ("OPTIONS ('aws.token' -- x\n 'hunter2')", "OPTIONS ('aws.token' -- x\n '***')"),
            ("OPTIONS (aws.credentials.key hunter2)", "OPTIONS (aws.credentials.key ***)"),
            ("OPTIONS (password 'it''s hunter2')", "OPTIONS (password '***')"),
            ("OPTIONS (\"password\" \"hunter2\")", "OPTIONS (\"password\" ***)"),
            ("OPTIONS (password E'hunter2', b $$c$$)", "OPTIONS (password '***', b $$c$$)"),
            ("OPTIONS (password $q$hunter2$q$)", "OPTIONS (password '***')"),
            ("OPTIONS (password 'hun' 'hunter2')", "OPTIONS (password '***' '***')"),
            ("SET x.password = hunter2", "SET x.password = ***"),
            ("SET x.password TO 'hunter2'", "SET x.password TO '***'"),
            ("SET x.password = hun-ter2.x; SELECT a-b.c", "SET x.password = ***; SELECT a-b.c"),
            ("SET x.password 'hunter2'", "SET x.password '***'"),
            ("SET x.password hunter2", "SET x.password ***"),
            ("SELECT * FROM t WHERE password 'hunter2'", "SELECT * FROM t WHERE password '***'"),
            (
                "OPTIONS (crypto.column_key_as_hex::c 'hunter2', 'sse_customer_key_base64' 'hunter2')",
                "OPTIONS (crypto.column_key_as_hex::c '***', 'sse_customer_key_base64' '***')",
            ),
            ("CREATE USER ann IDENTIFIED /* c */ BY $$hunter2$$", "CREATE USER ann IDENTIFIED /* c */ BY '***'"),
            (
                "SELECT * FROM t WHERE password = 'hunter2' AND a = 'b'",
                "SELECT * FROM t WHERE password = '***' AND a = 'b'",
            ),
            (
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'http://ann:hunter2@h/x.csv'",
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'http://***@h/x.csv'",
            ),
            ("LOCATION 's3://AKIA:hun/ter2@b/x/', 's3://b/a@b'", "LOCATION 's3://***@b/x/', 's3://b/a@b'"),
            ("OPTIONS ('password' 'hunter2", "OPTIONS ('password' '***"),
        ];
        for (statement, clean) in cases {
            assert_eq!(sql(statement), clean);
        }
    }

    #[test]
    fn given_statements_without_secrets_then_they_stay_as_they_are() {
        for statement in [
            "SELECT token, secret AS s FROM t  -- 'a'\n WHERE b = 'it''s' AND x = 1.50e3",
            "SELECT secret FROM t WHERE a = 'b'",
            "SELECT count(token), 'x' FROM \"T\"",
            "SELECT E'\\n', $$a$$, X'00', N'é'",
            "SELECT token::text, 'a' FROM t WHERE c_customer_key = 5 AND l_orderkey = 6",
            "SELECT set, token FROM t WHERE identified ORDER BY 'a'",
        ] {
            assert_eq!(sql(statement), statement);
        }
    }

    #[test]
    fn given_statements_then_the_values_are_those_that_are_masked() {
        let cases: [(&str, &[&str]); 6] = [
            ("SELECT secret FROM t WHERE a = 'b'", &[]),
            ("SET x.password = ''", &[]),
            ("OPTIONS (password 'it''s', token 12)", &["12", "it''s", "it's"]),
            ("OPTIONS (password E'a\\'b')", &["a'b"]),
            ("LOCATION 's3://AKIA:a/b@c/'", &["AKIA:a/b"]),
            ("OPTIONS ('password' 'no end", &["no end"]),
        ];
        for (statement, expected) in cases {
            assert_eq!(values(statement).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{statement}");
        }
    }

    #[test]
    fn given_redaction_then_literals_and_comments_are_gone() {
        let statement = "SELECT a, 'b', 12 /* c */ FROM \"T\" WHERE d LIKE 'e%' -- f";
        assert_eq!(redacted(statement), "SELECT a, ?, ?   FROM \"T\" WHERE d LIKE ?  ");
        assert_eq!(redacted("SELECT 'no end"), "?");
    }
}
