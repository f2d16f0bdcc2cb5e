//! Batches as Flight messages.
//!
//! Arrow's own `FlightDataEncoder` is not used: it changes the schema on the way (large lists become lists, which
//! reads wrong numbers back), and sends all strings of a batch with each part that a large batch is split into. What
//! is sent here is exactly what Arrow's IPC stream writer writes, dictionaries included.
//!
//! How large a message becomes is known before it is encoded. To encode, look, and encode again in smaller parts would
//! not do: what was encoded first has told the writer that its dictionaries were sent.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::FlightData;

use super::compact::compact_part;
use super::size::sent_bytes;

/// A batch is sent in parts of about this many bytes.
pub(crate) const MESSAGE_BYTES: usize = 4 << 20;
/// Rows differ in size: a part that is no larger than this is not parted again.
const LARGE_MESSAGE_BYTES: usize = MESSAGE_BYTES + MESSAGE_BYTES / 2;

/// Largest message that is sent or accepted, in bytes: a part has at least one row, however large that is.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Why a batch cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// What cannot be parted is larger than a message may be.
    #[error("a row or a dictionary takes {0} bytes; an exchange message may have {most}", most = MAX_MESSAGE_BYTES)]
    TooLarge(usize),
    /// Arrow says why.
    #[error("encoding a batch for a peer: {0}")]
    Arrow(#[from] ArrowError),
}

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
    ///
    /// # Errors
    /// A row, or a dictionary, is too large for a message.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, EncodeError> {
        let mut messages = vec![];
        for part in split(batch)? {
            let (dictionaries, data) =
                self.generator.encode(&part, &mut self.dictionaries, &self.options, &mut self.context)?;
            let encoded = dictionaries.into_iter().chain([data]).map(FlightData::from);
            for message in encoded {
                let bytes = message_bytes(&message);
                if bytes > MAX_MESSAGE_BYTES {
                    return Err(EncodeError::TooLarge(bytes));
                }
                messages.push(message);
            }
        }
        Ok(messages)
    }
}

/// Slices of `batch` of about [`MESSAGE_BYTES`] each; of more only where a single row has more.
fn split(batch: &RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
    if sent_bytes(batch) <= LARGE_MESSAGE_BYTES {
        return Ok(vec![batch.clone()]);
    }
    let mut parts = vec![];
    split_into(compact_part(batch.clone())?, &mut parts)?;
    Ok(parts)
}

/// Parts `batch`, which is compact, until all parts are small: rows differ in size, and large ones may be neighbours.
fn split_into(batch: RecordBatch, parts: &mut Vec<RecordBatch>) -> Result<(), ArrowError> {
    let (rows, bytes) = (batch.num_rows(), sent_bytes(&batch));
    if bytes <= LARGE_MESSAGE_BYTES || rows <= 1 {
        parts.push(batch);
        return Ok(());
    }
    let step = rows.div_ceil(bytes.div_ceil(MESSAGE_BYTES).min(rows));
    let slices = (0..rows).step_by(step).map(|start| compact_part(batch.slice(start, step.min(rows - start))));
    let slices = slices.collect::<Result<Vec<_>, _>>()?;
    let in_parts: usize = slices.iter().map(sent_bytes).sum();
    if 2 * in_parts > 3 * bytes && bytes <= MAX_MESSAGE_BYTES / 2 {
        // Many rows share few long strings, say, which would be sent with every part.
        parts.push(batch);
        return Ok(());
    }
    slices.into_iter().try_for_each(|slice| split_into(slice, parts))
}

/// Bytes that `message` takes on the wire, about.
pub(crate) fn message_bytes(message: &FlightData) -> usize {
    message.data_header.len() + message.data_body.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, DictionaryArray, Int32Array, Int64Array, LargeListArray, ListArray, RecordBatchOptions, StringArray,
        StringViewArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
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

    fn sizes(batch: &RecordBatch) -> Vec<usize> {
        let (mut encoder, _) = FlightEncoder::new(&batch.schema());
        encoder.encode(batch).expect("encodes").iter().map(message_bytes).collect()
    }

    async fn arrives_whole(batch: &RecordBatch) {
        let received = round_trip(std::slice::from_ref(batch)).await;
        assert_eq!(concat_batches(&batch.schema(), &received).expect("one schema"), *batch);
    }

    /// Texts of `rows` rows, 300 bytes each, in lists and in structs.
    fn nested(rows: usize) -> RecordBatch {
        let texts = (0..rows).map(|row| format!("{row:0>300}"));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
        let field = Arc::new(Field::new_list_field(DataType::Utf8View, false));
        let offsets = OffsetBuffer::from_lengths(vec![1; rows]);
        let lists = ListArray::new(Arc::clone(&field), offsets, Arc::clone(&views), None);
        let structs = StructArray::new(vec![field].into(), vec![views], None);
        let columns: [(&str, ArrayRef); 2] = [("list", Arc::new(lists)), ("struct", Arc::new(structs))];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    #[tokio::test]
    async fn given_strings_inside_of_lists_and_structs_when_encoded_then_parts_hold_only_their_own() {
        let batch = nested(40_000);
        let sizes_of_all = sizes(&batch);
        assert!(sizes_of_all.len() >= 6, "{sizes_of_all:?}");
        assert!(sizes_of_all.iter().all(|size| *size < 2 * MESSAGE_BYTES), "{sizes_of_all:?}");
        arrives_whole(&batch).await;
        let few = batch.slice(7000, 10);
        let sizes_of_few = sizes(&few);
        assert!(sizes_of_few.len() == 1 && sizes_of_few.iter().all(|size| *size < 10_000), "{sizes_of_few:?}");
        arrives_whole(&few).await;
    }

    #[tokio::test]
    async fn given_large_rows_next_to_each_other_among_small_ones_when_encoded_then_no_message_has_two_of_them() {
        let large = 4000..4004;
        let text = |row: i32| if large.contains(&row) { "x".repeat(5 << 20) } else { format!("short {row}") };
        let letters: Vec<_> = (0..8192).map(|row| if row % 3 == 0 { "a" } else { "b" }).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("text", Arc::new(StringArray::from_iter_values((0..8192).map(text)))), ("letter", dictionary(&letters))];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let sizes = sizes(&batch);
        assert!(sizes.iter().all(|size| *size < 2 * MESSAGE_BYTES), "{sizes:?}");
        arrives_whole(&batch).await;
    }

    #[test]
    fn given_rows_that_share_a_large_string_when_encoded_then_it_is_sent_once() {
        let one: ArrayRef = Arc::new(StringViewArray::from_iter_values(["x".repeat(2 * MESSAGE_BYTES)]));
        let one = RecordBatch::try_from_iter([("text", one)]).expect("a batch");
        let shared = take_record_batch(&one, &Int32Array::from(vec![0; 100])).expect("takes");
        assert_eq!(sizes(&shared).len(), 1);
    }

    #[test]
    fn given_a_row_that_no_message_holds_when_encoded_then_an_error_says_so() {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(["x".repeat(MAX_MESSAGE_BYTES)]));
        let batch = RecordBatch::try_from_iter([("text", text)]).expect("a batch");
        let (mut encoder, _) = FlightEncoder::new(&batch.schema());
        let error = encoder.encode(&batch).expect_err("too large");
        assert!(matches!(error, EncodeError::TooLarge(bytes) if bytes > MAX_MESSAGE_BYTES), "{error}");
    }
}
