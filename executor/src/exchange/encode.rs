//! Batches as Flight messages.
//!
//! Arrow's own `FlightDataEncoder` is not used: it changes the schema on the way (large lists become lists, which
//! reads wrong numbers back), and sends all strings of a batch with each part that a large batch is split into. What
//! is sent here is exactly what Arrow's IPC stream writer writes, dictionaries included.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::Result;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;

use super::compact::compact;

/// A batch is sent in parts of about this many bytes.
pub(crate) const MESSAGE_BYTES: usize = 4 << 20;

/// Largest message that is sent or accepted, in bytes: a part has at least one row, however large that is.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Encodes one stream: its schema first, then its batches.
pub(crate) struct FlightEncoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    /// Dictionaries that were sent, by id; ids are given by the schema message.
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl FlightEncoder {
    /// An encoder, and the first message of its stream.
    pub(crate) fn new(schema: &Schema) -> (Self, FlightData) {
        let generator = IpcDataGenerator::default();
        let options = IpcWriteOptions::default();
        let mut dictionaries = DictionaryTracker::new(false);
        let first = generator.schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
        (Self { generator, options, dictionaries, context: IpcWriteContext::default() }, first.into())
    }

    /// The messages of one batch: dictionaries that the peer does not have yet, and the batch, in parts if it is large.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>> {
        let mut messages = vec![];
        for part in split(batch)? {
            let (dictionaries, data) =
                self.generator.encode(&part, &mut self.dictionaries, &self.options, &mut self.context)?;
            messages.extend(dictionaries.into_iter().map(FlightData::from));
            messages.push(data.into());
        }
        Ok(messages)
    }
}

/// Slices of `batch` of about [`MESSAGE_BYTES`] each.
fn split(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let bytes = batch.columns().iter().map(column_bytes).sum::<Result<usize>>()?;
    let parts = bytes.div_ceil(MESSAGE_BYTES).max(1);
    if parts == 1 {
        return Ok(vec![batch.clone()]);
    }
    let rows = batch.num_rows().div_ceil(parts).max(1);
    let starts = (0..batch.num_rows()).step_by(rows);
    starts.map(|start| compact(batch.slice(start, rows.min(batch.num_rows() - start)))).collect()
}

fn column_bytes(column: &ArrayRef) -> Result<usize> {
    let strings = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    Ok(column.to_data().get_slice_memory_size()? + strings)
}

/// Bytes that `message` takes on the wire, about.
pub(crate) fn message_bytes(message: &FlightData) -> usize {
    message.data_header.len() + message.data_body.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, Int32Array, Int64Array, LargeListArray, RecordBatchOptions, StringArray, StringViewArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Int32Type, Int64Type};
    use arrow_flight::decode::FlightRecordBatchStream;
    use arrow_flight::error::FlightError;
    use futures::TryStreamExt;

    use super::*;

    async fn round_trip(batches: &[RecordBatch]) -> Vec<RecordBatch> {
        let schema = batches.first().expect("a batch").schema();
        let (mut encoder, first) = FlightEncoder::new(&schema);
        let mut messages = vec![first];
        for batch in batches {
            messages.extend(encoder.encode(batch).expect("encodes"));
        }
        let stream = futures::stream::iter(messages.into_iter().map(Ok::<_, FlightError>));
        FlightRecordBatchStream::new_from_flight_data(stream).try_collect().await.expect("decodes")
    }

    fn dictionary(values: &[&str]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>())
    }

    #[tokio::test]
    async fn given_dictionaries_lists_and_no_rows_when_sent_then_the_same_schema_and_rows() {
        let large = |rows: [Option<Vec<Option<i64>>>; 2]| -> ArrayRef {
            Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(rows))
        };
        let lists = [large([Some(vec![Some(1), None]), None]), large([Some(vec![]), Some(vec![Some(7)])])];
        let dictionaries = [dictionary(&["a", "b"]), dictionary(&["c", "a"])];
        let batches: Vec<_> = lists
            .into_iter()
            .zip(dictionaries)
            .map(|(list, dictionary)| {
                let columns = [("list", list, true), ("dictionary", dictionary, true)];
                RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
            })
            .collect();
        assert_eq!(round_trip(&batches).await, batches);
    }

    #[tokio::test]
    async fn given_batches_without_columns_when_sent_then_their_rows_count() {
        let options = RecordBatchOptions::new().with_row_count(Some(17));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("a batch");
        assert_eq!(round_trip(std::slice::from_ref(&batch)).await, [batch]);
    }

    #[tokio::test]
    async fn given_a_large_batch_when_encoded_then_parts_that_hold_only_their_own_strings() {
        let rows = 40_000;
        let text = |row: i32| format!("{row:0>300}");
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from_iter_values(0..i64::from(rows)))),
            ("view", Arc::new(StringViewArray::from_iter_values((0..rows).map(text)))),
            ("text", Arc::new(StringArray::from_iter_values((0..rows).map(text)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let (mut encoder, _) = FlightEncoder::new(&batch.schema());
        let messages = encoder.encode(&batch).expect("encodes");
        let sizes: Vec<_> = messages.iter().map(message_bytes).collect();
        assert!(sizes.len() >= 6 && sizes.iter().all(|size| *size < 2 * MESSAGE_BYTES), "{sizes:?}");
        let received = round_trip(std::slice::from_ref(&batch)).await;
        assert_eq!(concat_batches(&batch.schema(), &received).expect("one schema"), batch);
    }

    #[test]
    fn given_one_row_larger_than_a_message_when_split_then_one_part() {
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int32Array::from(vec![1]))),
            ("text", Arc::new(StringArray::from_iter_values(["x".repeat(3 * MESSAGE_BYTES)]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        assert_eq!(split(&batch).expect("splits").len(), 1);
    }
}
