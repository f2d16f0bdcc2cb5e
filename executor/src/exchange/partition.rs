//! Splits a stage's output into its partitions.
//!
//! ```text
//!   hash:     batch ──▶ BatchPartitioner (DataFusion's own hash) ──▶ one gatherer per partition ──▶ full batches
//!   as it is: batch ──▶ one gatherer (large batches pass) ──▶ the same partition
//! ```
//!
//! The hash must be the one of DataFusion's `RepartitionExec`, because the other side of a join may be split by that.
//! A row is copied twice: taken by partition, then into a batch of the target size; strings of view columns once.
//! Nothing is allocated ahead: a stage has many output partitions, and most of them may get few rows.

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::BatchPartitioner;

use super::compact::compact;

/// A batch for an output partition.
pub(crate) type Routed = (u32, RecordBatch);

/// Splits the batches of one task, or of one of its partitions at a time.
pub(crate) enum Splitter {
    /// Rows go where their hash (or turn, or range) says.
    Split { partitioner: Box<BatchPartitioner>, gatherers: Vec<Gatherer> },
    /// All rows go to one partition: that of the plan (`follows`), or the only one there is.
    Keep { gatherer: Gatherer, partition: u32, follows: bool },
}

/// Gathers rows until they are enough for a batch.
pub(crate) struct Gatherer {
    schema: SchemaRef,
    /// Rows of a full batch, at least.
    target: usize,
    /// A batch of so many rows is passed on as it is if nothing waits before it.
    large: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
}

impl Gatherer {
    /// A batch, if there are enough rows for one now.
    fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        self.rows += batch.num_rows();
        let enough = if self.waiting.is_empty() { self.large } else { self.target };
        self.waiting.push(batch);
        if self.rows >= enough { self.finish() } else { Ok(None) }
    }

    /// What is left, in one batch.
    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        self.rows = 0;
        let mut waiting = std::mem::take(&mut self.waiting);
        let batch = match waiting.len() {
            0 => return Ok(None),
            1 => waiting.remove(0),
            _ => concat_batches(&self.schema, &waiting)?,
        };
        Ok(Some(compact(batch)?))
    }
}

impl Splitter {
    /// Splits rows of `schema` by `partitioning` (none: kept as they are) into batches of `batch_size` rows.
    /// `time` grows by the time spent; `lane` of `lanes` staggers round-robin.
    pub(crate) fn new(
        partitioning: Option<&Partitioning>,
        schema: &SchemaRef,
        batch_size: usize,
        time: &Time,
        (lane, lanes): (usize, usize),
    ) -> Result<Self> {
        let target = batch_size.max(1);
        let gatherer = |large| {
            let schema = SchemaRef::clone(schema);
            Gatherer { schema, target, large, waiting: vec![], rows: 0 }
        };
        match partitioning {
            Some(partitioning) if partitioning.partition_count() > 1 => {
                let partitioner = BatchPartitioner::try_new(partitioning.clone(), time.clone(), lane, lanes)?;
                let gatherers = (0..partitioning.partition_count()).map(|_| gatherer(target)).collect();
                Ok(Self::Split { partitioner: Box::new(partitioner), gatherers })
            }
            // Copying a batch that is large already only costs time.
            _ => {
                let gatherer = gatherer(target.div_ceil(2));
                Ok(Self::Keep { gatherer, partition: 0, follows: partitioning.is_none() })
            }
        }
    }

    /// What is pushed from now on comes from plan partition `plan_partition`; what is left of the one before, and may
    /// not be mixed with it, is appended to `ready`.
    pub(crate) fn start(&mut self, plan_partition: u32, ready: &mut Vec<Routed>) -> Result<()> {
        if matches!(self, Self::Keep { follows: true, .. }) {
            self.flush(ready)?;
        }
        if let Self::Keep { partition, follows: true, .. } = self {
            *partition = plan_partition;
        }
        Ok(())
    }

    /// Takes `batch`; full batches that are ready are appended to `ready`.
    pub(crate) fn push(&mut self, batch: RecordBatch, ready: &mut Vec<Routed>) -> Result<()> {
        match self {
            Self::Split { partitioner, gatherers } => partitioner.partition(batch, |partition, rows| {
                let Some(gatherer) = gatherers.get_mut(partition) else {
                    return datafusion::common::internal_err!("a row was sent to output partition {partition}");
                };
                ready.extend(gatherer.push(rows)?.map(|batch| (partition as u32, batch)));
                Ok(())
            }),
            Self::Keep { gatherer, partition, .. } => {
                ready.extend(gatherer.push(batch)?.map(|batch| (*partition, batch)));
                Ok(())
            }
        }
    }

    /// Appends what is left, in batches that may be small, to `ready`.
    pub(crate) fn flush(&mut self, ready: &mut Vec<Routed>) -> Result<()> {
        match self {
            Self::Split { gatherers, .. } => {
                for (partition, gatherer) in gatherers.iter_mut().enumerate() {
                    ready.extend(gatherer.finish()?.map(|batch| (partition as u32, batch)));
                }
            }
            Self::Keep { gatherer, partition, .. } => {
                ready.extend(gatherer.finish()?.map(|batch| (*partition, batch)));
            }
        }
        Ok(())
    }

    /// Rows that wait for their batch to be full.
    pub(crate) fn buffered_rows(&self) -> usize {
        match self {
            Self::Split { gatherers, .. } => gatherers.iter().map(|gatherer| gatherer.rows).sum(),
            Self::Keep { gatherer, .. } => gatherer.rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
        StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::catalog::memory::MemorySourceConfig;
    use datafusion::execution::TaskContext;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::ExecutionPlan;
    use datafusion::physical_plan::repartition::RepartitionExec;

    use super::*;

    /// A generator of numbers that needs no crate: splitmix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn column<T>(&mut self, rows: usize, value: impl Fn(u64) -> T) -> Vec<Option<T>> {
            (0..rows).map(|_| (!self.next().is_multiple_of(7)).then(|| value(self.next() % 1000))).collect()
        }
    }

    fn random_batch(random: &mut Random, rows: usize) -> RecordBatch {
        let decimals = Decimal128Array::from(random.column(rows, i128::from)).with_precision_and_scale(15, 2);
        let long = |number: u64| format!("a string that is not inlined: {number}");
        let columns: [(&str, ArrayRef); 9] = [
            ("int", Arc::new(Int32Array::from(random.column(rows, |n| n as i32)))),
            ("long", Arc::new(Int64Array::from(random.column(rows, |n| n as i64)))),
            ("float", Arc::new(Float64Array::from(random.column(rows, |n| n as f64 / 3.0)))),
            ("bool", Arc::new(BooleanArray::from(random.column(rows, |n| n % 2 == 0)))),
            ("date", Arc::new(Date32Array::from(random.column(rows, |n| n as i32)))),
            ("time", Arc::new(TimestampMicrosecondArray::from(random.column(rows, |n| n as i64)))),
            ("decimal", Arc::new(decimals.expect("valid precision"))),
            ("text", Arc::new(StringArray::from(random.column(rows, long)))),
            ("view", Arc::new(StringViewArray::from(random.column(rows, long)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("a batch")
    }

    fn split_all(splitter: &mut Splitter, batches: &[RecordBatch]) -> Vec<Routed> {
        let mut ready = vec![];
        for batch in batches {
            splitter.push(batch.clone(), &mut ready).expect("splits");
        }
        splitter.flush(&mut ready).expect("flushes");
        ready
    }

    fn sorted_rows(batches: &[RecordBatch]) -> Vec<String> {
        let text = pretty_format_batches(batches).expect("formats").to_string();
        let mut rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).map(str::to_owned).collect();
        rows.sort();
        rows
    }

    #[tokio::test]
    async fn given_random_rows_of_all_types_when_split_then_the_same_partitions_as_repartition_exec() {
        for (seed, key) in (0..9).map(|column| (42 + column as u64, column)) {
            let mut random = Random(seed);
            let batches: Vec<_> = [100, 1, 777, 0, 2000].map(|rows| random_batch(&mut random, rows)).to_vec();
            let schema = batches.first().expect("a batch").schema();
            let keys: Vec<Arc<dyn PhysicalExpr>> =
                vec![Arc::new(Column::new(schema.field(key).name(), key)), Arc::new(Column::new("int", 0))];
            let partitioning = Partitioning::Hash(keys, 5);
            let mut splitter =
                Splitter::new(Some(&partitioning), &schema, 256, &Time::new(), (0, 1)).expect("a splitter");
            let ours = split_all(&mut splitter, &batches);

            let source = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&schema), None).expect("a source");
            let repartition = RepartitionExec::try_new(source, partitioning).expect("a plan");
            for partition in 0..5 {
                let stream = repartition.execute(partition, Arc::new(TaskContext::default())).expect("runs");
                let theirs = datafusion::physical_plan::common::collect(stream).await.expect("collects");
                let partition = partition as u32;
                let ours: Vec<_> =
                    ours.iter().filter(|(to, _)| *to == partition).map(|(_, batch)| batch.clone()).collect();
                assert!(ours.iter().rev().skip(1).all(|batch| (256..512).contains(&batch.num_rows())), "seed {seed}");
                assert_eq!(sorted_rows(&ours), sorted_rows(&theirs), "seed {seed}, partition {partition}");
            }
        }
    }

    #[test]
    fn given_no_partitioning_when_split_then_each_plan_partition_keeps_its_rows_and_order() {
        let mut random = Random(7);
        let batches: Vec<_> = (0..6).map(|_| random_batch(&mut random, 100)).collect();
        let schema = batches.first().expect("a batch").schema();
        let mut splitter = Splitter::new(None, &schema, 128, &Time::new(), (0, 1)).expect("a splitter");
        let mut ready = vec![];
        for (partition, half) in [(3, &batches[..3]), (4, &batches[3..])] {
            splitter.start(partition, &mut ready).expect("starts");
            for batch in half {
                splitter.push(batch.clone(), &mut ready).expect("pushes");
            }
        }
        splitter.flush(&mut ready).expect("flushes");
        for (partition, half) in [(3, &batches[..3]), (4, &batches[3..])] {
            let got: Vec<_> = ready.iter().filter(|(to, _)| *to == partition).map(|(_, batch)| batch).collect();
            let expected = concat_batches(&schema, half).expect("one schema");
            assert_eq!(concat_batches(&schema, got).expect("one schema"), expected);
        }
        assert_eq!(splitter.buffered_rows(), 0);
    }

    #[test]
    fn given_one_output_partition_when_split_then_all_rows_go_there() {
        let mut random = Random(1);
        let batch = random_batch(&mut random, 10);
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("int", 0));
        let one = Partitioning::Hash(vec![key], 1);
        let mut splitter = Splitter::new(Some(&one), &batch.schema(), 100, &Time::new(), (0, 1)).expect("a splitter");
        let mut ready = vec![];
        splitter.start(9, &mut ready).expect("starts");
        splitter.push(batch.clone(), &mut ready).expect("pushes");
        splitter.flush(&mut ready).expect("flushes");
        assert_eq!(ready, [(0, batch)]);
    }
}
