//! Which member of etcd is asked: always the same one, until it does not answer; then the next.
//!
//! Calls that were spread over the members would meet one that hangs again and again, each for the whole time that it may
//! take. Here the first that meets it takes all others along, also those that wait for it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::{Channel, Endpoint};
use tower::BoxError;
use uuid::Uuid;

type Request = http::Request<tonic::body::Body>;
type Response = http::Response<tonic::body::Body>;

/// Connections to the members, made when they are needed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Members {
    channels: Arc<[Channel]>,
    turn: watch::Sender<Turn>,
}

/// How often the members have taken turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(usize);

impl Members {
    /// Begins with any of them, so that many processes spread over them. There is at least one.
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let first = Uuid::new_v4().as_u128() % endpoints.len() as u128;
        let (turn, _) = watch::channel(Turn(first as usize));
        Self { channels: endpoints.iter().map(Endpoint::connect_lazy).collect(), turn }
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Turn {
        *self.turn.borrow()
    }

    /// The member whose turn it was does not answer: it is the next one's, if there is one, and nobody has said so before.
    pub(super) fn pass(&self, turn: Turn) {
        if self.channels.len() == 1 {
            return;
        }
        self.turn.send_if_modified(|now| {
            let passes = *now == turn;
            if passes {
                *now = Turn(turn.0.wrapping_add(1));
            }
            passes
        });
    }

    /// Waits until it is another member's turn.
    pub(super) async fn passed(&self, turn: Turn) {
        // The sender lives here.
        let _ = self.turn.subscribe().wait_for(|now| *now != turn).await;
    }
}

impl Service<Request> for Members {
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut channel = self.channels[self.turn().0 % self.channels.len()].clone();
        Box::pin(async move {
            poll_fn(|context| channel.poll_ready(context)).await?;
            Ok(channel.call(request).await?)
        })
    }
}
