#!/usr/bin/env python3
"""Writes Grafana's dashboards to `dashboards/`, from what stands here: `make dashboards`. A test holds the files to it.

With `--check` it writes nothing and fails if a file is not what it would write.
"""

import json
import sys
from pathlib import Path

PROMETHEUS = {"type": "prometheus", "uid": "springald-prometheus"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "springald-clickhouse"}
FOLDER = Path(__file__).parent / "dashboards"
# Grafana's grid is so wide; a panel is so high.
WIDTH, HEIGHT = 24, 8
OF_CLUSTER = 'cluster=~"$cluster"'


def prometheus(title, *queries, unit="short", kind="timeseries", width=12, about=""):
    """A panel over Prometheus. Queries are (expression, legend)."""
    targets = [
        {"refId": chr(ord("A") + number), "datasource": PROMETHEUS, "expr": expression, "legendFormat": legend}
        for number, (expression, legend) in enumerate(queries)
    ]
    return panel(title, PROMETHEUS, targets, unit, kind, width, about)


def clickhouse(title, sql, unit="short", kind="table", width=24, about=""):
    """A panel over ClickHouse: a table, or a time series whose first column is `time`."""
    form = {"queryType": "timeseries", "format": 0} if kind == "timeseries" else {"queryType": "table", "format": 1}
    target = {"refId": "A", "datasource": CLICKHOUSE, "editorType": "sql", "rawSql": " ".join(sql.split()), **form}
    return panel(title, CLICKHOUSE, [target], unit, kind, width, about)


def panel(title, source, targets, unit, kind, width, about):
    options = {"legend": {"displayMode": "list", "placement": "bottom"}} if kind == "timeseries" else {}
    return {
        "title": title,
        "type": kind,
        "description": about,
        "datasource": source,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": options,
        "gridPos": {"w": width, "h": HEIGHT},
    }


def dashboard(uid, title, panels, variables=()):
    """Panels from left to right, and from top to bottom."""
    x = y = 0
    for number, one in enumerate(panels):
        place = one["gridPos"]
        if x + place["w"] > WIDTH:
            x, y = 0, y + HEIGHT
        place.update({"x": x, "y": y})
        one["id"] = number + 1
        x += place["w"]
    return {
        "uid": f"springald-{uid}",
        "title": title,
        "tags": ["springald"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [{"type": "dashboards", "tags": ["springald"], "asDropdown": True, "title": "Springald"}],
        "templating": {"list": list(variables)},
        "panels": panels,
    }


CLUSTER = {
    "name": "cluster",
    "label": "Cluster",
    "type": "query",
    "datasource": PROMETHEUS,
    "query": {"query": 'label_values(up{job="springald"}, cluster)', "refId": "cluster"},
    "includeAll": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
    "refresh": 2,
}
JOB = {"name": "job", "label": "Job", "type": "textbox", "query": "", "current": {"text": "", "value": ""}}


def percentiles(name, by=OF_CLUSTER):
    return [
        (f"histogram_quantile({q}, sum by (le) (rate({name}_bucket{{{by}}}[$__rate_interval])))", f"p{int(q * 100)}")
        for q in (0.5, 0.9, 0.99)
    ]


def total(name, by, more=""):
    return f"sum by ({by}) (rate({name}{{{OF_CLUSTER}{more}}}[$__rate_interval]))"


def cluster():
    of = f"{{{OF_CLUSTER}}}"
    return dashboard("cluster", "Springald: cluster", [
        prometheus("Processes", (f"springald:processes:count{of}", "{{service}}"), width=6),
        prometheus("Alerts", ('sum by (alertname, severity) (ALERTS{alertstate="firing", alertname=~"Springald.*"})', "{{alertname}}"),
                   width=6),
        prometheus("Jobs", (f"springald:jobs:count{of}", "{{state}}"), width=6),
        prometheus("Slots in use", (f"springald:slots_used:ratio{of}", "{{cluster}}"), unit="percentunit", width=6),
        prometheus("Statements per second", (f"springald:queries:rate5m{of}", "{{state}}"), unit="reqps"),
        prometheus("Time of statements", *percentiles("springald_scheduler_query_duration_seconds"), unit="s"),
        prometheus("Calls of Flight SQL", (total("springald_scheduler_flight_sql_calls_total", "method, code"), "{{method}} {{code}}"),
                   unit="reqps"),
        prometheus("Clients", (f"springald_scheduler_client_connections{of}", "{{instance}}")),
        prometheus("Executors at each scheduler", (f"springald_scheduler_executors_connected{of}", "{{instance}}")),
        prometheus("Takeovers and lost tasks",
                   (total("springald_scheduler_jobs_taken_over_total", "cluster"), "jobs taken over"),
                   (total("springald_scheduler_tasks_lost_total", "cluster"), "tasks lost"),
                   (total("springald_scheduler_tasks_speculated_total", "cluster"), "tasks started twice")),
        prometheus("Time of the store's calls", *percentiles("springald_store_call_seconds", OF_CLUSTER + ', operation!="watch"'),
                   unit="s"),
        prometheus("Store trouble",
                   (total("springald_store_call_errors_total", "operation, code"), "{{operation}} {{code}}"),
                   (total("springald_store_leases_lost_total", "service"), "leases lost: {{service}}"),
                   (f"1 - springald_store_available{of}", "unavailable: {{instance}}")),
        prometheus("Versions", (f"count by (version, service) (springald_build_info{of})", "{{version}} {{service}}"), kind="table",
                   width=24),
    ], [CLUSTER])


def queries():
    history = "FROM springald.job_history FINAL WHERE $__timeFilter(submitted_at)"
    return dashboard("queries", "Springald: queries", [
        prometheus("Waiting for the first task", *percentiles("springald_scheduler_query_queue_seconds"), unit="s", width=8),
        prometheus("Planning", *percentiles("springald_scheduler_query_planning_seconds"), unit="s", width=8),
        prometheus("Execution", *percentiles("springald_scheduler_query_execution_seconds"), unit="s", width=8),
        clickhouse("Jobs per minute", """SELECT minute AS time, state, uniqExactMerge(jobs) AS jobs
            FROM springald.jobs_per_minute WHERE $__timeFilter(minute) GROUP BY time, state ORDER BY time""", kind="timeseries", width=12),
        clickhouse("Time of jobs, by minute", """SELECT minute AS time, quantilesTDigestMerge(0.5, 0.9, 0.99)(total_micros)[1] / 1e6 AS p50,
            quantilesTDigestMerge(0.5, 0.9, 0.99)(total_micros)[3] / 1e6 AS p99, max(slowest_micros) / 1e6 AS slowest
            FROM springald.jobs_per_minute WHERE $__timeFilter(minute) GROUP BY time ORDER BY time""", unit="s", kind="timeseries", width=12),
        clickhouse("The slowest", f"""SELECT job_id, user, state, total_micros / 1e6 AS seconds, queued_micros / 1e6 AS waited, stages, tasks,
            formatReadableSize(spilled_bytes) AS spilled, substring(sql, 1, 200) AS statement {history}
            ORDER BY total_micros DESC LIMIT 20"""),
        clickhouse("Failed", f"""SELECT finished_at, job_id, user, error_code, substring(error, 1, 300) AS reason,
            substring(sql, 1, 200) AS statement {history} AND state = 'failed' ORDER BY finished_at DESC LIMIT 20"""),
        clickhouse("Who runs what", f"""SELECT user, count() AS jobs, countIf(state = 'failed') AS failed, sum(total_micros) / 1e6 AS seconds,
            formatReadableSize(sum(spilled_bytes)) AS spilled {history} GROUP BY user ORDER BY seconds DESC LIMIT 20"""),
        clickhouse("Refused", """SELECT ts, user, JSONExtractString(fields, 'error_code') AS error_code,
            JSONExtractString(fields, 'error') AS reason, substring(JSONExtractString(fields, 'sql'), 1, 200) AS statement
            FROM springald.events FINAL WHERE event = 'job.refused' AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 20"""),
    ], [CLUSTER])


def job():
    return dashboard("job", "Springald: one job", [
        clickhouse("The job", "SELECT * EXCEPT (profile) FROM springald.job_history FINAL WHERE job_id = ${job:sqlstring}"),
        clickhouse("Stages", """SELECT stage_id, status, inputs, tasks, task_failures, rows, bytes, spilled_bytes, task_micros,
            task_micros_max, time_skew_percent, row_skew_percent FROM springald.job_stages WHERE job_id = ${job:sqlstring} ORDER BY stage_id"""),
        clickhouse("Operators", """SELECT stage_id, position, name, output_rows, elapsed_compute_nanos / 1e6 AS millis, spilled_bytes, metrics
            FROM springald.job_operators WHERE job_id = ${job:sqlstring} ORDER BY stage_id, position"""),
        clickhouse("Events", """SELECT ts, service, instance, level, event, stage_id, task_id, attempt, message, fields
            FROM springald.events FINAL WHERE job_id = ${job:sqlstring} ORDER BY ts LIMIT 1000"""),
        clickhouse("Task attempts", """SELECT stage_id, task_id, attempt, any(instance) AS executor, min(ts) AS first, max(ts) AS last,
            groupArray(event) AS what FROM springald.events FINAL WHERE job_id = ${job:sqlstring} AND task_id IS NOT NULL
            GROUP BY stage_id, task_id, attempt ORDER BY stage_id, task_id, attempt LIMIT 1000"""),
    ], [JOB])


def executors():
    of = f"{{{OF_CLUSTER}}}"
    return dashboard("executors", "Springald: executors", [
        prometheus("Slots in use", (f"springald_executor_slots{of} - springald_executor_slots_free{of}", "{{instance}}")),
        prometheus("Tasks per second", (total("springald_executor_tasks_total", "instance, outcome"), "{{instance}} {{outcome}}")),
        prometheus("Failures of tasks", (total("springald_executor_task_failures_total", "instance, class"), "{{instance}} {{class}}")),
        prometheus("Memory in use", (f"springald:memory_used:ratio{of}", "{{instance}}"), unit="percentunit"),
        prometheus("Stage outputs in memory", (f"springald_executor_exchange_memory_bytes{of}", "{{instance}}"), unit="bytes"),
        prometheus("Stage outputs on disk", (f"springald_executor_exchange_spilled_bytes{of}", "{{instance}}"), unit="bytes"),
        prometheus("Sent to others", (total("springald_executor_exchange_sent_bytes_total", "instance"), "{{instance}}"), unit="Bps"),
        prometheus("Received from others", (total("springald_executor_exchange_received_bytes_total", "instance"), "{{instance}}"),
                   unit="Bps"),
        prometheus("Fetches tried again, streams opened again",
                   (total("springald_executor_fetches_retried_total", "instance"), "fetches: {{instance}}"),
                   (total("springald_executor_streams_opened_total", "instance"), "streams: {{instance}}")),
        prometheus("Waiting for an acknowledgement", (f"springald_executor_outcomes_pending{of}", "{{instance}}")),
        clickhouse("Came and went", """SELECT ts, event, instance, JSONExtractString(fields, 'executor_id') AS executor, message
            FROM springald.events FINAL WHERE startsWith(event, 'executor.') AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 100"""),
    ], [CLUSTER])


def pipeline():
    of = f"{{{OF_CLUSTER}}}"
    return dashboard("pipeline", "Springald: pipeline of events", [
        prometheus("Events written", (total("springald_telemetry_events_written_total", "service"), "{{service}}"), unit="cps", width=8),
        prometheus("Events dropped by processes", (f"sum by (instance, reason) (springald_telemetry_events_dropped_total{of})",
                   "{{instance}} {{reason}}"), width=8),
        prometheus("Lines put aside", ("sum by (hop) (springald_pipeline_refused_total)", "{{hop}}"), width=8),
        prometheus("Through Vector", ("sum by (component_id) (rate(vector_component_sent_events_total[$__rate_interval]))",
                   "{{component_id}}"), unit="cps"),
        prometheus("Waiting in buffers", ("sum by (buffer_id) (vector_buffer_size_bytes)", "{{buffer_id}}"), unit="bytes"),
        prometheus("Thrown away by Vector", ('sum by (component_id) (vector_component_discarded_events_total{intentional="false"})',
                   "{{component_id}}")),
        clickhouse("Rows per minute", """SELECT minute AS time, service, groupBitmapMerge(sequences) AS events
            FROM springald.events_per_minute WHERE $__timeFilter(minute) GROUP BY time, service ORDER BY time""", kind="timeseries", width=12),
        clickhouse("Loss and duplicates, by process", """SELECT cluster, service, instance, groupBitmapMerge(sequences) AS arrived,
            bitmapMax(groupBitmapMergeState(sequences)) - arrived AS lost, sum(received) - arrived AS duplicates, max(minute) AS last_minute
            FROM springald.events_per_minute GROUP BY cluster, service, instance HAVING last_minute >= now() - INTERVAL 1 DAY
            ORDER BY lost DESC, duplicates DESC LIMIT 100""",
                   about="Every process numbers its events without a gap. Duplicates are merged by ClickHouse."),
        clickhouse("Time from the process to the table", """SELECT toStartOfMinute(ts) AS time,
            quantileExact(0.5)(dateDiff('millisecond', ts, inserted_at)) AS p50,
            quantileExact(0.99)(dateDiff('millisecond', ts, inserted_at)) AS p99,
            quantileExact(0.99)(dateDiff('millisecond', ts, edge_ts)) AS p99_to_edge
            FROM springald.events WHERE $__timeFilter(ts) GROUP BY time ORDER BY time""", unit="ms", kind="timeseries", width=12),
        clickhouse("What is said most", """SELECT event, level, groupBitmapMerge(sequences) AS events FROM springald.events_per_minute
            WHERE $__timeFilter(minute) GROUP BY event, level ORDER BY events DESC LIMIT 20""", width=12),
        clickhouse("Warnings and errors", """SELECT ts, level, service, instance, event, message, job_id FROM springald.events FINAL
            WHERE level IN ('warn', 'error') AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 100"""),
    ], [CLUSTER])


def main():
    old = []
    for name, make in [("cluster", cluster), ("queries", queries), ("job", job), ("executors", executors), ("pipeline", pipeline)]:
        text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        path = FOLDER / f"{name}.json"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            old.append(path.name)
    if old:
        sys.exit(f"old: {', '.join(old)}; run `make dashboards`")


if __name__ == "__main__":
    main()
