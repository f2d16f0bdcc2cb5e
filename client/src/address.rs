//! Where a server is, as users write it.

use std::fmt;

use url::{Host, Url};

use crate::error::{ClientError, Result};

/// Port of Flight SQL where an address names none.
const DEFAULT_PORT: u16 = 50050;

/// Most addresses of one list.
const MAX_ADDRESSES: usize = 64;

/// Schemes that mean Flight over plain gRPC.
const PLAIN: [&str; 3] = ["grpc", "grpc+tcp", "http"];

/// Schemes that mean Flight over TLS.
const TLS: [&str; 3] = ["grpcs", "grpc+tls", "https"];

/// A server, and who to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: Host<String>,
    port: u16,
    user: Option<User>,
}

/// Name and password from an address. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

impl Address {
    /// Reads `host:port`, `grpc://host:port` or `http://user:password@host:port`; the port is 50050 if left out.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let refuse = |reason: &str| ClientError::Address { url: shown.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("grpc", text));
        if TLS.contains(&scheme) {
            return Err(refuse("connections with TLS are not supported"));
        }
        if !PLAIN.contains(&scheme) {
            return Err(refuse("unknown scheme"));
        }
        // One scheme for all: a parser that knows the scheme would drop the port that is usual there.
        let url = Url::parse(&format!("grpc://{rest}")).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("there is more after the port"));
        }
        let host = match url.host().ok_or_else(|| refuse("no host"))? {
            Host::Domain("") => return Err(refuse("no host")),
            host => host.to_owned(),
        };
        let decode = |text: &str| percent_decode(text).ok_or_else(|| refuse("the user is not valid UTF-8"));
        let user = match url.username() {
            "" => None,
            name => Some(User { name: decode(name)?, password: decode(url.password().unwrap_or_default())? }),
        };
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), user })
    }

    /// Reads a comma-separated list of at least one address.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        let parts: Vec<&str> = text.split(',').filter(|part| !part.trim().is_empty()).collect();
        if parts.is_empty() || parts.len() > MAX_ADDRESSES {
            let reason = format!("{} addresses, not 1 to {MAX_ADDRESSES}", parts.len());
            return Err(ClientError::Address { url: String::new(), reason });
        }
        parts.into_iter().map(Self::parse).collect()
    }

    /// Who to be there, if the address says it.
    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// True if both are the same server.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

/// The form for the transport and for people: without the user.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// `%41` to `A`; `None` if what comes out is not text.
fn percent_decode(text: &str) -> Option<String> {
    // The form of queries is what the `url` crate decodes; there only '+' means something else.
    let query = format!("x={}", text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D"));
    let value = url::form_urlencoded::parse(query.as_bytes()).next()?.1.into_owned();
    (!value.contains(char::REPLACEMENT_CHARACTER)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_usual_forms_then_all_name_the_same_server() {
        for text in ["db:50050", "db", "grpc://db:50050", "http://db:50050/", "grpc+tcp://db", " http://u:p@db:50050 "]
        {
            assert_eq!(Address::parse(text).expect(text).to_string(), "http://db:50050", "{text}");
        }
        assert_eq!(Address::parse("http://db:80").expect("port 80").to_string(), "http://db:80");
        assert_eq!(Address::parse("[::1]:7").expect("IPv6").to_string(), "http://[::1]:7");
        assert_eq!(Address::parse("127.0.0.1:7").expect("IPv4").to_string(), "http://127.0.0.1:7");
    }

    #[test]
    fn given_a_user_then_it_is_decoded_and_not_shown() {
        let address = Address::parse("grpc://ann%40x:p%2Bw+1@db").expect("user");
        let user = address.user().expect("user");
        assert_eq!((user.name.as_str(), user.password.as_str()), ("ann@x", "p+w+1"));
        assert!(!format!("{address} {address:?}").contains("ann"));
        let error = Address::parse("ftp://ann:secret@db").expect_err("scheme").to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn given_what_is_no_server_then_it_is_refused() {
        for text in
            ["", "http://", ":50050", "ftp://db", "https://db", "db:port", "db:99999", "db:1/path", "http://a b"]
        {
            assert!(Address::parse(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(Address::parse_list("a:1, b:2,").expect("list").len(), 2);
        assert!(Address::parse_list(" , ").is_err());
        assert!(Address::parse_list(&"a,".repeat(65)).is_err());
    }
}
