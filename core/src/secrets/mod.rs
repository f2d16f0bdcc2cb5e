//! Keeps secrets out of everything that people and other systems read: events, REST, errors, traces.
//!
//! ```text
//! any text ──text()──▶ credentials in URLs, `key=value` and `'key' 'value'` with a key that sounds secret, tokens: ***
//! SQL ──────sql()────▶ the same, by SQL's own rules: comments, escapes and dollar quotes do not hide a value
//! SQL ──redacted()───▶ every literal: ?
//! error ─error_of()──▶ what sql() masks in the statement that the error is about: *** without the key beside it, too
//! ```
//!
//! Errors pass through [`text`] when they are made, so that whoever shows one need not think of it.

mod message;
mod statement;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

pub use message::error_of;
pub use statement::{redacted, sql};

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Parts of names whose values are secret, as a regular expression.
const SECRET_NAMES: &str = "secret|passw(?:or)?d|passphrase|pwd|token|credential|access[_.-]?key|api[_.-]?key|\
    account[_.-]?key|shared[_.-]?key|private[_.-]?key|encryption[_.-]?key|sas[_.-]?key|master[_.-]?key|\
    (?:sse|encryption)[_.-]?customer[_.-]?key|keys?[_.-]?as[_.-]?hex|signature|authorization";

/// How a name goes on behind the part that sounds secret. A column's key has the column behind it: `…_key_as_hex::c`.
const NAME_END: &str = r"[\w.-]*(?:::[\w.-]+)*";

/// Something that may be a secret is in the text at all: almost no text has that, and this is quick to find out.
static SUSPICIOUS: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!("(?i-u:{SECRET_NAMES}|identified|://|bearer|basic|akia|asia|private key|[?&]sig=)"))
});

static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| regex(&format!("(?i)(?:{SECRET_NAMES})")));

/// What is replaced: the first group stays, the rest is the secret.
static SECRETS: LazyLock<[Regex; 8]> = LazyLock::new(|| {
    let of_user = r"identified\s+(?:with\s+\w+\s+)?(?:by|as)";
    let key = format!(r#"[\w.-]*(?:{SECRET_NAMES}|{of_user}){NAME_END}['"`\\]*"#);
    let separator = r"(?:\s*(?:=>?|:)\s*|\s+to\s+|\s+)";
    [
        // user:password in a URL, up to the last @, as S3's keys have / in them; or a user alone, who has none.
        r#"(?i)([a-z][a-z0-9+.-]*://)(?:[^\s/'"?#@:]*:(?:[^\s'"]|'')*|[^\s/'"?#]+)(?P<end>@)"#.to_owned(),
        // authorization: Basic …
        r#"(?i)(\bauthorization['"]?\s*[:=]\s*['"]?(?:[a-z]+\s+)?)[^\s'",;)]+"#.to_owned(),
        r"(?i)(\b(?:bearer|basic)\s+)[a-z0-9+/=._~-]{16,}".to_owned(),
        // 'aws.secret' 'value', "password": "value", password = 'value'.
        format!(r#"(?i)({key}{separator}(?:\w+\()*\\?')(?:[^']|'')*(?P<end>'|$)"#),
        format!(r#"(?i)({key}{separator}(?:\w+\()*\\?")(?:[^"\\]|\\[^"])*(?P<end>\\?"|$)"#),
        // password=value
        format!(r#"(?i)([\w.-]*(?:{SECRET_NAMES}){NAME_END}\s*=>?\s*)[^\s,;&'")\]}}]+"#),
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
    scrub(text, |_| ())
}

/// [`text`], which tells `found` each secret.
fn scrub(text: &str, mut found: impl FnMut(&str)) -> Cow<'_, str> {
    if !SUSPICIOUS.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut clean = Cow::Borrowed(text);
    for pattern in SECRETS.iter().chain([&*PRIVATE_KEY]) {
        let masked = pattern.replace_all(&clean, |captures: &Captures<'_>| {
            let whole = captures.get(0).map_or("", |whole| whole.as_str());
            let kept = captures.get(1).map_or("", |kept| kept.as_str());
            let end = captures.name("end").map_or("", |end| end.as_str());
            let secret = whole.strip_prefix(kept).and_then(|rest| rest.strip_suffix(end));
            found(secret.unwrap_or(whole));
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
            "cannot read http://ann:p/hunter2@host/x",
            "cannot read http://ann:12/hunter2@host/x",
            "cannot read http://ann:p?x#hunter2@host/x",
            "cannot read http://ann:p@hunter2@host/x",
            "LOCATION 'http://ann:it''s/hunter2@host/x'",
            "OPTIONS ('format.crypto.file_decryption.footer_key_as_hex' 'hunter2')",
            "OPTIONS ('format.crypto.file_decryption.column_key_as_hex::c' 'hunter2')",
            "column_key_as_hex::c=hunter2",
            r#"{"aws.sse_customer_key_base64":"hunter2"}"#,
            "x-amz-server-side-encryption-customer-key: 'hunter2'",
            "sse_customer_encryption_key=hunter2",
            "master_key = 'hunter2'",
            "CREATE USER ann IDENTIFIED BY 'hunter2'",
            "ALTER USER ann IDENTIFIED WITH sha256_plugin AS 'hunter2'",
        ];
        for case in cases {
            let clean = text(case);
            assert!(!clean.to_lowercase().contains("hunter2"), "{case} became {clean}");
            assert!(clean.contains(MASK), "{case} became {clean}");
        }
    }

    #[test]
    fn given_a_key_with_slashes_in_a_url_then_all_of_it_goes_and_the_place_stays() {
        let written =
            "LOCATION 's3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY@bucket/x/' AS 'a@b'";
        assert_eq!(text(written), "LOCATION 's3://***@bucket/x/' AS 'a@b'");
        assert_eq!(text("http://ann@host:80/a@b"), "http://***@host:80/a@b");
    }

    #[test]
    fn given_texts_without_secrets_then_they_stay() {
        let cases = [
            "sql parser error: Expected: an expression, found: token at Line: 1, Column: 8",
            "the authorization header must be Basic or Bearer",
            "SELECT token, secret FROM t WHERE a = 1",
            "column \"password\" is not known",
            "s3://bucket/path/a@b.parquet",
            "https://host/path/a:b@c",
            "http://host:8080/x",
            "http://host:8080/x is what a@b has",
            "c_customer_key = 5 AND l_orderkey = 6 AND partkey = 'x' AND custkey = 'y'",
            "PRIMARY KEY (a), FOREIGN KEY (b), UNIQUE KEY 'c'",
            "the columns are identified by their names",
            "a basic introduction",
            "cluster.etcd_password_file is missing",
        ];
        for case in cases {
            assert_eq!(text(case), case);
        }
    }
}
