//! Tables, views and schemas: kept in the store, shared by all schedulers, seen by DataFusion's planner.
//!
//! ```text
//!   CREATE, DROP ──ddl──▶ store (one transaction each) ──watch──▶ snapshot at every scheduler
//!                                      ▲                              │
//!                                      └──────── a miss ◀── table(name) ──▶ DataFusion
//! ```
//!
//! - A table's schema is settled when it is created and never inferred again.
//! - A table is files only: nothing here writes one.
//! - A hit may lag behind another scheduler's change by the time that the watch takes; a miss never does.
//!
//! Knows nothing of jobs or executors.

mod blame;
mod create;
mod ddl;
mod format;
mod location;
mod name;
mod parquet;
mod provider;
mod shared;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableType};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::telemetry::events::names;
use tokio_util::task::AbortOnDropHandle;

pub use self::name::{CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA, TableName};
use self::provider::CatalogList;
use self::shared::Shared;
use self::snapshot::Kind;
pub use self::table::CatalogTable;
use crate::clock;
use crate::follow::follow;
use crate::store::StateStore;

/// Longest search for the cause of one failed query.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(5);

/// What a statement did to the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DdlOutcome {
    /// False if everything was as wanted already (`IF EXISTS`, `IF NOT EXISTS`).
    pub changed: bool,
    /// What happened, for people: `table springald.public.t created`.
    pub summary: String,
}

impl DdlOutcome {
    fn changed(summary: String) -> Self {
        Self { changed: true, summary }
    }

    fn unchanged(summary: String) -> Self {
        Self { changed: false, summary }
    }
}

/// A table or view, in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: TableName,
    /// Table or view.
    pub table_type: TableType,
}

/// All tables, views and schemas of the cluster.
pub struct Catalog {
    shared: Arc<Shared>,
    /// Keeps the snapshot up to date for as long as the catalog lives.
    _watch: AbortOnDropHandle<()>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Catalog {
    /// The catalog in `store`: loads all of it, and follows its changes from then on.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn open(store: Arc<dyn StateStore>) -> Result<Arc<Self>> {
        let shared = Arc::new(Shared::new(Arc::clone(&store)));
        let target = Arc::clone(&shared);
        let watch = follow(store, name::PREFIX, move |update| target.update(update)).await?;
        Ok(Arc::new(Self { shared, _watch: watch }))
    }

    /// The catalogs for a DataFusion session. Its default catalog must be [`CATALOG`].
    pub fn provider_list(&self) -> Arc<dyn CatalogProviderList> {
        Arc::new(self.list())
    }

    /// Carries out a statement that changes the catalog, for `user`. `state` is the session that planned it: its
    /// default schema, object stores and reader settings count. `sql` is kept where the statement has no text of its
    /// own.
    ///
    /// # Errors
    /// Name the table, and the file where a file is the cause. [`ErrorCode::Unsupported`] for what a catalog of files
    /// cannot have, [`ErrorCode::AlreadyExists`], [`ErrorCode::NotFound`]. When the store fails in the middle of the
    /// transaction, the statement may have been carried out.
    pub async fn apply(&self, ddl: &DdlStatement, state: &SessionState, user: &str, sql: &str) -> Result<DdlOutcome> {
        let outcome = ddl::Ddl { shared: &self.shared, list: self.list(), state, user, sql }.apply(ddl).await?;
        if outcome.changed {
            tracing::info!(event = names::CATALOG_CHANGED, %user, change = %outcome.summary, "the catalog changed");
        }
        Ok(outcome)
    }

    /// Names of all schemas, sorted; [`INFORMATION_SCHEMA`] is not among them.
    pub fn schemas(&self) -> Vec<String> {
        self.shared.read(|snapshot| snapshot.schema_names())
    }

    /// All tables and views of a schema, sorted by name.
    pub fn tables(&self, schema: &str) -> Vec<Listed> {
        let definitions = self.shared.read(|snapshot| snapshot.tables_in(schema));
        let mut listed: Vec<Listed> = definitions
            .iter()
            .map(|definition| Listed { name: definition.name.clone(), table_type: definition.table_type() })
            .collect();
        listed.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        listed
    }

    /// Schema of a table or view; `None` if there is none with this name.
    ///
    /// # Errors
    /// A view whose tables are gone or changed; a record of a newer version.
    pub async fn schema_of(&self, name: &TableName) -> Result<Option<SchemaRef>> {
        Ok(self.list().table(name).await?.map(|table| table.schema()))
    }

    /// The tables over files that a plan reads, to be handed to [`explain_failure`](Self::explain_failure) should it
    /// fail.
    pub fn tables_of(plan: &LogicalPlan) -> Vec<TableName> {
        let mut found: Vec<TableName> = vec![];
        let visited = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
            {
                match provider.downcast_ref::<CatalogTable>() {
                    Some(table) => found.push(table.name().clone()),
                    None => found.extend(provider.get_logical_plan().iter().flat_map(|view| Self::tables_of(view))),
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if let Err(error) = visited {
            tracing::debug!(event = names::CATALOG_TABLES_UNKNOWN, %error, "a plan's tables could not all be found");
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Names the table and the file, if a file turns out to be why a query over `tables` failed: it is gone, cannot
    /// be read, or has other columns than the table. Else the error as it was. Takes a few seconds at most.
    pub async fn explain_failure(&self, error: Error, tables: &[TableName], state: &SessionState) -> Error {
        if error.code() != ErrorCode::Query {
            return error;
        }
        let search = self.find_cause(&error, tables, state);
        match clock::within(EXPLAIN_DEADLINE, search).await {
            Some(Some(cause)) => {
                Error::new(ErrorCode::Query, format!("{cause} ({})", error.message())).with_source(error)
            }
            Some(None) | None => error,
        }
    }

    async fn find_cause(&self, error: &Error, tables: &[TableName], state: &SessionState) -> Option<String> {
        for name in tables {
            let Ok(Some(definition)) = self.shared.find(name).await else { continue };
            let Kind::Files(table) = &definition.kind else { continue };
            let Ok(reader) = table.reader(state) else { continue };
            if let Some(fault) = blame::find_fault(state, &table.suspect(reader.as_ref()), error.message()).await {
                return Some(format!("table {name}: {fault}"));
            }
            if let Some(location) = table.locations().iter().find(|location| location.is_named_in(error.message())) {
                return Some(format!("table {name} at {}", location.text()));
            }
        }
        None
    }

    fn list(&self) -> CatalogList {
        CatalogList::new(Arc::clone(&self.shared))
    }
}

impl From<&TableName> for TableReference {
    fn from(name: &TableName) -> Self {
        name.reference()
    }
}
