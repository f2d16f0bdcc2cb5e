//! The conformance suite on a real etcd, and what only etcd has: outages, users, TLS, limits of its own.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::Client;
use futures::StreamExt;
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use springald_core::error::{Error, ErrorCode, Result};
use tempfile::TempDir;
use tokio::time::{Instant, interval, timeout};

use super::*;
use crate::store::conformance::{Fixture, PATIENCE, commit, conformance_tests, get, list_keys, next_change, put, told};
use crate::store::test_etcd::TestEtcd;

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

mod conformance_on_etcd {
    use super::*;

    async fn open() -> Option<Fixture> {
        let etcd = TestEtcd::start().await?;
        Some(Fixture::new(etcd.store("conformance").await, etcd))
    }

    conformance_tests!(open);
}

async fn try_put(store: &EtcdStore, key: &str, value: Vec<u8>) -> Result<Committed> {
    let change = Change::Put { key: key.to_owned(), value: Bytes::from(value), lease: None };
    store.transact(Transaction { conditions: Vec::new(), changes: vec![change] }).await
}

/// The error of a connection attempt, with how long it took.
async fn refusal(options: EtcdOptions) -> (Error, Duration) {
    let begin = Instant::now();
    let attempt = timeout(PATIENCE, EtcdStore::connect(options)).await.expect("the deadline is not kept");
    (attempt.expect_err("connected"), begin.elapsed())
}

async fn bare_client(etcd: &TestEtcd) -> Client {
    Client::connect([etcd.url()], None).await.expect("connected")
}

#[tokio::test]
async fn given_two_clusters_on_one_etcd_when_they_use_the_same_keys_then_they_do_not_meet() {
    let Some(etcd) = TestEtcd::start().await else { return };
    let (one, ten) = (etcd.store("c1").await, etcd.store("c10").await);
    let mut watch = one.watch("").await.expect("watched");
    commit(&ten, vec![put("jobs/1", "of ten"), put("jobs/2", "of ten")]).await;
    commit(&one, vec![put("jobs/1", "of one")]).await;
    assert_eq!(list_keys(&one, "").await, ["jobs/1"]);
    assert_eq!(list_keys(&ten, "").await, ["jobs/1", "jobs/2"]);
    assert_eq!(told(&next_change(&mut watch).await), "jobs/1=of one");
    let raw = bare_client(&etcd).await.get("/springald/c1/jobs/1", None).await.expect("read");
    assert_eq!(raw.kvs().first().map(|found| found.value()), Some(b"of one".as_slice()));
}

#[tokio::test]
async fn given_a_dead_url_when_connecting_then_it_is_tried_until_the_deadline_and_named() {
    let mut options = EtcdOptions::new(vec![NOWHERE.to_owned()], "/springald/c/");
    options.connect_deadline = Duration::from_millis(700);
    let (error, took) = refusal(options).await;
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains(NOWHERE), "{error}");
    assert!(error.message().contains("refused"), "{error}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn given_one_dead_url_of_two_when_the_store_is_used_then_every_call_works() {
    let Some(etcd) = TestEtcd::start().await else { return };
    let mut options = etcd.options("c");
    options.endpoints.insert(0, NOWHERE.to_owned());
    let store = EtcdStore::connect(options).await.expect("one of the two is there");
    for n in 0..50 {
        let value = n.to_string();
        commit(&store, vec![put("n", &value)]).await;
        assert_eq!(get(&store, "n").await.map(|entry| entry.value), Some(Bytes::from(value)));
    }
}

#[tokio::test]
async fn given_a_member_that_hangs_when_a_call_has_met_it_then_all_calls_go_to_another() {
    let Some(etcd) = TestEtcd::start().await else { return };
    // The system takes the connection, and nobody ever reads from it.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut options = etcd.options("c");
    options.endpoints.push(format!("http://{}", hanging.local_addr().expect("bound")));
    let store = EtcdStore::connect(options).await.expect("one of the two answers");
    let mut watch = store.watch("").await.expect("watched");
    let members = &store.connection.members;
    let turn_of_hanging = {
        members.pass(members.turn());
        members.turn()
    };

    let answers = join_all((0..20).map(|_| store.get("a"))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let turn = members.turn();
    assert!(turn != turn_of_hanging);
    for n in 0..20 {
        commit(&store, vec![put("n", &n.to_string())]).await;
        assert_eq!(told(&next_change(&mut watch).await), format!("n={n}"));
    }
    store.watch("").await.expect("watched");
    assert!(members.turn() == turn, "the one that hangs was met again");
}

#[tokio::test]
async fn given_etcd_is_down_when_the_store_is_used_then_each_call_says_so_within_its_timeout() {
    let Some(mut etcd) = TestEtcd::start().await else { return };
    let mut options = etcd.options("c");
    options.request_timeout = Duration::from_secs(1);
    let store = EtcdStore::connect(options).await.expect("connected");
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("granted");
    etcd.kill();

    let begin = Instant::now();
    let errors = [
        store.get("a").await.err(),
        store.list("a", None, 1).await.err(),
        try_put(&store, "a", Vec::new()).await.err(),
        store.grant_lease(Duration::from_secs(1)).await.err(),
        store.keep_alive(lease).await.err(),
        store.revoke_lease(lease).await.err(),
        store.watch("a").await.err(),
    ];
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(14), "{} calls took {took:?}", errors.len());
    for error in errors {
        let error = error.expect("etcd is down");
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
        assert!(error.message().contains(&etcd.url()), "{error}");
    }
}

#[tokio::test]
async fn given_etcd_restarts_when_it_is_back_then_the_same_store_and_its_watches_work_again() {
    let Some(mut etcd) = TestEtcd::start().await else { return };
    let store = etcd.store("c").await;
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("granted");
    let mut watch = store.watch("jobs/").await.expect("watched");
    commit(&store, vec![put("jobs/1", "before")]).await;
    assert_eq!(told(&next_change(&mut watch).await), "jobs/1=before");
    commit(&store, vec![put("jobs/2", "before, not read yet")]).await;
    etcd.restart().await;

    // Whether a write on the broken connection happened is unknown, so it is not tried again by the store.
    let begin = Instant::now();
    let mut retry = interval(Duration::from_millis(50));
    while try_put(&store, "jobs/3", b"after".to_vec()).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "the store does not come back");
        retry.tick().await;
    }
    assert_eq!(list_keys(&store, "jobs/").await, ["jobs/1", "jobs/2", "jobs/3"]);
    assert_eq!(told(&next_change(&mut watch).await), "jobs/2=before, not read yet");
    assert_eq!(told(&next_change(&mut watch).await), "jobs/3=after");
    store.keep_alive(lease).await.expect("leases outlive a restart of etcd");
}

#[tokio::test]
async fn given_a_watch_when_etcd_does_not_come_back_then_it_ends_with_an_error_that_names_it() {
    let Some(mut etcd) = TestEtcd::start().await else { return };
    let mut options = etcd.options("c");
    (options.connect_deadline, options.request_timeout) = (Duration::from_secs(2), Duration::from_millis(500));
    let store = EtcdStore::connect(options).await.expect("connected");
    let mut watch = store.watch("jobs/").await.expect("watched");
    etcd.kill();
    let item = timeout(PATIENCE, watch.changes.next()).await.expect("the watch hangs");
    let error = item.expect("an error item").expect_err("etcd is down");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains(&etcd.url()), "{error}");
    assert!(watch.changes.next().await.is_none());
}

#[tokio::test]
async fn given_a_watch_behind_the_compacted_history_when_it_resumes_then_it_ends_with_an_error() {
    let Some(mut etcd) = TestEtcd::start().await else { return };
    let store = etcd.store("c").await;
    let mut watch = store.watch("jobs/").await.expect("watched");
    // The reader does not look while etcd restarts, much changes, and the history is compacted.
    etcd.restart().await;
    let writer = etcd.store("c").await;
    let mut last = 0;
    for n in 0..5 {
        last = commit(&writer, vec![put("jobs/1", &n.to_string())]).await;
    }
    let compacted = i64::try_from(last).expect("a revision");
    bare_client(&etcd).await.compact(compacted, None).await.expect("compacted");

    let item = timeout(PATIENCE, watch.changes.next()).await.expect("the watch hangs");
    let error = item.expect("an error item").expect_err("there is a gap");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("compacted"), "{error}");
    assert!(watch.changes.next().await.is_none());
    assert_eq!(store.watch("jobs/").await.expect("watched anew").snapshot.len(), 1);
}

#[tokio::test]
async fn given_an_etcd_with_lower_limits_when_a_transaction_is_over_them_then_the_error_names_the_flag() {
    let Some(etcd) = TestEtcd::start_with(&["--max-request-bytes", "65536", "--max-txn-ops", "4"]).await else {
        return;
    };
    let store = etcd.store("c").await;
    // Over etcd's own limit, and over that of its transport.
    for bytes in [100_000, 1_000_000] {
        let error = try_put(&store, "large", vec![0; bytes]).await.expect_err("too large");
        assert_eq!(error.code(), ErrorCode::ResourcesExhausted, "{error}");
        assert!(error.message().contains("--max-request-bytes"), "{error}");
    }
    let changes = (0..5).map(|n| put(&format!("many/{n}"), "x")).collect();
    let error = store.transact(Transaction { conditions: Vec::new(), changes }).await.expect_err("too many");
    assert_eq!(error.code(), ErrorCode::ResourcesExhausted, "{error}");
    assert!(error.message().contains("--max-txn-ops"), "{error}");
}

#[tokio::test]
async fn given_an_etcd_without_space_when_writing_then_the_error_says_so_and_reads_go_on() {
    let Some(etcd) = TestEtcd::start_with(&["--quota-backend-bytes", "4194304"]).await else { return };
    let store = etcd.store("c").await;
    let mut failed = None;
    for n in 0..64 {
        if let Err(error) = try_put(&store, &format!("k/{n}"), vec![0; 1_000_000]).await {
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("the quota was never reached");
    assert_eq!(error.code(), ErrorCode::ResourcesExhausted, "{error}");
    assert!(error.message().contains("NOSPACE"), "{error}");
    assert!(get(&store, "k/0").await.is_some());
}

#[tokio::test]
async fn given_an_etcd_with_users_when_connecting_then_only_the_right_password_gets_in_and_outlives_a_restart() {
    let Some(mut etcd) = TestEtcd::start().await else { return };
    let mut root = bare_client(&etcd).await;
    root.user_add("root", "correct", None).await.expect("added");
    root.user_grant_role("root", "root").await.expect("granted");
    root.auth_enable().await.expect("enabled");

    for user in [None, Some(("root".to_owned(), "wrong".to_owned()))] {
        let (error, took) = refusal(EtcdOptions { user, ..etcd.options("c") }).await;
        assert_eq!(error.code(), ErrorCode::Invalid, "{error}");
        assert!(error.message().contains("user"), "{error}");
        assert!(took < Duration::from_secs(20), "tried again what cannot pass, for {took:?}");
    }
    let user = Some(("root".to_owned(), "correct".to_owned()));
    let store = EtcdStore::connect(EtcdOptions { user, ..etcd.options("c") }).await.expect("connected");
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("granted");
    let mut watch = store.watch("jobs/").await.expect("watched");
    commit(&store, vec![put("jobs/1", "x")]).await;

    // etcd forgets its tokens when it restarts: calls and watches get new ones.
    etcd.restart().await;
    assert_eq!(list_keys(&store, "jobs/").await, ["jobs/1"]);
    store.keep_alive(lease).await.expect("renewed");
    commit(&store, vec![put("jobs/2", "x")]).await;
    assert_eq!(told(&next_change(&mut watch).await), "jobs/1=x");
    assert_eq!(told(&next_change(&mut watch).await), "jobs/2=x");
}

#[tokio::test]
async fn given_an_etcd_that_signs_its_tokens_when_users_change_then_the_store_gets_a_new_one_and_goes_on() {
    let keys = TempDir::new().expect("a directory");
    let key = keys.path().join("key");
    fs::write(&key, "a key for this test only").expect("written");
    let tokens = format!("jwt,sign-method=HS256,priv-key={},ttl=10m", key.display());
    let Some(etcd) = TestEtcd::start_with(&["--auth-token", &tokens]).await else { return };
    let mut root = bare_client(&etcd).await;
    root.user_add("root", "correct", None).await.expect("added");
    root.user_grant_role("root", "root").await.expect("granted");
    root.auth_enable().await.expect("enabled");
    let user = Some(("root".to_owned(), "correct".to_owned()));
    let options = EtcdOptions { user, ..etcd.options("c") };
    let store = EtcdStore::connect(options.clone()).await.expect("connected");
    let mut administrator =
        Client::connect(options.endpoints.clone(), Some(options.to_client())).await.expect("connected");

    commit(&store, vec![put("a", "1")]).await;
    administrator.role_add("another").await.expect("added");
    commit(&store, vec![put("b", "1")]).await;
    administrator.refresh_token().await.expect("a new token");
    administrator.role_delete("another").await.expect("deleted");
    assert!(get(&store, "b").await.is_some());
}

/// Certificates for a TLS etcd on 127.0.0.1 and one client, in a directory.
fn write_certificates(directory: &TempDir) -> EtcdTls {
    let file = |name: &str| directory.path().join(name);
    let write = |name: &str, pem: String| fs::write(file(name), pem).expect("written");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    write("ca.pem", ca.pem());
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        write(&format!("{name}.pem"), params.signed_by(&key, &ca).expect("signed").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let identity = EtcdIdentity { cert: file("client.pem"), key: file("client.key") };
    EtcdTls { ca: file("ca.pem"), identity: Some(identity) }
}

#[tokio::test]
async fn given_an_etcd_with_mutual_tls_when_connecting_then_both_sides_are_checked() {
    let (ours, others) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (tls, foreign) = (write_certificates(&ours), write_certificates(&others));
    let path = |name: &str| ours.path().join(name).display().to_string();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let flags = ["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
    let Some(etcd) = TestEtcd::start_with_tls(&flags).await else { return };
    let options = |tls: EtcdTls| EtcdOptions { tls: Some(tls), ..etcd.options("c") };

    let store = EtcdStore::connect(options(tls.clone())).await.expect("connected");
    commit(&store, vec![put("a", "1")]).await;
    assert!(get(&store, "a").await.is_some());

    let unknown_server = EtcdTls { ca: foreign.ca.clone(), ..tls.clone() };
    let unknown_client = EtcdTls { identity: foreign.identity.clone(), ..tls.clone() };
    for wrong in [unknown_server, unknown_client, EtcdTls { identity: None, ..tls }] {
        let mut options = options(wrong);
        options.connect_deadline = Duration::from_secs(1);
        let (error, _) = refusal(options).await;
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
        assert!(error.message().contains(&etcd.url()), "{error}");
    }
}
