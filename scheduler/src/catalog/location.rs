//! Where a table's files are: an absolute path or a URL, of a file, of a directory (with a trailing `/`), or with a
//! glob in its last segment.

use datafusion::datasource::listing::ListingTableUrl;
use percent_encoding::percent_decode_str;
use springald_core::error::{Error, Result};
use springald_core::object_stores::{SCHEMES, check_url};
use springald_core::secrets::MASK;
use url::Url;

const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// A checked location. Its text gives the same location at every process and at any time.
#[derive(Clone, Debug)]
pub(super) struct Location {
    text: String,
    url: ListingTableUrl,
}

impl Location {
    /// Reads a location. Touches no file system and no network.
    ///
    /// # Errors
    /// A relative path, another scheme, credentials, a query part, or a glob that is not in the last segment.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::invalid(format!("{:?} is not a location", shown(text))));
        }
        if text.starts_with('/') {
            return Self::local(text);
        }
        let url = Url::parse(text).map_err(|error| not_absolute(text, error))?;
        check_url(&url)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid(format!(
                "the location {text:?} has a '?' or '#' part, which a URL of files cannot have (in a glob over a URL, \
                 use '*' or '[…]')"
            )));
        }
        match url.scheme() {
            "file" => Self::local(&decoded(url.path())),
            _ => Self::remote(url),
        }
    }

    fn local(path: &str) -> Result<Self> {
        let (base, glob) = split_glob(path)?;
        let url = if base.ends_with('/') { Url::from_directory_path(base) } else { Url::from_file_path(base) };
        // Parsed once more, because only that resolves `.` and `..`.
        let url = url.ok().and_then(|url| Url::parse(url.as_str()).ok());
        let url = url.ok_or_else(|| Error::invalid(format!("{path:?} is not a path")))?;
        let text = format!("{}{}", decoded(url.path()), glob.unwrap_or_default());
        Self::build(text, url, glob)
    }

    fn remote(url: Url) -> Result<Self> {
        let text = url.to_string();
        let (base, glob) = split_glob(url.path())?;
        let (base, glob) = (base.to_owned(), glob.map(decoded));
        let mut url = url;
        url.set_path(&base);
        Self::build(text, url, glob.as_deref())
    }

    fn build(text: String, url: Url, glob: Option<&str>) -> Result<Self> {
        let invalid = |error| Error::invalid(format!("{text:?} is not a location: {error}"));
        let url = ListingTableUrl::try_new(url, None).map_err(invalid)?;
        let url = match glob {
            Some(glob) => url.with_glob(glob).map_err(invalid)?,
            None => url,
        };
        Ok(Self { text, url })
    }

    /// The location in its lasting form.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn url(&self) -> &ListingTableUrl {
        &self.url
    }

    pub(super) fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// Names one file, not a directory or a glob.
    pub(super) fn is_single_file(&self) -> bool {
        self.url.get_glob().is_none() && !self.url.is_collection()
    }

    /// Names a directory, without a glob.
    pub(super) fn is_directory(&self) -> bool {
        self.url.get_glob().is_none() && self.url.is_collection()
    }

    /// The same location, known to be a directory.
    pub(super) fn into_directory(self) -> Result<Self> {
        if self.is_single_file() { Self::parse(&format!("{}/", self.text)) } else { Ok(self) }
    }

    /// Those files of a directory whose names end with `suffix`.
    pub(super) fn files_ending_with(&self, suffix: &str) -> Result<Self> {
        Self::parse(&format!("{}*{suffix}", self.text))
    }

    /// An error's text speaks of a file there.
    pub(super) fn is_named_in(&self, message: &str) -> bool {
        let path = self.url.prefix().as_ref();
        !path.is_empty() && message.contains(path)
    }

    /// The path up to the glob, in the local file system. Only for local locations.
    pub(super) fn local_path(&self) -> String {
        decoded(self.url.get_url().path())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Splits off the last segment if it is a glob.
fn split_glob(path: &str) -> Result<(&str, Option<&str>)> {
    if !path.contains(GLOB_CHARACTERS) {
        return Ok((path, None));
    }
    let (base, last) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
    if base.contains(GLOB_CHARACTERS) || last.is_empty() {
        return Err(Error::unsupported(format!(
            "{path:?}: a glob can stand for file names only, not for directories; name the directories one by one: \
             LOCATION ('…/a/*.parquet', '…/b/*.parquet'), or partition the table by them (key=value)"
        )));
    }
    Ok((base, Some(last)))
}

fn not_absolute(text: &str, error: url::ParseError) -> Error {
    let shown = shown(text);
    match error {
        url::ParseError::RelativeUrlWithoutBase => Error::invalid(format!(
            "the location {shown:?} is a relative path, and every process has its own working directory: write an \
             absolute path, or a URL ({SCHEMES})"
        )),
        other => Error::invalid(format!("the location {shown:?} is not a URL: {other}")),
    }
}

/// A location that cannot be read, without what may be credentials: all that stands between the scheme and the last
/// `@`, or anything like a port. Where they end is not known, as it is not a URL.
fn shown(text: &str) -> String {
    let Some((_, rest)) = text.split_once(':') else { return text.to_owned() };
    let rest = rest.trim_start_matches(['/', '\\']);
    let scheme = text.strip_suffix(rest).unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}{MASK}@{place}"),
        // The host was forgotten, and a password is where a port should be.
        None if scheme.ends_with('/') && rest.contains(':') => format!("{scheme}{MASK}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use springald_core::error::ErrorCode;

    fn location(text: &str) -> Location {
        Location::parse(text).expect(text)
    }

    #[test]
    fn given_any_way_of_writing_a_location_its_text_gives_the_same_location_again() {
        let cases = [
            ("/data/a b/x.parquet", "/data/a b/x.parquet"),
            ("/data/x/../y/", "/data/y/"),
            ("file:///data/a%20b/*.csv", "/data/a b/*.csv"),
            ("/data/[ab]*.json", "/data/[ab]*.json"),
            ("s3://bucket/dir/", "s3://bucket/dir/"),
            ("s3://bucket/dir/*.parquet", "s3://bucket/dir/*.parquet"),
            ("https://host/x.parquet", "https://host/x.parquet"),
        ];
        for (written, kept) in cases {
            let first = location(written);
            assert_eq!(first.text(), kept);
            let again = location(first.text());
            assert_eq!(again.text(), kept);
            assert_eq!(again.url(), first.url());
        }
    }

    #[test]
    fn given_files_directories_and_globs_they_are_told_apart() {
        assert!(location("/d/x.parquet").is_single_file());
        assert!(location("/d/").is_directory());
        let glob = location("s3://b/d/*.parquet");
        assert!(!glob.is_single_file() && !glob.is_directory());
        assert_eq!(glob.url().prefix().as_ref(), "d");
        assert_eq!(location("/d").into_directory().expect("directory").text(), "/d/");
        assert_eq!(location("/d/").files_ending_with(".csv.gz").expect("glob").text(), "/d/*.csv.gz");
    }

    #[test]
    fn given_a_location_that_other_processes_could_not_follow_it_is_refused_with_the_reason() {
        let cases = [
            ("data/x.parquet", ErrorCode::Invalid, "relative path"),
            ("hdfs://h/x", ErrorCode::Unsupported, "hdfs://"),
            ("s3://key:secret@b/x", ErrorCode::Invalid, "password"),
            ("https://h/x?token=1", ErrorCode::Invalid, "'?'"),
            ("/d/*/x.parquet", ErrorCode::Unsupported, "directories"),
            ("", ErrorCode::Invalid, "location"),
            ("/d/\u{0}", ErrorCode::Invalid, "location"),
            ("file://host/x", ErrorCode::Invalid, "host"),
        ];
        for (text, code, part) in cases {
            let error = Location::parse(text).expect_err(text);
            assert_eq!(error.code(), code, "{text}: {error}");
            assert!(error.message().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn given_credentials_in_what_is_not_a_url_the_error_shows_the_place_without_them() {
        let cases = [
            ("s3://AKIAIOSFODNN7EXAMPLE:hun/ter2/x@bucket/dir/", "\"s3://***@bucket/dir/\" is not a URL"),
            ("http://ann:hun/ter2@h/x", "\"http://***@h/x\" is not a URL"),
            ("http:ann:hun/ter2@h/x", "\"http:***@h/x\" is not a URL"),
            ("http://ann:\"hun/ter2 @h/x", "\"http://***@h/x\" is not a URL"),
            ("s3://AKIA:hun/ter2", "\"s3://***\" is not a URL"),
            ("an_n:hun/ter2@h/x", "\"an_n:***@h/x\" is a relative path"),
            ("s3://AKIA:hun/\nter2@b/x", "\"s3://***@b/x\" is not a location"),
            ("http://host:port/", "\"http://***\" is not a URL: invalid port number"),
            ("data/2024:01/x.csv", "\"data/2024:01/x.csv\" is a relative path"),
        ];
        for (text, part) in cases {
            let message = Location::parse(text).expect_err(text).message().to_owned();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("hun") && !message.contains("ter2"), "{text}: {message}");
        }
    }
}
