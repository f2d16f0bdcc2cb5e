-- What was written and is not here, and what arrived more than once, by process.
--
-- A process numbers its events from 1 without a gap, so every number up to the highest that arrived must be here, as an event
-- or among those that were counted and left out on purpose. Not seen: what was lost after the last event that arrived, and
-- processes of which nothing arrived. `duplicates` were merged, or will be: FINAL shows each event once.
-- Parameter: since; processes of which nothing arrived since then are left out.
SELECT
    cluster, service, instance,
    groupBitmapMerge(sequences) AS arrived,
    bitmapMax(groupBitmapMergeState(sequences)) AS last_sequence,
    last_sequence - arrived AS lost,
    sum(received) - arrived AS duplicates,
    max(minute) AS last_minute
FROM springald.events_per_minute
GROUP BY cluster, service, instance
HAVING last_minute >= {since:DateTime('UTC')}
ORDER BY lost DESC, duplicates DESC, cluster, service, instance
