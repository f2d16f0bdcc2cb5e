//! Runs the cases of a file.

use std::path::Path;
use std::time::Instant;

use super::case::Cases;
use super::check::{Verdict, check};
use super::engines::{Engines, Mode};
use super::report::{Found, Report};

/// Runs all cases of a file, one after the other.
///
/// # Errors
/// The file cannot be read, or a table cannot be made.
///
/// # Panics
/// If the server does not start.
pub async fn replay(path: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = Cases::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let started = Instant::now();
    let engines = Engines::start().await;
    for table in &file.tables {
        engines.create(table, &table.name).await?;
    }
    let mut report = Report::default();
    for (number, case) in file.cases.iter().enumerate() {
        for table in &case.tables {
            engines.create(table, &table.name).await.map_err(|error| format!("case {}: {error}", case.name))?;
        }
        let verdict = check(&engines, &case.sql, &case.settings, &case.ordered, &Mode::ALL).await;
        for table in &case.tables {
            engines.remove(&table.name).await;
        }
        report.queries += 1;
        let found = |engine, kind, text| Found {
            query: number as u64,
            engine,
            kind,
            case: case.to_text(),
            text,
            is_shrunk: true,
        };
        match verdict {
            Verdict::Agreed => report.agreed += 1,
            Verdict::FailedAlike(message) => {
                report.failed_alike += 1;
                report.count_error(&format!("{}: {message}", case.name));
            }
            Verdict::Skipped => report.skipped += 1,
            Verdict::Own(own) => report.own.push(found("datafusion", format!("{:?}", own.kind), own.text)),
            Verdict::Differs(differences) => {
                let all = differences.into_iter();
                let all =
                    all.map(|(mode, difference)| found(mode.name(), format!("{:?}", difference.kind), difference.text));
                report.differences.extend(all);
            }
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
