//! How the files of a scan are read, as far as DataFusion's encoding leaves it out: it takes all files for
//! uncompressed, rows of CSV to end with a line break, JSON for one object a line, and Arrow's format for that of files.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::FileRange;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use object_store::memory::InMemory;
use springald_proto::exchange::ScanNode;

/// How DataFusion calls the reader of Arrow's format for streams.
const ARROW_STREAM: &str = "arrow_stream";

/// What would not arrive of how this scan reads its files; `None` for other operators, and if nothing is left out.
pub(super) fn left_out(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<ScanNode>> {
    let Some(scan) = files_of(plan) else { return Ok(None) };
    let source = scan.file_source();
    let node = ScanNode {
        compression: scan.file_compression_type.get_variant().to_string(),
        terminator: source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator).map(u32::from),
        json_arrays: match source.downcast_ref::<JsonSource>() {
            Some(json) => reads_arrays(json, scan)?,
            None => false,
        },
        arrow_stream: source.is::<ArrowSource>() && source.file_type() == ARROW_STREAM,
    };
    Ok((node != ScanNode::default()).then_some(node))
}

/// The scan as it was.
pub(super) fn restore(node: &ScanNode, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(scan) = files_of(plan) else {
        return internal_err!("{} reads no files, and has the options of a reader of files", plan.name());
    };
    let builder = FileScanConfigBuilder::from(scan.clone())
        .with_file_compression_type(FileCompressionType::from_str(&node.compression)?)
        .with_source(restored_source(node, scan.file_source())?);
    Ok(DataSourceExec::from_data_source(builder.build()))
}

fn restored_source(node: &ScanNode, source: &Arc<dyn FileSource>) -> Result<Arc<dyn FileSource>> {
    let foreign = || internal_datafusion_err!("a reader of {} has options of another format", source.file_type());
    if let Some(terminator) = node.terminator {
        let csv = source.downcast_ref::<CsvSource>().ok_or_else(foreign)?;
        let terminator = u8::try_from(terminator).map_err(|_| foreign())?;
        return Ok(Arc::new(csv.with_terminator(Some(terminator))));
    }
    if node.json_arrays {
        let json = source.downcast_ref::<JsonSource>().ok_or_else(foreign)?;
        return Ok(Arc::new(json.clone().with_newline_delimited(false)));
    }
    if node.arrow_stream {
        let arrow = source.downcast_ref::<ArrowSource>().ok_or_else(foreign)?;
        let stream = ArrowSource::new_stream_file_source(arrow.table_schema().clone());
        let projected = match arrow.projection() {
            Some(projection) => stream.try_pushdown_projection(projection)?,
            None => None,
        };
        return Ok(projected.unwrap_or_else(|| Arc::new(stream)));
    }
    Ok(Arc::clone(source))
}

fn files_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// True if each file is one array. The reader does not tell; but a part of a file is what it refuses to read then, and
/// only then, before it has touched anything.
pub(super) fn reads_arrays(json: &JsonSource, scan: &FileScanConfig) -> Result<bool> {
    let Some(file) = scan.file_groups.iter().flat_map(|group| group.iter()).next() else { return Ok(false) };
    let mut part = file.clone();
    part.range = Some(FileRange { start: 0, end: 0 });
    let opener = json.with_batch_size(1).create_file_opener(Arc::new(InMemory::new()), scan, 0)?;
    Ok(matches!(opener.open(part), Err(DataFusionError::NotImplemented(_))))
}
