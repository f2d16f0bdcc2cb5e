//! A small collector of traces: OTLP over gRPC, into memory.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use springald_proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
use springald_proto::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Span, any_value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span, and the process that it is of.
#[derive(Clone, Debug)]
pub struct Seen {
    pub span: Span,
    pub instance: String,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let instance = text(&attributes, "service.instance.id");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().extend(spans.map(|span| Seen { span, instance: instance.clone() }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A running collector; ends when dropped.
pub struct Collector {
    address: SocketAddr,
    service: Service,
    _serving: JoinSet<()>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = Service::default();
        let server = Server::builder().add_service(TraceServiceServer::new(service.clone()));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
        });
        Self { address, service, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Seen> {
        self.service.0.lock().clone()
    }
}

/// The value of an attribute, as text.
pub fn text(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == name).and_then(|found| found.value.clone());
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
