-- A job's row in the history. Parameter: job.
SELECT * EXCEPT (profile) FROM springald.job_history FINAL WHERE job_id = {job:String}
