-- All events of a job, in order, of whatever process. Parameter: job.
SELECT ts, service, instance, level, event, stage_id, task_id, attempt, message, fields
FROM springald.events FINAL
WHERE job_id = {job:String}
ORDER BY ts, instance, sequence
