-- Of a cluster of ClickHouse servers only, after the migrations: the names that Vector writes to and that people read are tables
-- over all shards. What belongs to one job, and what arrives twice, goes to the same shard, where it is merged.
CREATE TABLE IF NOT EXISTS {database}.events {on_cluster} AS {database}.events{local}
ENGINE = Distributed('{cluster}', '{database}', 'events{local}', if(job_id = '', cityHash64(event_id), cityHash64(job_id)));

CREATE TABLE IF NOT EXISTS {database}.event_reductions {on_cluster} AS {database}.event_reductions{local}
ENGINE = Distributed('{cluster}', '{database}', 'event_reductions{local}', cityHash64(instance));

CREATE TABLE IF NOT EXISTS {database}.events_per_minute {on_cluster} AS {database}.events_per_minute{local}
ENGINE = Distributed('{cluster}', '{database}', 'events_per_minute{local}');

CREATE TABLE IF NOT EXISTS {database}.job_history {on_cluster} AS {database}.job_history{local}
ENGINE = Distributed('{cluster}', '{database}', 'job_history{local}');

CREATE TABLE IF NOT EXISTS {database}.jobs_per_minute {on_cluster} AS {database}.jobs_per_minute{local}
ENGINE = Distributed('{cluster}', '{database}', 'jobs_per_minute{local}');
