//! What the catalog holds, in memory: a pure value that the store's changes are applied to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::logical_expr::TableType;
use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::telemetry::events::names;
use springald_proto::records::{SchemaRecord, TableRecord, View, table_record};

use super::name::{CATALOG, DEFAULT_SCHEMA, SCHEMAS, TABLES, TableName, tables_of};
use super::table::CatalogTable;
use crate::store::{Entry, WatchEvent};

/// A table or view as of one revision of its record.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: TableName,
    pub(super) revision: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Files(Arc<CatalogTable>),
    /// Its `CREATE VIEW` statement, with the settings under which it is read.
    View(View),
    /// A record that this version cannot use, and why.
    Unusable(Error),
}

impl Definition {
    /// The table or view of a stored entry.
    ///
    /// # Errors
    /// The value is not a record at all.
    pub(super) fn decode(entry: &Entry) -> Result<Self> {
        let record = TableRecord::decode(entry.value.as_ref()).map_err(|error| {
            Error::internal(format!("the catalog's record {} is damaged", entry.key)).with_source(error)
        })?;
        let name = TableName { schema: record.schema, name: record.name };
        let kind = match record.definition {
            Some(table_record::Definition::External(table)) => match CatalogTable::from_record(&name, &table) {
                Ok(table) => Kind::Files(Arc::new(table)),
                Err(error) => Kind::Unusable(error.context(format!("table {name}"))),
            },
            Some(table_record::Definition::View(view)) => Kind::View(view),
            None => Kind::Unusable(Error::unsupported(format!("table {name} is of a kind that this version lacks"))),
        };
        Ok(Self { name, revision: entry.mod_revision, kind })
    }

    pub(super) fn table_type(&self) -> TableType {
        match self.kind {
            Kind::View(_) => TableType::View,
            Kind::Files(_) | Kind::Unusable(_) => TableType::Base,
        }
    }
}

/// A schema as of one revision of its record.
#[derive(Debug)]
struct Schema {
    name: String,
    revision: u64,
}

/// All tables, views and schemas, by their keys in the store.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    tables: BTreeMap<String, Arc<Definition>>,
    schemas: BTreeMap<String, Schema>,
    /// Keys that this process removed, with the revision of the removal: changes from before it may still arrive.
    removed: HashMap<String, u64>,
}

impl Snapshot {
    /// Replaces all that is known of the time up to `revision`. What this process itself changed later stays.
    pub(super) fn replace(&mut self, entries: &[Entry], revision: u64) {
        self.tables.retain(|_, known| known.revision > revision);
        self.schemas.retain(|_, known| known.revision > revision);
        self.removed.retain(|_, removal| *removal > revision);
        entries.iter().for_each(|entry| self.put(entry));
    }

    pub(super) fn apply(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Put(entry) => self.put(&entry),
            WatchEvent::Deleted { key, revision } => {
                // This process may have made the key again since.
                if self.tables.get(&key).is_some_and(|known| known.revision <= revision) {
                    self.tables.remove(&key);
                }
                if self.schemas.get(&key).is_some_and(|known| known.revision <= revision) {
                    self.schemas.remove(&key);
                }
                if self.removed.get(&key).is_some_and(|removal| *removal <= revision) {
                    self.removed.remove(&key);
                }
            }
        }
    }

    /// Takes in an entry, unless something newer is known.
    pub(super) fn put(&mut self, entry: &Entry) {
        if self.removed.get(&entry.key).is_some_and(|removal| *removal >= entry.mod_revision) {
            return;
        }
        self.removed.remove(&entry.key);
        if entry.key.starts_with(SCHEMAS) {
            match SchemaRecord::decode(entry.value.as_ref()) {
                Ok(record) => {
                    let schema = Schema { name: record.schema, revision: entry.mod_revision };
                    if self.schemas.get(&entry.key).is_none_or(|known| known.revision < schema.revision) {
                        self.schemas.insert(entry.key.clone(), schema);
                    }
                }
                Err(error) => {
                    tracing::error!(event = names::CATALOG_RECORD_DAMAGED, key = %entry.key, %error, "a schema's record is damaged")
                }
            }
        } else if entry.key.starts_with(TABLES) {
            match Definition::decode(entry) {
                Ok(definition) => self.put_definition(entry.key.clone(), Arc::new(definition)),
                Err(error) => {
                    tracing::error!(event = names::CATALOG_RECORD_DAMAGED, key = %entry.key, %error, "a table cannot be shown")
                }
            }
        }
    }

    fn put_definition(&mut self, key: String, definition: Arc<Definition>) {
        if self.tables.get(&key).is_none_or(|known| known.revision < definition.revision) {
            self.tables.insert(key, definition);
        }
    }

    /// Notes that this process has removed a key.
    pub(super) fn remove(&mut self, key: &str, revision: u64) {
        self.tables.remove(key);
        self.schemas.remove(key);
        self.removed.insert(key.to_owned(), revision);
    }

    /// Notes that this process has removed a schema with all in it.
    pub(super) fn remove_tables_of(&mut self, schema: &str, revision: u64) {
        let prefix = tables_of(schema);
        let keys: Vec<String> = self.below(&prefix).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(key, revision));
    }

    pub(super) fn get(&self, name: &TableName) -> Option<Arc<Definition>> {
        self.tables.get(&name.key()).cloned()
    }

    pub(super) fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// All tables and views of a schema, in the order of their keys.
    pub(super) fn tables_in(&self, schema: &str) -> Vec<Arc<Definition>> {
        let prefix = tables_of(schema);
        self.below(&prefix).map(|(_, definition)| Arc::clone(definition)).collect()
    }

    /// The names of all schemas, sorted.
    pub(super) fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.schemas.values().map(|schema| schema.name.clone()).collect();
        names.push(DEFAULT_SCHEMA.to_owned());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Arc<Definition>)> {
        self.tables.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// The record of a table or view, for the store.
pub(super) fn record(name: &TableName, definition: table_record::Definition, owner: &str) -> TableRecord {
    TableRecord {
        catalog: CATALOG.to_owned(),
        schema: name.schema.clone(),
        name: name.name.clone(),
        definition: Some(definition),
        created_micros: chrono::Utc::now().timestamp_micros(),
        owner: owner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, revision: u64) -> Entry {
        let name = TableName { schema: DEFAULT_SCHEMA.to_owned(), name: name.to_owned() };
        let definition =
            table_record::Definition::View(View { sql: format!("revision {revision}"), ..View::default() });
        let value = record(&name, definition, "me").encode_to_vec().into();
        Entry { key: name.key(), value, mod_revision: revision }
    }

    fn revision(snapshot: &Snapshot, name: &str) -> Option<u64> {
        let name = TableName { schema: DEFAULT_SCHEMA.to_owned(), name: name.to_owned() };
        snapshot.get(&name).map(|definition| definition.revision)
    }

    #[test]
    fn given_changes_that_arrive_late_the_newest_is_kept() {
        let mut snapshot = Snapshot::default();
        snapshot.put(&view("v", 7));
        snapshot.apply(WatchEvent::Put(view("v", 5)));
        assert_eq!(revision(&snapshot, "v"), Some(7));
        let key = view("v", 0).key;
        snapshot.remove(&key, 8);
        snapshot.apply(WatchEvent::Put(view("v", 7)));
        assert_eq!(revision(&snapshot, "v"), None);
        snapshot.apply(WatchEvent::Deleted { key, revision: 8 });
        snapshot.apply(WatchEvent::Put(view("v", 9)));
        assert_eq!(revision(&snapshot, "v"), Some(9));
    }

    #[test]
    fn table_made_again_survives_late_changes() {
        let mut snapshot = Snapshot::default();
        let key = view("v", 0).key;
        // This process removes and makes the view twice, and then hears of it.
        snapshot.put(&view("v", 5));
        snapshot.remove(&key, 6);
        snapshot.put(&view("v", 7));
        snapshot.remove(&key, 8);
        snapshot.put(&view("v", 9));
        for late in [
            WatchEvent::Put(view("v", 5)),
            WatchEvent::Deleted { key: key.clone(), revision: 6 },
            WatchEvent::Put(view("v", 7)),
            WatchEvent::Deleted { key: key.clone(), revision: 8 },
        ] {
            snapshot.apply(late);
            assert_eq!(revision(&snapshot, "v"), Some(9));
        }
        snapshot.apply(WatchEvent::Deleted { key, revision: 10 });
        assert_eq!(revision(&snapshot, "v"), None);
    }

    #[test]
    fn older_snapshot_keeps_own_later_changes() {
        let mut snapshot = Snapshot::default();
        snapshot.put(&view("gone", 3));
        snapshot.remove(&view("gone", 0).key, 6);
        snapshot.put(&view("made", 7));
        snapshot.replace(&[view("gone", 3), view("old", 2)], 5);
        assert_eq!(["gone", "made", "old"].map(|name| revision(&snapshot, name)), [None, Some(7), Some(2)]);
    }

    #[test]
    fn given_a_new_snapshot_nothing_of_the_old_one_remains() {
        let mut snapshot = Snapshot::default();
        snapshot.put(&view("a", 1));
        snapshot.replace(&[view("b", 2)], 2);
        let names: Vec<_> = snapshot.tables_in(DEFAULT_SCHEMA).iter().map(|table| table.name.name.clone()).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn given_a_record_of_a_newer_version_the_table_is_there_and_says_so() {
        let name = TableName { schema: DEFAULT_SCHEMA.to_owned(), name: "t".to_owned() };
        let mut newer = record(&name, table_record::Definition::View(View::default()), "me");
        newer.definition = None;
        let mut snapshot = Snapshot::default();
        snapshot.put(&Entry { key: name.key(), value: newer.encode_to_vec().into(), mod_revision: 1 });
        let definition = snapshot.get(&name).expect("it is there");
        assert!(matches!(definition.kind, Kind::Unusable(_)));
    }
}
