//! Keeps secrets out of everything that people and other systems read: events, REST, errors, traces.
//!
//! ```text
//! any text ──text()──▶ credentials in URLs, `key=value` and `'key' 'value'` with a key that sounds secret, tokens: ***
//! SQL ──────sql()────▶ the same, by SQL's own rules: comments, escapes and dollar quotes do not hide a value
//! SQL ──redacted()───▶ every literal: ?
//! ```
//!
//! Errors pass through [`text`] when they are made, so that whoever shows one need not think of it.

mod statement;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

pub use statement::{redacted, sql};

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Parts of names whose values are secret, as a regular expression.
const SECRET_NAMES: &str = "secret|passw(?:or)?d|passphrase|pwd|token|credential|access[_.-]?key|api[_.-]?key|\
    account[_.-]?key|shared[_.-]?key|private[_.-]?key|encryption[_.-]?key|sas[_.-]?key|signature|authorization";

/// Something that may be a secret is in the text at all: almost no text has that, and this is quick to find out.
static SUSPICIOUS: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!("(?i-u:{SECRET_NAMES}|://|bearer|basic|akia|asia|private key|[?&]sig=)")));

static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| regex(&format!("(?i)(?:{SECRET_NAMES})")));

/// What is replaced: the first group stays, the rest is the secret.
static SECRETS: LazyLock<[Regex; 8]> = LazyLock::new(|| {
    let key = format!(r#"[\w.-]*(?:{SECRET_NAMES})[\w.-]*['"`\\]*"#);
    let separator = r"(?:\s*(?:=>?|:)\s*|\s+to\s+|\s+)";
    [
        // A user, with or without a password, in a URL.
        r#"(?i)([a-z][a-z0-9+.-]*://)[^\s/'"?#]+(?P<end>@)"#.to_owned(),
        // authorization: Basic …
        r#"(?i)(\bauthorization['"]?\s*[:=]\s*['"]?(?:[a-z]+\s+)?)[^\s'",;)]+"#.to_owned(),
        r"(?i)(\b(?:bearer|basic)\s+)[a-z0-9+/=._~-]{16,}".to_owned(),
        // 'aws.secret' 'value', "password": "value", password = 'value'.
        format!(r#"(?i)({key}{separator}(?:\w+\()*\\?')(?:[^']|'')*(?P<end>'|$)"#),
        format!(r#"(?i)({key}{separator}(?:\w+\()*\\?")(?:[^"\\]|\\[^"])*(?P<end>\\?"|$)"#),
        // password=value
        format!(r#"(?i)([\w.-]*(?:{SECRET_NAMES})[\w.-]*\s*=>?\s*)[^\s,;&'")\]}}]+"#),
        r#"(?i)([?&]sig=)[^\s&'"]+"#.to_owned(),
        r"(\b(?:AKIA|ASIA))[0-9A-Z]{12,}\b".to_owned(),
    ]
    .map(|pattern| regex(&pattern))
});

static PRIVATE_KEY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns are constants, and a test compiles them")
}

/// True if values under this name are secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    SECRET_NAME.is_match(name)
}

/// The text with [`MASK`] for every secret in it.
pub fn text(text: &str) -> Cow<'_, str> {
    if !SUSPICIOUS.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut clean = Cow::Borrowed(text);
    for pattern in SECRETS.iter().chain([&*PRIVATE_KEY]) {
        let masked = pattern.replace_all(&clean, |found: &Captures<'_>| {
            let kept = found.get(1).map_or("", |kept| kept.as_str());
            let end = found.name("end").map_or("", |end| end.as_str());
            format!("{kept}{MASK}{end}")
        });
        if let Cow::Owned(masked) = masked {
            clean = Cow::Owned(masked);
        }
    }
    clean
}

/// [`text`], of a text that is owned already.
pub fn owned(own: String) -> String {
    match text(&own) {
        Cow::Borrowed(_) => own,
        Cow::Owned(clean) => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_texts_with_secrets_then_none_is_left() {
        let cases = [
            "cannot read http://ann:hunter2@host:80/x.csv: 404",
            "connect to https://hunter2@host/",
            "password=hunter2",
            "the option 'aws.secret_access_key' 'hunter2' is not known",
            r#"{"aws.session_token": "hunter2", "x": 1}"#,
            r#"config { password: "hunter2" }"#,
            r#"escaped {\"password\":\"hunter2\"}"#,
            "SET x.api_key = 'hunter2'",
            "SET x.api_key TO 'hunter2'",
            "authorization: Basic hunter2",
            "got header Authorization: Bearer hunter2",
            "GET /x?X-Amz-Signature=hunter2&y=1",
            "GET /x?a=1&sig=hunter2",
            "key AKIAHUNTER2HUNTER2",
            "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
            "'password' 'it''s hunter2'",
            "Filter: password = Utf8(\"hunter2\") AND a = 1",
            "password 'hunter2 and no end",
        ];
        for case in cases {
            let clean = text(case);
            assert!(!clean.to_lowercase().contains("hunter2"), "{case} became {clean}");
            assert!(clean.contains(MASK), "{case} became {clean}");
        }
    }

    #[test]
    fn given_texts_without_secrets_then_they_stay() {
        let cases = [
            "sql parser error: Expected: an expression, found: token at Line: 1, Column: 8",
            "the authorization header must be Basic or Bearer",
            "SELECT token, secret FROM t WHERE a = 1",
            "column \"password\" is not known",
            "s3://bucket/path/a@b.parquet",
            "http://host:8080/x",
            "a basic introduction",
            "cluster.etcd_password_file is missing",
        ];
        for case in cases {
            assert_eq!(text(case), case);
        }
    }
}
