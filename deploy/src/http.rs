//! Requests to servers on this machine or in its network: plain HTTP/1.1, one connection each.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use crate::{Error, Result};

/// Largest answer read.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Time for one request; ClickHouse may take a while for one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// True for a status of 2xx.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads an address of the form `http://host:port/path`.
///
/// # Errors
/// If it is none; `https` is not spoken here.
pub fn address(given: &str) -> Result<Url> {
    let wrong = || Error::Address { given: given.to_owned(), wanted: "http://host:port" };
    let url = Url::parse(given).map_err(|_| wrong())?;
    if url.scheme() == "http" && url.host_str().is_some() { Ok(url) } else { Err(wrong()) }
}

/// Sends a request: POST if there is a body, GET else.
///
/// # Errors
/// If the server cannot be reached, breaks off, or takes too long. A status is an answer, not an error.
pub async fn request(url: &Url, headers: &[(HeaderName, String)], body: Option<Bytes>) -> Result<Answer> {
    let server = url[..url::Position::AfterPort].to_owned();
    let unreachable = |why: String| Error::Unreachable { server: server.clone(), why };
    match timeout(REQUEST_TIMEOUT, exchange(url, headers, body)).await {
        Ok(answer) => answer.map_err(unreachable),
        Err(_) => Err(unreachable(format!("no answer within {REQUEST_TIMEOUT:?}"))),
    }
}

async fn exchange(
    url: &Url,
    headers: &[(HeaderName, String)],
    body: Option<Bytes>,
) -> std::result::Result<Answer, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await.map_err(|error| text(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    // Ends with this request, however it ends.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut request = Request::builder()
        .method(if body.is_some() { Method::POST } else { Method::GET })
        .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, format!("{host}:{port}"));
    for (name, value) in headers {
        request = request.header(name, HeaderValue::from_str(value).map_err(|error| text(&error))?);
    }
    let request = request.body(Full::new(body.unwrap_or_default())).map_err(|error| text(&error))?;
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok(Answer { status, body: body.to_bytes() })
}
