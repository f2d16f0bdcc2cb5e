//! What the store promises, from a writer's and a reader's side.

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use futures::TryStreamExt;

use super::piece::Part;
use super::*;
use crate::testing::{Fixture, fixture};

pub(super) fn job() -> JobId {
    "job".parse().expect("valid")
}

pub(super) fn task(stage: u32, task: u32) -> TaskId {
    TaskId { stage: StageId(stage), task, attempt: 0 }
}

/// About 100 KiB, different for each `seed`.
pub(super) fn batch(seed: i64) -> RecordBatch {
    let numbers = (0..2000).map(|row| seed * 10_000 + row);
    let texts = numbers.clone().map(|number| format!("a text that is not inlined {number:>10}"));
    let columns: [(&str, ArrayRef); 2] = [
        ("number", Arc::new(Int64Array::from_iter_values(numbers))),
        ("text", Arc::new(StringViewArray::from_iter_values(texts).gc())),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

async fn read(store: &ExchangeStore, task: TaskId, partition: u32) -> Vec<RecordBatch> {
    let piece = store.open(&job(), task, partition).expect("the piece is there");
    piece.into_stream().try_collect().await.expect("it can be read")
}

fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("exchange").join("job"));
    entries.map_or(0, |entries| entries.count())
}

pub(super) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn given_a_writer_when_not_finished_then_nothing_is_visible_and_afterwards_all_is_empty_pieces_too() {
    let Fixture { store, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), 0..3).expect("begins");
    writer.push(1, batch(7)).await.expect("fits");
    assert!((0..3).all(|partition| store.open(&job(), task(1, 0), partition).is_none()));

    let written = writer.finish().expect("finishes");

    let rows: Vec<_> = written.pieces.iter().map(|piece| (piece.partition, piece.rows)).collect();
    assert_eq!(rows, [(0, 0), (1, 2000), (2, 0)]);
    assert_eq!(read(&store, task(1, 0), 0).await, []);
    let back = read(&store, task(1, 0), 1).await;
    assert_eq!(back, [batch(7)]);
    assert!(store.open(&job(), task(1, 0), 3).is_none(), "a partition that was never written is absent");
    assert!(store.open(&job(), task(1, 1), 0).is_none());
}

#[tokio::test]
async fn given_pieces_in_memory_when_read_then_the_very_same_buffers() {
    let Fixture { store, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    let written = batch(1);
    writer.push(0, written.clone()).await.expect("fits");
    writer.finish().expect("finishes");
    let back = read(&store, task(1, 0), 0).await;
    let same = |(new, old): (&ArrayRef, &ArrayRef)| Arc::ptr_eq(new, old);
    assert!(back.iter().all(|batch| batch.columns().iter().zip(written.columns()).all(same)));
}

#[tokio::test]
async fn given_a_writer_when_dropped_then_its_output_is_discarded_and_its_memory_given_back() {
    let Fixture { store, pool, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    writer.push(0, batch(1)).await.expect("fits");
    assert!(pool.reserved() > 100_000);
    drop(writer);
    assert_eq!((store.stats(), pool.reserved()), (StoreStats::default(), 0));
    store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("and it can begin again");
}

#[tokio::test]
async fn given_batches_that_share_buffers_when_kept_then_the_buffers_count_once() {
    let Fixture { store, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    let whole = batch(1);
    for start in [0, 500, 1000, 1500] {
        writer.push(0, whole.slice(start, 500)).await.expect("fits");
    }
    let bytes = store.stats().memory_bytes;
    assert!(bytes >= whole.get_array_memory_size() / 2 && bytes <= whole.get_array_memory_size(), "{bytes}");
}

#[tokio::test]
async fn given_more_than_the_budget_when_written_then_it_spills_and_reads_back_equal_and_in_order() {
    let Fixture { store, pool, dir, .. } = fixture(64 << 20, 1 << 20, 1 << 30);
    for number in 0..4 {
        let writer = store.begin(&job(), task(1, number), &batch(0).schema(), 0..4).expect("begins");
        for round in 0..4 {
            for partition in 0..4 {
                let seed = i64::from(number * 100 + round * 10 + partition);
                writer.push(partition, batch(seed)).await.expect("spills");
            }
        }
        assert!(store.stats().memory_bytes <= 1 << 20);
        let written = writer.finish().expect("finishes");
        assert!(number == 0 || written.spilled_bytes > 0);
    }
    assert!(store.stats().spilled_bytes > 500_000 && files(dir.path()) > 0);
    for (number, partition) in (0..4).flat_map(|number| (0..4).map(move |partition| (number, partition))) {
        let expected: Vec<_> = (0..4).map(|round| batch(i64::from(number * 100 + round * 10 + partition))).collect();
        assert_eq!(read(&store, task(1, number), partition).await, expected);
    }
    store.free_stage(&job(), StageId(1));
    wait_until("freeing", || store.stats() == StoreStats::default()).await;
    wait_until("deleting", || files(dir.path()) == 0).await;
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn given_operators_that_hold_the_pool_when_written_then_batches_go_to_disk_at_once() {
    let Fixture { store, pool, .. } = fixture(1 << 20, 1 << 20, 1 << 30);
    let operator = MemoryConsumer::new("operator").register(&pool);
    operator.try_grow(1 << 20).expect("fits");
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    for seed in 0..3 {
        writer.push(0, batch(seed)).await.expect("goes to disk");
    }
    assert_eq!(store.stats().memory_bytes, 0);
    let rows: u64 = writer.finish().expect("finishes").pieces.iter().map(|piece| piece.rows).sum();
    assert_eq!(rows, 6000);
    assert_eq!(read(&store, task(1, 0), 0).await, [batch(0), batch(1), batch(2)]);
}

/// Bytes of what the pieces do hold in memory.
pub(super) fn in_memory(store: &ExchangeStore) -> usize {
    let state = store.0.state.lock();
    let of_piece = |entry: &Entry| {
        let mut counter = RecordBatchMemoryCounter::new();
        for part in entry.piece.parts() {
            if let Part::Memory(resident) = part {
                counter.count_batch(resident.batch());
            }
        }
        counter.memory_usage()
    };
    state.pieces.values().map(of_piece).sum()
}

#[tokio::test]
async fn given_hardly_any_memory_when_fresh_batches_are_written_then_no_byte_stays_that_is_not_reserved() {
    for room in [0, 250 << 10] {
        let Fixture { store, pool, dir: _dir, .. } = fixture(1 << 20, 1 << 20, 1 << 30);
        let operator = MemoryConsumer::new("operator").register(&pool);
        operator.try_grow((1 << 20) - room).expect("fits");
        let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), 0..2).expect("begins");
        for seed in 0..20 {
            // Made when the one before is gone: it may well be where that was.
            writer.push(seed % 2, batch(i64::from(seed))).await.expect("finds room");
            assert_eq!(store.stats().memory_bytes, in_memory(&store), "batch {seed}, room for {room}");
        }
        assert!(room > 0 || in_memory(&store) == 0);
    }
}

#[tokio::test]
async fn given_no_memory_when_slices_of_one_batch_are_written_then_none_of_them_stays() {
    let Fixture { store, pool, dir: _dir, .. } = fixture(1 << 20, 1 << 20, 1 << 30);
    let operator = MemoryConsumer::new("operator").register(&pool);
    operator.try_grow(1 << 20).expect("fits");
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    let whole = batch(1);
    for start in [0, 500, 1000, 1500] {
        writer.push(0, whole.slice(start, 500)).await.expect("goes to disk");
    }
    assert_eq!((store.stats().memory_bytes, in_memory(&store)), (0, 0));
    let written = writer.finish().expect("finishes");
    let bytes: u64 = written.pieces.iter().map(|piece| piece.bytes).sum();
    assert!(bytes as usize <= whole.get_array_memory_size(), "{bytes}");
}

#[tokio::test]
async fn given_batches_that_share_a_column_when_those_before_are_spilled_then_it_is_counted_with_the_next() {
    let Fixture { store, dir: _dir, .. } = fixture(64 << 20, 250_000, 1 << 30);
    let numbers = |from: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(from..from + 12_800)) };
    let shared = numbers(0);
    let batch = |seed: i64| {
        RecordBatch::try_from_iter([("shared", Arc::clone(&shared)), ("fresh", numbers(seed))]).expect("a batch")
    };
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    for seed in 0..4 {
        writer.push(0, batch(seed)).await.expect("spills");
        assert_eq!(store.stats().memory_bytes, in_memory(&store), "batch {seed}");
    }
    assert!(store.stats().spilled_bytes > 0);
}

#[tokio::test]
async fn given_a_full_pool_when_an_operator_needs_memory_then_the_exchange_spills_for_it() {
    let Fixture { store, pool, .. } = fixture(1 << 20, 1 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    for seed in 0..6 {
        writer.push(0, batch(seed)).await.expect("fits");
    }
    writer.finish().expect("finishes");
    let operator = MemoryConsumer::new("operator").register(&pool);
    operator.try_grow(900 << 10).expect("the exchange makes room");
    assert!(store.stats().spilled_bytes > 0);
    let expected: Vec<_> = (0..6).map(batch).collect();
    assert_eq!(read(&store, task(1, 0), 0).await, expected);
}

#[tokio::test]
async fn given_the_disk_limit_when_reached_then_an_error_names_it_and_nothing_is_left_over() {
    let Fixture { store, pool, dir, .. } = fixture(64 << 20, 300_000, 100_000);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    let mut failure = None;
    for seed in 0..50 {
        if let Err(error) = writer.push(0, batch(seed)).await {
            failure = Some(error);
            break;
        }
    }
    let failure = failure.expect("the limit is reached");
    assert!(matches!(failure.find_root(), datafusion::error::DataFusionError::ResourcesExhausted(_)), "{failure:?}");
    for part in ["executor.spill_limit", "100000B"] {
        assert!(failure.to_string().contains(part), "{part:?} is not in {failure}");
    }
    drop(writer);
    wait_until("freeing", || store.stats() == StoreStats::default()).await;
    wait_until("deleting", || files(dir.path()) == 0).await;
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn given_a_disk_that_is_full_when_spilled_then_tried_elsewhere_and_the_settings_are_named() {
    let Fixture { store, pool, dir, .. } = fixture(64 << 20, 300_000, 1 << 30);
    // The first file is one that takes nothing.
    let files_of_job = dir.path().join("exchange").join("job");
    std::fs::create_dir_all(&files_of_job).expect("made");
    std::os::unix::fs::symlink("/dev/full", files_of_job.join("1-0-0-0-0.arrow")).expect("made");
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    let mut pushed = Ok(());
    for seed in 0..50 {
        pushed = writer.push(0, batch(seed)).await;
        if pushed.is_err() {
            break;
        }
    }
    let failed = crate::failure::failed(pushed.expect_err("the disk is full"));
    assert_eq!(failed.class(), springald_proto::control::FailureClass::Transient, "{failed:?}");
    assert_eq!(failed.code, "SPRINGALD_RESOURCES_EXHAUSTED");
    for part in ["No space left", "executor.spill_dir", "executor.spill_limit"] {
        assert!(failed.message.contains(part), "{part:?} is not in {}", failed.message);
    }
    drop(writer);
    wait_until("freeing", || store.stats() == StoreStats::default()).await;
    assert_eq!((pool.reserved(), files(dir.path())), (0, 0));
}

#[tokio::test]
async fn given_a_reader_when_the_piece_is_freed_then_it_reads_to_the_end_and_holds_its_memory_until_then() {
    let Fixture { store, pool, dir, .. } = fixture(64 << 20, 400_000, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    for seed in 0..8 {
        writer.push(0, batch(seed)).await.expect("fits");
    }
    writer.finish().expect("finishes");
    let mut reader = store.open(&job(), task(1, 0), 0).expect("there").into_stream();
    let first = reader.try_next().await.expect("readable").expect("a batch");
    store.free_job(&job());
    assert!(store.open(&job(), task(1, 0), 0).is_none());
    assert!(pool.reserved() > 0, "what the reader still holds is still reserved");
    let rest: Vec<_> = reader.try_collect().await.expect("readable to its end");
    let all: Vec<_> = std::iter::once(first).chain(rest).collect();
    assert_eq!(all, (0..8).map(batch).collect::<Vec<_>>());
    wait_until("freeing", || store.stats() == StoreStats::default()).await;
    wait_until("deleting", || files(dir.path()) == 0).await;
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn given_a_task_that_was_aborted_when_it_writes_on_then_it_is_told() {
    let Fixture { store, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    store.abort(&job(), task(1, 0));
    writer.push(0, batch(0)).await.expect_err("the task was stopped");
    writer.finish().expect_err("the task was stopped");
    assert_eq!(store.stats(), StoreStats::default());
}

#[tokio::test]
async fn given_two_stages_and_jobs_when_one_stage_is_freed_then_the_others_stay() {
    let Fixture { store, .. } = fixture(64 << 20, 32 << 20, 1 << 30);
    let other: JobId = "other".parse().expect("valid");
    for (job, task) in [(job(), task(1, 0)), (job(), task(2, 0)), (other.clone(), task(1, 0))] {
        let writer = store.begin(&job, task, &batch(0).schema(), [0]).expect("begins");
        writer.push(0, batch(0)).await.expect("fits");
        writer.finish().expect("finishes");
    }
    store.free_stage(&job(), StageId(1));
    assert!(store.open(&job(), task(1, 0), 0).is_none());
    assert!(store.open(&job(), task(2, 0), 0).is_some());
    assert!(store.open(&other, task(1, 0), 0).is_some());
}
