//! `docs/events.md`, from the declarations.

use std::fmt::Write;

use super::{ENVELOPE, EVENTS, FIELDS, Field, SCHEMA_VERSION};

const HEAD: &str = "\
# Events

Every process writes one JSON object per line, to standard output or to `telemetry.log_file`. This page is generated from
`core/src/telemetry/events` by `make reference`; a test holds it to the code, and another one holds what a cluster writes
to it.

";

const RULES: &str = "
- Fields that do not apply are absent; there are no nulls.
- A field has the same meaning and kind in every event. Times say their unit in their name (`…_micros`, `…_millis`).
- Names of events and fields stay. New ones come without a new `v`: readers pass over what they do not know.
- `event_id` is unique, and `sequence` counts the events of a process from 1 without gaps, those that were dropped
  included: what is missing between two lines of one `instance` was lost after it happened, and `events.dropped` says how
  many of them this process itself has dropped because its writer could not keep up, or the disk was full.
- Writing never makes a query wait: lines go through a buffer of `telemetry.event_buffer`, and what does not fit is
  dropped and counted. A process that is killed (`kill -9`, power) loses what is in the buffer, normally a few
  milliseconds; one that ends, or panics, writes it first.
- `sql` has at most `telemetry.sql_bytes` bytes. `telemetry.sql` decides what it shows: `full`, `redacted` (`?` for every
  literal, without comments) or `off`. Error messages may quote values of a query all the same.
- Secrets are replaced by `***` before a line is written: values of options whose name says that they are secret, user
  names and passwords in URLs, signatures of URLs, authorization headers, private keys.
- Strings are cut at 16 KiB and end with `…` then.
";

const PROFILE: &str = "
## The profile of a job

`profile` of `job.finished` has what its tasks measured:

| field | kind | what |
|---|---|---|
| `stages[].stage` | integer | the stage's number; inputs come before readers |
| `stages[].status` | text | `done`, `running` or `waiting` when the job ended |
| `stages[].inputs` | array of integers | the stages that it reads |
| `stages[].tasks` | integer | its tasks |
| `stages[].task_failures` | integer | attempts that failed |
| `stages[].rows`, `bytes` | integer | its output |
| `stages[].spilled_bytes` | integer | bytes that operators and the exchange wrote to disk |
| `stages[].task_micros` | integer | time of all its tasks together |
| `stages[].task_micros_median`, `task_micros_max` | integer | time of one task |
| `stages[].time_skew_percent` | integer | the longest task's time in percent of the median; 100: all alike |
| `stages[].row_skew_percent` | integer | likewise for the rows that a task wrote |
| `stages[].operators[].name` | text | an operator of the stage's plan, in pre-order |
| `stages[].operators[].metrics` | object of integers | sums over all tasks; times end in `_nanos`, sizes in `_bytes` |

Very large profiles come without operators (`operators_left_out` is true then). A job that was taken over from another
scheduler has the metrics of operators only for what ran since.
";

/// The reference of all events and fields, as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "## The envelope (version {SCHEMA_VERSION})\n");
    table(&mut page, ENVELOPE.iter());
    page.push_str(RULES);
    page.push_str("\n## Events\n\n| event | when | fields beside the envelope |\n|---|---|---|\n");
    for event in EVENTS {
        let fields: Vec<String> = event.fields.iter().map(|field| format!("`{field}`")).collect();
        let _ = writeln!(page, "| `{}` | {} | {} |", event.name, event.doc.trim(), fields.join(", "));
    }
    page.push_str("\n## Fields\n\n");
    table(&mut page, FIELDS.iter());
    page.push_str(PROFILE);
    page
}

fn table<'a>(page: &mut String, fields: impl Iterator<Item = &'a Field>) {
    page.push_str("| field | kind | what |\n|---|---|---|\n");
    for field in fields {
        let _ = writeln!(page, "| `{}` | {} | {} |", field.name, field.kind.name(), field.doc.trim());
    }
}
