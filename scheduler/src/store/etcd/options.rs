//! How to reach etcd, and what a client connection is made from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use springald_core::error::{Error, Result};
use tonic::transport::{self, Endpoint};
use url::Url;

use super::failure::chain;

/// Longest wait for a TCP and TLS connection to one endpoint, so that a call still has time for another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings while a call or a watch is open, so that a peer that is gone without a word is noticed. etcd closes
/// connections that ping more often than every 5 s, or without an open stream.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the cluster's etcd is and how long to wait for it.
#[derive(Clone)]
pub struct EtcdOptions {
    /// Client URLs of the etcd members: `http://…` or `https://…`.
    pub endpoints: Vec<String>,
    /// Put before every key and stripped from every answer: `/springald/<cluster>/`. Never empty.
    pub prefix: String,
    /// User name and password, when etcd has users.
    pub user: Option<(String, String)>,
    /// Required for `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// How long to wait for etcd at the start, and for it to come back while a watch is open.
    pub connect_deadline: Duration,
    /// Longest time for one call, with everything tried again within it.
    pub request_timeout: Duration,
}

/// PEM files for `https` endpoints.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// Certificates of the authority that signed etcd's.
    pub ca: PathBuf,
    /// This process's own certificate, when etcd asks for one.
    pub identity: Option<EtcdIdentity>,
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct EtcdIdentity {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl EtcdOptions {
    /// Options without users or TLS, which wait 30 s for etcd to be there and 5 s for each call.
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints,
            prefix: prefix.into(),
            user: None,
            tls: None,
            connect_deadline: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
        }
    }

    /// The endpoints as messages name them, without anything secret that a URL may hold.
    pub(super) fn endpoint_names(&self) -> String {
        let names: Vec<_> = self.endpoints.iter().map(|endpoint| without_secrets(endpoint)).collect();
        names.join(", ")
    }

    /// Checks the options and reads the TLS files. One for each member.
    pub(super) fn to_endpoints(&self) -> Result<Vec<Endpoint>> {
        if self.prefix.is_empty() {
            return Err(Error::invalid("the key prefix for etcd is empty"));
        }
        if self.endpoints.is_empty() {
            return Err(Error::invalid("no etcd URL was given"));
        }
        for endpoint in &self.endpoints {
            self.check_endpoint(endpoint)?;
        }
        let tls = self.tls.as_ref().map(EtcdTls::read).transpose()?;
        self.endpoints.iter().map(|endpoint| self.to_endpoint(endpoint, tls.as_ref())).collect()
    }

    fn to_endpoint(&self, endpoint: &str, tls: Option<&TlsOptions>) -> Result<Endpoint> {
        let name = without_secrets(endpoint);
        let wrong = |error: transport::Error| {
            Error::invalid(format!("etcd URL {name:?}: {}; check it, and the TLS files", chain(&error)))
                .with_source(error)
        };
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(wrong)?;
        let endpoint = match tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(wrong)?,
            None => endpoint,
        };
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT.min(self.request_timeout / 2))
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false))
    }

    /// How calls are made.
    pub(super) fn to_client(&self) -> ConnectOptions {
        let options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        match &self.user {
            Some((name, password)) => options.with_user(name, password),
            None => options,
        }
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<()> {
        let name = without_secrets(endpoint);
        let url = Url::parse(endpoint).map_err(|error| Error::invalid(format!("etcd URL {name:?}: {error}")))?;
        match (url.scheme(), &self.tls) {
            ("http", None) | ("https", Some(_)) => Ok(()),
            ("http", Some(_)) => {
                Err(Error::invalid(format!("etcd URL {name:?} must be https, since cluster.etcd_ca_file is set")))
            }
            ("https", None) => {
                Err(Error::invalid(format!("etcd URL {name:?} needs a certificate authority (cluster.etcd_ca_file)")))
            }
            (other, _) => Err(Error::invalid(format!("etcd URL {name:?} has scheme {other:?}: use http or https"))),
        }
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoint_names())
            .field("prefix", &self.prefix)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls)
            .field("connect_deadline", &self.connect_deadline)
            .field("request_timeout", &self.request_timeout)
            .finish()
    }
}

impl EtcdTls {
    fn read(&self) -> Result<TlsOptions> {
        let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read_pem(&self.ca)?));
        match &self.identity {
            None => Ok(options),
            Some(identity) => {
                let (cert, key) = (read_pem(&identity.cert)?, read_pem(&identity.key)?);
                Ok(options.identity(Identity::from_pem(cert, key)))
            }
        }
    }
}

fn read_pem(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        Error::invalid(format!("reading the TLS file {} for etcd: {error}", file.display())).with_source(error)
    })
}

/// A URL without user and password, for messages.
fn without_secrets(endpoint: &str) -> &str {
    endpoint.rsplit_once('@').map_or(endpoint, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use springald_core::error::ErrorCode;

    use super::*;

    fn refusal(options: &EtcdOptions) -> String {
        let error = options.to_endpoints().expect_err("the options were accepted");
        assert_eq!(error.code(), ErrorCode::Invalid);
        error.message().to_owned()
    }

    #[test]
    fn given_options_that_cannot_work_when_checked_then_the_error_says_which() {
        let with = |endpoint: &str| EtcdOptions::new(vec![endpoint.to_owned()], "/springald/c/");
        assert!(refusal(&EtcdOptions::new(Vec::new(), "/springald/c/")).contains("no etcd URL"));
        assert!(refusal(&EtcdOptions::new(vec!["http://a:2379".to_owned()], "")).contains("prefix"));
        assert!(refusal(&with("a:2379")).contains("a:2379"));
        assert!(refusal(&with("ftp://a:2379")).contains("ftp"));
        assert!(refusal(&with("https://a:2379")).contains("https://a:2379"));

        let tls = Some(EtcdTls { ca: PathBuf::from("/no/such/ca.pem"), identity: None });
        assert!(refusal(&EtcdOptions { tls: tls.clone(), ..with("http://a:2379") }).contains("must be https"));
        assert!(refusal(&EtcdOptions { tls, ..with("https://a:2379") }).contains("/no/such/ca.pem"));
    }

    #[test]
    fn given_secrets_in_the_options_when_shown_then_they_are_not_there() {
        let mut options = EtcdOptions::new(vec!["http://u:hidden@a:2379".to_owned()], "/springald/c/");
        options.user = Some(("root".to_owned(), "hidden".to_owned()));
        let shown = format!("{options:?} {}", options.endpoint_names());
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("a:2379") && shown.contains("root"), "{shown}");
    }
}
