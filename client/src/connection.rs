//! One connection to one server, and the handshake that opens a session on it.

use std::time::Duration;

use arrow_flight::HandshakeRequest;
use arrow_flight::flight_service_client::FlightServiceClient;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::time::timeout;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::address::Address;
use crate::error::{ClientError, Result, chain};

/// Flight over one channel.
pub(crate) type Flight = FlightServiceClient<Channel>;

/// Largest message accepted: servers keep theirs below the 16 MiB that other clients take.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Bytes a server may send ahead on one stream: enough that a fast network is not waiting for a window.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes a server may send ahead on all streams of a connection: the most that HTTP/2 allows. Results that nobody reads at the
/// moment must not hold up others.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// A server that is busy with a query says nothing for long; pings show that it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Without an answer to a ping for so long, the server is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Most answers read in a handshake; one is usual.
const MAX_HANDSHAKE_ANSWERS: usize = 8;

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Time for reaching one server, and again for its handshake.
    pub connect_timeout: Duration,
    /// Time without progress after which a lost server is not made up for any more.
    pub resume_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), resume_timeout: Duration::from_secs(60) }
    }
}

/// Opens a channel to `address`, without a handshake.
pub(crate) async fn open(address: &Address, options: ConnectOptions) -> Result<Flight> {
    let refuse =
        |error: tonic::transport::Error| ClientError::Connect { attempts: format!("{address}: {}", chain(&error)) };
    let endpoint = Endpoint::from_shared(address.to_string())
        .and_then(|endpoint| endpoint.user_agent(concat!("springald-client/", env!("CARGO_PKG_VERSION"))))
        .map_err(refuse)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let channel = match timeout(options.connect_timeout, endpoint.connect()).await {
        Ok(connected) => connected.map_err(refuse)?,
        Err(_) => return Err(ClientError::Connect { attempts: format!("{address}: no answer in time") }),
    };
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// Says hello; what the server gives as `authorization` is its session, to be sent with every call.
///
/// A server without handshakes is fine: then there is no session.
pub(crate) async fn handshake(
    flight: &mut Flight,
    address: &Address,
    options: ConnectOptions,
) -> Result<Option<AsciiMetadataValue>> {
    let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
    if let Some(user) = address.user() {
        let basic = BASE64_STANDARD.encode(format!("{}:{}", user.name, user.password));
        let invalid = |_| ClientError::Protocol("the user does not fit into a header".to_owned());
        request.metadata_mut().insert("authorization", format!("Basic {basic}").parse().map_err(invalid)?);
    }
    match timeout(options.connect_timeout, exchange(flight, request)).await {
        Err(_) => Err(ClientError::deadline("handshake")),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(None),
        Ok(Err(status)) => Err(status.into()),
        Ok(Ok(token)) => Ok(token),
    }
}

async fn exchange(
    flight: &mut Flight,
    request: Request<impl futures::Stream<Item = HandshakeRequest> + Send + 'static>,
) -> Result<Option<AsciiMetadataValue>, Status> {
    let response = flight.handshake(request).await?;
    let token = response.metadata().get("authorization").cloned();
    let mut answers = response.into_inner();
    for _ in 0..MAX_HANDSHAKE_ANSWERS {
        if answers.message().await?.is_none() {
            break;
        }
    }
    Ok(token)
}
