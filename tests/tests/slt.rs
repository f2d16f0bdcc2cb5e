//! A sample of DataFusion's sqllogictest scripts; all of them: `make slt`.

use std::path::PathBuf;
use std::process::Command;

use springald_tests::slt::{self, Options, STACK_BYTES};
use springald_tests::workspace;

/// Scripts of many kinds that take little time.
const SAMPLE: [&str; 16] = [
    "aggregates_topk.slt",
    "cse.slt",
    "decimal.slt",
    "distinct_on.slt",
    "grouping.slt",
    "join_limit_pushdown.slt",
    "lateral_join.slt",
    "limit.slt",
    "metadata.slt",
    "negative_zero.slt",
    "null_aware_anti_join.slt",
    "qualify.slt",
    "subquery_sort.slt",
    "topk.slt",
    "union.slt",
    "window_topn.slt",
];

/// Directory with the scripts, or the reason why they are not there.
fn fetched() -> Result<PathBuf, String> {
    let script =
        Command::new("bash").arg(workspace().join("scripts/slt.sh")).output().map_err(|error| error.to_string())?;
    match script.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&script.stdout).trim())),
        false => Err(String::from_utf8_lossy(&script.stderr).trim().to_owned()),
    }
}

#[test]
fn sqllogictest_sample_has_no_unexpected_difference() {
    let root = match fetched() {
        Ok(root) => root,
        Err(why) => {
            println!("SKIPPED: sqllogictest scripts: {why}");
            return;
        }
    };
    let options = Options {
        root,
        files: SAMPLE.map(str::to_owned).to_vec(),
        sample: None,
        mode: vec![],
        executors: 2,
        keep_going: true,
        verbose: false,
        json: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build();
    let report = runtime.expect("a runtime").block_on(slt::run(&options)).expect("a run");
    println!("{}", report.summary());
    assert!(report.is_clean(), "see above");
}
