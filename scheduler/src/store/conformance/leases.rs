//! Leases, and the fencing that rests on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use springald_core::error::ErrorCode;
use tokio::time::interval;

use super::{absent, commit, get, list_keys, next_change, put, put_leased, told, transact, unchanged};
use crate::store::{Committed, LeaseId, StateStore, Transaction};

/// What is done under a lease before it ends must fit in, on a machine that is busy with other tests.
const TTL: Duration = Duration::from_secs(3);

/// Waits until a key is gone.
async fn vanished(store: &dyn StateStore, key: &str) {
    let mut poll = interval(Duration::from_millis(50));
    while get(store, key).await.is_some() {
        poll.tick().await;
    }
}

async fn assert_ended(store: &dyn StateStore, lease: LeaseId) {
    let error = store.keep_alive(lease).await.expect_err("the lease has ended");
    assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
    let changes = vec![put("other", "x"), put_leased("late", "x", lease)];
    let error = store.transact(Transaction { conditions: Vec::new(), changes }).await.expect_err("the lease has ended");
    assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
    assert_eq!((get(store, "late").await, get(store, "other").await), (None, None));
}

pub(crate) async fn given_a_lease_when_it_is_not_kept_alive_then_its_keys_vanish_and_watches_see_it(
    store: Arc<dyn StateStore>,
) {
    let mut watch = store.watch("executors/").await.expect("watched");
    let before = Instant::now();
    let lease = store.grant_lease(TTL).await.expect("granted");
    let changes = vec![put_leased("executors/1", "a", lease), put_leased("executors/2", "b", lease), put("kept", "c")];
    commit(&*store, changes).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(told(&next_change(&mut watch).await));
    }
    assert!(before.elapsed() >= TTL, "the keys vanished after {:?}", before.elapsed());
    seen[2..].sort();
    assert_eq!(seen, ["executors/1=a", "executors/2=b", "-executors/1", "-executors/2"]);
    assert_eq!(list_keys(&*store, "").await, ["kept"]);
    assert_ended(&*store, lease).await;
}

pub(crate) async fn given_a_lease_when_it_is_kept_alive_then_its_keys_stay(store: Arc<dyn StateStore>) {
    let lease = store.grant_lease(TTL).await.expect("granted");
    commit(&*store, vec![put_leased("executors/1", "a", lease)]).await;
    let granted = Instant::now();
    let mut beat = interval(TTL / 4);
    while granted.elapsed() < 2 * TTL {
        beat.tick().await;
        store.keep_alive(lease).await.expect("the lease was kept alive in time");
        assert!(get(&*store, "executors/1").await.is_some());
    }
    vanished(&*store, "executors/1").await;
    assert_ended(&*store, lease).await;
}

pub(crate) async fn given_a_lease_when_it_is_revoked_then_its_keys_are_gone_and_it_cannot_be_used(
    store: Arc<dyn StateStore>,
) {
    let lease = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    let other = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    assert_ne!(lease, other);
    commit(&*store, vec![put_leased("a", "1", lease), put_leased("b", "1", other)]).await;
    let mut watch = store.watch("a").await.expect("watched");
    store.revoke_lease(lease).await.expect("revoked");
    assert_eq!(list_keys(&*store, "").await, ["b"]);
    assert_eq!(told(&next_change(&mut watch).await), "-a");
    assert_ended(&*store, lease).await;
    store.revoke_lease(lease).await.expect("no error when it has ended already");
    store.keep_alive(other).await.expect("the other lease lives");
}

pub(crate) async fn given_a_key_under_a_lease_when_it_is_put_again_then_it_follows_the_last_put(
    store: Arc<dyn StateStore>,
) {
    let first = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    let second = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    commit(&*store, ["detached", "moved", "deleted"].map(|key| put_leased(key, "1", first)).to_vec()).await;
    commit(&*store, vec![put("detached", "2"), put_leased("moved", "2", second), super::delete("deleted")]).await;
    commit(&*store, vec![put("deleted", "3")]).await;
    store.revoke_lease(first).await.expect("revoked");
    assert_eq!(list_keys(&*store, "").await, ["deleted", "detached", "moved"]);
    store.revoke_lease(second).await.expect("revoked");
    assert_eq!(list_keys(&*store, "").await, ["deleted", "detached"]);
}

pub(crate) async fn given_an_owner_whose_lease_ended_when_another_claims_then_the_old_owner_is_refused(
    store: Arc<dyn StateStore>,
) {
    let claim = |lease| {
        let store = Arc::clone(&store);
        async move { transact(&*store, vec![absent("jobs/1/owner")], vec![put_leased("jobs/1/owner", "x", lease)]).await }
    };
    let write = |token, value: &'static str| {
        let store = Arc::clone(&store);
        async move { transact(&*store, vec![unchanged("jobs/1/owner", token)], vec![put("jobs/1/record", value)]).await }
    };
    let old_lease = store.grant_lease(TTL).await.expect("granted");
    let new_lease = store.grant_lease(Duration::from_secs(3600)).await.expect("granted");
    let Committed::Yes { revision: old_token } = claim(old_lease).await else { panic!("the job had no owner") };
    assert!(matches!(write(old_token, "by the old owner").await, Committed::Yes { .. }));

    // The old owner stalls: its lease ends, and only then can another claim the job.
    vanished(&*store, "jobs/1/owner").await;
    assert_eq!(write(old_token, "too late").await, Committed::Refused);
    let Committed::Yes { revision: new_token } = claim(new_lease).await else { panic!("the job had no owner") };
    assert!(new_token > old_token);
    assert_eq!(claim(new_lease).await, Committed::Refused);

    // The old owner comes back and does not know yet.
    assert_eq!(write(old_token, "too late").await, Committed::Refused);
    assert!(matches!(write(new_token, "by the new owner").await, Committed::Yes { .. }));
    let record = get(&*store, "jobs/1/record").await.map(|entry| entry.value);
    assert_eq!(record.as_deref(), Some(b"by the new owner".as_slice()));
}
