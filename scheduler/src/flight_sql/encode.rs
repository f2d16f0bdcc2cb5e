//! Results as Flight messages, none too large for a client.
//!
//! gRPC clients refuse messages over a limit (16 MiB with ADBC's defaults, 4 MiB with others'). Rows differ in size,
//! so a batch's share of bytes per row says little: what counts is the encoded size, and a batch over the limit is cut
//! and encoded again. Only a single row can be larger. A batch whose rows share large values is cut before, too: in wire
//! layout they share nothing, and it may not fit into memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, SchemaAsIpc};
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use springald_core::error::{Error, Result};
use tonic::Status;

use super::unshared::cut;
use super::wire::{to_wire, wire_schema};

/// Largest encoded batch, in bytes, unless it is a single row.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// A stream of Flight messages: the schema, then the rows.
pub(super) type Messages = BoxStream<'static, std::result::Result<FlightData, Status>>;

/// A query's result for a client.
pub(super) fn results(batches: SendableRecordBatchStream) -> Messages {
    let schema = wire_schema(&batches.schema());
    encode(schema, batches.map_err(Error::from))
}

/// One batch for a client.
pub(super) fn single(batch: RecordBatch) -> Messages {
    let schema = wire_schema(&batch.schema());
    encode(schema, stream::iter([Ok(batch)]))
}

fn encode(schema: SchemaRef, batches: impl Stream<Item = Result<RecordBatch>> + Send + 'static) -> Messages {
    let mut encoder = Encoder::default();
    let first = FlightData::from(SchemaAsIpc::new(&schema, &encoder.options));
    let announced = Arc::clone(&schema);
    let slices = batches.map(move |batch| cut(batch?, &announced, MAX_BATCH_BYTES));
    // One slice after the other: what a batch becomes is never in memory as a whole.
    let messages = one_by_one(slices).map(move |slice| encoder.encode(&to_wire(&slice?, &schema)?));
    stream::iter([Ok(first)]).chain(one_by_one(messages).map_err(Status::from)).boxed()
}

/// The items of each list; the next list is asked for when they are gone.
fn one_by_one<T>(lists: impl Stream<Item = Result<Vec<T>>>) -> impl Stream<Item = Result<T>> {
    lists.map_ok(|items| stream::iter(items.into_iter().map(Ok::<T, Error>))).try_flatten()
}

struct Encoder {
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
    max_bytes: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            options: IpcWriteOptions::default(),
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
            max_bytes: MAX_BATCH_BYTES,
        }
    }
}

impl Encoder {
    /// The messages of one batch, in the order of its rows.
    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>> {
        let mut messages = vec![];
        self.encode_into(batch, &mut messages)?;
        Ok(messages)
    }

    fn encode_into(&mut self, batch: &RecordBatch, messages: &mut Vec<FlightData>) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let encoded = self.generator.encode(batch, &mut self.dictionaries, &self.options, &mut self.context);
        let (dictionaries, data) =
            encoded.map_err(|error| Error::internal("a result batch cannot be encoded").with_source(error))?;
        let data = FlightData::from(data);
        let bytes = data.data_body.len();
        if bytes <= self.max_bytes || rows == 1 {
            messages.extend(dictionaries.into_iter().map(FlightData::from));
            messages.push(data);
            return Ok(());
        }
        drop(data);
        let pieces = bytes.div_ceil(self.max_bytes).clamp(2, rows);
        let step = rows.div_ceil(pieces);
        for offset in (0..rows).step_by(step) {
            self.encode_into(&batch.slice(offset, step.min(rows - offset)), messages)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, StringArray, StringViewArray,
    };
    use arrow::datatypes::{Int32Type, Int64Type};
    use arrow_flight::decode::FlightRecordBatchStream;
    use arrow_flight::error::FlightError;

    async fn decode(messages: Vec<FlightData>) -> (SchemaRef, Vec<RecordBatch>) {
        let source = stream::iter(messages.into_iter().map(Ok::<_, FlightError>));
        let mut decoder = FlightRecordBatchStream::new_from_flight_data(source);
        let mut batches = vec![];
        while let Some(batch) = decoder.next().await {
            batches.push(batch.expect("a readable message"));
        }
        (decoder.schema().cloned().expect("a schema"), batches)
    }

    #[tokio::test]
    async fn given_rows_of_very_different_sizes_no_message_with_several_rows_is_over_the_limit() {
        let texts: Vec<String> = (0..1000).map(|row| "x".repeat(if row % 100 == 7 { 900_000 } else { 3 })).collect();
        let texts = StringArray::from(texts);
        let numbers = Int64Array::from_iter_values(0..1000);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("t", Arc::new(texts.clone()) as _)]);
        let messages: Vec<FlightData> = single(batch.expect("batch")).try_collect().await.expect("messages");
        assert!(messages.iter().all(|message| message.data_body.len() <= MAX_BATCH_BYTES));
        let (schema, batches) = decode(messages).await;
        let all = arrow::compute::concat_batches(&schema, &batches).expect("one batch");
        assert_eq!(all.column(1).as_string::<i32>(), &texts);
        assert_eq!(all.column(0).len(), 1000);
    }

    #[tokio::test]
    async fn given_rows_that_share_one_large_text_when_sent_then_no_message_is_over_the_limit_and_all_have_it() {
        const ROWS: usize = 300;
        let text = "x".repeat(100_000);
        let one: ArrayRef = Arc::new(StringViewArray::from(vec![text.as_str()]));
        let dictionary = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; ROWS]), Arc::clone(&one));
        let views = arrow::compute::take(&one, &Int32Array::from(vec![0; ROWS]), None).expect("views");
        for column in [views, Arc::new(dictionary)] {
            let numbers = Int64Array::from_iter_values((0_i64..).take(ROWS));
            let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", column)]);
            let messages: Vec<FlightData> = single(batch.expect("batch")).try_collect().await.expect("messages");
            assert!(messages.iter().all(|message| message.data_body.len() <= MAX_BATCH_BYTES));
            let (schema, batches) = decode(messages).await;
            let all = arrow::compute::concat_batches(&schema, &batches).expect("one batch");
            assert!(all.column(1).as_string::<i32>().iter().all(|value| value == Some(text.as_str())));
            let numbers = all.column(0).as_primitive::<Int64Type>().values().iter().copied();
            assert!(numbers.eq((0_i64..).take(ROWS)));
        }
    }

    #[tokio::test]
    async fn given_rows_of_ordinary_views_when_sent_then_they_are_one_message() {
        let texts: Vec<String> = (0..8192).map(|row| format!("{row:0100}")).collect();
        let batch = RecordBatch::try_from_iter([("t", Arc::new(StringViewArray::from(texts)) as ArrayRef)]);
        let messages: Vec<FlightData> = single(batch.expect("batch")).try_collect().await.expect("messages");
        assert_eq!(messages.len(), 2, "the schema and the rows");
    }

    #[tokio::test]
    async fn given_a_single_row_over_the_limit_it_is_sent_alone() {
        let texts = StringArray::from(vec!["a".to_owned(), "b".repeat(MAX_BATCH_BYTES + 1), "c".to_owned()]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(texts) as _)]).expect("batch");
        let messages: Vec<FlightData> = single(batch).try_collect().await.expect("messages");
        let (_, batches) = decode(messages).await;
        assert!(batches.iter().any(|batch| batch.num_rows() == 1));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }

    #[tokio::test]
    async fn given_no_rows_the_schema_is_sent_nevertheless() {
        let schema = StringArray::from(vec!["x"]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(schema) as _)]).expect("batch");
        let (decoded, batches) =
            decode(single(batch.slice(0, 0)).try_collect::<Vec<_>>().await.expect("messages")).await;
        assert_eq!((decoded, batches.len()), (batch.schema(), 0));
    }
}
