//! Metrics, health and readiness over HTTP: for Prometheus, load balancers and orchestrators.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use foundations::telemetry::settings::MetricsSettings;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::events::names;
use crate::error::{Error, ErrorCode, Result};
use crate::settings::TelemetrySettings;

/// Says whether the process can take work: `Err` with the reason while it cannot.
pub type Health = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// The running telemetry service; ends when dropped.
pub struct TelemetryServer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl TelemetryServer {
    /// Serves `/metrics`, `/health` and `/ready`. Fails if the port is in use.
    pub async fn start(settings: &TelemetrySettings, ready: Health) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let message = format!(
                "cannot listen on {}:{}; choose another port with telemetry.port (0: any free one)",
                settings.bind, settings.port
            );
            Error::new(ErrorCode::Unavailable, message).with_source(error)
        };
        let listener = tokio::net::TcpListener::bind((settings.bind.as_str(), settings.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/health", get(|| async { "ok" }))
            .route("/ready", get(is_ready))
            .with_state(ready);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(event = names::SERVICE_ENDED, part = "telemetry", %error, "the telemetry service has ended");
            }
        });
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// host:port under which others reach it, on this host if one is named.
    pub fn advertised(&self, host: &str) -> String {
        if host.is_empty() { self.address.to_string() } else { format!("{host}:{}", self.address.port()) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// All metrics of this process, in Prometheus' text format.
///
/// # Errors
/// A metric cannot be written.
pub fn collect_metrics() -> Result<String> {
    foundations::telemetry::metrics::collect(&MetricsSettings::default())
        .map_err(|error| Error::internal(format!("the metrics cannot be written: {error}")))
}

async fn metrics() -> Response {
    match collect_metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn is_ready(State(ready): State<Health>) -> Response {
    match ready() {
        Ok(()) => "ready".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
