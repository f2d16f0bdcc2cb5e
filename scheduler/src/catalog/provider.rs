//! The catalog as DataFusion's planner sees it.
//!
//! ```text
//! CatalogList ─▶ one Database ─▶ a Schema per name ─▶ table(name): snapshot, else the store
//!                                                       │ files ─▶ CatalogTable
//!                   │                                   └ view  ─▶ its SQL, planned one level deeper
//!                   └▶ information_schema: DataFusion's, over a list that also has what cannot be opened
//! ```
//!
//! A view is planned from its SQL each time it is named, so it follows its tables. It means the same to everybody:
//! it is planned with the settings of the session that made it, not with those of the session that reads it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::ViewTable;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, LogicalPlanBuilder, TableType};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::sample;
use springald_core::telemetry::events::names;
use springald_proto::records::View;

use super::name::{CATALOG, INFORMATION_SCHEMA, TableName};
use super::shared::Shared;
use super::snapshot::{Definition, Kind};
use super::view;
use crate::syntax;

/// Deepest nesting of views; a view that leads back to itself ends here.
const MAX_VIEW_DEPTH: usize = 16;

/// The catalogs: there is one.
#[derive(Clone, Debug)]
pub(super) struct CatalogList {
    shared: Arc<Shared>,
    /// How many views were opened on the way here.
    depth: usize,
    broken: Broken,
}

/// What a table or view is that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// An error: somebody wants to read it.
    Error,
    /// A table without columns: all are described together, and the others must not be hidden by it.
    Empty,
}

impl CatalogList {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, depth: 0, broken: Broken::Error }
    }

    /// What describes all tables and views to SQL.
    fn information_schema(&self) -> InformationSchemaProvider {
        let list = Self { broken: Broken::Empty, ..self.clone() };
        let functions = self.shared.defaults().table_functions().clone();
        InformationSchemaProvider::new(Arc::new(list)).with_table_functions(functions)
    }

    /// The table or view with this name.
    pub(super) async fn table(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(definition) = self.shared.find(name).await? else { return Ok(None) };
        match self.open(&definition).await {
            // A store that cannot be reached says nothing about the table.
            Err(error) if self.broken == Broken::Empty && error.code() != ErrorCode::Unavailable => {
                tracing::debug!(event = names::CATALOG_COLUMNS_UNKNOWN, table = %name, %error, "a table is listed without its columns");
                without_columns(&definition).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    async fn open(&self, definition: &Definition) -> Result<Arc<dyn TableProvider>> {
        match &definition.kind {
            Kind::Files(table) => Ok(Arc::clone(table) as Arc<dyn TableProvider>),
            Kind::Unusable(error) => Err(error.clone()),
            Kind::View(view) => {
                let plan = self.plan_view(&definition.name, view).await;
                let plan = plan.map_err(|error| error.context(format!("view {}", definition.name)))?;
                Ok(Arc::new(ViewTable::new(plan, Some(view.sql.clone()))))
            }
        }
    }

    /// Plans the query of a `CREATE VIEW` statement.
    pub(super) async fn plan_view(&self, name: &TableName, view: &View) -> Result<LogicalPlan> {
        if self.depth >= MAX_VIEW_DEPTH {
            return Err(Error::invalid(format!(
                "views are nested more than {MAX_VIEW_DEPTH} deep, or lead back to themselves"
            )));
        }
        let mut state = view::session(self.shared.defaults(), view)?;
        let deeper = Self { shared: Arc::clone(&self.shared), depth: self.depth + 1, broken: Broken::Error };
        state.register_catalog_list(Arc::new(deeper));
        let statement = state.sql_to_statement(&view.sql, &state.config_options().sql_parser.dialect)?;
        // Also a view that was made before its syntax was refused.
        syntax::check(&statement, &state)?;
        match state.statement_to_plan(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateView(view)) => {
                // Equal texts of two views are different samples.
                Ok(sample::within(Arc::unwrap_or_clone(view.input), &name.to_string())?)
            }
            _ => Err(Error::internal("its definition is not planned as a CREATE VIEW statement")),
        }
    }
}

/// What stands for a table or view that cannot be opened: its definition is all there is.
fn without_columns(definition: &Definition) -> Result<Arc<dyn TableProvider>> {
    let sql = match &definition.kind {
        Kind::View(view) => Some(view.sql.clone()),
        Kind::Files(_) | Kind::Unusable(_) => None,
    };
    Ok(Arc::new(ViewTable::new(LogicalPlanBuilder::empty(false).build()?, sql)))
}

impl CatalogProviderList for CatalogList {
    fn register_catalog(&self, name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        tracing::error!(event = names::CATALOG_IGNORED, %name, "a catalog cannot be added to a session; it is ignored");
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(Database { list: self.clone() }) as Arc<dyn CatalogProvider>)
    }
}

#[derive(Debug)]
struct Database {
    list: CatalogList,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        self.list.shared.read(|snapshot| snapshot.schema_names())
    }

    /// Any schema: whether it exists is not asked of the store here, where waiting is not possible, but with its tables.
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == INFORMATION_SCHEMA {
            return Some(Arc::new(self.list.information_schema()));
        }
        Some(Arc::new(Schema { list: self.list.clone(), schema: name.to_owned() }))
    }
}

#[derive(Debug)]
struct Schema {
    list: CatalogList,
    schema: String,
}

impl Schema {
    fn name(&self, table: &str) -> TableName {
        TableName { schema: self.schema.clone(), name: table.to_owned() }
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        let tables = self.list.shared.read(|snapshot| snapshot.tables_in(&self.schema));
        let mut names: Vec<String> = tables.iter().map(|table| table.name.name.clone()).collect();
        names.sort_unstable();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.list.table(&self.name(name)).await.map_err(DataFusionError::from)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        let definition = self.list.shared.find(&self.name(name)).await?;
        Ok(definition.map(|definition| definition.table_type()))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.list.shared.read(|snapshot| snapshot.get(&self.name(name)).is_some())
    }
}
