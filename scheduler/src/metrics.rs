//! What a scheduler tells Prometheus.

use foundations::telemetry::metrics::{Counter, Gauge, Histogram, HistogramBuilder, metrics};

/// The metrics, `springald_scheduler_…`.
#[metrics(unprefixed)]
pub(crate) mod springald_scheduler {
    /// Jobs that dispatch holds: they wait, run, or have a result that is not fetched yet.
    pub fn jobs_active() -> Gauge;
    /// Jobs that dispatch holds, by state: queued, running, fetching (with a result that is not fetched yet).
    pub fn jobs(state: &'static str) -> Gauge;
    /// Statements that ended, by state: succeeded, failed, cancelled, refused (not parsed, planned or taken).
    pub fn queries_total(state: &'static str) -> Counter;
    /// Time from a statement's request to its plan.
    #[ctor = HistogramBuilder { buckets: &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0] }]
    pub fn query_planning_seconds() -> Histogram;
    /// Plans that were not cut into stages and run in one task, by cause: indivisible (an operator does not allow it),
    /// check (the stages are not what was planned: a defect).
    pub fn plans_not_cut_total(cause: &'static str) -> Counter;
    /// Plans that were refused because they cannot be encoded for executors, or do not arrive there as they are.
    pub fn plans_refused_total() -> Counter;
    /// Time from a query's plan to the start of its first task.
    #[ctor = HistogramBuilder { buckets: &[0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0] }]
    pub fn query_queue_seconds() -> Histogram;
    /// Time from the start of a query's first task to its result or failure.
    #[ctor = HistogramBuilder { buckets: &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0] }]
    pub fn query_execution_seconds() -> Histogram;
    /// Time from a statement's request to its result or failure.
    #[ctor = HistogramBuilder { buckets: &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0] }]
    pub fn query_duration_seconds() -> Histogram;
    /// Tasks whose outcome came, by outcome: succeeded, failed.
    pub fn tasks_total(outcome: &'static str) -> Counter;
    /// Task attempts that failed, by class: transient, input_lost, executor_lost, out_of_memory, fatal.
    pub fn task_failures_total(class: &'static str) -> Counter;
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
    /// Control streams of executors that were opened: more than executors, where they connect again.
    pub fn executor_streams_opened_total() -> Counter;
    /// Control streams of executors that ended, by reason: left (after a drain), lost.
    pub fn executor_streams_ended_total(reason: &'static str) -> Counter;
    /// Slots of those executors.
    pub fn slots() -> Gauge;
    /// Connections of Flight SQL clients.
    pub fn client_connections() -> Gauge;
    /// Flight SQL calls, by method and gRPC code.
    pub fn flight_sql_calls_total(method: &'static str, code: &'static str) -> Counter;
    /// Time from a Flight SQL call to its answer, or to the start of the rows that it streams, by method.
    #[ctor = HistogramBuilder { buckets: &[0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0] }]
    pub fn flight_sql_call_seconds(method: &'static str) -> Histogram;
    /// Records of jobs removed because they were kept for long enough.
    pub fn job_records_expired_total() -> Counter;
}

/// The metrics, `springald_store_…`: of every process that uses the state store, executors too.
#[metrics(unprefixed)]
pub(crate) mod springald_store {
    /// Time of calls of the state store that were answered, by operation: get, list, transact, grant_lease, keep_alive,
    /// revoke_lease, watch.
    #[ctor = HistogramBuilder { buckets: &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0] }]
    pub fn call_seconds(operation: &'static str) -> Histogram;
    /// Calls of the state store that failed, by operation and error code.
    pub fn call_errors_total(operation: &'static str, code: &'static str) -> Counter;
    /// 1 while the state store answers, 0 since a call without an answer.
    pub fn available() -> Gauge;
    /// Leases that were granted.
    pub fn leases_granted_total() -> Counter;
    /// Leases of this process that ended without it: it was not heard of for too long.
    pub fn leases_lost_total() -> Counter;
    /// Watches that broke and were begun anew.
    pub fn watches_renewed_total() -> Counter;
}
