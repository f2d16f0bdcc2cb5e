-- The stages of a job, with their skew: 100 is the median, 300 a task that took three times as long. Parameter: job.
SELECT stage_id, status, inputs, tasks, task_failures, rows, bytes, spilled_bytes, task_micros, task_micros_max, time_skew_percent,
    row_skew_percent
FROM springald.job_stages
WHERE job_id = {job:String}
ORDER BY stage_id
