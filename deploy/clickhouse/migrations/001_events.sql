-- Events as the processes wrote them. One that arrives twice has the same key, and FINAL (or a merge) leaves one.
CREATE TABLE IF NOT EXISTS {database}.events{local} {on_cluster}
(
    event_id String CODEC(ZSTD(3)) COMMENT 'instance and sequence',
    v UInt16 COMMENT 'version of the schema',
    sequence UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'counted from 1 by the process: a gap is a loss',
    ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    level LowCardinality(String),
    cluster LowCardinality(String),
    service LowCardinality(String),
    instance LowCardinality(String),
    event LowCardinality(String),
    message String CODEC(ZSTD(3)),
    target LowCardinality(String),
    job_id String CODEC(ZSTD(3)),
    stage_id Nullable(UInt32),
    task_id Nullable(UInt32),
    attempt Nullable(UInt32),
    trace_id String CODEC(ZSTD(3)),
    span_id String CODEC(ZSTD(3)),
    user LowCardinality(String),
    fields String CODEC(ZSTD(6)) COMMENT 'all other fields, as JSON',
    edge_host LowCardinality(String),
    edge_ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when the edge read it',
    aggregator_ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when an aggregator took it',
    inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) CODEC(Delta, ZSTD(1)),
    INDEX by_job job_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_event event TYPE set(64) GRANULARITY 1,
    INDEX by_level level TYPE set(8) GRANULARITY 1,
    INDEX by_words message TYPE tokenbf_v1(8192, 3, 0) GRANULARITY 4
)
ENGINE = {replicated}ReplacingMergeTree
PARTITION BY toYYYYMMDD(ts)
ORDER BY (cluster, service, ts, event_id)
TTL toDateTime(ts) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;
