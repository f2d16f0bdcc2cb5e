//! The exchange service of the process: its port, its address for peers, and its life.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::settings::ExecutorSettings;
use springald_core::telemetry::events::names;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::exchange::service::ExchangeService;
use crate::exchange::store::ExchangeStore;

/// A reader that answers no ping for this long is gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a silent reader is pinged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long streams that are open may go on when the process stops.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Most streams that one peer may have open.
const MAX_STREAMS_PER_PEER: u32 = 4096;

/// Binds the exchange port.
pub(crate) async fn bind(settings: &ExecutorSettings) -> Result<(TcpListener, SocketAddr)> {
    let ip: IpAddr = settings.bind.parse().map_err(|error| {
        Error::invalid(format!("executor.bind is {:?}, which is not an IP address", settings.bind)).with_source(error)
    })?;
    let wanted = SocketAddr::new(ip, settings.exchange_port);
    let cannot = |error: std::io::Error| {
        let message = format!("cannot bind the exchange service to {wanted} (setting executor.exchange_port): {error}");
        Error::new(ErrorCode::Unavailable, message).with_source(error)
    };
    let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address))
}

/// `host:port` under which peers reach a service that is bound to `bound`.
pub(crate) fn advertised(settings: &ExecutorSettings, bound: SocketAddr) -> Result<String> {
    let host = settings.advertise.as_str();
    if host.is_empty() {
        if bound.ip().is_unspecified() {
            return Err(Error::invalid(format!(
                "executor.bind is {}, which peers cannot connect to: set executor.advertise to this machine's name",
                bound.ip()
            )));
        }
        return Ok(bound.to_string());
    }
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, bound.port()).to_string()),
        Err(_) => Ok(format!("{host}:{}", bound.port())),
    }
}

/// Serves the pieces of `store` until cancelled.
pub(crate) async fn serve(listener: TcpListener, store: ExchangeStore, cancel: CancellationToken) {
    let (health, health_service) = tonic_health::server::health_reporter();
    let exchange = FlightServiceServer::new(ExchangeService::new(store));
    health.set_serving::<FlightServiceServer<ExchangeService>>().await;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE_TIMEOUT));
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(MAX_STREAMS_PER_PEER))
        .add_service(health_service)
        .add_service(exchange)
        .serve_with_incoming_shutdown(incoming, cancel.clone().cancelled_owned());
    let ended = tokio::select! {
        ended = serving => ended,
        () = async {
            cancel.cancelled().await;
            tokio::time::sleep(CLOSE_WAIT).await;
        } => Ok(()),
    };
    if let Err(error) = ended {
        tracing::error!(event = names::SERVICE_ENDED, part = "exchange", %error, "the exchange service ended");
    }
}
