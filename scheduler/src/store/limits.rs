//! What every store refuses, so that a transaction that works on one works on all.
//!
//! The numbers are those of an etcd with its default settings, less what framing and the key prefix take: the
//! embedded store could do more, and a cluster would then fail where a single process did not.

use std::collections::BTreeSet;
use std::time::Duration;

use springald_core::error::{Error, ErrorCode, Result};

use super::{Change, Condition, Transaction};

/// Most conditions, and most changes, in one [`Transaction`] (etcd's `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;

/// Most bytes of keys and values in one [`Transaction`] (etcd's `--max-request-bytes` is 1.5 MiB with everything).
pub const MAX_TRANSACTION_BYTES: usize = 1400 * 1024;

/// Longest time to live of a lease that etcd grants.
const MAX_LEASE_SECONDS: u64 = 9_000_000_000;

/// The time to live that a store grants: whole seconds, rounded up, at least one.
pub(crate) fn lease_seconds(ttl: Duration) -> u64 {
    let rounded_up = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    rounded_up.clamp(1, MAX_LEASE_SECONDS)
}

/// Refuses a transaction that not every store can carry out: too large, without keys, or with a key changed twice.
pub(crate) fn check(transaction: &Transaction) -> Result<()> {
    check_size(transaction)?;
    let keys = transaction.conditions.iter().map(condition_key).chain(transaction.changes.iter().map(change_key));
    if keys.into_iter().any(str::is_empty) {
        return Err(Error::invalid("a store transaction names an empty key or prefix"));
    }
    check_changed_once(&transaction.changes)
}

fn check_size(transaction: &Transaction) -> Result<()> {
    let operations = transaction.conditions.len().max(transaction.changes.len());
    if operations > MAX_OPERATIONS {
        return Err(Error::new(
            ErrorCode::ResourcesExhausted,
            format!("a store transaction of {operations} operations is over the limit of {MAX_OPERATIONS}"),
        ));
    }
    let bytes = size(transaction);
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(Error::new(
            ErrorCode::ResourcesExhausted,
            format!("a store transaction of {bytes} bytes is over the limit of {MAX_TRANSACTION_BYTES}"),
        ));
    }
    Ok(())
}

/// A transaction's size, as [`MAX_TRANSACTION_BYTES`] counts it.
pub(crate) fn size(transaction: &Transaction) -> usize {
    let conditions: usize = transaction.conditions.iter().map(|condition| condition_key(condition).len()).sum();
    let changes: usize = transaction.changes.iter().map(change_bytes).sum();
    conditions + changes
}

/// One key changed twice under one revision has no defined outcome; etcd refuses it too.
fn check_changed_once(changes: &[Change]) -> Result<()> {
    let mut keys = BTreeSet::new();
    for change in changes {
        if !keys.insert(change_key(change)) {
            return Err(Error::invalid(format!("a store transaction changes {:?} twice", change_key(change))));
        }
    }
    let prefixes = changes.iter().filter_map(|change| match change {
        Change::DeletePrefix { prefix } => Some(prefix.as_str()),
        _ => None,
    });
    for prefix in prefixes {
        // The prefix itself is in the set too, and sorts first among the keys that start with it.
        let covered = keys.range(prefix..).take_while(|key| key.starts_with(prefix)).nth(1);
        if let Some(key) = covered {
            return Err(Error::invalid(format!("a store transaction changes {key:?} and removes all of {prefix:?}")));
        }
    }
    Ok(())
}

fn condition_key(condition: &Condition) -> &str {
    match condition {
        Condition::Unchanged { key, .. } | Condition::Absent { key } | Condition::Present { key } => key,
    }
}

fn change_key(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
        Change::DeletePrefix { prefix } => prefix,
    }
}

fn change_bytes(change: &Change) -> usize {
    let value = match change {
        Change::Put { value, .. } => value.len(),
        Change::Delete { .. } | Change::DeletePrefix { .. } => 0,
    };
    change_key(change).len() + value
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &str) -> Change {
        Change::Put { key: key.to_owned(), value: Bytes::new(), lease: None }
    }

    fn delete_prefix(prefix: &str) -> Change {
        Change::DeletePrefix { prefix: prefix.to_owned() }
    }

    fn check_changes(changes: Vec<Change>) -> Option<ErrorCode> {
        check(&Transaction { conditions: Vec::new(), changes }).err().map(|error| error.code())
    }

    #[test]
    fn given_changes_that_do_not_meet_when_checked_then_they_pass() {
        assert_eq!(check_changes(vec![put("a"), put("b/1"), delete_prefix("c/"), delete_prefix("d/")]), None);
        assert_eq!(check_changes(vec![put("a/1"), delete_prefix("a/2")]), None);
        assert_eq!(check_changes((0..MAX_OPERATIONS).map(|n| put(&format!("k{n}"))).collect()), None);
    }

    #[test]
    fn given_a_key_changed_twice_when_checked_then_it_is_invalid() {
        for changes in [
            vec![put("a"), put("a")],
            vec![put("a"), Change::Delete { key: "a".to_owned() }],
            vec![put("a/1"), delete_prefix("a/")],
            vec![delete_prefix("a/"), put("a/1")],
            vec![delete_prefix("a/"), put("a/")],
            vec![delete_prefix("a/"), delete_prefix("a/b/")],
        ] {
            assert_eq!(check_changes(changes.clone()), Some(ErrorCode::Invalid), "{changes:?}");
        }
    }

    #[test]
    fn given_an_empty_key_or_prefix_when_checked_then_it_is_invalid() {
        assert_eq!(check_changes(vec![put("")]), Some(ErrorCode::Invalid));
        assert_eq!(check_changes(vec![delete_prefix("")]), Some(ErrorCode::Invalid));
    }

    #[test]
    fn given_too_many_operations_when_checked_then_resources_are_exhausted() {
        let changes = (0..=MAX_OPERATIONS).map(|n| put(&format!("k{n}"))).collect();
        assert_eq!(check_changes(changes), Some(ErrorCode::ResourcesExhausted));
    }

    #[test]
    fn given_a_transaction_when_measured_then_its_size_is_the_one_that_is_checked() {
        let value = |bytes: usize| Change::Put { key: "k".to_owned(), value: vec![0u8; bytes].into(), lease: None };
        let conditions = vec![Condition::Absent { key: "k".to_owned() }];
        let mut transaction = Transaction { conditions, changes: vec![value(MAX_TRANSACTION_BYTES - 2)] };
        assert_eq!(size(&transaction), MAX_TRANSACTION_BYTES);
        check(&transaction).expect("just as large as may be");
        transaction.changes = vec![value(MAX_TRANSACTION_BYTES - 1)];
        assert_eq!(check(&transaction).expect_err("too large").code(), ErrorCode::ResourcesExhausted);
    }

    #[test]
    fn given_a_time_to_live_when_granted_then_it_is_whole_seconds_rounded_up() {
        assert_eq!(lease_seconds(Duration::ZERO), 1);
        assert_eq!(lease_seconds(Duration::from_secs(3)), 3);
        assert_eq!(lease_seconds(Duration::from_millis(3001)), 4);
        assert_eq!(lease_seconds(Duration::MAX), MAX_LEASE_SECONDS);
    }
}
