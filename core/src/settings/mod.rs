//! All settings of all roles. The doc comments here are the settings reference: `springald <role> --generate-config`
//! writes them as YAML, and a test holds the committed reference to them.

mod units;

use std::path::PathBuf;

use foundations::settings::settings;

pub use units::{ByteSize, Span};

/// Settings of one Springald process, whatever its role.
#[settings]
pub struct Settings {
    /// What this process belongs to, and where its durable state is.
    pub cluster: ClusterSettings,
    /// The scheduler: plans, keeps jobs, answers clients.
    pub scheduler: SchedulerSettings,
    /// The executor: runs tasks.
    pub executor: ExecutorSettings,
    /// How queries are planned and limited.
    pub query: QuerySettings,
    /// Events, traces, metrics and health.
    pub telemetry: TelemetrySettings,
}

/// What this process belongs to, and where its durable state is.
#[settings(impl_default = false)]
pub struct ClusterSettings {
    /// Name of the cluster: 1 to 64 letters, digits, '-' or '_'. Clusters with different names can share an etcd.
    pub name: String,
    /// etcd client URLs, for example http://127.0.0.1:2379; https with `etcd_ca_file`. Needed by `scheduler` and
    /// `executor`.
    pub etcd: Vec<String>,
    /// User name for etcd; empty: no authentication.
    pub etcd_user: String,
    /// File that holds the password of the etcd user.
    pub etcd_password_file: PathBuf,
    /// Certificates (PEM) of the authority that has signed etcd's: for https URLs; empty: no TLS.
    pub etcd_ca_file: PathBuf,
    /// Certificate (PEM, with its chain) that this process shows to etcd; empty: none.
    pub etcd_cert_file: PathBuf,
    /// Private key (PEM) of that certificate.
    pub etcd_key_file: PathBuf,
    /// Directory of the embedded store (`standalone` only); empty: kept in memory, gone with the process.
    pub data_dir: PathBuf,
    /// How long a process counts as alive after its last sign of life. Whole seconds, at least 2s.
    pub lease_ttl: Span,
    /// How long to try to reach the store at start before giving up.
    pub connect_deadline: Span,
    /// Longest wait for one answer of the store.
    pub request_timeout: Span,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            etcd: vec![],
            etcd_user: String::new(),
            etcd_password_file: PathBuf::new(),
            etcd_ca_file: PathBuf::new(),
            etcd_cert_file: PathBuf::new(),
            etcd_key_file: PathBuf::new(),
            data_dir: PathBuf::new(),
            lease_ttl: Span::seconds(3),
            connect_deadline: Span::seconds(30),
            request_timeout: Span::seconds(5),
        }
    }
}

/// The scheduler: plans, keeps jobs, answers clients.
#[settings(impl_default = false)]
pub struct SchedulerSettings {
    /// IP address that the services bind.
    pub bind: String,
    /// Host name or IP address under which other processes and clients reach this scheduler; empty: the bound one.
    pub advertise: String,
    /// Port of Flight SQL, for clients; 0: a free one.
    pub flight_sql_port: u16,
    /// Port of the control service, for executors; 0: a free one.
    pub control_port: u16,
    /// Port of REST and the console; 0: a free one.
    pub rest_port: u16,
    /// Largest number of jobs that run or wait at one time; past it new queries are refused.
    pub max_jobs: usize,
    /// How long a new query waits while the store cannot be reached, before it is refused.
    pub commit_timeout: Span,
    /// How long a job waits when the cluster has no executor, before it fails.
    pub no_executor_timeout: Span,
    /// How long a finished result that nobody fetches is kept, and how long a query goes on whose result nobody has asked
    /// for yet.
    pub result_retention: Span,
    /// How long a job goes on, and its result stays, after its client has gone away in the middle of the result, or was sent
    /// all of it and does not say whether it has arrived.
    pub client_gone_grace: Span,
    /// How long the record of an ended job is kept.
    pub job_retention: Span,
    /// How often a task may fail before its job fails.
    pub max_task_failures: u32,
    /// Tasks that take much longer than others of their stage are tried a second time on a slot that is free.
    pub speculation: bool,
    /// Largest number of client connections.
    pub max_connections: usize,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1".to_owned(),
            advertise: String::new(),
            flight_sql_port: 50050,
            control_port: 50051,
            rest_port: 8080,
            max_jobs: 1000,
            commit_timeout: Span::seconds(30),
            no_executor_timeout: Span::seconds(60),
            result_retention: Span::seconds(300),
            client_gone_grace: Span::seconds(10),
            job_retention: Span::seconds(24 * 3600),
            max_task_failures: 4,
            speculation: true,
            max_connections: 1000,
        }
    }
}

/// The executor: runs tasks.
#[settings(impl_default = false)]
pub struct ExecutorSettings {
    /// IP address that the exchange service binds.
    pub bind: String,
    /// Host name or IP address under which peers reach this executor; empty: the bound one.
    pub advertise: String,
    /// Port of the exchange service; 0: a free one.
    pub exchange_port: u16,
    /// Tasks that run at one time; 0: the number of cores.
    pub slots: u32,
    /// Memory for operators and the exchange; 0B: 70% of the machine's.
    pub memory: ByteSize,
    /// Directory for spilled data; empty: a directory of this process below the system's temporary directory.
    pub spill_dir: PathBuf,
    /// Largest amount of spilled data on disk.
    pub spill_limit: ByteSize,
    /// Share of the memory, in percent, that the exchange may hold before it spills.
    pub exchange_memory_percent: u8,
    /// How long an executor that was told to end goes on, until its tasks have ended and what it holds is with others or was
    /// read.
    pub drain_deadline: Span,
    /// Bytes in flight, at most, of one fetch from a peer.
    pub fetch_bytes_in_flight: ByteSize,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1".to_owned(),
            advertise: String::new(),
            exchange_port: 50052,
            slots: 0,
            memory: ByteSize(0),
            spill_dir: PathBuf::new(),
            spill_limit: ByteSize::mib(100 * 1024),
            exchange_memory_percent: 50,
            drain_deadline: Span::seconds(60),
            fetch_bytes_in_flight: ByteSize::mib(16),
        }
    }
}

/// How queries are planned and limited. A session changes these with SET.
#[settings(impl_default = false)]
pub struct QuerySettings {
    /// Partitions of a distributed query's exchanges; 0: two per slot of the cluster, and more for large inputs.
    pub partitions: usize,
    /// Bytes of files that a distributed query reads, per partition of its exchanges: smaller partitions have hash
    /// tables that stay in the caches, but each costs a task.
    pub partition_bytes: ByteSize,
    /// Rows per batch, from 1 to 1048576.
    pub batch_size: usize,
    /// A query that reads at most this much per slot of one executor runs there whole, without an exchange.
    pub whole_query_bytes: ByteSize,
    /// A join's build side of at most this size is sent whole to every executor.
    pub broadcast_bytes: ByteSize,
    /// The keys of a join's build side, once it is finished, keep rows of its probe side from being exchanged.
    pub runtime_filters: bool,
    /// Longest time a query may take; 0ms: no limit.
    pub deadline: Span,
}

impl QuerySettings {
    /// Most rows of a batch: operators make room for as many at once, without asking for the memory.
    pub const MAX_BATCH_SIZE: usize = 1 << 20;
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            partitions: 0,
            partition_bytes: ByteSize::mib(128),
            batch_size: 8192,
            whole_query_bytes: ByteSize::mib(64),
            broadcast_bytes: ByteSize::mib(64),
            runtime_filters: true,
            deadline: Span::millis(0),
        }
    }
}

/// Events, traces, metrics and health.
#[settings(impl_default = false)]
pub struct TelemetrySettings {
    /// IP address that the telemetry service binds.
    pub bind: String,
    /// Port of metrics, health and readiness; 0: a free one.
    pub port: u16,
    /// What is logged, for example `info` or `info,springald_scheduler=debug`.
    pub log: String,
    /// `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
    pub log_format: String,
    /// File that events are appended to; empty: standard output.
    pub log_file: PathBuf,
    /// Bytes after which that file is set aside (as `<log_file>.1`) and a new one begun; 0: never.
    pub log_file_bytes: ByteSize,
    /// Files set aside that are kept, from 1 to 100; the oldest is dropped.
    pub log_files: u32,
    /// Most memory for events that wait to be written; past it they are dropped, and counted.
    pub event_buffer: ByteSize,
    /// What events and traces show of SQL: `full`, `redacted` (`?` for every literal), or `off`. Secrets are never shown.
    pub sql: String,
    /// Bytes of a statement that are shown, at most.
    pub sql_bytes: ByteSize,
    /// URL of an OpenTelemetry collector (OTLP over gRPC) that gets the traces, for example http://127.0.0.1:4317; empty:
    /// none.
    pub otlp_endpoint: String,
    /// Share of the queries, in percent, whose traces are exported. Clients that send a trace of their own (`traceparent`)
    /// decide for theirs.
    pub trace_sample_percent: u8,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1".to_owned(),
            port: 9100,
            log: "info".to_owned(),
            log_format: "auto".to_owned(),
            log_file: PathBuf::new(),
            log_file_bytes: ByteSize::mib(256),
            log_files: 4,
            event_buffer: ByteSize::mib(16),
            sql: "full".to_owned(),
            sql_bytes: ByteSize(4096),
            otlp_endpoint: String::new(),
            trace_sample_percent: 100,
        }
    }
}
