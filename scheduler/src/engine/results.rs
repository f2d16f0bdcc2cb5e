//! Streams a finished job's result from the executors that hold it.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::StreamExt;
use springald_core::error::{Error, Result};
use springald_core::ids::JobId;
use tokio::sync::{mpsc, watch};

use super::ended;
use super::remote::{Channels, PartStream};
use crate::dispatch::{Dispatcher, JobView, ResultPart};

/// Batches that may wait for the client.
const BATCHES_AHEAD: usize = 4;
/// How often lost parts are waited for, before the client is told to try again.
const ROUNDS: u32 = 5;

/// A client that reads a job's result. Dropped before [`finished`](Self::finished), the client went away.
pub(super) struct Reader {
    dispatcher: Dispatcher,
    job: JobId,
    done: bool,
}

impl Reader {
    pub(super) async fn new(dispatcher: &Dispatcher, job: JobId) -> Result<Self> {
        dispatcher.result_reader(job.clone()).await?;
        Ok(Self { dispatcher: dispatcher.clone(), job, done: false })
    }

    /// The client has all of it.
    pub(super) async fn finished(mut self) -> Result<()> {
        self.done = true;
        self.dispatcher.result_fetched(self.job.clone()).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.done {
            self.dispatcher.result_abandoned(self.job.clone());
        }
    }
}

/// Waits for the job, opens the first part, and streams from there. A part that is lost before anything of it has
/// reached the client is made again and waited for.
pub(super) async fn stream(
    dispatcher: &Dispatcher,
    channels: Channels,
    job: JobId,
    mut view: watch::Receiver<JobView>,
) -> Result<SendableRecordBatchStream> {
    let reader = Reader::new(dispatcher, job.clone()).await?;
    let mut source = Source { dispatcher: dispatcher.clone(), channels, job, rounds: 0 };
    let (parts, first) = source.open_first(&mut view).await?;
    let schema: SchemaRef = first.schema();
    let mut builder = RecordBatchReceiverStreamBuilder::new(schema, BATCHES_AHEAD);
    let sender = builder.tx();
    builder.spawn(async move {
        match source.send_all(parts, first, view, &sender).await {
            // The client has gone: dropping the reader says so.
            Ok(false) => {}
            Ok(true) => reader.finished().await.map_err(DataFusionError::from)?,
            Err(error) => {
                let _ = sender.send(Err(error.into())).await;
            }
        }
        Ok(())
    });
    Ok(builder.build())
}

struct Source {
    dispatcher: Dispatcher,
    channels: Channels,
    job: JobId,
    rounds: u32,
}

type Parts = std::sync::Arc<Vec<ResultPart>>;

impl Source {
    async fn open_first(&mut self, view: &mut watch::Receiver<JobView>) -> Result<(Parts, PartStream)> {
        loop {
            let parts = ended(view).await?;
            let part = parts.first().ok_or_else(|| Error::internal("a result has no parts"))?;
            match self.channels.open(&self.job, part).await {
                Ok(stream) => return Ok((parts, stream)),
                Err(error) => self.lost(part, error, view).await?,
            }
        }
    }

    /// False if the client has gone.
    async fn send_all(
        &mut self,
        mut parts: Parts,
        first: PartStream,
        mut view: watch::Receiver<JobView>,
        sender: &mpsc::Sender<datafusion::error::Result<datafusion::arrow::array::RecordBatch>>,
    ) -> Result<bool> {
        let mut open = Some(first);
        let mut position = 0;
        while let Some(part) = parts.get(position) {
            let stream = match open.take() {
                Some(stream) => Ok(stream),
                None => self.channels.open(&self.job, part).await,
            };
            let mut sent = false;
            let outcome = match stream {
                Err(error) => Err(error),
                Ok(mut stream) => loop {
                    match stream.next().await {
                        None => break Ok(()),
                        Some(Err(error)) => break Err(error),
                        Some(Ok(batch)) => {
                            sent = true;
                            if sender.send(Ok(batch)).await.is_err() {
                                return Ok(false);
                            }
                        }
                    }
                },
            };
            match outcome {
                Ok(()) => position += 1,
                Err(error) if sent => {
                    return Err(Error::unavailable(format!(
                        "the result broke off in the middle; run the query again: {error}"
                    )));
                }
                Err(error) => {
                    self.lost(part, error, &mut view).await?;
                    parts = ended(&mut view).await?;
                }
            }
        }
        Ok(true)
    }

    /// Asks for a part to be made again.
    async fn lost(&mut self, part: &ResultPart, error: Error, view: &mut watch::Receiver<JobView>) -> Result<()> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return Err(error);
        }
        tracing::warn!(job_id = %self.job, task_id = %part.task, %error, "part of a result is lost");
        view.mark_unchanged();
        self.dispatcher.result_lost(self.job.clone(), part.task, part.executor.clone()).await?;
        // The answer to any question that is asked after it comes after it was taken in.
        self.dispatcher.watch(self.job.clone()).await?;
        Ok(())
    }
}
