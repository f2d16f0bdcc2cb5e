//! Connections of clients: counted, and limited.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics::springald_scheduler as metrics;
use springald_core::telemetry::events::names;

/// Pause after a connection could not be accepted, as when the process has too many files open.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Accepts at most `limit` connections at one time; those past it wait in the system's queue until one ends.
/// Without Nagle's delay: small messages must not wait for each other's acknowledgement.
pub(crate) fn limited(listener: TcpListener, limit: usize) -> impl Stream<Item = io::Result<Counted>> + Send {
    let room = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
    futures::stream::unfold((listener, room), |(listener, room)| async move {
        if room.available_permits() == 0 {
            tracing::warn!(
                event = names::CLIENT_LIMIT_REACHED,
                "no more connections are accepted until one ends (scheduler.max_connections)"
            );
        }
        let permit = Arc::clone(&room).acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(event = names::CLIENT_ACCEPT_FAILED, %error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        };
        let counted = stream.set_nodelay(true).map(|()| Counted::new(stream, permit));
        Some((counted, (listener, room)))
    })
}

/// A connection that counts for as long as it is open.
pub(crate) struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Counted {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        metrics::client_connections().inc();
        Self { stream, _permit: permit }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::client_connections().dec();
    }
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn given_as_many_connections_as_allowed_when_another_comes_then_it_waits_until_one_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let mut incoming = Box::pin(limited(listener, 1));
        let _first = TcpStream::connect(address).await.expect("connected");
        let accepted = incoming.next().await.expect("goes on").expect("accepted");
        let _second = TcpStream::connect(address).await.expect("the system queues it");
        let early = timeout(Duration::from_millis(50), incoming.next()).await;
        assert!(early.is_err(), "there is no room");
        drop(accepted);
        let second = timeout(Duration::from_secs(10), incoming.next()).await.expect("in time");
        assert!(second.expect("goes on").is_ok());
    }
}
