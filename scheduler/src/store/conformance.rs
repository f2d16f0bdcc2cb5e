//! What every [`StateStore`] must do. Each store runs all of it, each requirement on a store of its own:
//! `conformance_tests!(open)`, where `open` is an `async fn() -> Option<Fixture>`.

pub(crate) mod leases;
pub(crate) mod transactions;
pub(crate) mod watches;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;

use super::{Change, Committed, Condition, Entry, LeaseId, StateStore, Transaction, Watch, WatchEvent};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A store, with what must live as long as it.
pub(crate) struct Fixture {
    store: Arc<dyn StateStore>,
    _keep: Box<dyn Any + Send>,
}

impl Fixture {
    pub(crate) fn new(store: impl StateStore, keep: impl Any + Send) -> Self {
        Self { store: Arc::new(store), _keep: Box::new(keep) }
    }

    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.store)
    }
}

/// Makes one test of each requirement, on the stores that `$open` opens. Where it has none it says why.
macro_rules! conformance_tests {
    (@of $open:path, $module:ident: $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(fixture) = $open().await else { return };
                let test = $crate::store::conformance::$module::$name(fixture.store());
                tokio::time::timeout($crate::store::conformance::PATIENCE, test).await.expect("the test takes too long");
            }
        )+
    };
    ($open:path) => {
        $crate::store::conformance::conformance_tests!(@of $open, transactions:
            given_a_key_when_it_is_put_then_it_is_read_back_with_its_revision
            given_no_key_when_it_is_read_then_there_is_none
            given_any_bytes_when_they_are_put_then_the_same_bytes_come_back
            given_many_keys_when_they_are_listed_then_pages_follow_in_key_order
            given_prefixes_that_start_alike_when_one_is_listed_then_the_other_is_not_in_it
            given_each_condition_when_it_holds_or_not_then_the_transaction_follows_it
            given_one_condition_that_does_not_hold_when_transacted_then_nothing_changes
            given_transactions_when_they_commit_then_revisions_grow_and_each_has_one
            given_keys_when_they_are_deleted_then_they_and_no_others_are_gone
            given_nothing_to_delete_when_transacted_then_it_commits
            given_a_transaction_as_large_as_allowed_when_transacted_then_it_commits
            given_a_transaction_over_the_limits_when_transacted_then_it_is_refused_with_the_limit
            given_a_key_changed_twice_when_transacted_then_it_is_invalid
            given_concurrent_increments_when_each_compares_and_sets_then_none_is_lost
        );
        $crate::store::conformance::conformance_tests!(@of $open, leases:
            given_a_lease_when_it_is_not_kept_alive_then_its_keys_vanish_and_watches_see_it
            given_a_lease_when_it_is_kept_alive_then_its_keys_stay
            given_a_lease_when_it_is_revoked_then_its_keys_are_gone_and_it_cannot_be_used
            given_a_key_under_a_lease_when_it_is_put_again_then_it_follows_the_last_put
            given_an_owner_whose_lease_ended_when_another_claims_then_the_old_owner_is_refused
        );
        $crate::store::conformance::conformance_tests!(@of $open, watches:
            given_a_writer_at_work_when_a_watch_begins_then_snapshot_and_changes_miss_nothing
            given_a_watch_when_keys_change_then_it_sees_each_change_in_order
            given_watches_of_prefixes_that_start_alike_when_keys_change_then_each_sees_its_own
        );
    };
}
pub(crate) use conformance_tests;

// === the words the tests are written in ===

pub(crate) fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: None }
}

pub(crate) fn put_leased(key: &str, value: &str, lease: LeaseId) -> Change {
    Change::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: Some(lease) }
}

pub(crate) fn delete(key: &str) -> Change {
    Change::Delete { key: key.to_owned() }
}

pub(crate) fn delete_prefix(prefix: &str) -> Change {
    Change::DeletePrefix { prefix: prefix.to_owned() }
}

pub(crate) fn absent(key: &str) -> Condition {
    Condition::Absent { key: key.to_owned() }
}

pub(crate) fn present(key: &str) -> Condition {
    Condition::Present { key: key.to_owned() }
}

pub(crate) fn unchanged(key: &str, mod_revision: u64) -> Condition {
    Condition::Unchanged { key: key.to_owned(), mod_revision }
}

/// Carries out changes that must commit; their revision.
pub(crate) async fn commit(store: &dyn StateStore, changes: Vec<Change>) -> u64 {
    match transact(store, Vec::new(), changes).await {
        Committed::Yes { revision } => revision,
        Committed::Refused => panic!("a transaction without conditions was refused"),
    }
}

pub(crate) async fn transact(store: &dyn StateStore, conditions: Vec<Condition>, changes: Vec<Change>) -> Committed {
    store.transact(Transaction { conditions, changes }).await.expect("the transaction failed")
}

pub(crate) async fn get(store: &dyn StateStore, key: &str) -> Option<Entry> {
    store.get(key).await.expect("the read failed")
}

pub(crate) async fn list_keys(store: &dyn StateStore, prefix: &str) -> Vec<String> {
    let entries = store.list(prefix, None, usize::MAX).await.expect("the listing failed");
    entries.into_iter().map(|entry| entry.key).collect()
}

/// The next change; a test that waits too long for it fails.
pub(crate) async fn next_change(watch: &mut Watch) -> WatchEvent {
    let item = timeout(PATIENCE, watch.changes.next()).await.expect("no change was seen in time");
    item.expect("the watch ended without an error item").expect("the watch failed")
}

/// An event in short: `key=value` or `-key`.
pub(crate) fn told(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Put(entry) => format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value)),
        WatchEvent::Deleted { key, .. } => format!("-{key}"),
    }
}
