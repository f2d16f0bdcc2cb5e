//! Links between executors that break at an exact byte, or stand still: what is lost, who is to blame, and what only takes
//! longer.

mod support;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use springald_proto::control::scheduler_message::Message as ToExecutor;
use springald_proto::control::{self, Launch, StageInput};
use support::plans::{PARTITIONS, as_it_is, copy_of, encoded, plan};
use support::{FakeScheduler, Running, failed, fetch, settings, slice, start, succeeded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const JOB: &str = "job-1";
const PARTS: u32 = PARTITIONS as u32;
/// Rows of each partition, which are more than a megabyte.
const ROWS: i64 = 20_000;
/// After so many bytes a part of them has arrived, and not all.
const MIDDLE: usize = 3_000_000;

/// What becomes of one connection.
enum Fate {
    /// It is broken once so many bytes have come back on it.
    BreaksAfter(usize),
    /// Once so many bytes have come back on it, nothing more does until the test has looked.
    StandsStillAfter(usize),
}

/// A link to an exchange service. Connections meet their fates in order; those after that just work.
struct Link {
    address: String,
    /// The connection that stands still says so here, …
    still: Arc<Semaphore>,
    /// … and goes on when it is told here.
    go_on: Arc<Semaphore>,
    _connections: JoinSet<()>,
}

impl Link {
    async fn to(executor: &Running, fates: impl IntoIterator<Item = Fate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let [still, go_on] = [0, 0].map(|none| Arc::new(Semaphore::new(none)));
        let (target, mut fates) = (executor.executor.exchange_address(), fates.into_iter().collect::<VecDeque<_>>());
        let signals = (Arc::clone(&still), Arc::clone(&go_on));
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.expect("the executor listens");
                open.spawn(carry(near, far, fates.pop_front(), signals.clone()));
            }
        });
        Self { address, still, go_on, _connections: connections }
    }
}

async fn carry(near: TcpStream, far: TcpStream, fate: Option<Fate>, signals: (Arc<Semaphore>, Arc<Semaphore>)) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let there = async { drop(tokio::io::copy(&mut from_near, &mut to_far).await) };
    let back = async {
        let limit = match fate {
            Some(Fate::BreaksAfter(limit) | Fate::StandsStillAfter(limit)) => limit as u64,
            None => u64::MAX,
        };
        if tokio::io::copy(&mut (&mut from_far).take(limit), &mut to_near).await.is_err() {
            return;
        }
        if let Some(Fate::StandsStillAfter(_)) = fate {
            signals.0.add_permits(1);
            signals.1.acquire().await.expect("never closed").forget();
            let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
        }
        let _ = to_near.shutdown().await;
    };
    // Both ways end with the first: a broken link is no half of one.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

fn launch(stage: u32, plan: Option<control::StagePlan>) -> Launch {
    Launch { job_id: JOB.to_owned(), stage, plan, trace_id: "trace".to_owned(), ..Default::default() }
}

/// Two executors; `a` has written the output of stage 1, which is like the table.
struct Two {
    scheduler: FakeScheduler,
    a: Running,
    b: Running,
    copy: Option<control::StagePlan>,
}

impl Two {
    async fn start() -> Self {
        let mut scheduler = FakeScheduler::start().await;
        let a = start("a", &scheduler, settings(1)).await;
        let b = start("b", &scheduler, settings(1)).await;
        scheduler.wait_for_offers(&["a", "b"], 1).await;
        let scan = plan("SELECT k, v, s FROM t", ROWS).await;
        let first = Launch { tasks: vec![slice(0, 0..PARTS, 1)], ..launch(1, encoded(&as_it_is(scan.clone()))) };
        scheduler.tell("a", ToExecutor::Launch(first)).await;
        succeeded(&scheduler.outcomes(1).await[0].1);
        Self { scheduler, a, b, copy: encoded(&copy_of(1, &scan)) }
    }

    /// Has `b` copy what `a` holds, at this address, as an attempt of stage 2.
    async fn copy(&mut self, attempt: u32, address: &str) {
        let output = control::TaskOutput { address: address.to_owned(), ..self.a.output(0, 0..PARTS) };
        let copy = Launch {
            inputs: vec![StageInput { stage: 1, outputs: vec![output] }],
            tasks: vec![control::TaskSlice { attempt, ..slice(0, 0..PARTS, 1) }],
            ..launch(2, self.copy.clone())
        };
        self.scheduler.tell("b", ToExecutor::Launch(copy)).await;
    }

    /// The outcome of what `b` does; afterwards it can be told to do more.
    async fn outcome(&mut self) -> control::Outcome {
        let outcome = self.scheduler.outcomes(1).await.remove(0).1;
        self.b.slot_is_free().await;
        outcome
    }

    async fn stop(self) {
        self.a.stop().await;
        self.b.stop().await;
    }
}

fn rows_written(outcome: &control::Outcome) -> i64 {
    succeeded(outcome).rows.iter().sum::<u64>() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_link_that_breaks_in_the_middle_of_a_fetch_then_the_writer_is_named_and_no_row_comes_twice() {
    let mut two = Two::start().await;
    // Some batches have arrived by then, and were passed on: to fetch them again would double them.
    let link = Link::to(&two.a, [Fate::BreaksAfter(MIDDLE)]).await;
    two.copy(0, &link.address).await;
    let outcome = two.outcome().await;
    let failure = failed(&outcome);
    assert_eq!(failure.class(), control::FailureClass::InputLost, "{failure:?}");
    let lost = failure.lost.as_ref().expect("whose");
    assert_eq!((lost.stage, lost.task, lost.attempt, lost.executor_id.as_str()), (1, 0, 0, "a"));
    two.copy(1, &link.address).await;
    let outcome = two.outcome().await;
    assert_eq!(rows_written(&outcome), ROWS * PARTITIONS as i64);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_link_that_breaks_before_anything_has_come_then_the_fetch_is_tried_again_and_nobody_is_blamed() {
    let mut two = Two::start().await;
    let link = Link::to(&two.a, [Fate::BreaksAfter(0), Fate::BreaksAfter(0)]).await;
    two.copy(0, &link.address).await;
    let outcome = two.outcome().await;
    assert_eq!(rows_written(&outcome), ROWS * PARTITIONS as i64);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_peer_that_stands_still_in_the_middle_of_a_fetch_then_it_is_waited_for_and_not_lost() {
    let mut two = Two::start().await;
    let link = Link::to(&two.a, [Fate::StandsStillAfter(MIDDLE)]).await;
    two.copy(0, &link.address).await;
    link.still.acquire().await.expect("never closed").forget();
    two.b.wait_until("the reader waits", |stats| stats.running_tasks == 1).await;
    link.go_on.add_permits(1);
    let outcome = two.outcome().await;
    assert_eq!(rows_written(&outcome), ROWS * PARTITIONS as i64);
    let pieces = [(0, (0..PARTS).collect())];
    let copied: Vec<RecordBatch> = fetch(&two.b.executor.advertised_address(), JOB, 2, &pieces).await.expect("fetches");
    assert_eq!(copied.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, ROWS * PARTITIONS as i64);
    two.stop().await;
}
