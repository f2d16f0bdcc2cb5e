//! The composition root: a scheduler's parts, and how they are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use futures::Stream;
use springald_core::error::{Error, Result};
use springald_core::ids::{ClusterName, ExecutorId, SchedulerId};
use springald_core::sample;
use springald_core::settings::Settings;
use springald_core::telemetry::events::names;
use springald_proto::control::control_server::ControlServer;
use springald_proto::records::SchedulerRecord;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::catalog::{CATALOG, Catalog, DEFAULT_SCHEMA};
use crate::connections::{Counted, limited};
use crate::control::ControlService;
use crate::dispatch::{DispatchOptions, Dispatcher};
use crate::engine::peers::Peers;
use crate::engine::remote::Channels;
use crate::engine::{Engine, EngineParts};
use crate::follow::{Update, follow};
use crate::membership::{Membership, watch_advertised};
use crate::net::{advertised, listen};
use crate::planner::QueryOptions;
use crate::sessions::Sessions;
use crate::store::{StateStore, WatchEvent};
use crate::sweep::Sweep;
use crate::tickets::Tickets;
use crate::{flight_sql, records, rest, sweep, takeover};

/// Memory of queries that the scheduler runs itself: those over no stored data.
const LOCAL_QUERY_MEMORY: usize = 512 << 20;
const TOP_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A query is planned, and its commit comes to an end, so much later than the commit may take, at the latest.
const COMMIT_SLACK: Duration = Duration::from_secs(60);

/// What a scheduler needs to start.
pub struct SchedulerOptions {
    /// Its id; never used twice.
    pub id: SchedulerId,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Settings of the process.
    pub settings: Settings,
    /// The durable state.
    pub store: Arc<dyn StateStore>,
    /// Where table files are found.
    pub object_stores: Arc<dyn ObjectStoreRegistry>,
    /// host:port of its telemetry, for its record; empty: none.
    pub telemetry_address: String,
}

/// A running scheduler.
pub struct Scheduler {
    engine: Arc<Engine>,
    flight_sql: SocketAddr,
    control: SocketAddr,
    rest: SocketAddr,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Watches of the store, which end with this.
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl Scheduler {
    /// Binds the ports, joins the cluster, and serves. Fails if a setting makes no sense, a port is in use, or the store
    /// does not answer.
    pub async fn start(options: SchedulerOptions) -> Result<Self> {
        let SchedulerOptions { id, cluster, settings, store, object_stores, telemetry_address } = options;
        let own = &settings.scheduler;
        let scheduler = id.clone();
        let (flight_listener, flight_sql) = listen(&own.bind, own.flight_sql_port, "scheduler.flight_sql_port").await?;
        let (control_listener, control) = listen(&own.bind, own.control_port, "scheduler.control_port").await?;
        let (rest_listener, rest) = listen(&own.bind, own.rest_port, "scheduler.rest_port").await?;
        let record = SchedulerRecord {
            scheduler_id: id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            flight_sql_address: advertised(&own.advertise, flight_sql),
            control_address: advertised(&own.advertise, control),
            rest_address: advertised(&own.advertise, rest),
            telemetry_address: telemetry_address.clone(),
            started_micros: records::now_micros(),
            advertised: !own.advertise.is_empty(),
        };

        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let peers = Arc::new(Channels::default());
        let parts = CoreParts { id, cluster, settings: settings.clone(), store, object_stores, record, peers };
        let core = Core::start(parts, &tracker, shutdown.clone()).await?;
        let Core { engine, control: control_service, watches } = core;
        serve_control(control_listener, control_service, &tracker, shutdown.clone());
        serve_flight_sql(
            limited(flight_listener, own.max_connections),
            Arc::clone(&engine),
            &tracker,
            shutdown.clone(),
        );
        serve_rest(rest_listener, Arc::clone(&engine), &tracker, shutdown.clone());
        tracing::info!(event = names::SCHEDULER_STARTED, scheduler_id = %scheduler, %flight_sql, %control, %rest, telemetry = telemetry_address,
            version = env!("CARGO_PKG_VERSION"), "scheduler started");
        Ok(Self { engine, flight_sql, control, rest, tracker, shutdown, _watches: watches })
    }

    /// The engine, for those in the same process.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where Flight SQL is served.
    pub fn flight_sql_address(&self) -> SocketAddr {
        self.flight_sql
    }

    /// Where executors connect.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Where REST is served.
    pub fn rest_address(&self) -> SocketAddr {
        self.rest
    }

    /// Ends everything; waits for it until the deadline.
    pub async fn shutdown(self, deadline: Duration) {
        self.shutdown.cancel();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_err() {
            tracing::warn!(event = names::SCHEDULER_STOP_TIMED_OUT, "some of the scheduler's work did not end in time");
        }
        tracing::info!(event = names::SCHEDULER_STOPPED, "scheduler stopped");
    }
}

/// What a scheduler is made of.
pub(crate) struct CoreParts {
    pub(crate) id: SchedulerId,
    pub(crate) cluster: ClusterName,
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) object_stores: Arc<dyn ObjectStoreRegistry>,
    pub(crate) record: SchedulerRecord,
    pub(crate) peers: Arc<dyn Peers>,
}

/// A scheduler without its ports.
pub(crate) struct Core {
    pub(crate) engine: Arc<Engine>,
    pub(crate) control: ControlService,
    /// Watches of the store, which end with this.
    pub(crate) watches: Vec<AbortOnDropHandle<()>>,
}

impl Core {
    /// Joins the cluster, and starts to look after jobs. Fails if the store does not answer, or a setting for queries is out
    /// of bounds.
    pub(crate) async fn start(parts: CoreParts, tracker: &TaskTracker, shutdown: CancellationToken) -> Result<Self> {
        let CoreParts { id, cluster, settings, store, object_stores, record, peers } = parts;
        let own = &settings.scheduler;
        // Else it would be told with every query.
        QueryOptions::new(&settings.query, &BTreeMap::new())
            .map_err(|error| error.context("section query of the settings"))?;
        let catalog = Catalog::open(Arc::clone(&store)).await?;
        let sessions = Sessions::open(Arc::clone(&store)).await?;
        let dispatcher = Dispatcher::start(dispatch_options(&settings), Arc::clone(&store), tracker, shutdown.clone());
        let membership = Membership::join(
            Arc::clone(&store),
            records::scheduler_key(&id),
            records::encode(&record),
            settings.cluster.lease_ttl.0,
            tracker,
            shutdown.clone(),
        )
        .await?;
        let (advertised, advertised_watch) = watch_advertised(Arc::clone(&store)).await?;
        let parts = EngineParts {
            cluster: cluster.clone(),
            scheduler: id.clone(),
            membership,
            tickets: Tickets::open(store.as_ref(), own.job_retention.0).await?,
            advertised,
            store: Arc::clone(&store),
            base: base_session(&catalog, object_stores)?,
            catalog,
            sessions,
            dispatcher: dispatcher.clone(),
            query: settings.query.clone(),
            result_retention: own.result_retention.0,
            client_gone_grace: own.client_gone_grace.0,
            max_local_jobs: own.max_jobs,
            commit_timeout: own.commit_timeout.0,
        };
        let engine = Arc::new(Engine::with_peers(parts, peers));
        let unwanted = Arc::clone(&engine);
        let unwanted = async move { unwanted.end_unwanted().await };
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(unwanted));
        let cancels = follow_cancels(Arc::clone(&store), Arc::clone(&engine)).await?;
        let executors = follow_executors(Arc::clone(&store), dispatcher.clone(), tracker, shutdown.clone()).await?;
        let (suspects, owners) =
            takeover::start(Arc::clone(&store), Arc::clone(&engine), tracker, shutdown.clone()).await?;
        let sweep = Sweep {
            scheduler: id.clone(),
            retention: own.job_retention.0,
            doubtful_after: own.commit_timeout.0 + COMMIT_SLACK,
        };
        sweep::start(Arc::clone(&store), sweep, suspects, tracker, shutdown.clone());

        let control = ControlService::new(cluster, id, store, dispatcher, tracker.clone(), shutdown);
        Ok(Self { engine, control, watches: vec![advertised_watch, cancels, executors, owners] })
    }
}

fn dispatch_options(settings: &Settings) -> DispatchOptions {
    let own = &settings.scheduler;
    DispatchOptions {
        max_jobs: own.max_jobs,
        no_executor_timeout: own.no_executor_timeout.0,
        result_retention: own.result_retention.0,
        client_gone_grace: own.client_gone_grace.0,
        max_task_failures: own.max_task_failures,
        speculation: own.speculation,
        lease_ttl: settings.cluster.lease_ttl.0,
    }
}

/// What every query's session starts from.
///
/// Listings are not kept: what is in a directory counts from the moment it is there, and all schedulers see the same.
/// What is kept of a file is used only while its size and time are the same.
pub(crate) fn base_session(catalog: &Catalog, object_stores: Arc<dyn ObjectStoreRegistry>) -> Result<SessionState> {
    let pool = TrackConsumersPool::new(FairSpillPool::new(LOCAL_QUERY_MEMORY), TOP_CONSUMERS);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default())
        .with_object_store_registry(object_stores)
        .with_object_list_cache_limit(0)
        .build_arc()
        .map_err(|error| Error::from(error).context("setting up the scheduler's query runtime"))?;
    // The information schema is the catalog's own: DataFusion's fails as a whole when it cannot describe one table.
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    options.execution.parquet.pushdown_filters = false;
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_catalog_list(catalog.provider_list());
    Ok(sample::register(builder).build())
}

/// Cancels what other schedulers were asked to cancel for us.
async fn follow_cancels(store: Arc<dyn StateStore>, engine: Arc<Engine>) -> Result<AbortOnDropHandle<()>> {
    let handle = tokio::runtime::Handle::current();
    follow(store, records::CANCELS, move |update| {
        let entries = match update {
            Update::Snapshot { entries, .. } => entries,
            Update::Event(WatchEvent::Put(entry)) => vec![entry],
            Update::Event(WatchEvent::Deleted { .. }) | Update::Lost => vec![],
        };
        for entry in entries {
            let job = entry.key.strip_prefix(records::CANCELS).and_then(|job| job.parse().ok());
            let Some(job) = job else { continue };
            let why = String::from_utf8_lossy(&entry.value).into_owned();
            let engine = Arc::clone(&engine);
            handle.spawn(async move { engine.cancel_here(&job, &why).await });
        }
    })
    .await
}

/// A dead process breaks its stream at once; a dead link does not: then the lease tells.
async fn follow_executors(
    store: Arc<dyn StateStore>,
    dispatcher: Dispatcher,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<AbortOnDropHandle<()>> {
    let (leases, mut seen) = watch::channel(BTreeSet::new());
    let executor = |key: &str| key.strip_prefix(records::EXECUTORS)?.parse::<ExecutorId>().ok();
    let watching = follow(store, records::EXECUTORS, move |update| match update {
        Update::Event(WatchEvent::Put(entry)) => leases.send_modify(|live| live.extend(executor(&entry.key))),
        Update::Event(WatchEvent::Deleted { key, .. }) => {
            leases.send_modify(|live| live.retain(|id| Some(id) != executor(&key).as_ref()));
        }
        // Some may have gone, and others come, while nobody watched.
        Update::Snapshot { entries, .. } => {
            leases.send_replace(entries.iter().filter_map(|entry| executor(&entry.key)).collect());
        }
        Update::Lost => {}
    })
    .await?;
    let tell = async move {
        let mut known = BTreeSet::new();
        while seen.changed().await.is_ok() {
            let live = seen.borrow_and_update().clone();
            let ended = known.difference(&live).map(|id| (id, false));
            for (id, held) in ended.chain(live.difference(&known).map(|id| (id, true))) {
                if dispatcher.executor_lease(id.clone(), held).await.is_err() {
                    return;
                }
            }
            known = live;
        }
    };
    tracker.spawn(shutdown.run_until_cancelled_owned(tell));
    Ok(watching)
}

/// Connections without Nagle's delay: small messages must not wait for each other's acknowledgement.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

fn serve_control(listener: TcpListener, service: ControlService, tracker: &TaskTracker, shutdown: CancellationToken) {
    const MESSAGE_LIMIT: usize = 64 << 20;
    let service =
        ControlServer::new(service).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), shutdown.cancelled_owned());
    tracker.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(event = names::SERVICE_ENDED, part = "control", %error, "the control service has ended");
        }
    });
}

fn serve_flight_sql(
    connections: impl Stream<Item = std::io::Result<Counted>> + Send + 'static,
    engine: Arc<Engine>,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) {
    const MESSAGE_LIMIT: usize = 16 << 20;
    let service = FlightServiceServer::new(flight_sql::FlightSql::new(engine)).max_decoding_message_size(MESSAGE_LIMIT);
    let service = flight_sql::CountedCalls(service);
    tracker.spawn(async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<FlightServiceServer<flight_sql::FlightSql>>().await;
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .add_service(health)
            .add_service(service)
            .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(event = names::SERVICE_ENDED, part = "flight_sql", %error, "Flight SQL has ended");
        }
    });
}

fn serve_rest(listener: TcpListener, engine: Arc<Engine>, tracker: &TaskTracker, shutdown: CancellationToken) {
    tracker.spawn(async move {
        let serving = axum::serve(listener, rest::router(engine)).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(event = names::SERVICE_ENDED, part = "rest", %error, "REST has ended");
        }
    });
}
