-- How long events took, from the process that wrote them to this table, and where. Parameter: since.
SELECT
    count() AS rows,
    quantileExact(0.5)(dateDiff('millisecond', ts, inserted_at)) AS lag_p50_millis,
    quantileExact(0.99)(dateDiff('millisecond', ts, inserted_at)) AS lag_p99_millis,
    quantileExact(0.99)(dateDiff('millisecond', ts, edge_ts)) AS to_edge_p99_millis,
    quantileExact(0.99)(dateDiff('millisecond', edge_ts, aggregator_ts)) AS to_aggregator_p99_millis,
    quantileExact(0.99)(dateDiff('millisecond', aggregator_ts, inserted_at)) AS to_table_p99_millis
FROM springald.events FINAL
WHERE ts >= {since:DateTime64(6, 'UTC')}
