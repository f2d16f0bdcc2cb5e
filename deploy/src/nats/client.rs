//! As much of a NATS client as setting up a stream takes: requests, one at a time, each with an answer.
//!
//! It does not connect again, and has no TLS: whoever publishes and consumes events is Vector.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::{Error, Result};

/// Time for connecting, and for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message read.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Longest line of the protocol read.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Where answers go: each connection has its own subjects below `_INBOX`.
const INBOX: &str = "_INBOX.springald";

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    server: String,
    inbox: String,
    requests: u64,
}

/// A message that came as an answer.
#[derive(Clone, Debug)]
pub struct Message {
    /// The subject of the answer: of a message of a stream, where to acknowledge it.
    pub reply: String,
    /// The headers as they are on the wire; empty without.
    pub headers: String,
    /// Its content.
    pub payload: Bytes,
}

type Io<T> = std::result::Result<T, String>;

impl Client {
    /// Connects to the first of `nats://[user:password@]host:port[,…]` that can be reached.
    ///
    /// # Errors
    /// If none can be, or an address is none.
    pub async fn connect(urls: &str) -> Result<Self> {
        let mut failure = None;
        for given in urls.split(',').map(str::trim) {
            let wrong = || Error::Address { given: given.to_owned(), wanted: "nats://host:port" };
            let url = Url::parse(given).map_err(|_| wrong())?;
            let host = url.host_str().filter(|_| url.scheme() == "nats").ok_or_else(wrong)?;
            let server = format!("{host}:{}", url.port().unwrap_or(4222));
            match within(Self::greet(&url, &server)).await {
                Ok(client) => return Ok(client),
                Err(why) => failure = Some(Error::Unreachable { server: format!("nats://{server}"), why }),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Address { given: urls.to_owned(), wanted: "nats://host:port" }))
    }

    async fn greet(url: &Url, server: &str) -> Io<Self> {
        let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
        let port = stream.local_addr().map_err(|error| error.to_string())?.port();
        let inbox = format!("{INBOX}.{}.{port}", std::process::id());
        let mut client =
            Self { stream: BufReader::new(stream), server: format!("nats://{server}"), inbox, requests: 0 };
        let info = client.line().await?;
        let info = info.strip_prefix("INFO ").ok_or_else(|| format!("not a NATS server: {info:?}"))?;
        let info: Value = serde_json::from_str(info).map_err(|error| error.to_string())?;
        if info["tls_required"] == true {
            return Err("it wants TLS, which is not spoken here".to_owned());
        }
        let mut connect = json!({"verbose": false, "pedantic": false, "lang": "rust", "version": "1", "protocol": 1,
            "headers": true, "no_responders": true, "name": "springald setup"});
        if !url.username().is_empty() {
            connect["user"] = url.username().into();
            connect["pass"] = url.password().unwrap_or_default().into();
        }
        client.send(format!("CONNECT {connect}\r\nSUB {}.* 1\r\nPING\r\n", client.inbox).as_bytes()).await?;
        loop {
            match client.line().await?.as_str() {
                "PONG" => return Ok(client),
                line if line.starts_with("-ERR") => return Err(line.to_owned()),
                _ => {}
            }
        }
    }

    /// The server it is connected to.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request and waits for its answer. With an id, a stream keeps the message once, however often it is sent.
    ///
    /// # Errors
    /// If nobody answers in time, or the connection breaks.
    pub async fn request(&mut self, subject: &str, message_id: Option<&str>, payload: &[u8]) -> Result<Message> {
        let mut messages = self.request_many(subject, message_id, payload, 1).await?;
        messages.pop().ok_or_else(|| self.unreachable("no answer".to_owned()))
    }

    /// Sends a request that has up to `most` answers; the last is one with a status in its headers, or without content.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_many(
        &mut self,
        subject: &str,
        message_id: Option<&str>,
        payload: &[u8],
        most: usize,
    ) -> Result<Vec<Message>> {
        let done = within(self.exchange(subject, message_id, payload, most)).await;
        done.map_err(|why| self.unreachable(format!("{subject}: {why}")))
    }

    /// Publishes to a subject, without an answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let mut frame = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        let sent = within(self.send(&frame)).await;
        sent.map_err(|why| self.unreachable(why))
    }

    fn unreachable(&self, why: String) -> Error {
        Error::Unreachable { server: self.server.clone(), why }
    }

    async fn exchange(&mut self, subject: &str, id: Option<&str>, payload: &[u8], most: usize) -> Io<Vec<Message>> {
        if subject.is_empty() || subject.contains([' ', '\r', '\n']) || id.is_some_and(|id| id.contains(['\r', '\n'])) {
            return Err("a subject without blanks, an id without line breaks".to_owned());
        }
        self.requests += 1;
        let inbox = format!("{}.{}", self.inbox, self.requests);
        let headers = id.map(|id| format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n")).unwrap_or_default();
        let mut frame = match headers.as_str() {
            "" => format!("PUB {subject} {inbox} {}\r\n", payload.len()),
            headers => {
                format!("HPUB {subject} {inbox} {} {}\r\n{headers}", headers.len(), headers.len() + payload.len())
            }
        }
        .into_bytes();
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.send(&frame).await?;
        let mut messages = vec![];
        while messages.len() < most {
            let (subject, message) = self.message().await?;
            // A late answer to an earlier request is of no use. Messages of a stream come under their own subjects.
            if subject != inbox && !message.reply.starts_with("$JS.ACK.") {
                continue;
            }
            if let Some(status) = message.headers.strip_prefix("NATS/1.0 ") {
                if status.starts_with("503") {
                    return Err("nobody listens there; does the server run with JetStream?".to_owned());
                }
                break;
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// The next message, with the subject that it was sent to.
    async fn message(&mut self) -> Io<(String, Message)> {
        loop {
            let line = self.line().await?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let (subject, reply, header_bytes, bytes) = match words.as_slice() {
                ["MSG", subject, _, bytes] => (*subject, "", "0", *bytes),
                ["MSG", subject, _, reply, bytes] => (*subject, *reply, "0", *bytes),
                ["HMSG", subject, _, headers, bytes] => (*subject, "", *headers, *bytes),
                ["HMSG", subject, _, reply, headers, bytes] => (*subject, *reply, *headers, *bytes),
                ["PING"] => {
                    self.send(b"PONG\r\n").await?;
                    continue;
                }
                ["-ERR", ..] => return Err(line),
                _ => continue,
            };
            let size = |text: &str| text.parse::<usize>().map_err(|_| format!("{line:?} has no size"));
            let (header_bytes, bytes) = (size(header_bytes)?, size(bytes)?);
            if bytes > MAX_MESSAGE_BYTES || header_bytes > bytes {
                return Err(format!("{line:?}: a message of that size is not read"));
            }
            let mut content = vec![0; bytes + 2];
            self.stream.read_exact(&mut content).await.map_err(|error| error.to_string())?;
            content.truncate(bytes);
            let payload = Bytes::from(content.split_off(header_bytes));
            let headers = String::from_utf8_lossy(&content).into_owned();
            return Ok((subject.to_owned(), Message { reply: reply.to_owned(), headers, payload }));
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Io<()> {
        self.stream.write_all(bytes).await.map_err(|error| error.to_string())
    }

    async fn line(&mut self) -> Io<String> {
        let mut line = String::new();
        let read = (&mut self.stream).take(MAX_LINE_BYTES).read_line(&mut line).await;
        match read.map_err(|error| error.to_string())? {
            0 => Err("the server has ended the connection".to_owned()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

async fn within<T>(work: impl Future<Output = Io<T>>) -> Io<T> {
    timeout(REQUEST_TIMEOUT, work).await.unwrap_or_else(|_| Err(format!("no answer within {REQUEST_TIMEOUT:?}")))
}
