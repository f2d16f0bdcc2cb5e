//! Secrets and literals in SQL, by its tokens.

use std::fmt::Write;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::{MASK, SUSPICIOUS, is_secret_name, owned};

/// The statement without secrets: what stands behind a name that sounds secret, and credentials in URLs.
pub fn sql(statement: &str) -> String {
    if !SUSPICIOUS.is_match(statement) {
        return statement.to_owned();
    }
    match tokens(statement) {
        Some(tokens) => owned(Scrubber::default().run(&tokens)),
        // Not SQL, as far as the tokenizer can tell; what was sent instead may hold secrets all the same.
        None => owned(statement.to_owned()),
    }
}

/// The statement with `?` for every literal, and without comments.
pub fn redacted(statement: &str) -> String {
    let Some(tokens) = tokens(statement) else { return "?".to_owned() };
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

/// Without unescaping, so that they print as they were written.
fn tokens(statement: &str) -> Option<Vec<Token>> {
    Tokenizer::new(&GenericDialect {}, statement).with_unescape(false).tokenize().ok()
}

fn is_literal(token: &Token) -> bool {
    is_text(token) || matches!(token, Token::Number(..))
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
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
    /// The statement sets a variable.
    set: bool,
    /// Depth of parentheses within OPTIONS (…); there, words are values, too.
    options: u32,
    /// OPTIONS was the last word.
    options_named: bool,
}

impl Scrubber {
    fn run(mut self, tokens: &[Token]) -> String {
        let mut clean = String::new();
        for token in tokens {
            if self.is_secret_value(token) {
                let quote = if is_text(token) { "'" } else { "" };
                let _ = write!(clean, "{quote}{MASK}{quote}");
                // Adjacent literals are one value.
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
        match token {
            Token::Word(word) if word.quote_style.is_some() => self.assigned || self.options > 0,
            Token::Word(_) => self.options > 0 || (self.set && self.assigned),
            literal => is_literal(literal),
        }
    }

    fn follow(&mut self, token: &Token) {
        match token {
            Token::Whitespace(_) => return,
            Token::Period | Token::Minus => self.joined = true,
            Token::Eq | Token::RArrow | Token::Colon | Token::Assignment => self.assigned = true,
            Token::Word(word) if word.value.eq_ignore_ascii_case("TO") && self.set => self.assigned = true,
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
        self.options_named = matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("OPTIONS"));
        self.set = match token {
            Token::SemiColon => false,
            Token::Word(word) => self.set || word.value.eq_ignore_ascii_case("SET"),
            _ => self.set,
        };
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
            (
                "SELECT * FROM t WHERE password = 'hunter2' AND a = 'b'",
                "SELECT * FROM t WHERE password = '***' AND a = 'b'",
            ),
            (
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'http://ann:hunter2@h/x.csv'",
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'http://***@h/x.csv'",
            ),
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
        ] {
            assert_eq!(sql(statement), statement);
        }
    }

    #[test]
    fn given_redaction_then_literals_and_comments_are_gone() {
        let statement = "SELECT a, 'b', 12 /* c */ FROM \"T\" WHERE d LIKE 'e%' -- f";
        assert_eq!(redacted(statement), "SELECT a, ?, ?   FROM \"T\" WHERE d LIKE ?  ");
        assert_eq!(redacted("SELECT 'no end"), "?");
    }
}
