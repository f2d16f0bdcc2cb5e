-- Events by minute. The sequence numbers are kept as a bitmap: an event that arrives twice counts once, and what is missing
-- can be told after the events themselves are gone.
CREATE TABLE IF NOT EXISTS {database}.events_per_minute{local} {on_cluster}
(
    minute DateTime('UTC'),
    cluster LowCardinality(String),
    service LowCardinality(String),
    instance LowCardinality(String),
    level LowCardinality(String),
    event LowCardinality(String),
    sequences AggregateFunction(groupBitmap, UInt64),
    received SimpleAggregateFunction(sum, UInt64)
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (cluster, service, minute, instance, level, event)
TTL minute + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.events_to_minutes {on_cluster} TO {database}.events_per_minute{local} AS
SELECT
    toStartOfMinute(toDateTime(ts, 'UTC')) AS minute, cluster, service, instance, level, event,
    groupBitmapState(sequence) AS sequences, count() AS received
FROM {database}.events{local}
GROUP BY minute, cluster, service, instance, level, event;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.reductions_to_minutes {on_cluster} TO {database}.events_per_minute{local} AS
SELECT
    minute, cluster, service, instance, level, event,
    groupBitmapState(arrayJoin(sequences)) AS sequences, count() AS received
FROM {database}.event_reductions{local}
GROUP BY minute, cluster, service, instance, level, event;
