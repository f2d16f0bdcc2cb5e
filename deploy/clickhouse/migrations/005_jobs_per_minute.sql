-- Jobs by the minute in which they ended. A job counts once, however often its end arrives.
CREATE TABLE IF NOT EXISTS {database}.jobs_per_minute{local} {on_cluster}
(
    minute DateTime('UTC'),
    cluster LowCardinality(String),
    state LowCardinality(String),
    kind LowCardinality(String),
    user LowCardinality(String),
    jobs AggregateFunction(uniqExact, String),
    total_micros AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99), UInt64),
    slowest_micros SimpleAggregateFunction(max, UInt64)
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (cluster, minute, state, kind, user)
TTL minute + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.events_to_jobs_per_minute{local} {on_cluster} TO {database}.jobs_per_minute{local} AS
SELECT
    toStartOfMinute(toDateTime(ts, 'UTC')) AS minute,
    cluster,
    JSONExtractString(fields, 'state') AS state,
    JSONExtractString(fields, 'kind') AS kind,
    user,
    uniqExactState(job_id) AS jobs,
    quantilesTDigestState(0.5, 0.9, 0.99)(JSONExtractUInt(fields, 'total_micros')) AS total_micros,
    max(JSONExtractUInt(fields, 'total_micros')) AS slowest_micros
FROM {database}.events{local}
WHERE event = 'job.finished' AND job_id != ''
GROUP BY minute, cluster, state, kind, user;
