//! Streams a finished job's result from the executors that hold it.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use futures::StreamExt;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;
use tokio::sync::{mpsc, watch};

use super::peers::{PartStream, Peers};
use super::{ended, statement};
use crate::dispatch::{Dispatcher, JobView, ResultPart};
use crate::planner::analyzed;

/// Batches that may wait for the client.
const BATCHES_AHEAD: usize = 4;
/// How often lost parts are waited for, before the client is told to try again.
const ROUNDS: u32 = 5;
/// Length of a version's name: 128 bits.
const VERSION_BYTES: usize = 16;

/// From where on a client wants a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The version of which it has rows already; empty: it has none.
    pub version: String,
    /// How many, from the first.
    pub rows: u64,
    /// It will say when it has all ([`Engine::received`](super::Engine::received)): until then the result stays.
    pub confirms: bool,
}

/// A result on its way to a client.
pub struct Opened {
    /// The rows: from the first one that the client lacks if it has rows of this version, else from the first of all.
    pub stream: SendableRecordBatchStream,
    /// Names these very rows in this very order; empty: the result cannot be had a second time.
    pub version: String,
}

impl Opened {
    /// A result that can be read once.
    pub(super) fn once(stream: SendableRecordBatchStream) -> Self {
        Self { stream, version: String::new() }
    }
}

/// A client that reads a job's result. Dropped before [`sent`](Self::sent), the client went away.
struct Reader {
    dispatcher: Dispatcher,
    job: JobId,
    owner_revision: u64,
    done: bool,
}

impl Reader {
    async fn new(dispatcher: &Dispatcher, job: JobId) -> Result<Self> {
        let owner_revision = dispatcher.result_reader(job.clone()).await?;
        Ok(Self { dispatcher: dispatcher.clone(), job, owner_revision, done: false })
    }

    /// All of it is on its way to a client that will not say that it has arrived.
    async fn sent(mut self) -> Result<()> {
        self.done = true;
        self.dispatcher.result_sent(self.job.clone(), self.owner_revision).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.done {
            self.dispatcher.result_abandoned(self.job.clone(), self.owner_revision);
        }
    }
}

/// Waits for the job, opens the first part, and streams from there. A part that is lost before anything of it has
/// reached the client is made again and waited for.
pub(super) async fn stream(
    (dispatcher, peers): (&Dispatcher, Arc<dyn Peers>),
    job: JobId,
    mut view: watch::Receiver<JobView>,
    resume: &Resume,
) -> Result<Opened> {
    let reader = Reader::new(dispatcher, job.clone()).await?;
    let mut source = Source { dispatcher: dispatcher.clone(), peers, job, resumes: resume.confirms, rounds: 0 };
    let (parts, first) = source.open_first(&mut view).await?;
    let version = version_of(&parts);
    let schema: SchemaRef = first.schema();
    let mut builder = RecordBatchReceiverStreamBuilder::new(schema, BATCHES_AHEAD);
    let sender = builder.tx();
    builder.spawn(async move {
        if let Err(error) = source.send_all(parts, first, view, &sender).await {
            let _ = sender.send(Err(error.into())).await;
        }
        Ok(())
    });
    let stream = kept(builder.build(), reader, resume.confirms);
    let skip = if resume.version == version { resume.rows } else { 0 };
    Ok(Opened { stream: if skip == 0 { stream } else { without_first(skip, stream) }, version })
}

/// Waits for the job; its rows are given up, and what its operators measured is the answer.
pub(super) async fn measured(
    dispatcher: &Dispatcher,
    job: JobId,
    mut view: watch::Receiver<JobView>,
    resume: &Resume,
) -> Result<Opened> {
    let reader = Reader::new(dispatcher, job.clone()).await?;
    ended(&mut view).await?;
    let described = dispatcher.describe(job.clone()).await?;
    let (record, metrics) = described.ok_or_else(|| Error::not_found(format!("job {job} has ended")))?;
    let rows = vec![("plan_with_metrics".to_owned(), analyzed(&record.stages, &metrics))];
    let batch = statement::explain_batch(rows)?;
    let stream = RecordBatchStreamAdapter::new(batch.schema(), futures::stream::iter([Ok(batch)]));
    Ok(Opened::once(kept(Box::pin(stream), reader, resume.confirms)))
}

/// The stream, of a result that stays while somebody reads it: until the end was asked for, or the client went away. For a
/// while it stays then, too: what was sent may be lost on its way, and a client that confirms says when it has all.
fn kept(stream: SendableRecordBatchStream, reader: Reader, confirms: bool) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let batches = futures::stream::unfold((stream, Some(reader)), move |(mut stream, mut reader)| async move {
        if let Some(batch) = stream.next().await {
            if batch.is_err() {
                reader = None;
            }
            return Some((batch, (stream, reader)));
        }
        let reader = reader.filter(|_| !confirms)?;
        let error = reader.sent().await.err()?;
        Some((Err(error.into()), (stream, None)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Waits until the job fails, or is another scheduler's.
async fn failed(view: &mut watch::Receiver<JobView>) -> Error {
    let error = match view.wait_for(|view| matches!(view, JobView::Failed(_))).await.as_deref() {
        Ok(JobView::Failed(error)) => Some(error.clone()),
        _ => None,
    };
    match error {
        Some(error) => error,
        // It has ended, and its result is read to its end.
        None => std::future::pending().await,
    }
}

/// The attempts that wrote the parts: attempts are never repeated at one executor, and what one wrote stays as it is.
fn version_of(parts: &[ResultPart]) -> String {
    let names: Vec<String> = parts.iter().map(|part| format!("{}@{}", part.task, part.writer)).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, names.join(",").as_bytes());
    digest.as_ref().iter().take(VERSION_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// True if a client that has so many of the first parts can get the rest from the parts of another version.
fn goes_together(parts: &[ResultPart], again: &[ResultPart], sent: usize) -> bool {
    let same = |(one, other): (&ResultPart, &ResultPart)| one.task == other.task && one.writer == other.writer;
    again.iter().all(|part| part.repeatable) || parts.iter().zip(again).take(sent).all(same)
}

/// The stream without its first `skip` rows.
fn without_first(mut skip: u64, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let rest = stream.filter_map(move |batch| {
        let batch = batch.map(|batch| {
            let rows = batch.num_rows();
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(rows);
            skip -= passed as u64;
            (passed < rows).then(|| batch.slice(passed, rows - passed))
        });
        std::future::ready(batch.transpose())
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rest))
}

struct Source {
    dispatcher: Dispatcher,
    peers: Arc<dyn Peers>,
    job: JobId,
    /// The client goes on at another scheduler, at the row where it is.
    resumes: bool,
    rounds: u32,
}

type Parts = Arc<Vec<ResultPart>>;

impl Source {
    async fn open_first(&mut self, view: &mut watch::Receiver<JobView>) -> Result<(Parts, PartStream)> {
        loop {
            let parts = ended(view).await?;
            let part = parts.first().ok_or_else(|| Error::internal("a result has no parts"))?;
            match self.peers.open(&self.job, part).await {
                Ok(stream) => return Ok((parts, stream)),
                Err(error) => self.lost(part, error, view).await?,
            }
        }
    }

    /// Ends early if the client has gone.
    async fn send_all(
        &mut self,
        mut parts: Parts,
        first: PartStream,
        mut view: watch::Receiver<JobView>,
        sender: &mpsc::Sender<datafusion::error::Result<datafusion::arrow::array::RecordBatch>>,
    ) -> Result<()> {
        let mut open = Some(first);
        let mut position = 0;
        while let Some(part) = parts.get(position) {
            let stream = match open.take() {
                Some(stream) => Ok(stream),
                None => self.peers.open(&self.job, part).await,
            };
            let mut sent = false;
            let outcome = match stream {
                Err(error) => Err(error),
                Ok(mut stream) => loop {
                    let next = tokio::select! {
                        biased;
                        // The job is another scheduler's: there, nobody knows of this client.
                        error = failed(&mut view), if self.resumes => return Err(error),
                        next = stream.next() => next,
                    };
                    match next {
                        None => break Ok(()),
                        Some(Err(error)) => break Err(error),
                        Some(Ok(batch)) => {
                            sent = true;
                            if sender.send(Ok(batch)).await.is_err() {
                                return Ok(());
                            }
                        }
                    }
                },
            };
            match outcome {
                Ok(()) => position += 1,
                Err(error) if sent => {
                    self.lost(part, error, &mut view).await?;
                    return Err(Error::new(
                        ErrorCode::Fenced,
                        "the result broke off in the middle, and is made again; redeem the ticket again",
                    ));
                }
                Err(error) => {
                    self.lost(part, error, &mut view).await?;
                    let again = ended(&mut view).await?;
                    if !goes_together(&parts, &again, position) {
                        return Err(Error::new(
                            ErrorCode::Fenced,
                            "the result was made again, and with other rows; redeem the ticket again",
                        ));
                    }
                    parts = again;
                }
            }
        }
        Ok(())
    }

    /// Asks for a part to be made again.
    async fn lost(&mut self, part: &ResultPart, error: Error, view: &mut watch::Receiver<JobView>) -> Result<()> {
        if error.code() == ErrorCode::ResourcesExhausted {
            // Made again it would be no smaller.
            return Err(error);
        }
        self.rounds += 1;
        if self.rounds > ROUNDS {
            // Another scheduler may reach it.
            let message =
                format!("the result cannot be had at the moment; redeem the ticket again: {}", error.message());
            return Err(Error::new(ErrorCode::Fenced, message).with_source(error));
        }
        tracing::warn!(event = names::RESULT_LOST, job_id = %self.job, stage_id = part.task.stage.0, task_id = part.task.task,
            attempt = part.task.attempt, %error, "part of a result is lost");
        view.mark_unchanged();
        self.dispatcher.result_lost(self.job.clone(), part.task, part.executor.clone()).await?;
        // The answer to any question that is asked after it comes after it was taken in.
        self.dispatcher.watch(self.job.clone()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;
    use futures::TryStreamExt;

    use super::*;

    fn part(attempt: u32) -> ResultPart {
        let task = springald_core::ids::TaskId { stage: springald_core::ids::StageId(2), task: 0, attempt };
        let executor: springald_core::ids::ExecutorId = "e".parse().expect("valid");
        ResultPart {
            task,
            writer: executor.clone(),
            executor,
            address: "a:1".to_owned(),
            partitions: vec![0],
            repeatable: false,
        }
    }

    #[test]
    fn given_a_part_that_was_made_again_then_the_version_is_another() {
        assert_eq!(version_of(&[part(0), part(0)]), version_of(&[part(0), part(0)]));
        assert_ne!(version_of(&[part(0)]), version_of(&[part(1)]));
    }

    #[test]
    fn given_parts_that_were_sent_and_made_again_then_the_rest_goes_with_them_only_if_they_are_the_same() {
        let repeatable = |attempt: u32| ResultPart { repeatable: true, ..part(attempt) };
        assert!(goes_together(&[part(0), part(0)], &[part(0), part(1)], 1), "what was sent is still there");
        assert!(goes_together(&[part(0), part(0)], &[part(1), part(1)], 0), "nothing was sent");
        assert!(!goes_together(&[part(0), part(0)], &[part(1), part(1)], 1), "other rows");
        assert!(goes_together(&[repeatable(0), repeatable(0)], &[repeatable(1), repeatable(1)], 1), "the same rows");
    }

    #[tokio::test]
    async fn given_rows_that_the_client_has_then_exactly_the_others_are_sent() {
        let batch = |from: i64, to: i64| {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
            RecordBatch::try_from_iter([("n", values)]).expect("a batch")
        };
        for skip in 0..=7u64 {
            let batches = vec![Ok(batch(0, 3)), Ok(batch(3, 4)), Ok(batch(4, 7))];
            let stream = RecordBatchStreamAdapter::new(batch(0, 0).schema(), futures::stream::iter(batches));
            let sent: Vec<RecordBatch> = without_first(skip, Box::pin(stream)).try_collect().await.expect("batches");
            let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            let rows: Vec<i64> = sent.iter().flat_map(values).collect();
            assert_eq!(rows, (skip as i64..7).collect::<Vec<_>>(), "without the first {skip}");
        }
    }
}
