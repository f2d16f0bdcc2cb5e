//! Streams of queries, each answer compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use springald_bench::tpch::{QUERIES, Query, Scale, verify};
use springald_client::Client;
use tokio::task::JoinSet;

use super::random::Random;

/// A query that has no answer by then hangs.
const HUNG_AFTER: Duration = Duration::from_secs(180);

/// What became of the queries.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) queries: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Those of the failed that were not accepted, because etcd was away for too long.
    pub(crate) refused: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) hung: AtomicU64,
}

/// Streams that run until they are told to end.
pub(crate) struct Load {
    streams: JoinSet<()>,
    over: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
}

impl Load {
    /// Starts `streams` streams, each in a session of its own with all servers of `urls`; its queries are cut into stages
    /// however small they are.
    pub(crate) async fn start(urls: &str, scale: Scale, streams: usize, seed: u64) -> Self {
        let mut load = Self { streams: JoinSet::new(), over: Arc::default(), tally: Arc::default() };
        for number in 0..streams {
            let client = Client::connect(urls).await.expect("a session");
            crate::tpch::distribute_everything(&client).await;
            let (over, tally) = (Arc::clone(&load.over), Arc::clone(&load.tally));
            let mut random = Random::new(seed.wrapping_add(number as u64 + 1));
            load.streams.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let query = &QUERIES[random.below(QUERIES.len())];
                    run(&client, query, scale, &tally).await;
                }
            });
        }
        load
    }

    /// Lets the queries that run come to their ends, and starts no more.
    ///
    /// # Panics
    /// If a stream does.
    pub(crate) async fn end(mut self) -> Arc<Tally> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(stream) = self.streams.join_next().await {
            stream.expect("a stream of queries comes to its end");
        }
        self.tally
    }
}

async fn run(client: &Client, query: &Query, scale: Scale, tally: &Tally) {
    let answer = tokio::time::timeout(HUNG_AFTER, client.collect(&query.sql(scale))).await;
    let (counter, what) = match answer {
        Ok(Ok(batches)) => match verify(query, scale, &batches) {
            Ok(()) => (None, String::new()),
            Err(mismatch) => (Some(&tally.wrong), mismatch.to_string()),
        },
        Ok(Err(error)) => {
            if error.to_string().contains("scheduler.commit_timeout") {
                tally.refused.fetch_add(1, Ordering::Relaxed);
            }
            (Some(&tally.failed), format!("[{}] {error}", error.code()))
        }
        Err(_) => (Some(&tally.hung), format!("no answer within {HUNG_AFTER:?}")),
    };
    tally.queries.fetch_add(1, Ordering::Relaxed);
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
        println!("query {}: {what}", query.number);
    }
}
