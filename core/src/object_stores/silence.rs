//! Requests that last for as long as their data is wanted, and are given up when nothing comes any more.
//!
//! ```text
//! request ──▶ … answer's head … ──▶ piece ──▶ … ──▶ piece ──▶ end
//!         at most a silence      at most one      however many
//! ```
//!
//! The usual limit counts a request as a whole. A reader that asks for all of a file, and takes it as fast as rows are
//! wanted, would run into that however well the store answers. What is given up here is tried again by the store's
//! client, which goes on behind what has come already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use tokio::time::Sleep;

/// Connects to stores, of which none may be silent for longer than this.
#[derive(Debug)]
pub(super) struct SilenceLimit(pub(super) Duration);

impl HttpConnector for SilenceLimit {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(&options.clone().with_timeout_disabled())?;
        Ok(HttpClient::new(Listening { client, limit: self.0 }))
    }
}

#[derive(Debug)]
struct Listening {
    client: HttpClient,
    limit: Duration,
}

#[async_trait]
impl HttpService for Listening {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let limit = self.limit;
        match tokio::time::timeout(limit, self.client.execute(request)).await {
            Ok(answer) => Ok(answer?.map(|body| HttpResponseBody::new(ListenedTo { body, limit, silent_until: None }))),
            Err(_) => Err(silent_for(limit)),
        }
    }
}

fn silent_for(limit: Duration) -> HttpError {
    let error = io::Error::new(io::ErrorKind::TimedOut, format!("the store was silent for {limit:?}"));
    HttpError::new(HttpErrorKind::Timeout, error)
}

/// The body of an answer. Time counts only while somebody waits for its next piece.
struct ListenedTo {
    body: HttpResponseBody,
    limit: Duration,
    /// Runs from when a piece was first waited for in vain.
    silent_until: Option<Pin<Box<Sleep>>>,
}

impl Body for ListenedTo {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(piece) = Pin::new(&mut this.body).poll_frame(context) {
            this.silent_until = None;
            return Poll::Ready(piece);
        }
        let limit = this.limit;
        let silent = this.silent_until.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        silent.as_mut().poll(context).map(|()| Some(Err(silent_for(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use object_store::http::{HttpBuilder, HttpStore};
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, RetryConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n";

    /// A store of one server that says `head`, and then its pieces, a pause before each; and then nothing more.
    async fn store(limit: Duration, head: &'static str, pieces: &'static [&'static str], pause: Duration) -> HttpStore {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            say(&mut connection, head, pieces, pause).await;
            // It stays open.
            std::future::pending::<()>().await;
        });
        HttpBuilder::new()
            .with_url(url)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(SilenceLimit(limit))
            .build()
            .expect("a store")
    }

    async fn say(connection: &mut TcpStream, head: &str, pieces: &[&str], pause: Duration) {
        let mut request = [0; 4096];
        let _ = connection.read(&mut request).await.expect("a request");
        connection.write_all(head.as_bytes()).await.expect("said");
        for piece in pieces {
            tokio::time::sleep(pause).await;
            connection.write_all(piece.as_bytes()).await.expect("said");
        }
    }

    async fn read(store: &HttpStore) -> object_store::Result<Bytes> {
        store.get(&Path::from("x.csv")).await?.bytes().await
    }

    #[tokio::test]
    async fn given_a_store_that_goes_on_when_it_takes_longer_than_the_limit_then_all_is_read() {
        let pieces = &["a", "b", "c", "d", "e", "f", "g", "h"];
        let store = store(Duration::from_secs(2), HEAD, pieces, Duration::from_millis(300)).await;
        assert_eq!(read(&store).await.expect("read").as_ref(), b"abcdefgh");
    }

    #[tokio::test]
    async fn given_a_store_that_falls_silent_when_it_is_read_then_that_is_given_up() {
        const ANSWERS: [(&str, &[&str]); 2] = [("", &[]), (HEAD, &["abcd"])];
        for (head, pieces) in ANSWERS {
            let store = store(Duration::from_millis(100), head, pieces, Duration::ZERO).await;
            let error = read(&store).await.expect_err("silent");
            assert!(format!("{error:?}").contains("silent for 100ms"), "{error:?}");
        }
    }
}
