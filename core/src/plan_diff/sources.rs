//! Comparison of file sources: how the files of a scan are read.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileSource, JsonSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::UnKnownColumn;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use object_store::memory::InMemory;

use super::Comparison;
use super::layout::{self, CSV_SOURCE, PARQUET_SOURCE};
use super::report::{Check, Located, Stop, differs, same, same_text, unreadable};
use crate::codec::have_same_row_group_order;

/// Name of the column that marks where the fields begin that are read from the text of a source.
const MARK: &str = "springald.plan_diff.predicate";

/// Factories that return the bytes of the file, with or without a cache of footers.
const STANDARD_READERS: [&str; 2] = ["DefaultParquetFileReaderFactory", "CachedParquetFileReaderFactory"];

impl Comparison<'_> {
    /// `batch_size` is set when a source is opened, and metrics are filled then.
    pub(super) fn file_sources(&mut self, left: &FileScanConfig, right: &FileScanConfig) -> Check {
        let (source, other_source) = (left.file_source(), right.file_source());
        if Arc::ptr_eq(source, other_source) {
            return Ok(());
        }
        let (one, other): (&dyn Any, &dyn Any) = (source.as_ref(), other_source.as_ref());
        same("file_type", source.file_type(), other_source.file_type())?;
        if one.type_id() != other.type_id() {
            return Err(differs("type of file_source", &one.type_id(), &other.type_id()));
        }
        self.table_schemas(source.table_schema(), other_source.table_schema())?;
        self.optional_expressions("filter", source.filter().as_ref(), other_source.filter().as_ref())?;
        match (source.projection(), other_source.projection()) {
            (Some(left), Some(right)) => self.projections(left, right).located(|| "projection".to_owned())?,
            (None, None) => {}
            (left, right) => return Err(differs("projection", &left, &right)),
        }
        if let (Some(left), Some(right)) = (one.downcast_ref(), other.downcast_ref()) {
            return parquet_sources(left, right);
        }
        if let (Some(left), Some(right)) = (one.downcast_ref(), other.downcast_ref()) {
            return csv_sources(left, right);
        }
        if let (Some(one), Some(other)) = (one.downcast_ref(), other.downcast_ref()) {
            return same("newline_delimited", &is_newline_delimited(one, left)?, &is_newline_delimited(other, right)?);
        }
        // Its format, of files or of streams, is in the type that was compared above.
        match one.is::<ArrowSource>() {
            true => Ok(()),
            false => Err(unreadable("file_source", format!("a source of {} is not known", source.file_type()))),
        }
    }
}

fn parquet_sources(left: &ParquetSource, right: &ParquetSource) -> Check {
    same("table_parquet_options", left.table_parquet_options(), right.table_parquet_options())?;
    reader_factories(left.parquet_file_reader_factory(), right.parquet_file_reader_factory())?;
    let (left, right) = (short_copy(left), short_copy(right));
    let texts = [&left, &right].map(|source| layout::text_after(source, MARK));
    let [Some(left_text), Some(right_text)] = &texts else {
        return Err(unreadable("file_source", "its debug text has no predicate"));
    };
    if left_text != right_text {
        let left_fields = layout::fields(&left, &PARQUET_SOURCE)?;
        let right_fields = layout::fields(&right, &PARQUET_SOURCE)?;
        for index in [6, 8] {
            same_text(PARQUET_SOURCE.1[index], &left_fields[index], &right_fields[index])?;
        }
        // Keys behind the first columns have no effect, and are not kept.
        let is_same = have_same_row_group_order(&left, &right);
        if !is_same.map_err(|error| unreadable(PARQUET_SOURCE.1[9], error.to_string()))? {
            return same_text(PARQUET_SOURCE.1[9], &left_fields[9], &right_fields[9]);
        }
    }
    Ok(())
}

/// Returns a copy in whose text the fields that are read follow [`MARK`]. What is replaced is compared by getters.
fn short_copy(source: &ParquetSource) -> ParquetSource {
    let mark: Arc<dyn PhysicalExpr> = Arc::new(UnKnownColumn::new(MARK));
    let copy = source.with_predicate(mark);
    let has_factory = source.parquet_file_reader_factory().is_some();
    if has_factory { copy.with_parquet_file_reader_factory(Arc::new(NoReader)) } else { copy }
}

type ReaderFactory = Arc<dyn ParquetFileReaderFactory>;

/// Whether footers are cached is a matter of the process that reads.
fn reader_factories(left: Option<&ReaderFactory>, right: Option<&ReaderFactory>) -> Check {
    if let (Some(left), Some(right)) = (left, right)
        && Arc::ptr_eq(left, right)
    {
        return Ok(());
    }
    let names = [left, right].map(|factory| factory.map(|factory| layout::type_name(factory)));
    match names.iter().flatten().find(|name| !STANDARD_READERS.contains(&name.as_str())) {
        Some(name) => Err(unreadable("parquet_file_reader_factory", name)),
        None => Ok(()),
    }
}

/// Options that have no getter are in the text, before the schema.
fn csv_sources(left: &CsvSource, right: &CsvSource) -> Check {
    let (left, right) = (layout::fields(left, &CSV_SOURCE)?, layout::fields(right, &CSV_SOURCE)?);
    same_text(CSV_SOURCE.1[0], &left[0], &right[0])
}

/// Returns false if each file is one array. There is no getter; but a source of arrays refuses to open a part of a file,
/// before it reads anything.
fn is_newline_delimited(source: &JsonSource, scan: &FileScanConfig) -> Result<bool, Box<Stop>> {
    let error = |error: DataFusionError| unreadable("newline_delimited", error.to_string());
    // One with values of the partition columns. Without files, nothing is read either way.
    let Some(file) = scan.file_groups.iter().flat_map(|group| group.iter()).next() else { return Ok(true) };
    let sized = source.with_batch_size(1);
    let opener = sized.create_file_opener(Arc::new(InMemory::new()), scan, 0).map_err(error)?;
    let mut part = file.clone();
    part.range = Some(FileRange { start: 0, end: 0 });
    match opener.open(part) {
        Ok(_) => Ok(true),
        Err(DataFusionError::NotImplemented(_)) => Ok(false),
        Err(other) => Err(error(other)),
    }
}

/// Stands for the factory in a copy of a source that is only printed.
#[derive(Debug)]
struct NoReader;

impl ParquetFileReaderFactory for NoReader {
    fn create_reader(
        &self,
        _partition_index: usize,
        _file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        internal_err!("a source that is only printed reads no files")
    }
}
