//! Differences that are DataFusion's own: answers that it gives itself with other settings, over the same files.
//!
//! Queries whose rows depend on the order in which they are read (`LIMIT` in a subquery, `first_value` without order) have
//! several right answers, and files keep less of a table than memory does (constraints). A difference is DataFusion's own
//! if DataFusion, in one process, gives the server's outcome.

use std::sync::Arc;

use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::engine::{Engine, Outcome};
use super::mirror::{COPY_SETTINGS, Mirror};

/// A way in which DataFusion is set up for a second opinion.
struct Variant {
    name: &'static str,
    settings: fn(SessionConfig) -> SessionConfig,
}

const VARIANTS: [Variant; 4] = [
    Variant { name: "the same files", settings: |config| config },
    Variant { name: "one partition", settings: |config| config.with_target_partitions(1) },
    Variant { name: "batches of 3 rows", settings: |config| config.with_target_partitions(1).with_batch_size(3) },
    Variant {
        name: "5 partitions without broadcast",
        settings: |config| {
            let mut config = config.with_target_partitions(5).with_batch_size(3);
            let optimizer = &mut config.options_mut().optimizer;
            optimizer.hash_join_single_partition_threshold = 0;
            optimizer.hash_join_single_partition_threshold_rows = 0;
            optimizer.enable_round_robin_repartition = false;
            config
        },
    },
];

/// DataFusion's outcomes of one query in these setups, each computed when it is asked for.
#[derive(Default)]
pub struct SecondOpinions {
    outcomes: Vec<Option<Outcome>>,
}

impl SecondOpinions {
    /// The name of the first setup in which DataFusion's outcome is, by `is_same`, the server's.
    pub async fn explain(
        &mut self,
        mirror: &Mirror,
        reference: &Engine,
        sql: &str,
        is_same: impl Fn(&Outcome) -> bool,
    ) -> Option<&'static str> {
        for (number, variant) in VARIANTS.iter().enumerate() {
            if self.outcomes.len() == number {
                self.outcomes.push(outcome(mirror, reference, sql, variant).await);
            }
            if self.outcomes.get(number).and_then(Option::as_ref).is_some_and(&is_same) {
                return Some(variant.name);
            }
        }
        None
    }
}

/// The query's outcome with a variant; `None` if its tables cannot be made.
async fn outcome(mirror: &Mirror, reference: &Engine, sql: &str, variant: &Variant) -> Option<Outcome> {
    let engine = set_up(reference, variant);
    for setting in COPY_SETTINGS {
        engine.execute(setting).await.ok()?;
    }
    mirror.rebuild(reference, &engine).await.ok()?;
    Some(engine.query(sql).await.outcome)
}

/// An engine without tables, with the reference's settings but for those of the variant.
fn set_up(reference: &Engine, variant: &Variant) -> Engine {
    let state = reference.context.state();
    let config = (variant.settings)(state.config().clone()).with_create_default_catalog_and_schema(true);
    let state = SessionStateBuilder::new_from_existing(state)
        .with_config(config)
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .build();
    Engine { context: SessionContext::new_with_state(state) }
}
