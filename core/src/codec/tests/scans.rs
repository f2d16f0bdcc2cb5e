//! Scans: files, formats, batches in memory.

use std::collections::HashMap;

use datafusion::arrow::array::Int64Array;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::config::{CsvOptions, TableParquetOptions};
use datafusion::common::parsers::CsvQuoteStyle;
use datafusion::common::stats::Precision;
use datafusion::common::{Constraint, Constraints, ScalarValue, Statistics, TableReference};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{Partitioning, SortOrderPushdownResult};

use super::*;
use crate::exchange::ExchangeWriterExec;

fn builder(source: impl FileSource) -> FileScanConfigBuilder {
    FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
}

/// A scan of the second column of one file.
fn scan(source: impl FileSource, compression: FileCompressionType) -> Arc<dyn ExecutionPlan> {
    let builder = builder(source)
        .with_file(PartitionedFile::new("dir/x", 100))
        .with_file_compression_type(compression)
        .with_projection_indices(Some(vec![1]));
    DataSourceExec::from_data_source(builder.expect("projects").build())
}

fn plain(source: impl FileSource) -> Arc<dyn ExecutionPlan> {
    scan(source, FileCompressionType::UNCOMPRESSED)
}

fn files(plan: &Arc<dyn ExecutionPlan>) -> &FileScanConfig {
    let scan = plan.downcast_ref::<DataSourceExec>().expect("a scan");
    scan.data_source().downcast_ref::<FileScanConfig>().expect("of files")
}

/// The scan as it arrives alone, below one of our operators, and below one of DataFusion's.
fn arrived_scans(scan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let above: [Arc<dyn ExecutionPlan>; 2] = [
        Arc::new(ExchangeWriterExec::new(Arc::clone(scan), None)),
        Arc::new(CoalescePartitionsExec::new(Arc::clone(scan))),
    ];
    let below = above.iter().map(|sent| Arc::clone(assert_kept(sent).children()[0]));
    below.chain([assert_kept(scan)]).collect()
}

#[test]
fn compression_of_files_arrives() {
    for compression in [FileCompressionType::GZIP, FileCompressionType::ZSTD, FileCompressionType::XZ] {
        for sent in [scan(CsvSource::new(schema()), compression), scan(JsonSource::new(schema()), compression)] {
            for there in arrived_scans(&sent) {
                assert_eq!(files(&there).file_compression_type, compression);
            }
        }
    }
}

#[test]
fn options_of_csv_arrive() {
    let all = CsvOptions {
        has_header: Some(false),
        delimiter: b';',
        quote: 200,
        terminator: Some(b'#'),
        escape: Some(b'\\'),
        double_quote: Some(true),
        quote_style: CsvQuoteStyle::NonNumeric,
        newlines_in_values: Some(true),
        compression_level: Some(3),
        schema_infer_max_rec: Some(LARGE),
        date_format: Some("%Y \"quoted\" \\ ü".to_owned()),
        null_regex: Some("^\\s*$".to_owned()),
        comment: Some(b'-'),
        truncated_rows: Some(false),
        ..CsvOptions::default()
    };
    for options in [CsvOptions::default(), all] {
        for there in arrived_scans(&plain(CsvSource::new(schema()).with_csv_options(options.clone()))) {
            let csv = files(&there).file_source().downcast_ref::<CsvSource>().expect("CSV");
            assert!(format!("{csv:?}").contains(&format!("{options:?}")), "{csv:?}");
        }
    }
}

#[test]
fn kind_of_json_arrives() {
    for lines in [true, false] {
        let sent = plain(JsonSource::new(schema()).with_newline_delimited(lines));
        let encoded = encode_plan(Arc::clone(&sent)).expect("encodes");
        for there in arrived_scans(&sent) {
            assert_eq!(encode_plan(there).expect("encodes"), encoded);
        }
        let other = plain(JsonSource::new(schema()).with_newline_delimited(!lines));
        assert_ne!(encode_plan(other).expect("encodes"), encoded);
    }
}

#[test]
fn kind_of_arrow_files_arrives() {
    let kinds = [
        (ArrowSource::new_file_source(schema()), "arrow"),
        (ArrowSource::new_stream_file_source(schema()), "arrow_stream"),
    ];
    for (source, kind) in kinds {
        for there in arrived_scans(&plain(source)) {
            assert_eq!(files(&there).file_source().file_type(), kind);
        }
    }
}

fn ordering(descending: bool) -> LexOrdering {
    let sort = PhysicalSortExpr::new_default(Arc::new(Column::new("a", 0)));
    [if descending { sort.reverse() } else { sort }].into()
}

/// A file with everything that one can have.
fn full_file() -> PartitionedFile {
    let mut file = PartitionedFile::new("dir/p=0.5/x.parquet", 100).with_range(3, 70);
    file.object_meta.e_tag = Some("\"tag\"".to_owned());
    file.object_meta.version = Some("v7".to_owned());
    file.object_meta.last_modified = chrono::DateTime::from_timestamp(1_700_000_000, 123_456_789).expect("a time");
    file.partition_values = vec![ScalarValue::Float16(Some(F16::from_f32(0.5)))];
    file.statistics = Some(Arc::new(statistics()));
    file.ordering = Some(ordering(true));
    file.metadata_size_hint = Some(LARGE);
    file.table_reference = Some(TableReference::full("c.c", "S", "t"));
    file.arrow_schema = Some(schema());
    file
}

fn statistics() -> Statistics {
    let mut statistics = Statistics::new_unknown(table().table_schema());
    statistics.num_rows = Precision::Exact(LARGE);
    statistics.column_statistics[0].max_value = Precision::Exact(ScalarValue::Int64(Some(5)));
    statistics.column_statistics[2].min_value = Precision::Exact(ScalarValue::Float16(Some(F16::from_f32(0.5))));
    statistics
}

/// Columns of files, partitions and readers, with metadata.
fn table() -> TableSchema {
    let metadata = HashMap::from([("k".to_owned(), "v".to_owned())]);
    let files = Schema::new_with_metadata(schema().fields().clone(), metadata.clone());
    let partition = Field::new("p", DataType::Float16, false).with_metadata(metadata);
    let mut number = Field::new("n", DataType::Int64, false);
    number.try_with_extension_type(datafusion::parquet::arrow::RowNumber).expect("a row number");
    TableSchema::builder(Arc::new(files))
        .with_table_partition_cols(vec![Arc::new(partition)])
        .with_virtual_columns(vec![Arc::new(number)])
        .build()
}

fn full_scan(source: Arc<dyn FileSource>) -> FileScanConfigBuilder {
    let constraints = vec![Constraint::Unique(vec![0, 1]), Constraint::PrimaryKey(vec![1])];
    let group = FileGroup::new(vec![full_file()]).with_statistics(Arc::new(statistics()));
    FileScanConfigBuilder::new(ObjectStoreUrl::parse("s3://bucket").expect("a URL"), source)
        .with_file_groups(vec![group, FileGroup::new(vec![])])
        .with_constraints(Constraints::new_unverified(constraints))
        .with_statistics(statistics())
        .with_limit(Some(LARGE + 1))
        .with_preserve_order(true)
        .with_batch_size(Some(17))
        .with_output_partitioning(Some(Partitioning::Hash(vec![Arc::new(Column::new("p", 2))], 2)))
}

#[test]
fn all_of_a_scan_arrives() {
    let options = TableParquetOptions {
        key_value_metadata: HashMap::from([("key".to_owned(), None)]),
        ..TableParquetOptions::default()
    };
    let source = ParquetSource::new(table())
        .with_table_parquet_options(options)
        .with_metadata_size_hint(LARGE)
        .with_pushdown_filters(true)
        .with_predicate(lit(true));
    let scan = full_scan(Arc::new(source)).with_expr_adapter(Some(Arc::new(DefaultPhysicalExprAdapterFactory)));
    let scan = scan.with_projection_indices(Some(vec![3, 0, 2])).expect("projects");
    for ordering in [vec![], vec![ordering(false)]] {
        let scan = scan.clone().with_output_ordering(ordering).build();
        let sent = DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>;
        for there in arrived_scans(&sent) {
            let file = &files(&there).file_groups[0].files()[0];
            assert_eq!(file.object_meta, full_file().object_meta);
            assert_eq!(file.partition_values, full_file().partition_values);
            assert_eq!((&file.ordering, file.metadata_size_hint), (&full_file().ordering, Some(LARGE)));
            assert_eq!(files(&there).file_source().table_schema().virtual_columns().len(), 1);
            assert!(files(&there).preserve_order);
            assert_eq!(files(&there).constraints, files(&sent).constraints);
        }
    }
}

/// A scan that is not to preserve an order does not, though it has one.
#[test]
fn order_that_is_not_preserved_arrives() {
    let mut scan = builder(ParquetSource::new(schema())).with_output_ordering(vec![ordering(false)]).build();
    scan.preserve_order = false;
    let there = assert_kept(&(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>));
    assert!(!files(&there).preserve_order);
}

#[test]
fn order_of_row_groups_arrives() {
    let fields = ["a\"\\ü", "b"].map(|name| Field::new(name, DataType::Int64, true));
    let partition = Arc::new(Field::new("p", DataType::Int64, false));
    let files = Arc::new(Schema::new(fields.to_vec()));
    let table = TableSchema::builder(files).with_table_partition_cols(vec![partition]).build();
    let sort = |name: &str, index| PhysicalSortExpr::new_default(Arc::new(Column::new(name, index)));
    let orders: [LexOrdering; 3] = [
        [sort("a\"\\ü", 0).reverse(), sort("p", 2)].into(),
        [sort("b", 1)].into(),
        // Not in the files: only the reverse of their order helps.
        [sort("p", 2)].into(),
    ];
    for order in orders {
        let opposite = order.iter().map(PhysicalSortExpr::reverse).collect::<Vec<_>>();
        let properties = EquivalenceProperties::new_with_orderings(Arc::clone(table.table_schema()), [opposite]);
        let source = ParquetSource::new(table.clone());
        let SortOrderPushdownResult::Inexact { inner } = source.try_pushdown_sort(&order, &properties).expect("sorts")
        else {
            panic!("not sorted by {order}");
        };
        let scan = builder(source).with_source(inner).with_file(PartitionedFile::new("x", 1));
        let there = assert_kept(&(DataSourceExec::from_data_source(scan.build()) as Arc<dyn ExecutionPlan>));
        assert!(text(&there).contains("sort_order_for_reorder"), "{}", text(&there));
    }
}

#[derive(Debug)]
struct OtherAdapter;

impl PhysicalExprAdapterFactory for OtherAdapter {
    fn create(&self, _logical: SchemaRef, _physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        plan_err!("is not used")
    }
}

#[test]
fn scan_with_unknown_parts_is_refused() {
    let refused = |builder: FileScanConfigBuilder, part: &str| {
        let error = encode_plan(DataSourceExec::from_data_source(builder.build())).expect_err(part).strip_backtrace();
        assert!(error.contains("DataSourceExec") && error.contains(part), "{error}");
    };
    let parquet = || builder(ParquetSource::new(schema()));
    refused(parquet().with_expr_adapter(Some(Arc::new(OtherAdapter))), "OtherAdapter");
    let mut file = PartitionedFile::new("dir/x", 1);
    file.extensions.insert(5_u8);
    refused(parquet().with_file(file), "extensions");
}

fn batch(from: i64) -> RecordBatch {
    let columns = [from, from + 10].map(|value| Arc::new(Int64Array::from(vec![value, value + 1])) as _);
    RecordBatch::try_new(schema(), columns.to_vec()).expect("a batch")
}

#[test]
fn batches_in_memory_arrive() {
    let partitions = [vec![batch(1), batch(3)], vec![], vec![batch(5)]];
    let sort = |name: &str, index| PhysicalSortExpr::new_default(Arc::new(Column::new(name, index)));
    for projection in [None, Some(vec![]), Some(vec![1]), Some(vec![1, 0])] {
        let memory = MemorySourceConfig::try_new(&partitions, schema(), projection).expect("batches");
        let memory = memory
            .with_limit(Some(LARGE))
            .with_show_sizes(false)
            .try_with_sort_information(vec![[sort("b", 1), sort("a", 0)].into()])
            .expect("sorted");
        let sent = DataSourceExec::from_data_source(memory) as Arc<dyn ExecutionPlan>;
        let there = assert_kept(&sent);
        assert_eq!(there.fetch(), Some(LARGE));
        let memory = there.downcast_ref::<DataSourceExec>().expect("a scan").data_source();
        let memory = memory.downcast_ref::<MemorySourceConfig>().expect("of memory");
        assert_eq!(memory.partitions(), partitions);
    }
}

/// A column that the reader makes, and not the file.
#[tokio::test]
async fn row_index_of_file_arrives() {
    let session = Session::new().await;
    session.assert_kept("SELECT id, file_row_index() FROM t WHERE g = 3").await;
}

#[tokio::test]
async fn formats_of_tables_arrive() {
    let session = Session::new().await;
    session.write("c", "csv", "").await;
    session.write("j", "json", "").await;
    session.write("a", "arrow", "").await;
    let path = session.path("t");
    let ordered = format!(
        "CREATE EXTERNAL TABLE o (id BIGINT, g BIGINT) STORED AS parquet WITH ORDER (id ASC) LOCATION '{path}/'"
    );
    session.rows(&ordered).await;
    for table in ["c", "j", "a"] {
        session.assert_kept(&format!("SELECT s, id + 1 FROM {table} WHERE g > 2 ORDER BY id LIMIT 5")).await;
        session.assert_kept(&format!("SELECT count(*) FROM {table}")).await;
    }
    session.assert_kept("SELECT id FROM o ORDER BY id").await;
    session.assert_kept("SELECT id FROM o ORDER BY id DESC LIMIT 3").await;
    session.assert_kept("SELECT DISTINCT id FROM o ORDER BY id LIMIT 9").await;
    session.assert_kept("SELECT id, count(*) FROM o GROUP BY id ORDER BY id").await;
}

#[tokio::test]
async fn partitioned_table_arrives() {
    let session = Session::new().await;
    let path = session.path("p");
    let copy = format!("COPY (SELECT id, g, s FROM t) TO '{path}/' STORED AS parquet PARTITIONED BY (g)");
    session.rows(&copy).await;
    session.rows(&format!("CREATE EXTERNAL TABLE p STORED AS parquet PARTITIONED BY (g) LOCATION '{path}/'")).await;
    session.assert_kept("SELECT g, count(*), min(s) FROM p WHERE g <> '3' GROUP BY g").await;
}

/// A source that DataFusion may get is refused until it is known.
#[test]
fn source_without_encoding_is_refused() {
    #[derive(Debug, Clone)]
    struct Other(ParquetSource);
    impl FileSource for Other {
        fn create_file_opener(
            &self,
            _store: Arc<dyn object_store::ObjectStore>,
            _scan: &FileScanConfig,
            _partition: usize,
        ) -> Result<Arc<dyn datafusion::datasource::physical_plan::FileOpener>> {
            plan_err!("is not read")
        }
        fn table_schema(&self) -> &TableSchema {
            self.0.table_schema()
        }
        fn with_batch_size(&self, _batch_size: usize) -> Arc<dyn FileSource> {
            Arc::new(self.clone())
        }
        fn projection(&self) -> Option<&datafusion::physical_expr::projection::ProjectionExprs> {
            self.0.projection()
        }
        fn metrics(&self) -> &datafusion::physical_plan::metrics::ExecutionPlanMetricsSet {
            self.0.metrics()
        }
        fn file_type(&self) -> &str {
            "other"
        }
        fn apply_expressions(
            &self,
            _f: &mut dyn FnMut(
                &Arc<dyn datafusion::physical_expr::PhysicalExpr>,
            ) -> Result<datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> Result<datafusion::common::tree_node::TreeNodeRecursion> {
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        }
    }
    let scan = builder(Other(ParquetSource::new(schema()))).build();
    let error = encode_plan(DataSourceExec::from_data_source(scan)).expect_err("unknown").strip_backtrace();
    assert!(error.contains("DataSourceExec") && error.contains("other"), "{error}");
}
