//! What the parts of the catalog share: the store, the snapshot, and the session that views are planned in.

use std::fmt;
use std::sync::Arc;

use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use parking_lot::RwLock;
use springald_core::error::Result;
use springald_core::sample;

use super::name::{CATALOG, DEFAULT_SCHEMA, TableName};
use super::snapshot::{Definition, Snapshot};
use crate::follow::Update;
use crate::store::{Entry, StateStore};

pub(super) struct Shared {
    store: Arc<dyn StateStore>,
    snapshot: RwLock<Snapshot>,
    /// A session with default settings, without a catalog.
    defaults: SessionState,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(store: Arc<dyn StateStore>) -> Self {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
            .with_create_default_catalog_and_schema(false);
        let builder = SessionStateBuilder::new().with_default_features().with_config(config);
        let defaults = sample::register_syntax(builder).build();
        Self { store, snapshot: RwLock::default(), defaults }
    }

    pub(super) fn store(&self) -> &dyn StateStore {
        self.store.as_ref()
    }

    pub(super) fn defaults(&self) -> &SessionState {
        &self.defaults
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.snapshot.read())
    }

    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        change(&mut self.snapshot.write())
    }

    /// Takes in what the watch says.
    pub(super) fn update(&self, update: Update) {
        match update {
            Update::Snapshot { entries, revision } => self.write(|snapshot| snapshot.replace(&entries, revision)),
            Update::Event(event) => self.write(|snapshot| snapshot.apply(event)),
            // What was known last is still the best there is; what is missing in it is looked up.
            Update::Lost => {}
        }
    }

    /// The table or view, also one that another scheduler made a moment ago.
    pub(super) async fn find(&self, name: &TableName) -> Result<Option<Arc<Definition>>> {
        if let Some(known) = self.read(|snapshot| snapshot.get(name)) {
            return Ok(Some(known));
        }
        let Some(entry) = self.store.get(&name.key()).await? else { return Ok(None) };
        let definition = Arc::new(Definition::decode(&entry)?);
        self.write(|snapshot| snapshot.put(&entry));
        Ok(Some(definition))
    }

    /// The store's own entry, past all caches.
    pub(super) async fn stored(&self, key: &str) -> Result<Option<Entry>> {
        self.store.get(key).await
    }
}
