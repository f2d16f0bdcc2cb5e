//! Takes an output over from an executor that is about to leave, as if it had been written here.

use arrow_flight::Ticket as FlightTicket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::{StreamExt, TryStreamExt};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{JobId, TaskId};

use super::input::PieceReader;
use super::store::PieceWriter;
use super::ticket::Ticket;

impl PieceReader {
    /// Fetches what `task` wrote, piece by piece, from the executor at `address`. Nothing is visible before all is here.
    /// Done at once if it is here already.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the pieces cannot be had; those of the store if they cannot be kept.
    pub(crate) async fn take_over(&self, address: &str, job: &JobId, task: TaskId, partitions: &[u32]) -> Result<()> {
        let store = self.store();
        if store.finished(job).iter().any(|(finished, _)| *finished == task) {
            return Ok(());
        }
        let mut writer: Option<PieceWriter> = None;
        for partition in partitions {
            let mut batches = self.piece_of(address, job, task, *partition).await?;
            let mut next = batches.next().await.transpose().map_err(unavailable)?;
            let schema = batches.schema().ok_or_else(|| Error::internal("a piece came without its schema"))?;
            match &mut writer {
                Some(writer) => writer.add_piece(*partition, schema)?,
                None => writer = Some(store.begin(job, task, schema, [*partition])?),
            }
            let Some(writer) = &writer else { continue };
            while let Some(batch) = next {
                writer.push(*partition, batch).await?;
                next = batches.try_next().await.map_err(unavailable)?;
            }
        }
        writer.ok_or_else(|| Error::invalid("an output without partitions cannot be taken over"))?.finish()?;
        Ok(())
    }

    async fn piece_of(
        &self,
        address: &str,
        job: &JobId,
        task: TaskId,
        partition: u32,
    ) -> Result<FlightRecordBatchStream> {
        let mut client = self.peers().client(address)?;
        let ticket = Ticket::encode(job, task.stage, &[(task, vec![partition])]);
        let answer = client.do_get(FlightTicket { ticket: ticket.into() }).await.map_err(|status| {
            Error::new(ErrorCode::Unavailable, format!("{} ({:?})", status.message(), status.code()))
        })?;
        Ok(FlightRecordBatchStream::new_from_flight_data(answer.into_inner().map_err(FlightError::from)))
    }
}

fn unavailable(error: FlightError) -> Error {
    Error::unavailable(format!("fetching an output that is handed over: {error}")).with_source(error)
}
