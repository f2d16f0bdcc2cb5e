//! Outcome of a run: counts by mode, and every difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::rows::Class;
use super::server::Mode;

/// Longest text of a statement in the summary, in characters.
const MAX_SQL: usize = 300;

/// Longest text of what differs in the summary, in characters.
const MAX_DETAIL: usize = 300;

/// How a difference is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not known: the run fails.
    Unexpected,
    /// On the list of expected differences, for this reason.
    Listed(String),
    /// DataFusion gives the server's outcome itself, with this setup.
    DataFusionToo(&'static str),
}

/// A record for which the server's outcome differs from DataFusion's.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Id of the record.
    pub id: String,
    /// Mode of the session; the first one for statements that change tables.
    pub mode: Mode,
    /// Kind.
    pub class: Class,
    /// The statement.
    pub sql: String,
    /// What differs.
    pub detail: String,
    /// How it is judged.
    pub judgement: Judgement,
}

/// Counts of one mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Queries whose outcomes were compared.
    pub compared: usize,
    /// Queries with the same answer.
    pub equal: usize,
    /// Queries that fail on both sides.
    pub failing: usize,
    /// Differences that DataFusion has with itself.
    pub datafusion: usize,
    /// Differences on the list.
    pub listed: usize,
    /// Differences of any other kind.
    pub unexpected: usize,
}

/// Outcome of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Scripts that were run.
    pub files: usize,
    /// Records of these scripts.
    pub records: usize,
    /// Ids of the records that were run.
    pub ids: BTreeSet<String>,
    /// Counts by mode.
    pub tallies: BTreeMap<Mode, Tally>,
    /// Statements that were not compared, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// Statements that the server refuses, and what stands in for them, by reason.
    pub refused: BTreeMap<String, usize>,
    /// All differences, judged.
    pub differences: Vec<Difference>,
    /// Scripts that were not run to their end, with the reason.
    pub aborted: Vec<String>,
    /// Lines of the list that did not occur.
    pub stale: Vec<String>,
    /// Seconds by script.
    pub seconds: BTreeMap<String, f64>,
}

impl Report {
    /// True if all differences are expected, and all that are expected have occurred.
    pub fn is_clean(&self) -> bool {
        self.unexpected().next().is_none() && self.stale.is_empty() && self.aborted.is_empty()
    }

    /// Differences that are not expected.
    pub fn unexpected(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.judgement == Judgement::Unexpected)
    }

    /// Counts a statement that is not compared.
    pub fn skip(&mut self, kind: &str) {
        *self.skipped.entry(kind.to_owned()).or_default() += 1;
    }

    /// Counts a statement that the server refuses.
    pub fn refuse(&mut self, reason: String) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Adds a judged difference.
    pub fn add(&mut self, difference: Difference) {
        let tally = self.tallies.entry(difference.mode).or_default();
        match difference.judgement {
            Judgement::Unexpected => tally.unexpected += 1,
            Judgement::Listed(_) => tally.listed += 1,
            Judgement::DataFusionToo(_) => tally.datafusion += 1,
        }
        self.differences.push(difference);
    }

    /// Counts of unexpected differences by mode and class.
    fn classes(&self) -> BTreeMap<(Mode, Class), usize> {
        self.unexpected().fold(BTreeMap::new(), |mut counts, difference| {
            *counts.entry((difference.mode, difference.class)).or_default() += 1;
            counts
        })
    }

    /// The report as text for people: unexpected differences first.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for difference in self.unexpected() {
            let _ = writeln!(text, "{}", difference.line());
        }
        for line in &self.stale {
            let _ = writeln!(text, "no longer differs, remove it from the list: {line}");
        }
        for line in &self.aborted {
            let _ = writeln!(text, "not run to its end: {line}");
        }
        let _ = writeln!(text, "{} files, {} records", self.files, self.records);
        for (mode, tally) in &self.tallies {
            let _ = writeln!(
                text,
                "{:>9}: {} compared, {} equal, {} fail on both sides, {} DataFusion's own, {} listed, {} unexpected",
                mode.name(),
                tally.compared,
                tally.equal,
                tally.failing,
                tally.datafusion,
                tally.listed,
                tally.unexpected
            );
        }
        for ((mode, class), count) in self.classes() {
            let _ = writeln!(text, "{:>9}: {count} unexpected: {}", mode.name(), class.name());
        }
        let skipped = self.skipped.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>();
        let _ = writeln!(text, "  skipped: {}", skipped.join(", "));
        text
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let tallies: BTreeMap<&str, Value> = self
            .tallies
            .iter()
            .map(|(mode, tally)| {
                let value = json!({
                    "compared": tally.compared,
                    "equal": tally.equal,
                    "fail_on_both_sides": tally.failing,
                    "datafusion": tally.datafusion,
                    "listed": tally.listed,
                    "unexpected": tally.unexpected,
                });
                (mode.name(), value)
            })
            .collect();
        json!({
            "files": self.files,
            "records": self.records,
            "modes": tallies,
            "skipped": self.skipped,
            "refused": self.refused,
            "aborted": self.aborted,
            "stale": self.stale,
            "seconds": self.seconds,
            "differences": self.differences.iter().map(Difference::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Difference {
    /// One line for people.
    fn line(&self) -> String {
        let sql = self.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let sql: String = sql.chars().take(MAX_SQL).collect();
        let detail: String = self.detail.chars().take(MAX_DETAIL).collect();
        format!("{} {} {}: {detail} ◀ {sql}", self.id, self.mode.name(), self.class.name())
    }

    fn to_json(&self) -> Value {
        let (judgement, reason) = match &self.judgement {
            Judgement::Unexpected => ("unexpected", String::new()),
            Judgement::Listed(reason) => ("listed", reason.clone()),
            Judgement::DataFusionToo(setup) => ("datafusion", (*setup).to_owned()),
        };
        json!({
            "id": self.id,
            "mode": self.mode.name(),
            "class": self.class.name(),
            "judgement": judgement,
            "reason": reason,
            "detail": self.detail,
            "sql": self.sql,
        })
    }
}
