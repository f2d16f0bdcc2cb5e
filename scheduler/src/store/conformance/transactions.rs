//! Reads, listings, conditions and changes.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use springald_core::error::ErrorCode;

use super::{absent, commit, delete, delete_prefix, get, list_keys, present, put, transact, unchanged};
use crate::store::{Change, Committed, Condition, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, StateStore, Transaction};

pub(crate) async fn given_a_key_when_it_is_put_then_it_is_read_back_with_its_revision(store: Arc<dyn StateStore>) {
    let revision = commit(&*store, vec![put("jobs/1/record", "first")]).await;
    let entry = get(&*store, "jobs/1/record").await.expect("the key exists");
    assert_eq!((entry.key.as_str(), entry.value.as_ref()), ("jobs/1/record", b"first".as_slice()));
    assert_eq!(entry.mod_revision, revision);
}

pub(crate) async fn given_no_key_when_it_is_read_then_there_is_none(store: Arc<dyn StateStore>) {
    commit(&*store, vec![put("jobs/11", "x")]).await;
    assert_eq!(get(&*store, "jobs/1").await, None);
    assert_eq!(store.list("tasks/", None, 10).await.expect("listed"), Vec::new());
    assert_eq!(store.list("jobs/", None, 0).await.expect("listed"), Vec::new());
}

pub(crate) async fn given_any_bytes_when_they_are_put_then_the_same_bytes_come_back(store: Arc<dyn StateStore>) {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for (key, value) in [("empty", Vec::new()), ("all", all)] {
        let value = Bytes::from(value);
        commit(&*store, vec![Change::Put { key: key.to_owned(), value: value.clone(), lease: None }]).await;
        assert_eq!(get(&*store, key).await.map(|entry| entry.value), Some(value), "{key}");
    }
}

pub(crate) async fn given_many_keys_when_they_are_listed_then_pages_follow_in_key_order(store: Arc<dyn StateStore>) {
    let expected: Vec<String> = (0..300).map(|n| format!("jobs/{n:04}")).collect();
    for batch in expected.chunks(100) {
        commit(&*store, batch.iter().rev().map(|key| put(key, key)).collect()).await;
    }
    assert_eq!(list_keys(&*store, "jobs/").await, expected);

    for limit in [1000, 150, 77] {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let page = store.list("jobs/", listed.last().map(String::as_str), limit).await.expect("listed");
            if page.is_empty() {
                break;
            }
            assert_eq!(page.len(), limit.min(expected.len() - listed.len()));
            assert!(page.iter().all(|entry| entry.value == entry.key));
            listed.extend(page.into_iter().map(|entry| entry.key));
        }
        assert_eq!(listed, expected, "limit {limit}");
    }
}

pub(crate) async fn given_prefixes_that_start_alike_when_one_is_listed_then_the_other_is_not_in_it(
    store: Arc<dyn StateStore>,
) {
    let keys = ["a", "a/1", "a/2", "a0", "ab/1", "b/1"];
    commit(&*store, keys.iter().map(|key| put(key, "x")).collect()).await;
    assert_eq!(list_keys(&*store, "a/").await, ["a/1", "a/2"]);
    assert_eq!(list_keys(&*store, "ab/").await, ["ab/1"]);
    assert_eq!(list_keys(&*store, "a").await, ["a", "a/1", "a/2", "a0", "ab/1"]);
    // `after` need not be below the prefix, nor exist.
    let after = |after: &'static str| {
        let store = Arc::clone(&store);
        async move { store.list("a/", Some(after), 10).await.expect("listed").len() }
    };
    assert_eq!((after("a").await, after("a/1").await, after("a/11").await, after("b").await), (2, 1, 1, 0));
}

pub(crate) async fn given_each_condition_when_it_holds_or_not_then_the_transaction_follows_it(
    store: Arc<dyn StateStore>,
) {
    let old = commit(&*store, vec![put("there", "1")]).await;
    let now = commit(&*store, vec![put("there", "2")]).await;
    let table: [(Condition, bool); 11] = [
        (unchanged("there", now), true),
        (unchanged("there", old), false),
        (unchanged("there", now + 1), false),
        (unchanged("there", u64::MAX), false),
        (unchanged("gone", now), false),
        (unchanged("gone", 0), false),
        (absent("gone"), true),
        (absent("there"), false),
        (present("there"), true),
        (present("gone"), false),
        (present("ther"), false),
    ];
    for (condition, holds) in table {
        let outcome = transact(&*store, vec![condition.clone()], vec![put("seen", "x")]).await;
        assert_eq!(matches!(outcome, Committed::Yes { .. }), holds, "{condition:?}");
    }
}

pub(crate) async fn given_one_condition_that_does_not_hold_when_transacted_then_nothing_changes(
    store: Arc<dyn StateStore>,
) {
    let revision = commit(&*store, vec![put("a", "1"), put("b", "1")]).await;
    let outcome = transact(
        &*store,
        vec![unchanged("a", revision), present("b"), absent("b")],
        vec![put("a", "2"), put("c", "2"), delete("b")],
    )
    .await;
    assert_eq!(outcome, Committed::Refused);
    for key in ["a", "b"] {
        let entry = get(&*store, key).await.expect("it was not deleted");
        assert_eq!((entry.value.as_ref(), entry.mod_revision), (b"1".as_slice(), revision));
    }
    assert_eq!(get(&*store, "c").await, None);
}

pub(crate) async fn given_transactions_when_they_commit_then_revisions_grow_and_each_has_one(
    store: Arc<dyn StateStore>,
) {
    let mut last = 0;
    for n in 0..10 {
        let revision = commit(&*store, vec![put("a", &n.to_string()), put("b", &n.to_string())]).await;
        assert!(revision > last, "{revision} after {last}");
        for key in ["a", "b"] {
            assert_eq!(get(&*store, key).await.map(|entry| entry.mod_revision), Some(revision));
        }
        last = revision;
    }
    // A deletion is a change too: what comes after it is newer than what was read before.
    let deleted = commit(&*store, vec![delete("a")]).await;
    assert!(deleted > last);
    assert!(commit(&*store, vec![put("a", "again")]).await > deleted);
    assert_eq!(get(&*store, "b").await.map(|entry| entry.mod_revision), Some(last));
}

pub(crate) async fn given_keys_when_they_are_deleted_then_they_and_no_others_are_gone(store: Arc<dyn StateStore>) {
    let keys = ["jobs/1/a", "jobs/1/b", "jobs/10/a", "jobs/2/a", "jobs/3"];
    commit(&*store, keys.iter().map(|key| put(key, "x")).collect()).await;
    commit(&*store, vec![delete("jobs/3"), delete_prefix("jobs/1/"), put("jobs/4", "x")]).await;
    assert_eq!(list_keys(&*store, "jobs/").await, ["jobs/10/a", "jobs/2/a", "jobs/4"]);
}

pub(crate) async fn given_nothing_to_delete_when_transacted_then_it_commits(store: Arc<dyn StateStore>) {
    let revision = commit(&*store, vec![put("a", "1")]).await;
    assert_eq!(commit(&*store, vec![delete("gone"), delete_prefix("gone/")]).await, revision);
    assert_eq!(commit(&*store, Vec::new()).await, revision);
}

pub(crate) async fn given_a_transaction_as_large_as_allowed_when_transacted_then_it_commits(
    store: Arc<dyn StateStore>,
) {
    let names: Vec<_> =
        (0..MAX_OPERATIONS).map(|n| format!("jobs/0192f0c1d2e37abc8def0123456789ab/plan/{n:03}")).collect();
    let key_bytes: usize = names.iter().map(|name| 2 * name.len()).sum();
    let value = Bytes::from(vec![7; (MAX_TRANSACTION_BYTES - key_bytes) / MAX_OPERATIONS]);
    let changes = names.iter().map(|key| Change::Put { key: key.clone(), value: value.clone(), lease: None });
    let outcome = transact(&*store, names.iter().map(|key| absent(key)).collect(), changes.collect()).await;
    assert!(matches!(outcome, Committed::Yes { .. }));

    let listed = store.list("jobs/", None, usize::MAX).await.expect("listed");
    assert_eq!(listed.len(), MAX_OPERATIONS);
    assert!(listed.iter().all(|entry| entry.value == value));
}

pub(crate) async fn given_a_transaction_over_the_limits_when_transacted_then_it_is_refused_with_the_limit(
    store: Arc<dyn StateStore>,
) {
    let value = Bytes::from(vec![7; MAX_TRANSACTION_BYTES]);
    let too_large = vec![Change::Put { key: "large".to_owned(), value, lease: None }];
    let too_many = (0..=MAX_OPERATIONS).map(|n| put(&format!("many/{n}"), "x")).collect();
    for (changes, limit) in [(too_large, MAX_TRANSACTION_BYTES), (too_many, MAX_OPERATIONS)] {
        let transaction = Transaction { conditions: Vec::new(), changes };
        let error = store.transact(transaction).await.expect_err("the transaction is over the limit");
        assert_eq!(error.code(), ErrorCode::ResourcesExhausted);
        assert!(error.message().contains(&limit.to_string()), "{}", error.message());
    }
    assert_eq!(get(&*store, "large").await, None);
    assert_eq!(list_keys(&*store, "many/").await, Vec::<String>::new());
}

pub(crate) async fn given_a_key_changed_twice_when_transacted_then_it_is_invalid(store: Arc<dyn StateStore>) {
    for changes in [vec![put("a", "1"), put("a", "2")], vec![put("a/1", "1"), delete_prefix("a/")]] {
        let error = store.transact(Transaction { conditions: Vec::new(), changes }).await.expect_err("not allowed");
        assert_eq!(error.code(), ErrorCode::Invalid);
    }
    assert_eq!(list_keys(&*store, "a").await, Vec::<String>::new());
}

pub(crate) async fn given_concurrent_increments_when_each_compares_and_sets_then_none_is_lost(
    store: Arc<dyn StateStore>,
) {
    const WRITERS: usize = 4;
    const INCREMENTS: usize = 20;
    commit(&*store, vec![put("counter", "0")]).await;
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..INCREMENTS {
                increment(&*store).await;
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer failed");
    }
    let value = get(&*store, "counter").await.map(|entry| entry.value);
    assert_eq!(value, Some(Bytes::from((WRITERS * INCREMENTS).to_string())));
}

async fn increment(store: &dyn StateStore) {
    loop {
        let entry = get(store, "counter").await.expect("the counter exists");
        let count: usize = String::from_utf8_lossy(&entry.value).parse().expect("the counter is a number");
        let next = vec![put("counter", &(count + 1).to_string())];
        if transact(store, vec![unchanged("counter", entry.mod_revision)], next).await != Committed::Refused {
            return;
        }
    }
}
