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
//!
//! Rows that wait are slices: few rows of a partition that gets few keep all that was split since alive. Where that is
//! much more than the rows themselves, they are copied out of it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::BatchPartitioner;

use super::gather::Gatherer;
use super::retained::Retained;

/// A batch for an output partition.
pub(crate) type Routed = (u32, RecordBatch);

/// Rows that wait may keep twice their own bytes alive besides, and so many. Copying them out of it makes room for at
/// least as many bytes as are copied.
const DEAD_BYTES: usize = 8 << 20;

/// Splits the batches of one task, or of one of its partitions at a time.
pub(crate) struct Splitter {
    way: Way,
    /// What the rows that wait keep alive.
    retained: Retained,
    /// What of that stayed alive when they were copied last, as dictionaries do.
    stuck: usize,
}

enum Way {
    /// Rows go where their hash (or turn, or range) says.
    Split { partitioner: Box<BatchPartitioner>, gatherers: Vec<Gatherer> },
    /// All rows go to one partition: that of the plan (`follows`), or the only one there is.
    Keep { gatherer: Gatherer, partition: u32, follows: bool },
}

impl Way {
    fn gatherers(&self) -> &[Gatherer] {
        match self {
            Self::Split { gatherers, .. } => gatherers,
            Self::Keep { gatherer, .. } => std::slice::from_ref(gatherer),
        }
    }

    fn gatherers_mut(&mut self) -> &mut [Gatherer] {
        match self {
            Self::Split { gatherers, .. } => gatherers,
            Self::Keep { gatherer, .. } => std::slice::from_mut(gatherer),
        }
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
        let gatherer = |shares| Gatherer::new(SchemaRef::clone(schema), batch_size.max(1), shares);
        let way = match partitioning {
            Some(partitioning) if partitioning.partition_count() > 1 => {
                let partitioner = BatchPartitioner::try_new(partitioning.clone(), time.clone(), lane, lanes)?;
                let gatherers = (0..partitioning.partition_count()).map(|_| gatherer(true)).collect();
                Way::Split { partitioner: Box::new(partitioner), gatherers }
            }
            _ => Way::Keep { gatherer: gatherer(false), partition: 0, follows: partitioning.is_none() },
        };
        Ok(Self { way, retained: Retained::default(), stuck: 0 })
    }

    /// What is pushed from now on comes from plan partition `plan_partition`; what is left of the one before, and may
    /// not be mixed with it, is appended to `ready`.
    pub(crate) fn start(&mut self, plan_partition: u32, ready: &mut Vec<Routed>) -> Result<()> {
        if matches!(self.way, Way::Keep { follows: true, .. }) {
            self.flush(ready)?;
        }
        if let Way::Keep { partition, follows: true, .. } = &mut self.way {
            *partition = plan_partition;
        }
        Ok(())
    }

    /// Takes `batch`; full batches that are ready are appended to `ready`.
    pub(crate) fn push(&mut self, batch: RecordBatch, ready: &mut Vec<Routed>) -> Result<()> {
        match &mut self.way {
            Way::Split { partitioner, gatherers } => {
                // DataFusion takes the rows of all partitions at once: what it gives are slices of the same arrays.
                let mut kept = None;
                for routed in partitioner.partition_iter(batch)? {
                    let (partition, rows) = routed?;
                    let Some(gatherer) = gatherers.get_mut(partition) else {
                        return datafusion::common::internal_err!("a row was sent to output partition {partition}");
                    };
                    let kept = kept.get_or_insert_with(|| self.retained.keep(&rows));
                    let full = gatherer.push(rows, |_| Arc::clone(kept))?;
                    ready.extend(full.into_iter().flatten().map(|batch| (partition as u32, batch)));
                }
            }
            Way::Keep { gatherer, partition, .. } => {
                let full = gatherer.push(batch, |rows| self.retained.keep(rows))?;
                ready.extend(full.into_iter().flatten().map(|batch| (*partition, batch)));
            }
        }
        self.settle()
    }

    /// Appends what is left, in batches that may be small, to `ready`.
    pub(crate) fn flush(&mut self, ready: &mut Vec<Routed>) -> Result<()> {
        match &mut self.way {
            Way::Split { gatherers, .. } => {
                for (partition, gatherer) in gatherers.iter_mut().enumerate() {
                    ready.extend(gatherer.finish()?.map(|batch| (partition as u32, batch)));
                }
            }
            Way::Keep { gatherer, partition, .. } => {
                ready.extend(gatherer.finish()?.map(|batch| (*partition, batch)));
            }
        }
        Ok(())
    }

    /// Bytes that the rows that wait for their batch to be full keep in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.retained.bytes()
    }

    /// Copies the rows that wait out of what they keep alive, if that is much more than themselves.
    fn settle(&mut self) -> Result<()> {
        let own: usize = self.way.gatherers().iter().map(Gatherer::own_bytes).sum();
        let dead = self.retained.bytes().saturating_sub(own);
        self.stuck = self.stuck.min(dead);
        if dead > 2 * own + DEAD_BYTES + self.stuck {
            for gatherer in self.way.gatherers_mut() {
                gatherer.settle(&self.retained)?;
            }
            self.stuck = self.retained.bytes().saturating_sub(own);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
        StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::catalog::memory::MemorySourceConfig;
    use datafusion::common::utils::memory::get_record_batch_memory_size;
    use datafusion::execution::TaskContext;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::ExecutionPlan;
    use datafusion::physical_plan::repartition::RepartitionExec;

    use super::super::gather::BATCH_BYTES;
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
        assert_eq!(splitter.held_bytes(), 0);
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

    /// Rows with these keys, and `width` bytes of text each.
    fn texts(keys: impl Iterator<Item = i32> + Clone, width: usize) -> RecordBatch {
        let texts = keys.clone().map(|_| "x".repeat(width));
        let columns: [(&str, ArrayRef); 2] = [
            ("int", Arc::new(Int32Array::from_iter_values(keys))),
            ("text", Arc::new(StringArray::from_iter_values(texts))),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    fn by_hash(schema: &SchemaRef, partitions: usize) -> Splitter {
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("int", 0));
        let partitioning = Partitioning::Hash(vec![key], partitions);
        Splitter::new(Some(&partitioning), schema, 8192, &Time::new(), (0, 1)).expect("a splitter")
    }

    fn row_count(ready: &[Routed]) -> usize {
        ready.iter().map(|(_, batch)| batch.num_rows()).sum()
    }

    #[test]
    fn given_wide_rows_when_split_then_bytes_fill_a_batch_and_what_waits_is_counted_from_the_first_row() {
        let wide = |keys| texts(keys, 10_000);
        let mut splitter = by_hash(&wide(0..0).schema(), 8);
        let mut ready = vec![];
        splitter.push(wide(0..1), &mut ready).expect("pushes");
        assert!(ready.is_empty() && splitter.held_bytes() >= 10_000, "{}", splitter.held_bytes());
        let mut highest = 0;
        for start in (1..8001).step_by(100) {
            splitter.push(wide(start..start + 100), &mut ready).expect("pushes");
            highest = highest.max(splitter.held_bytes());
        }
        assert!(highest < 32 << 20, "{highest} bytes of 80 MB waited");
        assert!(ready.len() >= 48, "{} batches", ready.len());
        let fit = BATCH_BYTES / 10_000;
        assert!(ready.iter().all(|(_, batch)| (fit..2 * fit).contains(&batch.num_rows())));
        splitter.flush(&mut ready).expect("flushes");
        assert_eq!((row_count(&ready), splitter.held_bytes()), (8001, 0));
    }

    #[test]
    fn given_a_partition_that_gets_few_rows_when_split_then_they_do_not_keep_all_others_alive() {
        // Nearly all rows have one key.
        let batch = texts((0..500).map(|row: i32| (row - 491).max(0)), 1000);
        let mut splitter = by_hash(&batch.schema(), 2);
        let (mut ready, mut highest) = (vec![], 0);
        for _ in 0..100 {
            splitter.push(batch.clone(), &mut ready).expect("pushes");
            highest = highest.max(splitter.held_bytes());
        }
        let first = ready.first().map(|(partition, _)| *partition);
        assert!(ready.iter().all(|(partition, _)| Some(*partition) == first), "the other one never has enough");
        assert!(highest < 24 << 20, "{highest} bytes of 50 MB waited");
        splitter.flush(&mut ready).expect("flushes");
        assert_eq!((row_count(&ready), splitter.held_bytes()), (50_000, 0));
        assert!(ready.iter().any(|(partition, _)| Some(*partition) != first));
    }

    #[test]
    fn given_a_single_batch_when_split_then_no_partition_keeps_the_rows_of_the_others() {
        let batch = texts(0..1000, 100);
        let mut splitter = by_hash(&batch.schema(), 16);
        let ready = split_all(&mut splitter, std::slice::from_ref(&batch));
        assert_eq!((ready.len(), row_count(&ready)), (16, 1000));
        let kept: usize = ready.iter().map(|(_, batch)| get_record_batch_memory_size(batch)).sum();
        let whole = get_record_batch_memory_size(&batch);
        assert!(kept < 2 * whole, "{kept} bytes of {whole}");
    }
}
