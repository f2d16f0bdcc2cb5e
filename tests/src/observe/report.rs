//! What was measured.

use serde_json::{Value, json};

use crate::servers::ClickHouse;

/// What became of the events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Lines in the files of all processes.
    pub events_written: u64,
    /// Different events in ClickHouse.
    pub rows: u64,
    /// Events that were written and are not in ClickHouse.
    pub lost: u64,
    /// Events that are there more than once, seen with FINAL.
    pub duplicates: u64,
    /// Events that arrived more than once and were merged.
    pub sent_again: u64,
    /// From the process to the table: half of the events took at most this.
    pub lag_p50_millis: i64,
    /// All but one in a hundred took at most this.
    pub lag_p99_millis: i64,
    /// True if parts were killed.
    pub may_lose: bool,
}

impl Report {
    /// With what FINAL leaves twice.
    pub(super) async fn with_duplicates(self, clickhouse: &ClickHouse) -> Self {
        let sql = "SELECT count() - uniqExact(event_id) AS duplicates FROM springald.events FINAL";
        let rows = clickhouse.rows(sql, &[]).await;
        let duplicates = rows.first().and_then(|row| row["duplicates"].as_u64()).unwrap_or_default();
        Self { duplicates, ..self }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "events_written": self.events_written,
            "rows": self.rows,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "sent_again": self.sent_again,
            "lag_p50_millis": self.lag_p50_millis,
            "lag_p99_millis": self.lag_p99_millis,
        })
    }

    /// True if nothing is there twice, and nothing is missing that is promised.
    pub fn is_clean(&self) -> bool {
        self.duplicates == 0 && (self.lost == 0 || self.may_lose)
    }
}
