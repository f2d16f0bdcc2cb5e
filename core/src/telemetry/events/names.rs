//! The declarations: the envelope, the fields, and the events with a constant for each name.

use super::{Definition, Field, Kind};

macro_rules! fields {
    ($(#[$about:meta])+ $table:ident: $($(#[doc = $doc:literal])+ $name:ident: $kind:ident;)+) => {
        $(#[$about])+
        pub static $table: &[Field] =
            &[$(Field { name: stringify!($name), kind: Kind::$kind, doc: concat!($($doc),+) }),+];
    };
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal [$($field:ident)*];)+) => {
        $($(#[doc = $doc])+ pub const $constant: &str = $name;)+

        /// All events, in the order of their names.
        pub static EVENTS: &[Definition] = &[
            $(Definition { name: $name, fields: &[$(stringify!($field)),*], doc: concat!($($doc),+) }),+
        ];
    };
}

fields! {
    /// The fields that any event may have; those up to `target` are in every line.
    ENVELOPE:
    /// Version of the schema.
    v: Integer;
    /// `<instance>-<sequence>`: unique, whoever writes.
    event_id: Text;
    /// Counts the events of the process, from 1.
    sequence: Integer;
    /// When it happened: RFC 3339, UTC, microseconds.
    ts: Text;
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: Text;
    /// What kind of process it is: `scheduler`, `executor`, `standalone`, `demo`.
    service: Text;
    /// The process: the id of the scheduler or executor; a process that is started again is another one.
    instance: Text;
    /// The cluster that it belongs to.
    cluster: Text;
    /// The event's name, one of those below.
    event: Text;
    /// The same in words, for people; not stable.
    message: Text;
    /// The module that wrote it.
    target: Text;
    /// The query.
    job_id: Text;
    /// The stage of the job, from 1.
    stage_id: Integer;
    /// The task of the stage, from 0.
    task_id: Integer;
    /// The try at the task, from 0; after the n-th takeover of the job from n times 100000.
    attempt: Integer;
    /// The W3C trace that it belongs to: 32 hexadecimal digits.
    trace_id: Text;
    /// The span of that trace: 16 hexadecimal digits.
    span_id: Text;
    /// Who asked for it.
    user: Text;
}

fields! {
    /// The fields of events, beside the envelope.
    FIELDS:
    /// host:port, of an executor's exchange or a scheduler's control service.
    address: Text;
    /// Task attempts that were kept at a takeover instead of being run again.
    adopted: Integer;
    /// Bytes in memory of what a task or stage has written.
    bytes: Integer;
    /// What has changed in the catalog.
    change: Text;
    /// Why a task failed, which decides what happens next: `transient`, `input_lost`, `executor_lost`, `out_of_memory`,
    /// `fatal`.
    class: Text;
    /// host:port of a scheduler's control service.
    control: Text;
    /// Events that were dropped since the last one that was not.
    count: Integer;
    /// A deadline.
    deadline_millis: Integer;
    /// A directory for spilled data.
    directory: Text;
    /// What went wrong.
    error: Text;
    /// Stable code of an error: `SPRINGALD_…`.
    error_code: Text;
    /// From the first task's start to the end of the job.
    execution_micros: Integer;
    /// The executor that it is about.
    executor_id: Text;
    /// What a library said beside the message, by its own names.
    fields: Json;
    /// A file.
    file: Text;
    /// host:port of Flight SQL.
    flight_sql: Text;
    /// The scheduler that owned a job before.
    from: Text;
    /// A key of the state store.
    key: Text;
    /// What kind of statement it is: `query`, `explain`, `analyze`, `statement` (DDL, SET).
    kind: Text;
    /// True if the scheduler runs the query itself, without stages.
    local: Flag;
    /// Where in the code.
    location: Text;
    /// Memory of an executor, for operators and the exchange.
    memory_bytes: Integer;
    /// How long a task ran, by its executor's clock.
    micros: Integer;
    /// How long it took.
    millis: Integer;
    /// A catalog.
    name: Text;
    /// The operation of the state store.
    operation: Text;
    /// Outputs that nobody had any more.
    outputs_lost: Integer;
    /// Fencing token of a job.
    owner_revision: Integer;
    /// The part of a process.
    part: Text;
    /// Partitions that a task runs.
    partitions: Integer;
    /// host:port of another executor.
    peer: Text;
    /// Pieces of stage outputs that an executor holds.
    pieces: Integer;
    /// From the request to the plan.
    planning_micros: Integer;
    /// Keys of the state store that begin so.
    prefix: Text;
    /// The whole profile of a job, see below.
    profile: Json;
    /// From the plan to the first task's start.
    queued_micros: Integer;
    /// Why.
    reason: Text;
    /// host:port of REST.
    rest: Text;
    /// Rows of a job's result.
    result_rows: Integer;
    /// Pause before the next try.
    retry_millis: Integer;
    /// Rows that the largest task of a stage has written, in percent of the median.
    row_skew_percent: Integer;
    /// Rows that a task or stage has written.
    rows: Integer;
    /// Tasks that run at an executor.
    running_tasks: Integer;
    /// The scheduler that it is about.
    scheduler_id: Text;
    /// The client's session: a fingerprint of its id, which is a secret.
    session: Text;
    /// A setting.
    setting: Text;
    /// Slots of an executor, or that a task takes.
    slots: Integer;
    /// Spans that were not exported.
    spans: Integer;
    /// Bytes that operators and the exchange wrote to disk.
    spilled_bytes: Integer;
    /// The statement, as `telemetry.sql` allows.
    sql: Text;
    /// Stages of a job.
    stages: Integer;
    /// How a job ended: `succeeded`, `failed`, `cancelled`.
    state: Text;
    /// When a job was submitted, in microseconds since the Unix epoch.
    submitted_micros: Integer;
    /// A table.
    table: Text;
    /// How often another scheduler has taken the job over.
    takeovers: Integer;
    /// Attempts that have failed.
    task_failures: Integer;
    /// Tasks of a stage or job.
    tasks: Integer;
    /// host:port of a process's metrics.
    telemetry: Text;
    /// The longest task of a stage, in percent of the median.
    time_skew_percent: Integer;
    /// From the request to the end of the job.
    total_micros: Integer;
    /// Version of a process.
    version: Text;
}

events! {
    /// A statement has changed the catalog.
    CATALOG_CHANGED = "catalog.changed" [change];
    /// The columns of a table could not be found for a listing.
    CATALOG_COLUMNS_UNKNOWN = "catalog.columns_unknown" [table error];
    /// A catalog that a session wanted to add was left out.
    CATALOG_IGNORED = "catalog.ignored" [name];
    /// A record of the catalog cannot be read.
    CATALOG_RECORD_DAMAGED = "catalog.record_damaged" [key error];
    /// The tables of a plan could not all be found, to explain its failure.
    CATALOG_TABLES_UNKNOWN = "catalog.tables_unknown" [error];
    /// A client's connection could not be accepted.
    CLIENT_ACCEPT_FAILED = "client.accept_failed" [error];
    /// A client has begun a session.
    CLIENT_CONNECTED = "client.connected" [session];
    /// As many clients are connected as may be (`scheduler.max_connections`): others wait.
    CLIENT_LIMIT_REACHED = "client.limit_reached" [];
    /// Lines of events were dropped: the writer could not keep up, or the disk did not take them.
    EVENTS_DROPPED = "events.dropped" [count];
    /// Somebody wants an executor to drain. Of the scheduler that was asked, and the executor.
    EXECUTOR_DRAIN_REQUESTED = "executor.drain_requested" [executor_id scheduler_id];
    /// An executor leaves with something that is still needed (`executor.drain_deadline`).
    EXECUTOR_DRAIN_TIMED_OUT = "executor.drain_timed_out" [running_tasks pieces];
    /// An executor drains: it takes no more tasks and hands over what it holds. Of the executor and the schedulers.
    EXECUTOR_DRAINING = "executor.draining" [executor_id running_tasks pieces];
    /// An executor has connected to a scheduler.
    EXECUTOR_JOINED = "executor.joined" [executor_id address slots memory_bytes version];
    /// An executor that had drained has left a scheduler.
    EXECUTOR_LEFT = "executor.left" [executor_id];
    /// A scheduler has lost an executor, with what it ran and held.
    EXECUTOR_LOST = "executor.lost" [executor_id];
    /// Too much goes wrong at an executor: it gets no tasks for a while.
    EXECUTOR_PUT_ASIDE = "executor.put_aside" [executor_id];
    /// An executor serves its peers and connects to schedulers.
    EXECUTOR_STARTED = "executor.started" [executor_id address slots memory_bytes version];
    /// An executor has ended.
    EXECUTOR_STOPPED = "executor.stopped" [];
    /// Tasks did not stop in time before the executor ended.
    EXECUTOR_TASKS_LEFT_BEHIND = "executor.tasks_left_behind" [running_tasks];
    /// An executor that ends stops the tasks that still run.
    EXECUTOR_TASKS_STOPPED = "executor.tasks_stopped" [running_tasks];
    /// A fetch from a peer got nothing and is tried again.
    FETCH_RETRIED = "fetch.retried" [peer error];
    /// A job could not be cancelled.
    JOB_CANCEL_FAILED = "job.cancel_failed" [error];
    /// The end of a job could not be written to the store.
    JOB_END_UNWRITTEN = "job.end_unwritten" [error];
    /// This scheduler does not own the job any more; another one does.
    JOB_FENCED = "job.fenced" [owner_revision];
    /// A job has its result, or has failed or was cancelled: all that is known of it. Again, if its result was lost and
    /// made again.
    JOB_FINISHED = "job.finished" [
        state error_code error sql kind local session submitted_micros planning_micros queued_micros execution_micros
        total_micros result_rows stages tasks task_failures spilled_bytes takeovers profile
    ];
    /// An executor frees what it holds of a job whose scheduler is gone and was not followed by another one.
    JOB_FREED = "job.freed" [scheduler_id];
    /// A query that its scheduler was to run itself has failed with that scheduler.
    JOB_ORPHANED = "job.orphaned" [];
    /// A statement was refused: it cannot be parsed, planned, or taken now.
    JOB_REFUSED = "job.refused" [error_code error sql session];
    /// The first task of a job starts.
    JOB_STARTED = "job.started" [queued_micros];
    /// A statement was taken: planned, and durable.
    JOB_SUBMITTED = "job.submitted" [sql kind local session stages planning_micros];
    /// A lease ended without its process: it joins the cluster again.
    LEASE_LOST = "lease.lost" [];
    /// A process has joined the cluster again with a new lease.
    LEASE_REJOINED = "lease.rejoined" [];
    /// A lease could not be renewed yet.
    LEASE_RENEWAL_FAILED = "lease.renewal_failed" [error];
    /// A process that leaves could not give its lease back: it ends by itself.
    LEASE_REVOKE_FAILED = "lease.revoke_failed" [error];
    /// A line of a library, which has no name of its own.
    LOG = "log" [fields];
    /// What a task has written cannot be read back from the disk: it is lost and made again.
    OUTPUT_DAMAGED = "output.damaged" [reason];
    /// An output could not be handed over to another executor.
    OUTPUT_MOVE_FAILED = "output.move_failed" [executor_id error];
    /// A scheduler that does not own the job any more was not obeyed.
    OWNER_DISOBEYED = "owner.disobeyed" [scheduler_id owner_revision];
    /// The files of a plan could not be listed, to explain its failure.
    PLAN_FILES_UNKNOWN = "plan.files_unknown" [error];
    /// A plan was refused: it cannot be encoded for executors, or does not arrive there as it is.
    PLANNER_ENCODING_REFUSED = "planner.encoding_refused" [error];
    /// A plan that cannot be cut into stages runs in one task.
    PLANNER_FALLBACK_SINGLE_TASK = "planner.fallback_single_task" [error];
    /// A process was told to end.
    PROCESS_ENDING = "process.ending" [];
    /// A process ends with an error.
    PROCESS_FAILED = "process.failed" [error error_code];
    /// A thread or task of a process has panicked: a defect.
    PROCESS_PANICKED = "process.panicked" [error location];
    /// A REST request failed by a defect.
    REST_FAILED = "rest.failed" [error];
    /// Part of a job's result could not be fetched: it is made again.
    RESULT_LOST = "result.lost" [error];
    /// A scheduler's record cannot be read.
    SCHEDULER_RECORD_DAMAGED = "scheduler.record_damaged" [error];
    /// A scheduler serves.
    SCHEDULER_STARTED = "scheduler.started" [scheduler_id flight_sql control rest telemetry version];
    /// A scheduler has ended before some of its work had.
    SCHEDULER_STOP_TIMED_OUT = "scheduler.stop_timed_out" [];
    /// A scheduler has ended.
    SCHEDULER_STOPPED = "scheduler.stopped" [];
    /// A part of a process serves no more, while the process lives.
    SERVICE_ENDED = "service.ended" [part error];
    /// A session's lifetime could not be prolonged.
    SESSION_NOT_PROLONGED = "session.not_prolonged" [error];
    /// An ended session could not be removed yet.
    SESSION_NOT_REMOVED = "session.not_removed" [error];
    /// A setting of a session does not apply any more.
    SESSION_SETTING_IGNORED = "session.setting_ignored" [setting error];
    /// A session's record cannot be read.
    SESSION_UNUSABLE = "session.unusable" [error];
    /// The spill directory of an executor that is dead, or ends, could not be deleted.
    SPILL_DIRECTORY_KEPT = "spill.directory_kept" [directory error];
    /// The exchange could not spill to make room for an operator.
    SPILL_FAILED = "spill.failed" [error];
    /// A file with spilled data could not be deleted.
    SPILL_FILE_KEPT = "spill.file_kept" [file error];
    /// The spill directory of a dead executor was deleted.
    SPILL_ORPHAN_DELETED = "spill.orphan_deleted" [directory];
    /// All tasks of a stage are done. Again, if some of its output was lost and made again.
    STAGE_FINISHED = "stage.finished" [
        tasks task_failures rows bytes spilled_bytes millis time_skew_percent row_skew_percent
    ];
    /// The first task of a stage starts.
    STAGE_STARTED = "stage.started" [tasks];
    /// The keys of a lease that ended could not be removed yet.
    STORE_LEASE_KEYS_KEPT = "store.lease_keys_kept" [error];
    /// The state store answers again.
    STORE_RECOVERED = "store.recovered" [operation millis];
    /// The state store does not answer.
    STORE_UNAVAILABLE = "store.unavailable" [operation error];
    /// A process that starts waits for the state store.
    STORE_WAITING = "store.waiting" [error deadline_millis];
    /// A watch of the state store has lost its connection.
    STORE_WATCH_BROKEN = "store.watch_broken" [prefix error];
    /// A watch of the state store has ended; another one is begun.
    STORE_WATCH_ENDED = "store.watch_ended" [prefix error];
    /// The state store cannot be watched yet.
    STORE_WATCH_FAILED = "store.watch_failed" [prefix error retry_millis];
    /// Changes of a job are too large for the store and are left out: should its scheduler be lost, some of it runs
    /// again.
    STORE_WRITE_GIVEN_UP = "store.write_given_up" [error];
    /// The store did not take a job's changes; they are written again.
    STORE_WRITE_RETRIED = "store.write_retried" [error];
    /// The stream of an executor to a scheduler broke; it connects again.
    STREAM_BROKEN = "stream.broken" [scheduler_id address error];
    /// An executor has connected to a scheduler.
    STREAM_CONNECTED = "stream.connected" [scheduler_id address];
    /// What keeps an executor connected to a scheduler broke by a defect.
    STREAM_LOOP_FAILED = "stream.loop_failed" [error];
    /// A scheduler cannot be reached yet.
    STREAM_UNREACHABLE = "stream.unreachable" [scheduler_id address error];
    /// A scheduler has answered on a new stream.
    STREAM_WELCOMED = "stream.welcomed" [scheduler_id version];
    /// The records of jobs could not all be looked at.
    SWEEP_FAILED = "sweep.failed" [error];
    /// A job's record cannot be read and is left as it is.
    SWEEP_RECORD_SKIPPED = "sweep.record_skipped" [error];
    /// The owner of a job could not be made sure of; tried again.
    TAKEOVER_CHECK_FAILED = "takeover.check_failed" [error];
    /// A job was claimed from a scheduler that is gone.
    TAKEOVER_CLAIMED = "takeover.claimed" [from owner_revision];
    /// A job that was claimed goes on here.
    TAKEOVER_DONE = "takeover.done" [adopted outputs_lost millis];
    /// A task was stopped: its outcome is not wanted any more.
    TASK_ABORTED = "task.aborted" [];
    /// A task attempt has failed.
    TASK_FAILED = "task.failed" [class error_code error];
    /// A task that runs already was launched again: a defect.
    TASK_LAUNCHED_TWICE = "task.launched_twice" [];
    /// Tasks run again because an executor was lost with them or what they had written.
    TASK_LOST = "task.lost" [executor_id tasks];
    /// A task that has failed is tried again.
    TASK_RETRIED = "task.retried" [executor_id class error_code error retry_millis];
    /// A slow task is started a second time at another executor.
    TASK_SPECULATED = "task.speculated" [executor_id];
    /// A task attempt starts.
    TASK_STARTED = "task.started" [partitions slots];
    /// A task attempt has written its output.
    TASK_SUCCEEDED = "task.succeeded" [rows bytes spilled_bytes micros];
    /// Spans could not be exported.
    TRACES_NOT_EXPORTED = "traces.not_exported" [spans error];
}
