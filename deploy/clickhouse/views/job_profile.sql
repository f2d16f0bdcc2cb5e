-- The profile of jobs as rows; after the tables, and made anew each time.
CREATE OR REPLACE VIEW {database}.job_stages {on_cluster} AS
SELECT
    cluster, job_id, submitted_at,
    JSONExtractUInt(stage, 'stage') AS stage_id,
    JSONExtractString(stage, 'status') AS status,
    JSONExtract(stage, 'inputs', 'Array(UInt32)') AS inputs,
    JSONExtractUInt(stage, 'tasks') AS tasks,
    JSONExtractUInt(stage, 'task_failures') AS task_failures,
    JSONExtractUInt(stage, 'rows') AS rows,
    JSONExtractUInt(stage, 'bytes') AS bytes,
    JSONExtractUInt(stage, 'spilled_bytes') AS spilled_bytes,
    JSONExtractUInt(stage, 'task_micros') AS task_micros,
    JSONExtractUInt(stage, 'task_micros_median') AS task_micros_median,
    JSONExtractUInt(stage, 'task_micros_max') AS task_micros_max,
    JSONExtractUInt(stage, 'time_skew_percent') AS time_skew_percent,
    JSONExtractUInt(stage, 'row_skew_percent') AS row_skew_percent,
    JSONExtractArrayRaw(stage, 'operators') AS operators
FROM
(
    SELECT cluster, job_id, submitted_at, arrayJoin(JSONExtractArrayRaw(profile, 'stages')) AS stage
    FROM {database}.job_history FINAL
);

CREATE OR REPLACE VIEW {database}.job_operators {on_cluster} AS
SELECT
    cluster, job_id, submitted_at, stage_id,
    position,
    JSONExtractString(operator, 'name') AS name,
    JSONExtractUInt(operator, 'metrics', 'output_rows') AS output_rows,
    JSONExtractUInt(operator, 'metrics', 'elapsed_compute_nanos') AS elapsed_compute_nanos,
    JSONExtractUInt(operator, 'metrics', 'spilled_bytes') AS spilled_bytes,
    JSONExtractRaw(operator, 'metrics') AS metrics
FROM {database}.job_stages
ARRAY JOIN operators AS operator, arrayEnumerate(operators) AS position;
