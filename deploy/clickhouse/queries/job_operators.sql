-- What each operator of a job did, all tasks together. Parameter: job.
SELECT stage_id, position, name, output_rows, elapsed_compute_nanos, spilled_bytes, metrics
FROM springald.job_operators
WHERE job_id = {job:String}
ORDER BY stage_id, position
