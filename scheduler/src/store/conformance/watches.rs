//! Watches: a snapshot, and everything after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{commit, delete, delete_prefix, list_keys, next_change, put, told};
use crate::store::{StateStore, WatchEvent};

pub(crate) async fn given_a_writer_at_work_when_a_watch_begins_then_snapshot_and_changes_miss_nothing(
    store: Arc<dyn StateStore>,
) {
    const KEYS: usize = 200;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut revisions = BTreeMap::new();
            for n in 0..KEYS {
                let key = format!("jobs/{n:04}");
                let revision = commit(&*store, vec![put(&key, "x")]).await;
                revisions.insert(key, revision);
            }
            revisions
        })
    };
    // Watches that begin while the writer is somewhere in the middle.
    let mut watches = Vec::new();
    for begin in [1, KEYS / 4, KEYS / 2] {
        while list_keys(&*store, "jobs/").await.len() < begin {
            tokio::task::yield_now().await;
        }
        watches.push(store.watch("jobs/").await.expect("watched"));
    }
    let written = writer.await.expect("the writer failed");
    for mut watch in watches {
        let mut seen: Vec<_> = watch.snapshot.iter().map(|entry| (entry.key.clone(), entry.mod_revision)).collect();
        while seen.len() < KEYS {
            let WatchEvent::Put(entry) = next_change(&mut watch).await else { panic!("nothing was deleted") };
            seen.push((entry.key, entry.mod_revision));
        }
        // Each key once, in the order of revisions, with none between the snapshot and the changes left out.
        assert!(seen.is_sorted_by_key(|(_, revision)| *revision));
        assert_eq!(BTreeMap::from_iter(seen), written);
    }
}

pub(crate) async fn given_a_watch_when_keys_change_then_it_sees_each_change_in_order(store: Arc<dyn StateStore>) {
    commit(&*store, vec![put("jobs/1/a", "0"), put("jobs/1/b", "0")]).await;
    let mut watch = store.watch("jobs/").await.expect("watched");
    let snapshot: Vec<_> = watch.snapshot.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(snapshot, ["jobs/1/a", "jobs/1/b"]);

    let revision = commit(&*store, vec![put("jobs/1/a", "1"), put("jobs/2", "1")]).await;
    commit(&*store, vec![delete("jobs/2"), delete("jobs/3")]).await;
    commit(&*store, vec![delete_prefix("jobs/1/")]).await;
    commit(&*store, vec![put("jobs/2", "2")]).await;

    let mut seen = Vec::new();
    for _ in 0..6 {
        let event = next_change(&mut watch).await;
        if let (WatchEvent::Put(entry), 0 | 1) = (&event, seen.len()) {
            assert_eq!(entry.mod_revision, revision);
        }
        seen.push(told(&event));
    }
    assert_eq!(seen, ["jobs/1/a=1", "jobs/2=1", "-jobs/2", "-jobs/1/a", "-jobs/1/b", "jobs/2=2"]);
}

pub(crate) async fn given_watches_of_prefixes_that_start_alike_when_keys_change_then_each_sees_its_own(
    store: Arc<dyn StateStore>,
) {
    commit(&*store, vec![put("a/0", "x"), put("ab/0", "x")]).await;
    let mut short = store.watch("a/").await.expect("watched");
    let mut long = store.watch("ab/").await.expect("watched");
    assert_eq!((short.snapshot.len(), long.snapshot.len()), (1, 1));
    commit(&*store, vec![put("a/1", "x"), put("ab/1", "x"), put("b/1", "x")]).await;
    commit(&*store, vec![delete("ab/0"), delete("a/0")]).await;
    for (watch, expected) in [(&mut short, ["a/1=x", "-a/0"]), (&mut long, ["ab/1=x", "-ab/0"])] {
        for expected in expected {
            assert_eq!(told(&next_change(watch).await), expected);
        }
    }
}
