//! Runs a query on all engines and compares the answers.
//!
//! ```text
//! DataFusion, 1 partition ──┐ differ: DataFusion's own
//! DataFusion, 5 partitions ─┴─ agree: the reference ◀── compared ── staged, whole
//!                                                        differ: DataFusion runs it in more configurations;
//!                                                        one of them differs, too: DataFusion's own
//! ```

use super::answer::{Difference, DifferenceKind, FailureKind, Outcome, compare};
use super::case::Settings;
use super::engines::{Engines, LocalConfig, Mode};

/// One partition, and batches that hold a whole table.
const ONE: LocalConfig = LocalConfig { partitions: 1, batch_size: Some(8192), is_like_staged: false };

/// As many partitions, and the same batches, as staged sessions have by default.
const REFERENCE: LocalConfig = LocalConfig { partitions: 5, batch_size: None, is_like_staged: false };

/// As staged sessions plan.
const STAGED: LocalConfig = LocalConfig { partitions: 5, batch_size: None, is_like_staged: true };

/// Configurations for queries on which an engine differs from the reference.
const MORE: [LocalConfig; 5] = [
    LocalConfig { partitions: 2, batch_size: Some(8192), is_like_staged: false },
    LocalConfig { partitions: 5, batch_size: None, is_like_staged: true },
    LocalConfig { partitions: 9, batch_size: Some(2), is_like_staged: true },
    LocalConfig { partitions: 2, batch_size: None, is_like_staged: true },
    LocalConfig { partitions: 3, batch_size: Some(3), is_like_staged: false },
];

/// How often each is tried: what depends on the order in which partitions arrive does not differ each time.
const ROUNDS: usize = 6;

/// What comparing a query has shown.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All engines give the same answer.
    Agreed,
    /// All engines fail; the reason.
    FailedAlike(String),
    /// The answer is too large to be compared, or the server refuses a clause that DataFusion ignores.
    Skipped,
    /// DataFusion in this process differs from itself.
    Own(Difference),
    /// The server differs from DataFusion.
    Differs(Vec<(Mode, Difference)>),
}

/// Runs a query and compares the answers of the server in these modes.
pub(crate) async fn check(
    engines: &Engines,
    sql: &str,
    settings: &Settings,
    ordered: &[usize],
    modes: &[Mode],
) -> Verdict {
    let one = engines.run_local(sql, settings, ONE).await;
    let reference = engines.run_local(sql, settings, REFERENCE).await;
    if matches!(one, Outcome::TooLarge) || matches!(reference, Outcome::TooLarge) {
        return Verdict::Skipped;
    }
    if let Some(difference) = compare(&one, &reference, ordered).or_else(|| compare(&reference, &one, ordered)) {
        return Verdict::Own(difference);
    }
    let found = futures::future::join_all(modes.iter().map(|mode| engines.run_server(sql, settings, *mode))).await;
    if found.iter().any(ignores_a_clause) {
        return Verdict::Skipped;
    }
    let compared = modes.iter().zip(&found).map(|(mode, found)| (*mode, compare(&reference, found, ordered)));
    let differences: Vec<(Mode, Difference)> =
        compared.filter_map(|(mode, difference)| Some((mode, difference?))).collect();
    if differences.is_empty() {
        return match reference {
            Outcome::Failed(failure) => {
                let is_defect = failure.kind == FailureKind::Internal;
                Verdict::FailedAlike(if is_defect { format!("internal: {}", failure.message) } else { failure.message })
            }
            _ => Verdict::Agreed,
        };
    }
    let are_errors = differences.iter().all(|(_, difference)| difference.kind == DifferenceKind::Error);
    if are_errors && fails_where_not_needed(engines, sql, settings, &found).await {
        let (kind, text) = (DifferenceKind::Error, "fails where it evaluates rows that are not needed".to_owned());
        return Verdict::Own(Difference { kind, text });
    }
    for config in MORE.into_iter().cycle().take(MORE.len() * ROUNDS) {
        let other = engines.run_local(sql, settings, config).await;
        if let Some(difference) = compare(&reference, &other, ordered) {
            return Verdict::Own(difference);
        }
    }
    Verdict::Differs(differences)
}

/// True if the server fails where DataFusion does, too, once it evaluates parts of the plan whose rows this query does not
/// need: the other input of a join with an empty one, rows behind a limit, and the like. Tasks evaluate them because they
/// do not wait for each other.
async fn fails_where_not_needed(engines: &Engines, sql: &str, settings: &Settings, found: &[Outcome]) -> bool {
    let message = |outcome: &Outcome| match outcome {
        Outcome::Failed(failure) => Some(failure.message.clone()),
        _ => None,
    };
    let messages: Vec<String> = found.iter().filter_map(message).collect();
    let parts = engines.failures_of_parts(sql, settings, STAGED).await;
    messages.iter().all(|message| parts.iter().any(|part| message.contains(part.as_str())))
}

/// True if the server refuses a query of which DataFusion ignores a clause: LIMIT and OFFSET of a UNION in WITH RECURSIVE.
fn ignores_a_clause(found: &Outcome) -> bool {
    matches!(found, Outcome::Failed(failure) if failure.message.contains("of a UNION in WITH RECURSIVE is not supported"))
}
