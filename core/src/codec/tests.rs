//! What arrives of a plan is what was sent.

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::CsvOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, lit};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion_proto::bytes::physical_plan_to_bytes;

use super::*;

/// The first number past 32 bits.
const LARGE: usize = 1 << 32;

fn schema() -> SchemaRef {
    let columns = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new(columns.to_vec()))
}

/// A scan of the second column of one file.
fn scan(source: impl FileSource, compression: FileCompressionType) -> Arc<dyn ExecutionPlan> {
    let builder = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
        .with_file(PartitionedFile::new("dir/x", 100))
        .with_file_compression_type(compression)
        .with_projection_indices(Some(vec![1]))
        .expect("projects");
    DataSourceExec::from_data_source(builder.build())
}

fn plain(source: impl FileSource) -> Arc<dyn ExecutionPlan> {
    scan(source, FileCompressionType::UNCOMPRESSED)
}

fn arrived(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let bytes = encode_plan(Arc::clone(plan)).expect("encodes");
    decode_plan(&bytes, &TaskContext::default()).expect("decodes")
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(true).to_string()
}

/// The scan as it arrives below one of our operators, and below one of DataFusion's; each tree is as it was.
fn arrived_scans(scan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let above: [Arc<dyn ExecutionPlan>; 2] = [
        Arc::new(ExchangeWriterExec::new(Arc::clone(scan), None)),
        Arc::new(CoalescePartitionsExec::new(Arc::clone(scan))),
    ];
    let below = |sent: &Arc<dyn ExecutionPlan>| {
        let there = arrived(sent);
        assert_eq!(text(&there), text(sent));
        Arc::clone(there.children()[0])
    };
    let scans: Vec<_> = above.iter().map(below).collect();
    assert!(scans.iter().all(|there| there.schema() == scan.schema()));
    scans
}

fn files(plan: &Arc<dyn ExecutionPlan>) -> &FileScanConfig {
    let scan = plan.downcast_ref::<DataSourceExec>().expect("a scan");
    scan.data_source().downcast_ref::<FileScanConfig>().expect("of files")
}

#[test]
fn given_a_filter_that_is_filled_while_the_plan_runs_when_it_arrives_then_all_who_use_it_see_what_is_filled_in() {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("b", 0));
    let filter: Arc<dyn PhysicalExpr> = Arc::new(DynamicFilterPhysicalExpr::new(vec![column], lit(true)));
    let below = FilterExec::try_new(Arc::clone(&filter), plain(CsvSource::new(schema()))).expect("fits");
    let sent: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(filter, Arc::new(below)).expect("fits"));
    let there = arrived(&sent);
    let filters = [&there, there.children()[0]].map(|plan| {
        let predicate = plan.downcast_ref::<FilterExec>().expect("a filter").predicate();
        predicate.downcast_ref::<DynamicFilterPhysicalExpr>().expect("a dynamic one")
    });
    filters[0].update(lit(false)).expect("filled");
    assert_eq!(filters[1].current().expect("filled").to_string(), "false");
}

#[test]
fn given_a_plan_that_an_executor_could_not_decode_then_it_is_not_encoded() {
    let deep = |levels: usize| {
        let scan = plain(CsvSource::new(schema()));
        (0..levels).fold(scan, |plan, _| Arc::new(FilterExec::try_new(lit(true), plan).expect("fits")) as _)
    };
    encode_plan(deep(10)).expect("as usual");
    let error = encode_plan(deep(60)).expect_err("too deep");
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}

#[test]
fn given_compressed_files_when_the_plan_arrives_then_they_are_read_as_such() {
    for compression in [FileCompressionType::GZIP, FileCompressionType::ZSTD, FileCompressionType::XZ] {
        for sent in [scan(CsvSource::new(schema()), compression), scan(JsonSource::new(schema()), compression)] {
            for there in arrived_scans(&sent) {
                assert_eq!(files(&there).file_compression_type, compression);
            }
        }
    }
}

#[test]
fn given_csv_with_rows_that_end_in_another_way_when_the_plan_arrives_then_they_still_do() {
    let options = CsvOptions { delimiter: b';', terminator: Some(b'#'), ..CsvOptions::default() };
    let sent = scan(CsvSource::new(schema()).with_csv_options(options), FileCompressionType::GZIP);
    for there in arrived_scans(&sent) {
        let csv = files(&there).file_source().downcast_ref::<CsvSource>().expect("CSV");
        assert_eq!((csv.terminator(), csv.delimiter()), (Some(b'#'), b';'));
        assert_eq!(files(&there).file_compression_type, FileCompressionType::GZIP);
    }
}

#[test]
fn given_json_of_either_kind_when_the_plan_arrives_then_it_is_of_that_kind() {
    for lines in [true, false] {
        for there in arrived_scans(&plain(JsonSource::new(schema()).with_newline_delimited(lines))) {
            let scan = files(&there);
            let json = scan.file_source().downcast_ref::<JsonSource>().expect("JSON");
            assert_eq!(scans::reads_arrays(json, scan).expect("is known"), !lines);
        }
    }
}

#[test]
fn given_arrow_files_of_either_kind_when_the_plan_arrives_then_they_are_of_that_kind() {
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

#[test]
fn given_a_scan_that_leaves_nothing_out_when_encoded_then_nothing_is_added() {
    for plan in [plain(CsvSource::new(schema())), plain(JsonSource::new(schema()))] {
        let bytes = encode_plan(Arc::clone(&plan)).expect("encodes");
        assert_eq!(bytes, physical_plan_to_bytes(plan).expect("encodes"));
    }
}

#[test]
fn given_limits_past_32_bits_when_the_plan_arrives_then_they_are_the_same() {
    let rows = || -> Arc<dyn ExecutionPlan> { Arc::new(EmptyExec::new(schema()).with_partitions(2)) };
    let one = || -> Arc<dyn ExecutionPlan> { Arc::new(CoalescePartitionsExec::new(rows())) };
    let filter = || -> Arc<dyn ExecutionPlan> { Arc::new(FilterExec::try_new(lit(true), rows()).expect("a filter")) };
    for limit in [1, LARGE - 1, LARGE, LARGE + 7] {
        let limited = |plan: Arc<dyn ExecutionPlan>| plan.with_fetch(Some(limit)).expect("a limit");
        let plans: [Arc<dyn ExecutionPlan>; 7] = [
            limited(plain(CsvSource::new(schema()))),
            limited(scan(JsonSource::new(schema()), FileCompressionType::BZIP2)),
            limited(filter()),
            limited(one()),
            Arc::new(LocalLimitExec::new(rows(), limit)),
            Arc::new(GlobalLimitExec::new(one(), 3, Some(limit))),
            Arc::new(GlobalLimitExec::new(one(), limit, None)),
        ];
        for sent in &plans {
            assert_eq!(text(&arrived(sent)), text(sent));
            assert_eq!(arrived(sent).fetch(), sent.fetch());
        }
    }
}

#[test]
fn given_options_of_another_reader_when_decoded_then_that_is_an_error() {
    let (csv, json) = (plain(CsvSource::new(schema())), plain(JsonSource::new(schema())));
    let node = springald_proto::exchange::ScanNode { json_arrays: true, ..Default::default() };
    scans::restore(&node, &csv).expect_err("not JSON");
    scans::restore(&node, &json).expect("JSON");
    let nothing: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(schema()));
    scans::restore(&node, &nothing).expect_err("no files");
}
