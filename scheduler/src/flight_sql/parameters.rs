//! Parameters that clients bind to prepared statements: none are taken.
//!
//! Drivers also bind none, in a batch without rows or without columns, so what they send has to be looked at. Headers
//! are enough for that, and bodies stay closed: a packed buffer says itself how large it is unpacked, and whoever
//! unpacks it sets aside that much memory before anything shows that it is not true.

use std::fmt::Display;
use std::pin::pin;

use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::FlightData;
use futures::{Stream, StreamExt};
use springald_core::error::{Error, Result};
use tonic::Status;

/// Most messages that are read to learn that nothing is bound. Drivers send two or three.
const MAX_MESSAGES: usize = 1000;
/// Most bytes of those messages: as many as one message may have.
const MAX_BYTES: usize = 16 << 20;

/// Refuses parameters. Drivers also bind none, in a batch without columns or without rows: that is fine.
pub(super) async fn refuse(
    messages: impl Stream<Item = std::result::Result<FlightData, Status>>,
) -> std::result::Result<(), Status> {
    let mut messages = pin!(messages);
    let mut binding = Binding::default();
    while let Some(message) = messages.next().await {
        binding.read(&message?)?;
    }
    Ok(())
}

/// What is known of one stream of parameters.
#[derive(Default)]
struct Binding {
    /// Whether the rows have columns; unknown before the schema.
    has_columns: Option<bool>,
    messages: usize,
    bytes: usize,
}

impl Binding {
    /// Takes note of the next message, unless it is one that must not be.
    fn read(&mut self, message: &FlightData) -> Result<()> {
        self.check_header(&message.data_header)?;
        self.messages += 1;
        self.bytes += message.data_header.len() + message.data_body.len() + message.app_metadata.len();
        if self.messages > MAX_MESSAGES || self.bytes > MAX_BYTES {
            return Err(unreadable(format!(
                "more than {MAX_MESSAGES} messages, or {MAX_BYTES} bytes, without a value"
            )));
        }
        Ok(())
    }

    /// Some clients send the command alone, in a message without a header.
    fn check_header(&mut self, header: &[u8]) -> Result<()> {
        if header.is_empty() {
            return Ok(());
        }
        let message = root_as_message(header).map_err(unreadable)?;
        match message.header_type() {
            MessageHeader::Schema => {
                let schema = message.header_as_schema().ok_or_else(|| unreadable("a schema is empty"))?;
                self.has_columns = Some(schema.fields().is_some_and(|fields| !fields.is_empty()));
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(|| unreadable("a batch is empty"))?;
                let has_columns = self.has_columns.ok_or_else(|| unreadable("rows come before their schema"))?;
                if has_columns && batch.length() > 0 {
                    return Err(Error::unsupported(
                        "bound parameters are not supported yet: write the values into the SQL",
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn unreadable(why: impl Display) -> Error {
    Error::invalid(format!("the parameters cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
    use arrow::datatypes::Schema;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
    use arrow_flight::SchemaAsIpc;
    use bytes::Bytes;
    use futures::stream;
    use tonic::Code;

    fn numbers(rows: i64) -> RecordBatch {
        let numbers = Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef;
        RecordBatch::try_from_iter([("n", numbers)]).expect("batch")
    }

    fn without_columns(rows: usize) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("batch")
    }

    /// The schema's message and the rows'.
    fn messages(batch: &RecordBatch, options: &IpcWriteOptions) -> [FlightData; 2] {
        let (mut tracker, mut context) = (DictionaryTracker::new(false), IpcWriteContext::default());
        let (_, rows) =
            IpcDataGenerator::default().encode(batch, &mut tracker, options, &mut context).expect("encoded rows");
        let schema = batch.schema();
        [FlightData::from(SchemaAsIpc::new(&schema, options)), FlightData::from(rows)]
    }

    async fn bind(messages: impl IntoIterator<Item = FlightData>) -> std::result::Result<(), Status> {
        let messages: Vec<_> = messages.into_iter().map(Ok::<_, Status>).collect();
        refuse(stream::iter(messages)).await
    }

    #[tokio::test]
    async fn given_packed_rows_that_lie_about_their_size_when_bound_then_they_are_refused_unopened() {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).expect("LZ4");
        let [schema, mut rows] = messages(&numbers(1000), &options);
        let header = root_as_message(&rows.data_header).expect("message").header_as_record_batch().expect("rows");
        assert_eq!(header.compression().expect("packed").codec(), CompressionType::LZ4_FRAME);
        let mut body = rows.data_body.to_vec();
        body[..8].copy_from_slice(&(1_i64 << 62).to_le_bytes());
        rows.data_body = Bytes::from(body);
        let refusal = bind([schema, rows]).await.expect_err("rows");
        assert_eq!(refusal.code(), Code::Unimplemented);
        assert!(refusal.message().contains("bound parameters"), "{refusal}");
    }

    #[tokio::test]
    async fn given_drivers_that_bind_nothing_when_bound_then_it_is_fine() {
        let options = IpcWriteOptions::default();
        bind([]).await.expect("no message");
        bind([FlightData::default()]).await.expect("the command alone");
        bind(messages(&numbers(0), &options)).await.expect("no rows");
        bind(messages(&without_columns(1), &options)).await.expect("no columns");
    }

    #[tokio::test]
    async fn given_messages_that_make_no_sense_when_bound_then_the_client_is_told() {
        let [_, rows] = messages(&numbers(1), &IpcWriteOptions::default());
        let garbled = FlightData { data_header: Bytes::from_static(b"no message at all"), ..Default::default() };
        for message in [rows, garbled] {
            let refusal = bind([message]).await.expect_err("unreadable");
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
            assert!(refusal.message().contains("cannot be read"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn given_messages_without_end_or_of_any_size_when_bound_then_reading_stops() {
        let endless = stream::repeat_with(|| Ok::<_, Status>(FlightData::default()));
        assert_eq!(refuse(endless).await.expect_err("too many").code(), Code::InvalidArgument);
        let large = FlightData { data_body: Bytes::from(vec![0; MAX_BYTES + 1]), ..Default::default() };
        assert_eq!(bind([large]).await.expect_err("too large").code(), Code::InvalidArgument);
    }
}
