//! Spilled files that are damaged behind the store's back.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use springald_core::error::{InputLost, find_source};
use springald_core::exchange::ExchangeInput;
use springald_proto::control;

use super::blocks::BLOCK_BYTES;
use super::tests::{batch, job, task};
use super::*;
use crate::exchange::input::{Locations, TaskInput};
use crate::testing::{Fixture, fixture};

const BATCHES: i64 = 60;

/// What is done to a file, which has this many bytes.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    /// One bit is another at this place.
    Flip(u64),
    /// So many bytes are left.
    Truncate(u64),
    Delete,
}

impl Damage {
    fn all(length: u64) -> Vec<Self> {
        let block = BLOCK_BYTES as u64;
        let flips = [0, 4, 8, 300, block - 1, block, length / 2, length - 9, length - 8, length - 1].map(Self::Flip);
        // The last eight bytes are the mark of the end, and Arrow's own reader does without it.
        let cuts = [0, 3, 300, block, length / 2, length - 8, length - 1].map(Self::Truncate);
        flips.into_iter().chain(cuts).chain([Self::Delete]).collect()
    }

    fn apply(self, path: &PathBuf) {
        let open = || OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
        match self {
            Self::None => {}
            Self::Flip(at) => {
                let (file, mut byte) = (open(), [0]);
                file.read_exact_at(&mut byte, at).expect("readable");
                file.write_all_at(&[byte[0] ^ 0x10], at).expect("writable");
            }
            Self::Truncate(length) => open().set_len(length).expect("can be cut"),
            Self::Delete => fs::remove_file(path).expect("can be deleted"),
        }
    }
}

/// A store with the output of two tasks: the first one's is in one file, the second one's in memory.
async fn with_one_file() -> (Fixture, PathBuf) {
    let fixture = fixture(64 << 20, 32 << 20, 1 << 30);
    let store = &fixture.store;
    let writer = store.begin(&job(), task(1, 0), &batch(0).schema(), [0]).expect("begins");
    for seed in 0..BATCHES {
        writer.push(0, batch(seed)).await.expect("fits");
    }
    writer.finish().expect("finishes");
    let all = store.0.state.lock().choose_victims(usize::MAX);
    store.0.spill(all).expect("spills");
    let writer = store.begin(&job(), task(1, 1), &batch(0).schema(), [0]).expect("begins");
    writer.push(0, batch(0)).await.expect("fits");
    writer.finish().expect("finishes");
    let mut files = fs::read_dir(fixture.dir.path().join("exchange").join("job")).expect("spilled");
    let path = files.next().expect("one file").expect("readable").path();
    assert!(files.next().is_none());
    (fixture, path)
}

/// Reads the first task's output as a task of this process does: the batches, and the error at the end.
async fn read(fixture: &Fixture) -> (Vec<RecordBatch>, Option<DataFusionError>) {
    let output = control::TaskOutput {
        task: 0,
        attempt: 0,
        executor_id: "here".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        partitions: vec![0],
    };
    let locations = Locations::from_proto(vec![control::StageInput { stage: 1, outputs: vec![output] }]);
    let reader = Arc::clone(&fixture.runner.reader);
    let input = TaskInput::new(job(), Arc::new(locations.expect("valid")), reader);
    let mut stream = input.read(StageId(1), batch(0).schema(), 0..1).expect("its input is known");
    let mut batches = vec![];
    loop {
        match stream.try_next().await {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => return (batches, None),
            Err(error) => return (batches, Some(error)),
        }
    }
}

#[tokio::test]
async fn given_a_spilled_file_when_undamaged_then_it_reads_back_exactly_and_stays() {
    let (fixture, path) = with_one_file().await;
    Damage::None.apply(&path);
    for _ in 0..2 {
        let (batches, failure) = read(&fixture).await;
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(batches, (0..BATCHES).map(batch).collect::<Vec<_>>());
    }
    assert_eq!(fixture.store.finished(&job()).len(), 2);
}

#[tokio::test]
async fn given_a_spilled_file_when_damaged_anyhow_then_it_is_lost_input_and_the_store_forgets_the_task() {
    let length = {
        let (_fixture, path) = with_one_file().await;
        fs::metadata(path).expect("there").len()
    };
    assert!(length > 3 * BLOCK_BYTES as u64, "{length} bytes are too few for this test");
    for damage in Damage::all(length) {
        let (fixture, path) = with_one_file().await;
        damage.apply(&path);
        let (batches, failure) = read(&fixture).await;
        let failure = failure.unwrap_or_else(|| panic!("{damage:?} was not noticed"));
        let lost = find_source::<InputLost>(&failure).unwrap_or_else(|| panic!("{damage:?}: {failure}"));
        assert_eq!((lost.task, lost.executor.as_str()), (task(1, 0), "here"), "{damage:?}");
        let right = batches.iter().zip(0..).all(|(read, seed)| *read == batch(seed));
        assert!(right && batches.len() < BATCHES as usize, "{damage:?}: {} batches", batches.len());

        let store = &fixture.store;
        assert!(store.open(&job(), task(1, 0), 0).is_none(), "{damage:?}");
        let held: Vec<TaskId> = store.finished(&job()).into_iter().map(|(task, _)| task).collect();
        assert_eq!(held, [task(1, 1)], "{damage:?}: only what is whole is held");
        let (_, again) = read(&fixture).await;
        let again = again.expect("it stays lost");
        assert_eq!(find_source::<InputLost>(&again).map(|lost| lost.task), Some(task(1, 0)), "{damage:?}");
    }
}
