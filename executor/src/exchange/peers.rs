//! Connections to the exchange services of other executors: one per peer, shared by all fetches.

use std::collections::HashMap;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use parking_lot::Mutex;
use springald_core::error::{Error, Result};
use springald_core::settings::ByteSize;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use super::encode::MAX_MESSAGE_BYTES;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that answers no ping for this long is gone: one that was stopped or cut off must not hold up who reads from it.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent peer is pinged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Most connections that are kept. They are a cache: past this all are forgotten (fetches under way go on).
const MAX_PEERS: usize = 1024;
/// Largest HTTP/2 window there is. The window of a connection must never be what a fetch waits for: a fetch that
/// nobody reads at the moment (the probe side of a join) would hold up the one that everybody waits for (its build
/// side). What bounds the bytes in flight is the window of each stream.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Large frames: fewer of them.
const FRAME_BYTES: u32 = 1 << 20;

/// The connections of this process to its peers.
pub(crate) struct Peers {
    /// Bytes that a peer may send on one stream before they are read.
    stream_window: u32,
    channels: Mutex<HashMap<String, Channel>>,
    /// Connections live here, and not on the threads of the task that happens to need one first.
    runtime: Handle,
}

impl Peers {
    /// Of one fetch's `bytes_in_flight`, half is on the wire. Connections live on the runtime that this is called on.
    pub(crate) fn new(bytes_in_flight: ByteSize) -> Self {
        let half = u32::try_from(bytes_in_flight.0 / 2).unwrap_or(CONNECTION_WINDOW);
        let stream_window = half.clamp(64 << 10, CONNECTION_WINDOW);
        Self { stream_window, channels: Mutex::default(), runtime: Handle::current() }
    }

    /// A client of the exchange service at `address` (`host:port`). Connects when it is first used, and again
    /// whenever the connection broke.
    pub(crate) fn client(&self, address: &str) -> Result<FlightServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.connect(address)?;
                if channels.len() >= MAX_PEERS {
                    channels.clear();
                }
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES + (1 << 20)))
    }

    fn connect(&self, address: &str) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Error::invalid(format!("{address:?} is not the address of an exchange service")).with_source(error)
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let _on = self.runtime.enter();
        Ok(endpoint.connect_lazy())
    }
}
