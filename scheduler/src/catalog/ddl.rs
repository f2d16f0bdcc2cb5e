//! Statements that change the catalog.
//!
//! Each is one transaction whose conditions say what was seen: two schedulers cannot both create a table, and a table
//! cannot be put into a schema that is being dropped. A refused transaction means that somebody was quicker: the
//! statement is tried again on what is there now.

use datafusion::common::SchemaReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateExternalTable, CreateView, DdlStatement};
use prost::Message;
use springald_core::error::{Error, ErrorCode, Result};
use springald_proto::records::{SchemaRecord, TableRecord, View, table_record};

use super::name::{
    CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA, TableName, check_catalog, check_name, schema_key, tables_of,
};
use super::provider::CatalogList;
use super::shared::Shared;
use super::snapshot::record;
use super::{DdlOutcome, create, view};
use crate::store::{Change, Committed, Condition, Entry, Transaction};

/// How often a statement is tried when others change the same thing at the same time.
const ATTEMPTS: usize = 10;

/// Most tables and views in the catalog: all of them are kept in memory.
const MAX_TABLES: usize = 100_000;

/// Who does what, with which session.
pub(super) struct Ddl<'a> {
    pub(super) shared: &'a Shared,
    pub(super) list: CatalogList,
    pub(super) state: &'a SessionState,
    pub(super) user: &'a str,
    pub(super) sql: &'a str,
}

/// What to do if the name is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfTaken {
    Fail,
    Keep,
    Replace,
}

/// A table or a view, where the difference matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Table,
    View,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }

    fn of(entry: &Entry) -> Result<Self> {
        let record = TableRecord::decode(entry.value.as_ref()).map_err(|error| {
            Error::internal(format!("the catalog's record {} is damaged", entry.key)).with_source(error)
        })?;
        Ok(if matches!(record.definition, Some(table_record::Definition::View(_))) { Self::View } else { Self::Table })
    }
}

impl Ddl<'_> {
    pub(super) async fn apply(&self, statement: &DdlStatement) -> Result<DdlOutcome> {
        match statement {
            DdlStatement::CreateExternalTable(table) => self.create_table(table).await,
            DdlStatement::CreateView(view) => self.create_view(view).await,
            DdlStatement::DropTable(drop) => {
                let name = TableName::resolve(&drop.name, self.state.config_options())?;
                self.drop_table(&name, What::Table, drop.if_exists).await
            }
            DdlStatement::DropView(drop) => {
                let name = TableName::resolve(&drop.name, self.state.config_options())?;
                self.drop_table(&name, What::View, drop.if_exists).await
            }
            DdlStatement::CreateCatalogSchema(create) => {
                self.create_schema(&create.schema_name, create.if_not_exists).await
            }
            DdlStatement::DropCatalogSchema(drop) => self.drop_schema(&drop.name, drop.if_exists, drop.cascade).await,
            DdlStatement::CreateMemoryTable(_) => Err(Error::unsupported(
                "CREATE TABLE makes tables in memory, which a cluster does not have: use CREATE EXTERNAL TABLE … \
                 STORED AS … LOCATION … over files, or CREATE VIEW … AS for a query",
            )),
            DdlStatement::CreateCatalog(_) => {
                Err(Error::unsupported(format!("CREATE DATABASE is not supported: there is one catalog, {CATALOG}")))
            }
            other => Err(Error::unsupported(format!("{} is not supported", other.name()))),
        }
    }

    async fn create_table(&self, create: &CreateExternalTable) -> Result<DdlOutcome> {
        let name = TableName::resolve(&create.name, self.state.config_options())?;
        let if_taken = match (create.if_not_exists, create.or_replace) {
            (true, _) => IfTaken::Keep,
            (false, true) => IfTaken::Replace,
            (false, false) => IfTaken::Fail,
        };
        // Before the files are looked at: IF NOT EXISTS must not fail for their sake, nor take long.
        if let Some(outcome) = self.settled_already(&name, What::Table, if_taken).await? {
            return Ok(outcome);
        }
        let context = |error: Error| error.context(format!("table {name}"));
        let table = create::describe(&name, create, self.state, self.sql).await.map_err(context)?;
        // Refuses what could not be read back.
        super::table::CatalogTable::from_record(&name, &table).map_err(context)?;
        self.create(&name, table_record::Definition::External(table), What::Table, if_taken).await
    }

    async fn create_view(&self, create: &CreateView) -> Result<DdlOutcome> {
        if create.temporary {
            return Err(Error::unsupported("TEMPORARY views are not supported"));
        }
        let name = TableName::resolve(&create.name, self.state.config_options())?;
        // As it was written: the text of the parsed statement may mean something else (`- -1` becomes a comment).
        let view = View { sql: self.sql.to_owned(), settings: view::settings(self.shared.defaults(), self.state) };
        let context = |error: Error| error.context(format!("view {name}"));
        view::check(&name, &view.sql, self.state).map_err(context)?;
        let planned = self.list.plan_view(&name, &view).await.map_err(context)?;
        view::check_columns(create.input.schema(), planned.schema()).map_err(context)?;
        let if_taken = if create.or_replace { IfTaken::Replace } else { IfTaken::Fail };
        self.create(&name, table_record::Definition::View(view), What::View, if_taken).await
    }

    /// The outcome, if the name is taken and that decides it.
    async fn settled_already(&self, name: &TableName, what: What, if_taken: IfTaken) -> Result<Option<DdlOutcome>> {
        let Some(entry) = self.shared.stored(&name.key()).await? else { return Ok(None) };
        let there = What::of(&entry)?;
        match if_taken {
            IfTaken::Keep => Ok(Some(DdlOutcome::unchanged(format!("{} {name} exists already", there.name())))),
            IfTaken::Replace if there == what => Ok(None),
            IfTaken::Replace | IfTaken::Fail => Err(taken(there, name)),
        }
    }

    async fn create(
        &self,
        name: &TableName,
        definition: table_record::Definition,
        what: What,
        if_taken: IfTaken,
    ) -> Result<DdlOutcome> {
        self.check_may_create(name)?;
        let key = name.key();
        let value = bytes::Bytes::from(record(name, definition, self.user).encode_to_vec());
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.settled_already(name, what, if_taken).await? {
                return Ok(outcome);
            }
            let own = match self.shared.stored(&key).await? {
                Some(entry) => Condition::Unchanged { key: key.clone(), mod_revision: entry.mod_revision },
                None => Condition::Absent { key: key.clone() },
            };
            let mut transaction = Transaction {
                conditions: vec![own],
                changes: vec![Change::Put { key: key.clone(), value: value.clone(), lease: None }],
            };
            self.hold_schema(&name.schema, &mut transaction).await?;
            if let Committed::Yes { revision } = self.shared.store().transact(transaction).await? {
                let entry = Entry { key, value, mod_revision: revision };
                self.shared.write(|snapshot| snapshot.put(&entry));
                return Ok(DdlOutcome::changed(format!("{} {name} created", what.name())));
            }
        }
        Err(contended(&name.to_string()))
    }

    fn check_may_create(&self, name: &TableName) -> Result<()> {
        if name.schema == INFORMATION_SCHEMA {
            return Err(Error::invalid(format!("nothing can be created in {INFORMATION_SCHEMA}")));
        }
        if self.shared.read(|snapshot| snapshot.table_count()) >= MAX_TABLES {
            return Err(Error::new(
                ErrorCode::ResourcesExhausted,
                format!("the catalog is full: it holds at most {MAX_TABLES} tables and views"),
            ));
        }
        Ok(())
    }

    /// Makes the transaction fail if the schema is dropped before it, and a dropping of the schema fail after it:
    /// writing the schema's record anew is what the dropping will notice.
    async fn hold_schema(&self, schema: &str, transaction: &mut Transaction) -> Result<()> {
        if schema == DEFAULT_SCHEMA {
            return Ok(());
        }
        let key = schema_key(schema);
        let Some(entry) = self.shared.stored(&key).await? else { return Err(no_schema(schema)) };
        transaction.conditions.push(Condition::Present { key: key.clone() });
        transaction.changes.push(Change::Put { key, value: entry.value, lease: None });
        Ok(())
    }

    async fn drop_table(&self, name: &TableName, what: What, if_exists: bool) -> Result<DdlOutcome> {
        let key = name.key();
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.shared.stored(&key).await? else {
                if if_exists {
                    return Ok(DdlOutcome::unchanged(format!("{} {name} does not exist", what.name())));
                }
                return Err(Error::not_found(format!("{} {name} does not exist", what.name())));
            };
            // A record that cannot be read any more can still be dropped.
            let there = What::of(&entry).unwrap_or(what);
            if there != what {
                let word = there.name();
                return Err(Error::invalid(format!("{name} is a {word}: use DROP {}", word.to_uppercase())));
            }
            let transaction = Transaction {
                conditions: vec![Condition::Unchanged { key: key.clone(), mod_revision: entry.mod_revision }],
                changes: vec![Change::Delete { key: key.clone() }],
            };
            if let Committed::Yes { revision } = self.shared.store().transact(transaction).await? {
                self.shared.write(|snapshot| snapshot.remove(&key, revision));
                return Ok(DdlOutcome::changed(format!("{} {name} dropped", what.name())));
            }
        }
        Err(contended(&name.to_string()))
    }

    async fn create_schema(&self, written: &str, if_not_exists: bool) -> Result<DdlOutcome> {
        let schema = schema_of(written)?;
        check_name("schema", schema)?;
        let key = schema_key(schema);
        let record = SchemaRecord { catalog: CATALOG.to_owned(), schema: schema.to_owned() };
        let value = bytes::Bytes::from(record.encode_to_vec());
        let given = schema == DEFAULT_SCHEMA || schema == INFORMATION_SCHEMA;
        let committed = match given {
            true => Committed::Refused,
            false => {
                let transaction = Transaction {
                    conditions: vec![Condition::Absent { key: key.clone() }],
                    changes: vec![Change::Put { key: key.clone(), value: value.clone(), lease: None }],
                };
                self.shared.store().transact(transaction).await?
            }
        };
        match committed {
            Committed::Yes { revision } => {
                self.shared.write(|snapshot| snapshot.put(&Entry { key, value, mod_revision: revision }));
                Ok(DdlOutcome::changed(format!("schema {schema} created")))
            }
            Committed::Refused if if_not_exists => Ok(DdlOutcome::unchanged(format!("schema {schema} exists already"))),
            Committed::Refused => Err(Error::new(ErrorCode::AlreadyExists, format!("schema {schema} exists already"))),
        }
    }

    async fn drop_schema(&self, name: &SchemaReference, if_exists: bool, cascade: bool) -> Result<DdlOutcome> {
        if let SchemaReference::Full { catalog, .. } = name {
            check_catalog(catalog)?;
        }
        let schema = name.schema_name();
        if schema == DEFAULT_SCHEMA || schema == INFORMATION_SCHEMA {
            return Err(Error::invalid(format!("schema {schema} cannot be dropped")));
        }
        let key = schema_key(schema);
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.shared.stored(&key).await? else {
                return if if_exists {
                    Ok(DdlOutcome::unchanged(format!("schema {schema} does not exist")))
                } else {
                    Err(no_schema(schema))
                };
            };
            let tables = tables_of(schema);
            if !cascade && !self.shared.store().list(&tables, None, 1).await?.is_empty() {
                return Err(Error::invalid(format!(
                    "schema {schema} is not empty: drop its tables and views first, or add CASCADE"
                )));
            }
            let transaction = Transaction {
                conditions: vec![Condition::Unchanged { key: key.clone(), mod_revision: entry.mod_revision }],
                changes: vec![Change::Delete { key: key.clone() }, Change::DeletePrefix { prefix: tables }],
            };
            if let Committed::Yes { revision } = self.shared.store().transact(transaction).await? {
                self.shared.write(|snapshot| {
                    snapshot.remove(&key, revision);
                    snapshot.remove_tables_of(schema, revision);
                });
                return Ok(DdlOutcome::changed(format!("schema {schema} dropped")));
            }
        }
        Err(contended(schema))
    }
}

/// The schema of `CREATE SCHEMA [catalog.]schema`, which DataFusion leaves unparsed.
fn schema_of(written: &str) -> Result<&str> {
    match written.split_once('.') {
        Some((catalog, schema)) => check_catalog(catalog).map(|()| schema),
        None => Ok(written),
    }
}

fn taken(there: What, name: &TableName) -> Error {
    Error::new(ErrorCode::AlreadyExists, format!("{} {name} exists already", there.name()))
}

fn no_schema(schema: &str) -> Error {
    Error::not_found(format!("schema {schema} does not exist: CREATE SCHEMA makes it"))
}

fn contended(name: &str) -> Error {
    Error::unavailable(format!("{name} is being changed by others all the time; try again"))
}
