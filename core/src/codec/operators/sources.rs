//! How the files of a scan are read, by format. DataFusion's encoding drops most options of CSV, JSON and Arrow, and of
//! Parquet the size of footers, the order of row groups and the reader; much of it has no getter either.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::config::{CsvOptions, TableParquetOptions};
use datafusion::common::parsers::{CompressionTypeVariant, CsvQuoteStyle};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::{Column, IsNullExpr, lit};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SortOrderPushdownResult;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_proto::protobuf::{CsvFormat, ParquetScanExecNode};
use object_store::memory::InMemory;
use prost::Message;
use springald_proto::plan as proto;
use springald_proto::plan::file_scan_node::Source;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::debug_text::{Cursor, starts_with};
use super::super::values::decode;

/// Name of the source that reads Arrow's format for streams.
const ARROW_STREAM: &str = "arrow_stream";
/// Start of the `Debug` text of the reader of Parquet that keeps footers.
const CACHED_READER: &str = "CachedParquetFileReaderFactory {";

pub(super) fn encode_source(scan: &FileScanConfig, context: &EncodeContext<'_>) -> Result<Source> {
    let source = scan.file_source();
    if let Some(parquet) = source.downcast_ref::<ParquetSource>() {
        encode_parquet(parquet, context).map(Source::Parquet)
    } else if let Some(csv) = source.downcast_ref::<CsvSource>() {
        encode_csv(csv).map(Source::Csv)
    } else if let Some(json) = source.downcast_ref::<JsonSource>() {
        Ok(Source::Json(proto::JsonSource { arrays: reads_arrays(json, scan)? }))
    } else if source.is::<ArrowSource>() {
        Ok(Source::Arrow(proto::ArrowSource { stream: source.file_type() == ARROW_STREAM }))
    } else {
        plan_err!("its files are read by an unknown source of {}", source.file_type())
    }
}

/// Makes the source, without its projection.
pub(super) fn restore_source(
    node: &proto::FileScanNode,
    table: TableSchema,
    url: &ObjectStoreUrl,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn FileSource>> {
    Ok(match &node.source {
        Some(Source::Parquet(parquet)) => restore_parquet(parquet, table, url, context)?,
        Some(Source::Csv(csv)) => {
            let format = decode::<CsvFormat>(&csv.options, "the options of CSV")?;
            let Some(options) = &format.options else { return internal_err!("a scan of CSV has no options") };
            Arc::new(CsvSource::new(table).with_csv_options(options.try_into()?))
        }
        Some(Source::Json(json)) => Arc::new(JsonSource::new(table).with_newline_delimited(!json.arrays)),
        Some(Source::Arrow(arrow)) if arrow.stream => Arc::new(ArrowSource::new_stream_file_source(table)),
        Some(Source::Arrow(_)) => Arc::new(ArrowSource::new_file_source(table)),
        None => return internal_err!("a scan of files has no source"),
    })
}

/// True if each file is one array. The source has no getter for it. It refuses to read a part of a file in that case
/// only, and before any I/O.
fn reads_arrays(json: &JsonSource, scan: &FileScanConfig) -> Result<bool> {
    let Some(file) = scan.file_groups.iter().flat_map(|group| group.iter()).next() else { return Ok(false) };
    let mut part = file.clone();
    part.range = Some(FileRange { start: 0, end: 0 });
    let opener = json.with_batch_size(1).create_file_opener(Arc::new(InMemory::new()), scan, 0)?;
    Ok(matches!(opener.open(part), Err(DataFusionError::NotImplemented(_))))
}

// === CSV

fn encode_csv(csv: &CsvSource) -> Result<proto::CsvSource> {
    let text = format!("{csv:?}");
    let mut cursor = Cursor::new(&text);
    cursor.expect("CsvSource { options: ")?;
    let options = read_csv_options(&mut cursor.clone())?;
    cursor.expect(&format!("{options:?}, batch_size: "))?;
    let batch_size = cursor.option(Cursor::number)?;
    cursor.expect(&format!(", table_schema: {:?}, ", csv.table_schema()))?;
    let format = CsvFormat { options: Some((&options).try_into()?) };
    match format.options.as_ref().map(CsvOptions::try_from).transpose()? {
        Some(decoded) if decoded == options => {
            Ok(proto::CsvSource { options: format.encode_to_vec(), batch_size: encode_fetch(batch_size) })
        }
        _ => plan_err!("its options of CSV are not kept"),
    }
}

fn read_csv_options(cursor: &mut Cursor<'_>) -> Result<CsvOptions> {
    let mut options = CsvOptions::default();
    cursor.expect("CsvOptions { has_header: ")?;
    options.has_header = cursor.option(Cursor::flag)?;
    cursor.expect(", delimiter: ")?;
    options.delimiter = byte(cursor)?;
    cursor.expect(", quote: ")?;
    options.quote = byte(cursor)?;
    cursor.expect(", terminator: ")?;
    options.terminator = cursor.option(byte)?;
    cursor.expect(", escape: ")?;
    options.escape = cursor.option(byte)?;
    cursor.expect(", double_quote: ")?;
    options.double_quote = cursor.option(Cursor::flag)?;
    cursor.expect(", quote_style: ")?;
    options.quote_style = variant(cursor, &QUOTE_STYLES)?;
    cursor.expect(", ignore_leading_whitespace: ")?;
    options.ignore_leading_whitespace = cursor.option(Cursor::flag)?;
    cursor.expect(", ignore_trailing_whitespace: ")?;
    options.ignore_trailing_whitespace = cursor.option(Cursor::flag)?;
    cursor.expect(", newlines_in_values: ")?;
    options.newlines_in_values = cursor.option(Cursor::flag)?;
    cursor.expect(", compression: ")?;
    options.compression = variant(cursor, &COMPRESSIONS)?;
    cursor.expect(", compression_level: ")?;
    options.compression_level = cursor.option(Cursor::number)?.map(|level| level as u32);
    cursor.expect(", schema_infer_max_rec: ")?;
    options.schema_infer_max_rec = cursor.option(Cursor::number)?;
    let texts = [
        ("date_format", &mut options.date_format),
        ("datetime_format", &mut options.datetime_format),
        ("timestamp_format", &mut options.timestamp_format),
        ("timestamp_tz_format", &mut options.timestamp_tz_format),
        ("time_format", &mut options.time_format),
        ("null_value", &mut options.null_value),
        ("null_regex", &mut options.null_regex),
    ];
    for (name, text) in texts {
        cursor.expect(&format!(", {name}: "))?;
        *text = cursor.option(Cursor::string)?;
    }
    cursor.expect(", comment: ")?;
    options.comment = cursor.option(byte)?;
    cursor.expect(", truncated_rows: ")?;
    options.truncated_rows = cursor.option(Cursor::flag)?;
    Ok(options)
}

const QUOTE_STYLES: [CsvQuoteStyle; 4] =
    [CsvQuoteStyle::Necessary, CsvQuoteStyle::Always, CsvQuoteStyle::NonNumeric, CsvQuoteStyle::Never];
const COMPRESSIONS: [CompressionTypeVariant; 5] = [
    CompressionTypeVariant::GZIP,
    CompressionTypeVariant::BZIP2,
    CompressionTypeVariant::XZ,
    CompressionTypeVariant::ZSTD,
    CompressionTypeVariant::UNCOMPRESSED,
];

fn byte(cursor: &mut Cursor<'_>) -> Result<u8> {
    u8::try_from(cursor.number()?).map_err(|error| internal_datafusion_err!("a byte cannot be read: {error}"))
}

fn variant<T: Debug + Copy>(cursor: &mut Cursor<'_>, variants: &[T]) -> Result<T> {
    match variants.iter().find(|variant| cursor.take(&format!("{variant:?}"))) {
        Some(variant) => Ok(*variant),
        None => internal_err!("an option of CSV is unknown"),
    }
}

// === Parquet

/// Fields of a source of Parquet without getters.
#[derive(Debug, PartialEq)]
struct ParquetFields {
    batch_size: Option<usize>,
    metadata_size_hint: Option<usize>,
    reverse_row_groups: bool,
    reorder: Option<LexOrdering>,
}

/// Has a short text, other than readers with their caches.
#[derive(Debug)]
struct NoReader;

impl ParquetFileReaderFactory for NoReader {
    fn create_reader(
        &self,
        _partition: usize,
        _file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn datafusion::parquet::arrow::async_reader::AsyncFileReader + Send>> {
        internal_err!("a reader that only stands in for another cannot read")
    }
}

fn encode_parquet(parquet: &ParquetSource, context: &EncodeContext<'_>) -> Result<proto::ParquetSource> {
    let cached_reader = match parquet.parquet_file_reader_factory() {
        None => false,
        Some(factory) if starts_with(factory, CACHED_READER) => true,
        Some(_) => return plan_err!("its files are read by an unknown reader"),
    };
    let fields = read_parquet_fields(parquet)?;
    let options = parquet.table_parquet_options();
    let mut keys_without_value: Vec<_> =
        options.key_value_metadata.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()).collect();
    keys_without_value.sort();
    let node = ParquetScanExecNode { parquet_options: Some(options.try_into()?), ..Default::default() };
    let source = proto::ParquetSource {
        options: node.encode_to_vec(),
        predicate: parquet.filter().map(|predicate| context.expression(&predicate)).transpose()?,
        batch_size: encode_fetch(fields.batch_size),
        metadata_size_hint: encode_fetch(fields.metadata_size_hint),
        cached_reader,
        reorder: context.optional_ordering(fields.reorder.as_ref())?,
        reverse_row_groups: fields.reverse_row_groups,
        keys_without_value,
    };
    match restore_options(&source)? == *options {
        true => Ok(source),
        false => plan_err!("its options of Parquet are not kept"),
    }
}

fn restore_options(source: &proto::ParquetSource) -> Result<TableParquetOptions> {
    let node = decode::<ParquetScanExecNode>(&source.options, "the options of Parquet")?;
    let Some(options) = &node.parquet_options else { return internal_err!("a scan of Parquet has no options") };
    let mut options: TableParquetOptions = options.try_into()?;
    options.key_value_metadata.extend(source.keys_without_value.iter().map(|key| (key.clone(), None)));
    Ok(options)
}

/// Reads the fields from the text of the same source, in which all that is known and long is replaced.
fn read_parquet_fields(parquet: &ParquetSource) -> Result<ParquetFields> {
    let (options, predicate) = (TableParquetOptions::default(), lit(true));
    let short = parquet
        .clone()
        .with_table_parquet_options(options.clone())
        .with_parquet_file_reader_factory(Arc::new(NoReader))
        .with_predicate(Arc::clone(&predicate));
    let Some(projection) = short.projection() else { return internal_err!("a scan of Parquet has no projection") };
    let text = format!("{short:?}");
    let mut cursor = Cursor::new(&text);
    cursor.expect(&format!("ParquetSource {{ table_parquet_options: {options:?}, metrics: {:?}, ", short.metrics()))?;
    cursor.expect(&format!("table_schema: {:?}, predicate: Some({predicate:?}), ", short.table_schema()))?;
    cursor.expect("parquet_file_reader_factory: Some(NoReader), batch_size: ")?;
    let batch_size = cursor.option(Cursor::number)?;
    cursor.expect(", metadata_size_hint: ")?;
    let metadata_size_hint = cursor.option(Cursor::number)?;
    cursor.expect(&format!(", projection: {projection:?}, reverse_row_groups: "))?;
    let reverse_row_groups = cursor.flag()?;
    cursor.expect(", sort_order_for_reorder: ")?;
    let (reorder, is_whole) = read_ordering(&mut cursor.clone())?;
    if is_whole {
        cursor.expect(&format!("{reorder:?} }}"))?;
        cursor.expect_end()?;
    }
    Ok(ParquetFields { batch_size, metadata_size_hint, reverse_row_groups, reorder })
}

/// Reads the columns with which an ordering begins, and whether they are all of it. The reader of row groups looks at
/// nothing behind them.
fn read_ordering(cursor: &mut Cursor<'_>) -> Result<(Option<LexOrdering>, bool)> {
    if cursor.take("None") {
        return Ok((None, true));
    }
    cursor.expect("Some(LexOrdering { exprs: [")?;
    let mut columns = vec![];
    let is_whole = loop {
        if !columns.is_empty() && cursor.take("]") {
            break true;
        }
        if !columns.is_empty() {
            cursor.expect(", ")?;
        }
        cursor.expect("PhysicalSortExpr { expr: ")?;
        if !cursor.take("Column { name: ") {
            break false;
        }
        let name = cursor.string()?;
        cursor.expect(", index: ")?;
        let index = cursor.number()?;
        cursor.expect(" }, options: SortOptions { descending: ")?;
        let descending = cursor.flag()?;
        cursor.expect(", nulls_first: ")?;
        let nulls_first = cursor.flag()?;
        cursor.expect(" } }")?;
        let options = SortOptions { descending, nulls_first };
        columns.push(PhysicalSortExpr::new(Arc::new(Column::new(&name, index)), options));
    };
    Ok((LexOrdering::new(columns), is_whole))
}

/// True if both sources read their row groups in the same order.
pub(crate) fn have_same_row_group_order(left: &ParquetSource, right: &ParquetSource) -> Result<bool> {
    let [left, right] = [read_parquet_fields(left)?, read_parquet_fields(right)?];
    Ok(left.reorder == right.reorder && left.reverse_row_groups == right.reverse_row_groups)
}

fn restore_parquet(
    parquet: &proto::ParquetSource,
    table: TableSchema,
    url: &ObjectStoreUrl,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn FileSource>> {
    let schema = Arc::clone(table.table_schema());
    let mut source = ParquetSource::new(table).with_table_parquet_options(restore_options(parquet)?);
    if parquet.cached_reader {
        let environment = context.context.task_ctx().runtime_env();
        let (store, cache) = (environment.object_store(url)?, environment.cache_manager.get_file_metadata_cache());
        source = source.with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, cache)));
    }
    if let Some(hint) = decode_fetch(parquet.metadata_size_hint) {
        source = source.with_metadata_size_hint(hint);
    }
    if let Some(predicate) = &parquet.predicate {
        source = source.with_predicate(context.expression(predicate, &schema)?);
    }
    match context.optional_ordering(&parquet.reorder, &schema)? {
        None if parquet.reverse_row_groups => reverse(&source),
        None => Ok(Arc::new(source)),
        Some(ordering) => reorder(&source, ordering, parquet.reverse_row_groups),
    }
}

/// Makes the source read its row groups in an order: as planning does, by asking for it.
fn reorder(source: &ParquetSource, ordering: LexOrdering, reverse: bool) -> Result<Arc<dyn FileSource>> {
    let schema = Arc::clone(source.table_schema().table_schema());
    let natural = EquivalenceProperties::new(Arc::clone(&schema));
    let reversed = ordering.iter().map(PhysicalSortExpr::reverse);
    let opposite = EquivalenceProperties::new_with_orderings(schema, [reversed]);
    for properties in [natural, opposite] {
        let result = source.try_pushdown_sort(&ordering, &properties)?;
        let SortOrderPushdownResult::Inexact { inner } = result else { continue };
        let Some(sorted) = inner.downcast_ref::<ParquetSource>() else { continue };
        let fields = read_parquet_fields(sorted)?;
        if fields.reverse_row_groups == reverse && fields.reorder.as_ref() == Some(&ordering) {
            return Ok(inner);
        }
    }
    internal_err!("a scan of Parquet cannot be ordered by {ordering}")
}

/// Makes the source read its row groups from the last to the first: as planning does, by asking for the opposite of its
/// order, by a key that has no statistics.
fn reverse(source: &ParquetSource) -> Result<Arc<dyn FileSource>> {
    let schema = Arc::clone(source.table_schema().table_schema());
    let Some(field) = schema.fields().first() else { return internal_err!("a scan without columns is reversed") };
    let key = Arc::new(IsNullExpr::new(Arc::new(Column::new(field.name(), 0))));
    let wanted = PhysicalSortExpr::new(key, SortOptions::default());
    let order = EquivalenceProperties::new_with_orderings(schema, [[wanted.reverse()]]);
    if let SortOrderPushdownResult::Inexact { inner } = source.try_pushdown_sort(&[wanted], &order)?
        && let Some(sorted) = inner.downcast_ref::<ParquetSource>()
    {
        let fields = read_parquet_fields(sorted)?;
        if fields.reverse_row_groups && fields.reorder.is_none() {
            return Ok(inner);
        }
    }
    internal_err!("a scan of Parquet cannot be reversed")
}
