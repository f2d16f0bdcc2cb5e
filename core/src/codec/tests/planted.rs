//! Losses of DataFusion's encoding. Each query changes when DataFusion alone encodes its plan, and does not here.

use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};

use super::*;

/// Queries whose plans DataFusion's encoding changes.
const QUERIES: &[&str] = &[
    "SELECT id, lag(id) OVER (ORDER BY id DESC), row_number() OVER (ORDER BY id) FROM t",
    "SELECT id, lag(v) IGNORE NULLS OVER (ORDER BY id) FROM t",
    "SELECT count(*) FILTER (WHERE v IS NOT NULL) OVER () FROM t",
    "SELECT count(*) FROM t GROUP BY GROUPING SETS (())",
    "SELECT id FROM t WHERE arrow_cast(id, 'Float16') > arrow_cast(0.1, 'Float16')",
    "SELECT id, file_row_index() FROM t",
];

#[tokio::test]
async fn losses_of_datafusion_are_closed() {
    let session = Session::new().await;
    for query in QUERIES {
        let (plan, _) = session.plan(query).await;
        let alone = physical_plan_to_bytes(Arc::clone(&plan))
            .and_then(|bytes| physical_plan_from_bytes(&bytes, &session.context.task_ctx()));
        if let Ok(alone) = alone {
            assert_ne!(words(&plan), words(&alone), "DataFusion keeps {query}");
        }
        session.assert_kept(query).await;
    }
}

#[test]
fn every_loss_says_when_its_encoding_can_go() {
    assert!(LOSSES.iter().all(|loss| !loss.item.is_empty() && !loss.lost.is_empty() && !loss.until.is_empty()));
}
