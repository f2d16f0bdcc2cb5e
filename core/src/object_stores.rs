//! The stores that table files are read from: local disk, S3, Google Cloud Storage, Azure, and plain HTTP.
//!
//! ```text
//! file:///…            ──▶ local file system
//! s3://bucket          ──▶ built on first use from AWS_… environment variables
//! gs://bucket          ──▶                         GOOGLE_…
//! az://container       ──▶                         AZURE_…
//! http(s)://host       ──▶ no credentials
//! ```
//!
//! A request lasts for as long as the store goes on answering, however long that takes (`silence`): files are read as
//! fast as their rows are wanted.
//!
//! Schedulers (which list files) and executors (which read them) use the same registry, so a location works on both
//! or on neither. Credentials come from a process's environment only: never from SQL, a plan, or the state store.

mod silence;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use parking_lot::RwLock;
use url::{Position, Url};

use self::silence::SilenceLimit;
use crate::error::{Error, ErrorCode, Result};

/// The schemes a location may have, for messages.
pub const SCHEMES: &str = "file://, s3://, gs://, az://, http:// or https://";

/// Most stores kept open at one time. They are a cache: past this all are closed, and built again when needed.
const MAX_STORES: usize = 256;

/// How long after its beginning a request is made again, or gone on with, after failures that may pass. Long, because
/// files are read for long; what bounds the time for which a store is asked in vain is the number of tries.
const RETRY_TIMEOUT: Duration = Duration::from_secs(3600);

/// Most tries after the first, for one request.
const MAX_RETRIES: usize = 10;

/// Longest time without a byte of an answer that is waited for.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// A registry that builds stores on first use. One per process, so that connections are shared.
pub fn registry() -> Arc<dyn ObjectStoreRegistry> {
    Arc::new(Stores::default())
}

#[derive(Default)]
struct Stores {
    /// The local file system, and what this process registered itself; never evicted.
    registered: DefaultObjectStoreRegistry,
    built: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("built", &self.built.read().keys()).finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        self.registered.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.registered.get_store(url) {
            return Ok(store);
        }
        let key = &url[..Position::BeforePath];
        if let Some(store) = self.built.read().get(key) {
            return Ok(Arc::clone(store));
        }
        let store = build(url)?;
        let mut built = self.built.write();
        if built.len() >= MAX_STORES {
            built.clear();
        }
        Ok(Arc::clone(built.entry(key.to_owned()).or_insert(store)))
    }
}

/// Checks that a location's scheme is known and that it carries no credentials, without building anything.
///
/// # Errors
/// [`ErrorCode::Unsupported`] for another scheme, [`ErrorCode::Invalid`] for a URL without a host or with a password.
pub fn check_url(url: &Url) -> Result<()> {
    let local = url.scheme() == "file";
    if !local && Kind::of(url).is_none() {
        return Err(unknown_scheme(url));
    }
    if url.password().is_some() {
        return Err(Error::invalid(format!(
            "a location must not carry a password ({}://…): set the store's credentials in the environment of \
             schedulers and executors",
            url.scheme()
        )));
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if local == has_host {
        let problem = if local { "has a host: write file:///path" } else { "names no bucket, container or host" };
        return Err(Error::invalid(format!("the location {url} {problem}")));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    S3,
    Google,
    Azure,
    Http,
}

impl Kind {
    fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "s3" | "s3a" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" | "abfs" | "abfss" => Some(Self::Azure),
            "http" | "https" => Some(Self::Http),
            _ => None,
        }
    }

    /// Where the credentials come from, for messages.
    fn environment(self) -> &'static str {
        match self {
            Self::S3 => "AWS_… environment variables",
            Self::Google => "GOOGLE_… environment variables",
            Self::Azure => "AZURE_… environment variables",
            Self::Http => "the URL",
        }
    }
}

fn build(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    check_url(url)?;
    let kind = Kind::of(url).ok_or_else(|| unknown_scheme(url))?;
    let root = &url[..Position::BeforePath];
    let retry =
        RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, backoff: BackoffConfig::default() };
    let limit = SilenceLimit(MAX_SILENCE);
    let built: object_store::Result<Arc<dyn ObjectStore>> = match kind {
        Kind::S3 => {
            let builder = AmazonS3Builder::from_env().with_url(root);
            builder.with_retry(retry).with_http_connector(limit).build().map(shared)
        }
        Kind::Google => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(root);
            builder.with_retry(retry).with_http_connector(limit).build().map(shared)
        }
        Kind::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(root);
            builder.with_retry(retry).with_http_connector(limit).build().map(shared)
        }
        Kind::Http => {
            let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
            let builder = HttpBuilder::new().with_url(root).with_client_options(options);
            builder.with_retry(retry).with_http_connector(limit).build().map(shared)
        }
    };
    built.map_err(|error| {
        let message = format!("cannot open the object store {root} (set up from {}): {error}", kind.environment());
        Error::new(ErrorCode::Query, message).with_source(error)
    })
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

fn unknown_scheme(url: &Url) -> Error {
    Error::unsupported(format!("{}:// is not a scheme that tables can be read from: use {SCHEMES}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::find_source;

    fn url(text: &str) -> Url {
        text.parse().expect(text)
    }

    #[test]
    fn given_a_bucket_it_is_opened_once_and_shared_by_all_its_paths() {
        let registry = registry();
        let first = registry.get_store(&url("s3://bucket/a/b.parquet")).expect("first");
        let second = registry.get_store(&url("s3://bucket/c")).expect("second");
        let other = registry.get_store(&url("s3://other/c")).expect("other");
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn given_every_supported_scheme_without_credentials_in_it_the_location_is_accepted() {
        for good in ["file:///a/b", "s3://b/x", "gs://b/x", "az://c/x", "http://h:1/x", "https://h/x.parquet"] {
            check_url(&url(good)).expect(good);
        }
        registry().get_store(&url("file:///tmp")).expect("local file system");
        registry().get_store(&url("http://127.0.0.1:1/x.parquet")).expect("plain HTTP");
    }

    #[test]
    fn given_a_scheme_that_is_not_known_the_error_names_those_that_are() {
        let error = registry().get_store(&url("hdfs://name/a")).expect_err("hdfs");
        let error = find_source::<Error>(&error).expect("an error of ours");
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert!(error.message().contains("hdfs://") && error.message().contains("s3://"), "{error}");
    }

    #[test]
    fn given_a_password_in_a_location_it_is_refused_and_not_repeated() {
        let error = check_url(&url("s3://key:secret@bucket/x")).expect_err("password");
        assert_eq!(error.code(), ErrorCode::Invalid);
        assert!(!error.message().contains("secret"), "{error}");
    }
}
