//! What an executor tells Prometheus.
//!
//! Gauges are shared by all executors of a process (`standalone` has several), so each adds its own part and takes it
//! away again; see [`Part`].

use std::sync::atomic::{AtomicU64, Ordering};

use foundations::telemetry::metrics::{Counter, Gauge, Histogram, HistogramBuilder, metrics};

/// The metrics, `springald_executor_…`.
#[metrics(unprefixed)]
pub(crate) mod springald_executor {
    /// Slots for tasks.
    pub fn slots() -> Gauge;
    /// Slots for tasks that are free.
    pub fn slots_free() -> Gauge;
    /// Tasks that ended, by outcome: succeeded, failed, aborted.
    pub fn tasks_total(outcome: &'static str) -> Counter;
    /// Task attempts that failed, by class: transient, input_lost, executor_lost, out_of_memory, fatal.
    pub fn task_failures_total(class: &'static str) -> Counter;
    /// Time that tasks ran which have succeeded.
    #[ctor = HistogramBuilder { buckets: &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0] }]
    pub fn task_seconds() -> Histogram;
    /// Bytes that such tasks wrote to disk, their operators and their output.
    pub fn task_spilled_bytes_total() -> Counter;
    /// Tasks that run.
    pub fn tasks_running() -> Gauge;
    /// Outcomes that no scheduler has acknowledged yet.
    pub fn outcomes_pending() -> Gauge;
    /// Schedulers with a control stream to this process.
    pub fn schedulers_connected() -> Gauge;
    /// Control streams that were opened: more than schedulers, where they are opened again.
    pub fn streams_opened_total() -> Counter;
    /// Control streams that broke.
    pub fn streams_broken_total() -> Counter;
    /// Fetches from peers that got nothing at first and were tried again.
    pub fn fetches_retried_total() -> Counter;
    /// Pieces of stage outputs that are kept.
    pub fn exchange_pieces() -> Gauge;
    /// Bytes of stage outputs in memory.
    pub fn exchange_memory_bytes() -> Gauge;
    /// Bytes of stage outputs on disk.
    pub fn exchange_spilled_bytes() -> Gauge;
    /// Reads of stage outputs on disk that found them missing, cut short or changed.
    pub fn exchange_damaged_reads_total() -> Counter;
    /// Bytes of stage outputs sent to peers and schedulers.
    pub fn exchange_sent_bytes_total() -> Counter;
    /// Bytes of stage outputs received from peers.
    pub fn exchange_received_bytes_total() -> Counter;
    /// Bytes reserved in the memory pool, by operators and the exchange.
    pub fn memory_reserved_bytes() -> Gauge;
    /// Size of the memory pool.
    pub fn memory_limit_bytes() -> Gauge;
}

/// One executor's part of a gauge; taken away when dropped.
pub(crate) struct Part {
    gauge: Gauge,
    value: AtomicU64,
}

impl Part {
    /// A part of `gauge`, zero so far.
    pub(crate) fn of(gauge: Gauge) -> Self {
        Self { gauge, value: AtomicU64::new(0) }
    }

    /// Makes the part `value`.
    pub(crate) fn set(&self, value: u64) {
        let before = self.value.swap(value, Ordering::Relaxed);
        if value >= before {
            self.gauge.inc_by(value - before);
        } else {
            self.gauge.dec_by(before - value);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}
