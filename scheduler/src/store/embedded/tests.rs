//! The conformance suite on both kinds of embedded store, and what only they have: files, restarts, bounded queues.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use springald_core::error::ErrorCode;
use tempfile::TempDir;

use super::watchers::QUEUE_EVENTS;
use super::*;
use crate::store::conformance::{Fixture, commit, delete, get, list_keys, next_change, put, put_leased, told};

mod in_memory {
    use super::*;

    async fn open() -> Option<Fixture> {
        Some(Fixture::new(EmbeddedStore::in_memory().expect("opened"), ()))
    }

    crate::store::conformance::conformance_tests!(open);
}

mod on_a_file {
    use super::*;

    async fn open() -> Option<Fixture> {
        let directory = TempDir::new().expect("a temporary directory");
        let store = EmbeddedStore::open(&directory.path().join(FILE_NAME)).expect("opened");
        Some(Fixture::new(store, directory))
    }

    crate::store::conformance::conformance_tests!(open);
}

fn opened(file: &Path) -> EmbeddedStore {
    EmbeddedStore::open(file).expect("the store opens")
}

/// Opens a file whose store was dropped just now: it closes when the work that it was in the middle of has ended.
async fn reopened(file: &Path) -> EmbeddedStore {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match EmbeddedStore::open(file) {
            Err(error) if error.code() == ErrorCode::Unavailable && Instant::now() < deadline => {
                sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.expect("the store opens again"),
        }
    }
}

#[tokio::test]
async fn given_a_file_when_it_is_opened_again_then_all_but_leased_keys_are_there_and_revisions_go_on() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("made").join(FILE_NAME);

    let store = opened(&file);
    let lease = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    let kept = commit(&store, vec![put("catalog/t", "1"), put_leased("executors/1", "x", lease)]).await;
    let last = commit(&store, vec![delete("catalog/none"), put_leased("schedulers/1", "x", lease)]).await;
    drop(store);

    let store = reopened(&file).await;
    assert_eq!(list_keys(&store, "").await, ["catalog/t"]);
    assert_eq!(get(&store, "catalog/t").await.map(|entry| entry.mod_revision), Some(kept));
    assert_eq!(store.keep_alive(lease).await.expect_err("its process is gone").code(), ErrorCode::Fenced);
    let next = commit(&store, vec![put("catalog/t", "2")]).await;
    assert!(next > last, "{next} after {last}");
}

#[tokio::test]
async fn given_an_open_file_when_another_opens_it_then_the_error_says_it_is_in_use() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join(FILE_NAME);
    let store = opened(&file);
    let error = EmbeddedStore::open(&file).expect_err("the file is in use");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains(&file.display().to_string()), "{error}");
    assert!(error.message().contains("in use by another process"), "{error}");
    drop(store);
    reopened(&file).await;
}

#[tokio::test]
async fn given_a_file_that_is_no_store_when_it_is_opened_then_the_error_names_it_and_it_is_left_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join(FILE_NAME);
    let content = "not a store ".repeat(1000);
    fs::write(&file, &content).expect("written");
    for path in [file.as_path(), directory.path()] {
        let error = EmbeddedStore::open(path).expect_err("not a store");
        assert!(error.message().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), content);
}

#[cfg(unix)]
#[tokio::test]
async fn given_a_new_file_when_it_is_made_then_only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join(FILE_NAME);
    let _store = opened(&file);
    let mode = fs::metadata(&file).expect("the file exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn given_a_watch_that_is_not_read_when_its_queue_is_full_then_it_ends_with_an_error_and_others_go_on() {
    let store = EmbeddedStore::in_memory().expect("opened");
    let mut lagging = store.watch("jobs/").await.expect("watched");
    let mut idle = store.watch("tasks/").await.expect("watched");
    let batch: Vec<_> = (0..128).map(|n| put(&format!("jobs/{n}"), "x")).collect();
    for _ in 0..=QUEUE_EVENTS / batch.len() {
        commit(&store, batch.clone()).await;
    }
    commit(&store, vec![put("tasks/1", "x")]).await;

    for _ in 0..QUEUE_EVENTS {
        next_change(&mut lagging).await;
    }
    let error = lagging.changes.next().await.expect("an error item").expect_err("the reader was too slow");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("jobs/"), "{error}");
    assert!(lagging.changes.next().await.is_none());
    assert_eq!(told(&next_change(&mut idle).await), "tasks/1=x");
}

#[tokio::test]
async fn given_a_watch_when_the_store_is_dropped_then_it_ends_with_an_error() {
    let store = EmbeddedStore::in_memory().expect("opened");
    let mut watch = store.watch("jobs/").await.expect("watched");
    drop(store);
    let error = watch.changes.next().await.expect("an error item").expect_err("the store is closed");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(watch.changes.next().await.is_none());
}
