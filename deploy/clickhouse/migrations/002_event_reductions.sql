-- Debug and trace events that the aggregators counted and left out, by minute: how many, and which.
CREATE TABLE IF NOT EXISTS {database}.event_reductions{local} {on_cluster}
(
    minute DateTime('UTC'),
    cluster LowCardinality(String),
    service LowCardinality(String),
    instance LowCardinality(String),
    level LowCardinality(String),
    event LowCardinality(String),
    events UInt64,
    sequences Array(UInt64) CODEC(ZSTD(3)),
    inserted_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMMDD(minute)
ORDER BY (cluster, service, minute, instance, event)
TTL minute + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;
