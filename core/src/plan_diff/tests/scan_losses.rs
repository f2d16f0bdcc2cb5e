//! Losses that were planted into scans, other leaves, and properties: each is found, and named.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::CsvOptions;
use datafusion::common::{Constraint, Constraints, ScalarValue, Statistics};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    AcrossPartitions, ConstExpr, EquivalenceProperties, LexOrdering, Partitioning, PhysicalSortExpr,
};
use datafusion::physical_plan::PlanProperties;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;

use super::fixture::{Fixture, Plan, assert_differs, assert_equal, changed, config, found, plan};
use crate::error::ErrorCode;
use crate::exchange::{ExchangeKind, ExchangeReaderExec};
use crate::ids::StageId;
use crate::plan_diff::difference;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["a", "b"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn ordering(descending: bool) -> LexOrdering {
    let expression = PhysicalSortExpr::new_default(Arc::new(Column::new("a", 0)));
    [if descending { expression.desc() } else { expression }].into()
}

fn scan(source: impl FileSource, change: impl Fn(&mut FileScanConfig)) -> Plan {
    let mut file = PartitionedFile::new("dir/x", 100);
    file.statistics = Some(Arc::new(Statistics::new_unknown(&schema())));
    let builder = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source)).with_file(file);
    let mut config = builder.build();
    change(&mut config);
    DataSourceExec::from_data_source(config)
}

fn with_file(change: impl Fn(&mut PartitionedFile)) -> Plan {
    scan(ParquetSource::new(schema()), |config| {
        let mut file = config.file_groups[0].files()[0].clone();
        change(&mut file);
        config.file_groups[0] = vec![file].into();
    })
}

/// A field and a change of it.
type Change<'a, T> = (&'a str, &'a dyn Fn(&mut T));

#[test]
fn each_field_of_a_file_is_compared() {
    let file = || with_file(|_| {});
    assert_equal(&file(), &file());
    let changes: [Change<'_, PartitionedFile>; 12] = [
        ("object_meta", &|file| file.object_meta.e_tag = Some("tag".to_owned())),
        ("object_meta", &|file| file.object_meta.version = Some("7".to_owned())),
        ("object_meta", &|file| file.object_meta.size = 1 << 33),
        ("partition_values", &|file| file.partition_values = vec![ScalarValue::Int64(Some(1))]),
        ("range", &|file| file.range = Some(FileRange { start: 0, end: 50 })),
        ("ordering", &|file| file.ordering = Some(ordering(false))),
        ("metadata_size_hint", &|file| file.metadata_size_hint = Some(8)),
        ("table_reference", &|file| file.table_reference = Some("t".into())),
        ("arrow_schema", &|file| file.arrow_schema = Some(schema())),
        ("extensions", &|file| *file = file.clone().with_extension(ParquetAccessPlan::new_all(2))),
        ("statistics", &|file| file.statistics = None),
        ("statistics/column 0/null_count", &|file| {
            let statistics = Arc::make_mut(file.statistics.as_mut().expect("statistics"));
            statistics.column_statistics[0].null_count = datafusion::common::stats::Precision::Exact(0);
        }),
    ];
    for (field, change) in changes {
        assert_differs(&file(), &with_file(change), &["DataSourceExec/file dir/x", field]);
        assert_equal(&with_file(change), &with_file(change));
    }
    let access = |groups| with_file(|file| *file = file.clone().with_extension(ParquetAccessPlan::new_all(groups)));
    assert_differs(&access(2), &access(3), &["DataSourceExec/file dir/x/extension"]);
    let unknown = || with_file(|file| *file = file.clone().with_extension(7_u8));
    let error = difference(&unknown(), &unknown()).expect_err("cannot be read");
    assert!(error.message().contains("DataSourceExec/file dir/x/extensions"), "{error}");
}

#[test]
fn each_field_of_a_scan_is_compared() {
    let source = || ParquetSource::new(schema());
    let plain = scan(source(), |_| {});
    let changes: [Change<'_, FileScanConfig>; 8] = [
        ("object_store_url", &|scan| scan.object_store_url = ObjectStoreUrl::parse("s3://other").expect("a URL")),
        ("fetch", &|scan| scan.limit = Some(1 << 33)),
        ("preserve_order", &|scan| scan.preserve_order = true),
        ("batch_size", &|scan| scan.batch_size = Some(7)),
        ("constraints", &|scan| scan.constraints = Constraints::new_unverified(vec![Constraint::Unique(vec![0])])),
        ("output_ordering", &|scan| scan.output_ordering = vec![ordering(false)]),
        ("output_partitioning", &|scan| scan.output_partitioning = Some(Partitioning::UnknownPartitioning(1))),
        ("number of files", &|scan| scan.file_groups.push(scan.file_groups[0].clone())),
    ];
    for (field, change) in changes {
        let field = if field == "fetch" { "limit" } else { field };
        assert_differs(&plain, &scan(source(), change), &["DataSourceExec", field]);
        assert_equal(&scan(source(), change), &scan(source(), change));
    }
}

#[test]
fn options_of_parquet_are_compared() {
    let plan = |source| scan(source, |_| {});
    let plain = || ParquetSource::new(schema());
    assert_equal(&plan(plain()), &plan(plain()));
    let hint = plan(plain().with_metadata_size_hint(64));
    assert_differs(&plan(plain()), &hint, &["DataSourceExec/metadata_size_hint", "None", "Some"]);
    let pushed = plan(plain().with_pushdown_filters(true));
    assert_differs(&plan(plain()), &pushed, &["DataSourceExec/table_parquet_options"]);
    let sorted = |descending: bool| {
        let properties = EquivalenceProperties::new(schema());
        let pushed = plain().try_pushdown_sort(&ordering(descending), &properties).expect("pushes down");
        let source = pushed.into_inner().expect("approximates");
        let source = source.downcast_ref::<ParquetSource>().expect("Parquet").clone();
        plan(source)
    };
    assert_equal(&sorted(true), &sorted(true));
    assert_differs(&sorted(true), &sorted(false), &["DataSourceExec/reverse_row_groups", "true"]);
    assert_differs(&sorted(false), &plan(plain()), &["DataSourceExec/sort_order_for_reorder", "None"]);
    let virtual_column = Arc::new(Field::new("row", DataType::Int64, false));
    let table = TableSchemaBuilder::from(&schema()).with_virtual_columns(vec![virtual_column]).build();
    let with_virtual = plan(ParquetSource::new(table));
    assert_differs(&plan(plain()), &with_virtual, &["DataSourceExec/virtual_columns", "row"]);
}

#[test]
fn options_of_text_files_are_compared() {
    let csv = |options: CsvOptions| scan(CsvSource::new(schema()).with_csv_options(options), |_| {});
    let escape = CsvOptions { escape: Some(b'x'), ..CsvOptions::default() };
    assert_equal(&csv(escape.clone()), &csv(escape.clone()));
    assert_differs(&csv(escape), &csv(CsvOptions::default()), &["DataSourceExec/options", "escape"]);
    let nulls = CsvOptions { null_regex: Some("none".to_owned()), ..CsvOptions::default() };
    assert_differs(&csv(nulls), &csv(CsvOptions::default()), &["DataSourceExec/options", "null_regex"]);
    let json = |lines: bool| scan(JsonSource::new(schema()).with_newline_delimited(lines), |_| {});
    assert_equal(&json(false), &json(false));
    assert_differs(&json(true), &json(false), &["DataSourceExec/newline_delimited"]);
    let arrow = [ArrowSource::new_file_source(schema()), ArrowSource::new_stream_file_source(schema())];
    let arrow = arrow.map(|source| scan(source, |_| {}));
    assert_differs(&arrow[0], &arrow[1], &["DataSourceExec/file_type", "arrow_stream"]);
}

#[test]
fn rows_in_memory_are_compared() {
    let rows = |last: i64, order: bool| -> Plan {
        let columns = [vec![1, last], vec![3, 4]].map(|values| Arc::new(Int64Array::from(values)) as _);
        let batch = RecordBatch::try_new(schema(), columns.to_vec()).expect("fits");
        let source = MemorySourceConfig::try_new(&[vec![batch]], schema(), None).expect("fits");
        let orders = if order { vec![ordering(false)] } else { vec![] };
        DataSourceExec::from_data_source(source.try_with_sort_information(orders).expect("fits"))
    };
    assert_equal(&rows(2, true), &rows(2, true));
    assert_differs(&rows(2, true), &rows(7, true), &["DataSourceExec/batch"]);
    assert_differs(&rows(2, true), &rows(2, false), &["DataSourceExec/sort_information"]);
}

pub(super) fn reader(change: impl Fn(&mut EquivalenceProperties), partitions: usize) -> Plan {
    let mut equivalences = EquivalenceProperties::new(schema());
    change(&mut equivalences);
    let partitioning = Partitioning::Hash(vec![Arc::new(Column::new("a", 0))], partitions);
    let properties = PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded);
    let kind = ExchangeKind::Repartition { preserve_order: false };
    let statistics = Arc::new(Statistics::new_unknown(&schema()));
    Arc::new(ExchangeReaderExec::new(StageId(1), kind, false, 4, Arc::new(properties), statistics))
}

#[test]
fn wrong_ordering_claim_is_found() {
    let ordered = |descending| reader(move |properties| properties.add_orderings([ordering(descending)]), 2);
    let plain = reader(|_| {}, 2);
    assert_equal(&ordered(true), &ordered(true));
    assert_differs(&ordered(true), &ordered(false), &["ExchangeReaderExec/output_ordering/options"]);
    assert_differs(&ordered(true), &plain, &["ExchangeReaderExec/output_ordering", "None"]);
    assert_differs(&reader(|_| {}, 3), &plain, &["ExchangeReaderExec/partitioning"]);
}

#[test]
fn equivalences_are_compared_as_sets() {
    let columns = || [Arc::new(Column::new("a", 0)) as _, Arc::new(Column::new("b", 1)) as _];
    let same = |flipped: bool| {
        let [a, b] = columns();
        let add = move |properties: &mut EquivalenceProperties| {
            let (one, other) = if flipped { (&b, &a) } else { (&a, &b) };
            properties.add_equal_conditions(Arc::clone(one), Arc::clone(other)).expect("fits");
        };
        reader(add, 2)
    };
    assert_equal(&same(true), &same(false));
    assert_differs(&same(true), &reader(|_| {}, 2), &["ExchangeReaderExec/equivalence classes"]);
    let constant = |across: AcrossPartitions| {
        let add = move |properties: &mut EquivalenceProperties| {
            let [a, _] = columns();
            properties.add_constants([ConstExpr::new(a, across.clone())]).expect("fits");
        };
        reader(add, 2)
    };
    let value = |number| AcrossPartitions::Uniform(Some(ScalarValue::Int64(Some(number))));
    assert_equal(&constant(value(1)), &constant(value(1)));
    assert_differs(&constant(value(1)), &constant(value(2)), &["ExchangeReaderExec/equivalence classes"]);
    assert_differs(&constant(value(1)), &constant(AcrossPartitions::Heterogeneous), &["equivalence classes"]);
}

#[tokio::test]
async fn streams_are_equal_only_if_they_are_one() {
    let fixture = Fixture::new().await;
    let session = fixture.session(config()).await;
    let sql = "SELECT table_name FROM information_schema.tables";
    let (one, other) = (plan(&session, sql).await, plan(&session, sql).await);
    let error = difference(&one, &other).expect_err("cannot be read");
    assert_eq!(error.code(), ErrorCode::Unsupported);
    assert!(error.message().contains("StreamingTableExec/partitions"), "{error}");
    let stream = |node: &Plan| Some(Arc::new(node.downcast_ref::<StreamingTableExec>()?.clone()) as Plan);
    assert_equal(&one, &changed(&one, stream));
}

#[tokio::test]
async fn unknown_operator_is_an_error() {
    let fixture = Fixture::new().await;
    let copy = || async { fixture.plan("COPY (SELECT id FROM t) TO '/tmp/never.parquet'").await };
    let error = difference(&copy().await, &copy().await).expect_err("cannot be read");
    assert!(error.message().contains("DataSinkExec is not known"), "{error}");
}

#[tokio::test]
async fn path_names_the_child_of_several() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT id FROM t UNION ALL SELECT a FROM sorted").await;
    let union = found(&planned, |node| node.is::<UnionExec>());
    let lost = changed(&union, |node| {
        let children = node.downcast_ref::<UnionExec>()?.inputs();
        let empty = Arc::new(EmptyExec::new(children[1].schema()).with_partitions(2));
        Some(UnionExec::try_new(vec![Arc::clone(&children[0]), empty]).expect("fits"))
    });
    assert_differs(&union, &lost, &["UnionExec/[1]/", "EmptyExec"]);
}
