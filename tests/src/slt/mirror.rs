//! Tables of the reference on the server.
//!
//! ```text
//! CREATE EXTERNAL TABLE, CREATE VIEW ─▶ the same statement on the server ─ refused ─▶ ┐
//! CREATE TABLE, INSERT, UPDATE, … ────▶ content of the table as files ◀───────────────┘
//!                                         └─▶ CREATE EXTERNAL TABLE over them on the server
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::datasource::TableProvider;
use tempfile::TempDir;

use super::copy::{self, Format};
use super::engine::{CATALOG, Engine, Outcome, SCHEMA};
use super::rows::Class;
use super::server::{Session, quoted};
use super::statement::{Kind, with_absolute_locations};

/// Settings of the session that makes tables over copies: types and metadata are to stay as they are.
pub const COPY_SETTINGS: [&str; 2] = [
    "SET datafusion.execution.parquet.schema_force_view_types = false",
    "SET datafusion.execution.parquet.skip_metadata = false",
];

/// A table of the reference, as it is on the server.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The same external table.
    Native,
    /// A table over files with its content.
    Copied {
        /// Directory of the files.
        folder: PathBuf,
        /// Their format.
        format: Format,
    },
    /// The same view.
    View {
        /// Its statement.
        sql: String,
    },
    /// It is not on the server, for this reason.
    Missing(String),
}

/// What became of a statement that changes tables.
#[derive(Debug)]
pub enum Applied {
    /// Both sides have carried it out, or both have refused it.
    Same,
    /// The server refuses the statement; a copy of the content stands in for it.
    Copied(String),
    /// The server refuses the statement, and nothing stands in for it.
    Missing(String),
    /// One side fails.
    Differs(Class, String),
}

/// All tables of the reference, in the order in which they were made.
pub struct Mirror {
    root: PathBuf,
    copies: TempDir,
    entries: BTreeMap<String, (u64, Entry)>,
    changes: u64,
}

impl Mirror {
    /// A mirror without tables; relative locations are below `root`.
    ///
    /// # Errors
    /// There is no directory for copies.
    pub fn new(root: &Path) -> std::io::Result<Self> {
        let copies = TempDir::with_prefix("springald-slt-")?;
        Ok(Self { root: root.to_owned(), copies, entries: BTreeMap::new(), changes: 0 })
    }

    /// The reason why a query cannot run on the server, if it reads a table that is not there.
    pub fn missing(&self, engine: &Engine, tables: &[String]) -> Option<String> {
        tables.iter().find_map(|table| match self.entries.get(&key(&resolved(engine, table))) {
            Some((_, Entry::Missing(reason))) => Some(format!("{table}: {reason}")),
            _ => None,
        })
    }

    /// Carries a statement over to the server, after it ran in the reference with `outcome`.
    pub async fn apply(
        &mut self,
        kind: &Kind,
        sql: &str,
        outcome: Result<(), Outcome>,
        engine: &Engine,
        sessions: (&Session, &Session),
    ) -> Applied {
        let (native, admin) = sessions;
        match kind {
            Kind::CreateExternal { table, locations } => {
                let name = resolved(engine, table);
                let sql = with_absolute_locations(sql, locations, &self.root);
                let there = native.execute(&sql).await;
                self.settle((name, Entry::Native), outcome, there, engine, admin).await
            }
            Kind::CreateView { view } => {
                let name = resolved(engine, view);
                let there = native.execute(sql).await;
                self.settle((name, Entry::View { sql: sql.to_owned() }), outcome, there, engine, admin).await
            }
            Kind::ChangeTable { table, is_create } => {
                let name = resolved(engine, table);
                // Rows that are written to an external table are in its own files.
                let is_native = matches!(self.entries.get(&key(&name)), Some((_, Entry::Native)));
                match outcome {
                    Ok(()) if *is_create || !is_native => self.copy(name, "no such statement", engine, admin).await,
                    _ => Applied::Same,
                }
            }
            Kind::Drop { table, is_view } => {
                let name = resolved(engine, table);
                let known = self.entries.remove(&key(&name)).map(|(_, entry)| entry);
                match (outcome, known) {
                    (Ok(()), Some(Entry::Missing(_)) | None) => Applied::Same,
                    (Ok(()), Some(entry)) => {
                        let is_view = matches!(entry, Entry::View { .. });
                        into_applied(Ok(()), admin.execute(&drop_statement(&name, is_view)).await)
                    }
                    (Err(failed), known) => {
                        if let Some(entry) = known {
                            self.insert(&name, entry);
                        }
                        let word = if *is_view { "VIEW" } else { "TABLE" };
                        into_applied(Err(failed), native.execute(sql).await).or_reason(word)
                    }
                }
            }
            _ => {
                let applied = into_applied(outcome, native.execute(sql).await);
                self.entries.retain(|key, _| engine.context.table_exist(key.as_str()).unwrap_or_default());
                applied
            }
        }
    }

    /// Puts a table that was made in the reference alone onto the server.
    pub async fn copy(
        &mut self,
        name: ResolvedTableReference,
        reason: &str,
        engine: &Engine,
        admin: &Session,
    ) -> Applied {
        match self.try_copy(&name, engine, admin).await {
            Ok(entry) => {
                self.insert(&name, entry);
                Applied::Copied(reason.to_owned())
            }
            Err(why) => {
                self.insert(&name, Entry::Missing(why.clone()));
                Applied::Missing(format!("{reason}; {why}"))
            }
        }
    }

    async fn try_copy(
        &mut self,
        name: &ResolvedTableReference,
        engine: &Engine,
        admin: &Session,
    ) -> Result<Entry, String> {
        if name.catalog.as_ref() != CATALOG {
            return Err(format!("catalog {} is not on the server", name.catalog));
        }
        self.changes += 1;
        let reference = TableReference::from(name.clone());
        let (schema, batches) = engine.table(&reference).await.map_err(|outcome| outcome.shown())?;
        let folder = self.copies.path().join(self.changes.to_string());
        let format = copy::write(&folder, &schema, &batches)?;
        if let Some((_, known)) = self.entries.get(&key(name))
            && !matches!(known, Entry::Missing(_))
        {
            let is_view = matches!(known, Entry::View { .. });
            admin.execute(&drop_statement(name, is_view)).await.map_err(|outcome| outcome.shown())?;
        }
        admin.execute(&create_statement(name, format, &folder)).await.map_err(|outcome| outcome.shown())?;
        Ok(Entry::Copied { folder, format })
    }

    /// Compares the outcomes of a statement that both sides ran; a copy stands in where only the server refuses.
    async fn settle(
        &mut self,
        made: (ResolvedTableReference, Entry),
        here: Result<(), Outcome>,
        there: Result<(), Outcome>,
        engine: &Engine,
        admin: &Session,
    ) -> Applied {
        let (name, entry) = made;
        match (here, there) {
            (Ok(()), Ok(())) => {
                self.insert(&name, entry);
                Applied::Same
            }
            (Ok(()), Err(refused)) => self.copy(name, &refused.shown(), engine, admin).await,
            (Err(_), Err(_)) => Applied::Same,
            (Err(failed), Ok(())) => {
                let known = self.entries.contains_key(&key(&name));
                if !known {
                    let is_view = matches!(entry, Entry::View { .. });
                    drop(admin.execute(&drop_statement(&name, is_view)).await);
                }
                Applied::Differs(Class::DataFusionError, failed.shown())
            }
        }
    }

    fn insert(&mut self, name: &ResolvedTableReference, entry: Entry) {
        self.changes += 1;
        self.entries.insert(key(name), (self.changes, entry));
    }

    /// Makes the tables in another engine, over the files that the server reads.
    pub async fn rebuild(&self, reference: &Engine, other: &Engine) -> Result<(), Outcome> {
        let mut ordered: Vec<(&String, &(u64, Entry))> = self.entries.iter().collect();
        ordered.sort_by_key(|(_, (change, _))| *change);
        for (key, (_, entry)) in ordered {
            let name = TableReference::from(key.as_str()).resolve(CATALOG, SCHEMA);
            other.execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&name.schema))).await?;
            match entry {
                Entry::Copied { folder, format } => {
                    other.execute(&create_statement(&name, *format, folder)).await?;
                }
                Entry::View { sql } => {
                    if other.execute(sql).await.is_err() {
                        share(&name, reference, other).await;
                    }
                }
                Entry::Native | Entry::Missing(_) => share(&name, reference, other).await,
            }
        }
        Ok(())
    }
}

impl Applied {
    /// Names the statement in a difference.
    fn or_reason(self, word: &str) -> Self {
        match self {
            Self::Differs(class, text) => Self::Differs(class, format!("DROP {word}: {text}")),
            other => other,
        }
    }
}

fn into_applied(here: Result<(), Outcome>, there: Result<(), Outcome>) -> Applied {
    match (here, there) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => Applied::Same,
        (Ok(()), Err(refused)) => Applied::Missing(refused.shown()),
        (Err(failed), Ok(())) => Applied::Differs(Class::DataFusionError, failed.shown()),
    }
}

/// Gives the other engine the reference's own table.
async fn share(name: &ResolvedTableReference, reference: &Engine, other: &Engine) {
    let table = TableReference::from(name.clone());
    if let Ok(provider) = reference.context.table_provider(table.clone()).await {
        let provider: Arc<dyn TableProvider> = provider;
        // A table of another catalog is not needed.
        drop(other.context.register_table(table, provider));
    }
}

/// What a name means in the reference's session.
fn resolved(engine: &Engine, written: &str) -> ResolvedTableReference {
    let state = engine.context.state();
    let catalog = &state.config_options().catalog;
    TableReference::from(written).resolve(&catalog.default_catalog, &catalog.default_schema)
}

fn key(name: &ResolvedTableReference) -> String {
    TableReference::from(name.clone()).to_quoted_string()
}

fn written(name: &ResolvedTableReference) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.table))
}

fn drop_statement(name: &ResolvedTableReference, is_view: bool) -> String {
    format!("DROP {} IF EXISTS {}", if is_view { "VIEW" } else { "TABLE" }, written(name))
}

fn create_statement(name: &ResolvedTableReference, format: Format, folder: &Path) -> String {
    let (name, format) = (written(name), format.name());
    format!("CREATE EXTERNAL TABLE {name} STORED AS {format} LOCATION '{}/'", folder.display())
}
