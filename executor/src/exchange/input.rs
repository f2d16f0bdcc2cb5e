//! The input of one task: pieces of this process as they are, pieces of others through fetches.
//!
//! The locations come with each task: two tasks of one stage may know different ones, because a lost input was made
//! again between them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use springald_core::error::{Error, InputLost};
use springald_core::exchange::ExchangeInput;
use springald_core::ids::{ExecutorId, JobId, StageId, TaskId};
use springald_core::settings::ByteSize;
use springald_core::telemetry::trace::SpanContext;
use springald_proto::control;

use super::fetch::{Fetch, FetchContext};
use super::peers::Peers;
use super::store::{ExchangeStore, ReadError};

/// Where the output of one task attempt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    task: TaskId,
    executor: ExecutorId,
    address: String,
    partitions: Vec<u32>,
}

/// Where the inputs of a task are, by the stage that wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locations(HashMap<StageId, Vec<Location>>);

impl Locations {
    /// Reads what came with a launch.
    pub(crate) fn from_proto(inputs: Vec<control::StageInput>) -> Result<Self, Error> {
        let mut stages = HashMap::with_capacity(inputs.len());
        for input in inputs {
            let stage = StageId(input.stage);
            let locations: Result<Vec<_>, Error> = input
                .outputs
                .into_iter()
                .map(|output| {
                    Ok(Location {
                        task: TaskId { stage, task: output.task, attempt: output.attempt },
                        executor: output.executor_id.parse()?,
                        address: output.address,
                        partitions: output.partitions,
                    })
                })
                .collect();
            stages.insert(stage, locations?);
        }
        Ok(Self(stages))
    }

    /// True if both name the same task attempts, wherever these are: what is read is the same.
    pub(crate) fn same_versions(&self, other: &Self) -> bool {
        let same = |stage: &StageId, ours: &Vec<Location>| {
            let theirs = other.0.get(stage).map(|theirs| theirs.iter().map(|location| location.task));
            theirs.is_some_and(|theirs| theirs.eq(ours.iter().map(|location| location.task)))
        };
        self.0.len() == other.0.len() && self.0.iter().all(|(stage, ours)| same(stage, ours))
    }
}

/// How tasks of this process read pieces; shared by all of them.
pub(crate) struct PieceReader {
    executor: ExecutorId,
    store: ExchangeStore,
    fetch: FetchContext,
}

impl PieceReader {
    /// Reads from `store`, which is that of executor `executor`, and from peers with `bytes_in_flight` per fetch.
    pub(crate) fn new(
        executor: ExecutorId,
        store: ExchangeStore,
        pool: &Arc<dyn MemoryPool>,
        bytes_in_flight: ByteSize,
    ) -> Self {
        let reservation = Arc::new(MemoryConsumer::new("exchange fetch").register(pool));
        let peers = Arc::new(Peers::new(bytes_in_flight));
        let fetch = FetchContext { peers, reservation, queue_bytes: bytes_in_flight.as_usize() / 2 };
        Self { executor, store, fetch }
    }

    /// The pieces of this process.
    pub(super) fn store(&self) -> &ExchangeStore {
        &self.store
    }

    /// The connections to other executors.
    pub(super) fn peers(&self) -> &Peers {
        &self.fetch.peers
    }
}

/// The [`ExchangeInput`] of one task.
pub(crate) struct TaskInput {
    job: JobId,
    locations: Arc<Locations>,
    reader: Arc<PieceReader>,
    span: Option<SpanContext>,
}

impl TaskInput {
    /// Inputs of a task of `job` that are at `locations`.
    pub(crate) fn new(job: JobId, locations: Arc<Locations>, reader: Arc<PieceReader>) -> Self {
        Self { job, locations, reader, span: None }
    }

    /// Fetches are part of this span.
    pub(crate) fn within(mut self, span: Option<SpanContext>) -> Self {
        self.span = span;
        self
    }

    /// Pieces here, task by task, each opened when its turn comes.
    fn local(&self, pieces: Vec<(TaskId, u32)>) -> BoxStream<'static, Result<RecordBatch>> {
        let (store, job, executor) = (self.reader.store.clone(), self.job.clone(), self.reader.executor.clone());
        let opened = move |(task, partition)| {
            let executor = executor.clone();
            let lost = move |reason| DataFusionError::External(Box::new(InputLost { task, executor, reason }));
            match store.open(&job, task, partition) {
                Some(piece) => {
                    let batches = piece.into_stream().map_err(move |error| match error {
                        ReadError::Lost(reason) => lost.clone()(reason),
                        ReadError::Failed(error) => error,
                    });
                    batches.boxed()
                }
                None => {
                    let reason = format!("partition {partition} is not here (any more)");
                    futures::stream::iter([Err(lost(reason))]).boxed()
                }
            }
        };
        futures::stream::iter(pieces).flat_map(opened).boxed()
    }
}

/// Pieces at one peer: its id, its address, and what to fetch.
type RemotePieces<'a> = BTreeMap<(&'a ExecutorId, &'a str), Vec<(TaskId, Vec<u32>)>>;

impl TaskInput {
    fn locations_of(&self, stage: StageId) -> Result<&[Location]> {
        let locations = self.locations.0.get(&stage).ok_or_else(|| {
            Error::internal(format!(
                "a task of job {} came without the locations of its input, stage {stage}",
                self.job
            ))
        })?;
        Ok(locations)
    }

    /// Starts to fetch these pieces of `stage` from another executor.
    fn fetch(
        &self,
        stage: StageId,
        (executor, address): (&ExecutorId, &str),
        pieces: Vec<(TaskId, Vec<u32>)>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let (executor, address, job) = (executor.clone(), address.to_owned(), self.job.clone());
        Fetch { executor, address, job, stage, pieces, reader: self.span }.start(self.reader.fetch.clone())
    }
}

impl ExchangeInput for TaskInput {
    fn read(&self, stage: StageId, schema: SchemaRef, partitions: Range<usize>) -> Result<SendableRecordBatchStream> {
        let locations = self.locations_of(stage)?;
        let mut local = vec![];
        let mut remote = RemotePieces::new();
        for location in locations {
            let wanted = location.partitions.iter().copied();
            let wanted = wanted.filter(|partition| partitions.contains(&(*partition as usize)));
            if location.executor == self.reader.executor {
                local.extend(wanted.map(|partition| (location.task, partition)));
                continue;
            }
            let wanted: Vec<u32> = wanted.collect();
            if !wanted.is_empty() {
                let peer = (&location.executor, location.address.as_str());
                remote.entry(peer).or_default().push((location.task, wanted));
            }
        }
        // Remote first: they are on their way while local batches are read.
        let fetches: Vec<_> = remote.into_iter().map(|(peer, pieces)| self.fetch(stage, peer, pieces)).collect();
        let local = self.local(local);
        let batches = match fetches.is_empty() {
            true => local,
            false => futures::stream::select(futures::stream::select_all(fetches), local).boxed(),
        };
        Ok(cooperative(schema, batches))
    }

    fn read_runs(&self, stage: StageId, schema: SchemaRef, partition: usize) -> Result<Vec<SendableRecordBatchStream>> {
        let wanted = |location: &&Location| location.partitions.iter().any(|own| *own as usize == partition);
        let locations = self.locations_of(stage)?.iter().filter(wanted);
        let runs = locations.map(|location| {
            let run = if location.executor == self.reader.executor {
                self.local(vec![(location.task, partition as u32)])
            } else {
                let peer = (&location.executor, location.address.as_str());
                self.fetch(stage, peer, vec![(location.task, vec![partition as u32])])
            };
            cooperative(SchemaRef::clone(&schema), run)
        });
        Ok(runs.collect())
    }
}

/// Batches in memory are always ready: without this a task would never let go of its thread.
fn cooperative(
    schema: SchemaRef,
    batches: impl futures::Stream<Item = Result<RecordBatch>> + Send + 'static,
) -> SendableRecordBatchStream {
    make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}
