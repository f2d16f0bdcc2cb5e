//! What the store gives back, and when: memory while pieces are read, and the directories of jobs.

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use super::tests::{batch, in_memory, job, task, wait_until};
use super::*;
use crate::testing::{Fixture, fixture};

const POOL: usize = 1 << 20;

/// An output of `task` that is finished: one piece with `batches`.
async fn write(store: &ExchangeStore, task: TaskId, batches: impl IntoIterator<Item = RecordBatch>) {
    let writer = store.begin(&job(), task, &batch(0).schema(), [0]).expect("begins");
    for batch in batches {
        writer.push(0, batch).await.expect("fits");
    }
    writer.finish().expect("finishes");
}

/// Bytes of the piece of `task` that are in memory.
fn resident(store: &ExchangeStore, task: TaskId) -> usize {
    let state = store.0.state.lock();
    let piece = state.outputs[&job()][&task].pieces[&0];
    state.pieces[&piece].piece.resident
}

/// An operator that has all of the pool that is left.
fn greedy(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
    let operator = MemoryConsumer::new("operator").register(pool);
    operator.try_grow(POOL - pool.reserved()).expect("it is left");
    operator
}

fn spill_all(store: &ExchangeStore) {
    let all = store.0.state.lock().choose_victims(usize::MAX);
    store.0.spill(all).expect("spills");
}

#[tokio::test]
async fn given_a_piece_that_is_being_read_when_memory_is_needed_then_another_one_is_spilled_and_the_bytes_are_there() {
    let Fixture { store, pool, dir: _dir, .. } = fixture(POOL, POOL, 1 << 30);
    for number in 0..2 {
        write(&store, task(1, number), (0..3).map(batch)).await;
    }
    let reader = store.open(&job(), task(1, 0), 0).expect("there");
    let operator = greedy(&pool);
    operator.try_grow(200 << 10).expect("the piece that nobody reads makes room");
    assert!(resident(&store, task(1, 0)) > 0 && resident(&store, task(1, 1)) == 0);
    assert_eq!(store.stats().memory_bytes, in_memory(&store));
    operator.try_grow(300 << 10).expect_err("what a reader holds is in memory, whatever is on disk");
    assert_eq!(store.stats().memory_bytes, in_memory(&store));

    let back: Vec<_> = reader.into_stream().try_collect().await.expect("readable");
    assert_eq!(back, (0..3).map(batch).collect::<Vec<_>>());
    operator.try_grow(300 << 10).expect("what was read can go");
    assert_eq!((resident(&store, task(1, 0)), store.stats().memory_bytes), (0, 0));
}

#[tokio::test]
async fn given_only_a_piece_that_is_being_read_when_memory_is_needed_then_what_the_reader_has_passed_is_spilled() {
    let Fixture { store, pool, dir: _dir, .. } = fixture(POOL, POOL, 1 << 30);
    write(&store, task(1, 0), (0..6).map(batch)).await;
    let whole = resident(&store, task(1, 0));
    let mut reader = store.open(&job(), task(1, 0), 0).expect("there").into_stream();
    let mut back = vec![];
    for _ in 0..3 {
        back.push(reader.try_next().await.expect("readable").expect("a batch"));
    }
    let operator = greedy(&pool);
    operator.try_grow(200 << 10).expect("what was read makes room");
    let left = resident(&store, task(1, 0));
    assert!(left > 0 && left < whole, "{left} of {whole} bytes are left");
    assert_eq!(store.stats().memory_bytes, in_memory(&store));
    let rest: Vec<_> = reader.try_collect().await.expect("readable");
    back.extend(rest);
    assert_eq!(back, (0..6).map(batch).collect::<Vec<_>>());
}

#[tokio::test]
async fn given_slices_that_share_buffers_when_a_reader_holds_the_last_one_then_none_of_them_counts_as_freed() {
    let Fixture { store, pool, dir: _dir, .. } = fixture(POOL, POOL, 1 << 30);
    let whole = batch(1);
    write(&store, task(1, 0), [0, 500, 1000, 1500].map(|start| whole.slice(start, 500))).await;
    let mut reader = store.open(&job(), task(1, 0), 0).expect("there").into_stream();
    for _ in 0..3 {
        reader.try_next().await.expect("readable").expect("a batch");
    }
    let operator = greedy(&pool);
    operator.try_grow(50 << 10).expect_err("the last slice keeps everything alive");
    assert_eq!(store.stats().spilled_bytes, 0);
    drop(reader);
    operator.try_grow(50 << 10).expect("nobody holds it any more");
    assert_eq!(store.stats().memory_bytes, 0);
}

#[tokio::test]
async fn given_a_stage_that_spilled_when_it_is_freed_before_the_job_then_the_directory_goes_and_can_come_back() {
    let Fixture { store, dir, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let of_job = dir.path().join("exchange").join("job");
    write(&store, task(1, 0), [batch(0)]).await;
    spill_all(&store);
    assert!(of_job.exists());
    write(&store, task(2, 0), [batch(1)]).await;
    store.free_stage(&job(), StageId(1));
    wait_until("deleting", || !of_job.exists()).await;
    spill_all(&store);
    assert!(of_job.exists(), "the other stage is spilled as well");
    store.free_job(&job());
    wait_until("deleting again", || !of_job.exists()).await;
    wait_until("freeing", || store.stats() == StoreStats::default()).await;
}

#[tokio::test]
async fn given_a_reader_of_what_was_spilled_when_the_job_ends_then_the_directory_goes_after_the_reader() {
    let Fixture { store, dir, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let of_job = dir.path().join("exchange").join("job");
    write(&store, task(1, 0), [batch(0)]).await;
    spill_all(&store);
    let reader = store.open(&job(), task(1, 0), 0).expect("there");
    store.free_job(&job());
    let back: Vec<_> = reader.into_stream().try_collect().await.expect("readable");
    assert_eq!(back, [batch(0)]);
    wait_until("deleting", || !of_job.exists()).await;
}
