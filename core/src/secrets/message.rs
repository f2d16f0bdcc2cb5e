//! Errors about a statement: they may repeat a value of it without the name that made it secret.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::MASK;
use super::statement::values;

/// A shorter value is masked only in quotes: anywhere else it is most likely a part of something else.
const SHORTEST_UNQUOTED: usize = 3;

/// An error's message with [`MASK`] for every value that [`super::sql`] masks in the statement it is about.
pub fn error_of(statement: &str, message: &str) -> String {
    let forms: BTreeSet<String> = values(statement).iter().flat_map(|value| forms(value)).collect();
    let mut forms: Vec<String> = forms.into_iter().collect();
    // The longest first: another may be a part of it.
    forms.sort_by_key(|form| Reverse(form.len()));
    forms.iter().fold(message.to_owned(), |clean, form| without(clean, form))
}

/// The ways in which a message may write a value.
fn forms(value: &str) -> [String; 5] {
    let debug = format!("{value:?}");
    let debug = debug.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    [
        value.to_owned(),
        // Names that are not quoted are read in lower case.
        value.to_lowercase(),
        value.replace("''", "'"),
        value.replace('\'', "''"),
        debug.to_owned(),
    ]
}

fn without(message: String, secret: &str) -> String {
    if !message.contains(secret) {
        return message;
    }
    if secret.chars().count() >= SHORTEST_UNQUOTED {
        return message.replace(secret, MASK);
    }
    ['\'', '"', '`'].into_iter().fold(message, |clean, quote| {
        clean.replace(&format!("{quote}{secret}{quote}"), &format!("{quote}{MASK}{quote}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_an_error_that_repeats_a_value_then_it_is_masked_as_in_the_statement() {
        let cases = [
            ("SET x.password 'hunter2'", "found: 'hunter2' at Line: 1, Column: 16"),
            ("SET x.password hunter2", "found: hunter2 at Line: 1, Column: 16"),
            ("SET x.password = Hunter2", "no setting takes hunter2"),
            ("SELECT * FROM t WHERE password 'hunter2'", "found: 'hunter2' at Line: 1, Column: 33"),
            ("OPTIONS (password 'it''s hunter2')", "found: 'it's hunter2'"),
            ("OPTIONS (password 'it''s hunter2')", "found: 'it''s hunter2'"),
            ("OPTIONS (password 'a\"hunter2')", "SingleQuotedString(\"a\\\"hunter2\")"),
            ("OPTIONS (password E'a\\nhunter2')", "found: E'a\nhunter2'"),
            ("OPTIONS (token 'hunt', password 'hunter2')", "found: 'hunter2'"),
            ("LOCATION 'http://ann:p/hunter2@h'", "no host in ann:p/hunter2"),
            ("OPTIONS ('password' 'hunter2", "found: hunter2"),
        ];
        for (statement, message) in cases {
            let clean = error_of(statement, message);
            assert!(!clean.contains("hunter2") && !clean.contains("er2"), "{statement}: {clean}");
            assert!(clean.contains(MASK), "{statement}: {clean}");
        }
    }

    #[test]
    fn given_short_values_then_only_those_in_quotes_are_masked() {
        let clean = error_of("SELECT a WHERE token '1'", "found: '1' at Line: 1, Column: 22");
        assert_eq!(clean, "found: '***' at Line: 1, Column: 22");
    }

    #[test]
    fn given_a_statement_without_secrets_then_the_message_stays() {
        let message = "Expected: end of statement, found: 'a' at Line: 1, Column: 8";
        assert_eq!(error_of("SELECT secret WHERE a 'a'", message), message);
        assert_eq!(error_of("SET x.password = ''", message), message);
    }
}
