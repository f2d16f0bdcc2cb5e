-- One row per job, from its `job.finished`. A job whose result was lost and made again says so twice: the later one counts.
CREATE TABLE IF NOT EXISTS {database}.job_history{local} {on_cluster}
(
    cluster LowCardinality(String),
    job_id String CODEC(ZSTD(3)),
    submitted_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    finished_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    state LowCardinality(String) COMMENT 'succeeded, failed or cancelled',
    error_code LowCardinality(String),
    error String CODEC(ZSTD(3)),
    sql String CODEC(ZSTD(6)),
    kind LowCardinality(String),
    local Bool COMMENT 'run by the scheduler itself, without stages',
    user LowCardinality(String),
    session String CODEC(ZSTD(3)),
    scheduler LowCardinality(String) COMMENT 'the instance that saw its end',
    trace_id String CODEC(ZSTD(3)),
    planning_micros UInt64,
    queued_micros UInt64,
    execution_micros UInt64,
    total_micros UInt64,
    result_rows UInt64,
    stages UInt32,
    tasks UInt32,
    task_failures UInt32,
    spilled_bytes UInt64,
    takeovers UInt32,
    profile String CODEC(ZSTD(6)) COMMENT 'stages and operators, as JSON: see job_stages and job_operators',
    INDEX by_submission submitted_at TYPE minmax GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree(finished_at)
PARTITION BY toYYYYMM(submitted_at)
ORDER BY (cluster, job_id)
TTL toDateTime(submitted_at) + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.events_to_job_history{local} {on_cluster} TO {database}.job_history{local} AS
SELECT
    cluster,
    job_id,
    fromUnixTimestamp64Micro(JSONExtractInt(fields, 'submitted_micros'), 'UTC') AS submitted_at,
    ts AS finished_at,
    JSONExtractString(fields, 'state') AS state,
    JSONExtractString(fields, 'error_code') AS error_code,
    JSONExtractString(fields, 'error') AS error,
    JSONExtractString(fields, 'sql') AS sql,
    JSONExtractString(fields, 'kind') AS kind,
    JSONExtractBool(fields, 'local') AS local,
    user,
    JSONExtractString(fields, 'session') AS session,
    instance AS scheduler,
    trace_id,
    JSONExtractUInt(fields, 'planning_micros') AS planning_micros,
    JSONExtractUInt(fields, 'queued_micros') AS queued_micros,
    JSONExtractUInt(fields, 'execution_micros') AS execution_micros,
    JSONExtractUInt(fields, 'total_micros') AS total_micros,
    JSONExtractUInt(fields, 'result_rows') AS result_rows,
    JSONExtractUInt(fields, 'stages') AS stages,
    JSONExtractUInt(fields, 'tasks') AS tasks,
    JSONExtractUInt(fields, 'task_failures') AS task_failures,
    JSONExtractUInt(fields, 'spilled_bytes') AS spilled_bytes,
    JSONExtractUInt(fields, 'takeovers') AS takeovers,
    JSONExtractRaw(fields, 'profile') AS profile
FROM {database}.events{local}
WHERE event = 'job.finished' AND job_id != '';
