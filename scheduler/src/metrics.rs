//! What a scheduler tells Prometheus.

use foundations::telemetry::metrics::{Counter, Gauge, Histogram, HistogramBuilder, metrics};

/// The metrics, `springald_scheduler_…`.
#[metrics(unprefixed)]
pub(crate) mod springald_scheduler {
    /// Jobs that dispatch holds: they wait, run, or have a result that is not fetched yet.
    pub fn jobs_active() -> Gauge;
    /// Distributed jobs that ended, by outcome: succeeded, failed, cancelled.
    pub fn jobs_total(outcome: &'static str) -> Counter;
    /// Time from a distributed job's submission to its result or failure, in seconds.
    #[ctor = HistogramBuilder { buckets: &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0] }]
    pub fn job_seconds() -> Histogram;
    /// Tasks whose outcome came, by outcome: succeeded, failed.
    pub fn tasks_total(outcome: &'static str) -> Counter;
    /// Jobs taken over from schedulers that were gone.
    pub fn jobs_taken_over_total() -> Counter;
    /// Jobs given up because another scheduler owned them.
    pub fn jobs_fenced_total() -> Counter;
    /// Task attempts of such jobs, or of executors that came back, that were kept instead of being run again.
    pub fn tasks_adopted_total() -> Counter;
    /// Tasks that run again because an executor was lost with what they had written, or while they ran.
    pub fn tasks_lost_total() -> Counter;
    /// Slow tasks that were started a second time.
    pub fn tasks_speculated_total() -> Counter;
    /// Outputs that executors which were about to leave have handed over to others.
    pub fn outputs_handed_over_total() -> Counter;
    /// Executors that got no tasks for a while because too much went wrong there.
    pub fn executors_put_aside_total() -> Counter;
    /// Executors with a control stream to this scheduler.
    pub fn executors_connected() -> Gauge;
    /// Slots of those executors.
    pub fn slots() -> Gauge;
    /// Connections of Flight SQL clients.
    pub fn client_connections() -> Gauge;
    /// Records of jobs removed because they were kept for long enough.
    pub fn job_records_expired_total() -> Counter;
}
