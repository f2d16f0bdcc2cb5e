//! Scans of files. DataFusion's encoding drops how files are compressed, whether their order is to be preserved,
//! virtual columns, and limits past 32 bits.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::Fields;
use datafusion::common::{Result, Statistics, internal_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::values::{
    check_schema, decode_constraints, decode_field, decode_schema, decode_statistics, encode_constraints, encode_field,
    encode_schema, encode_statistics,
};
use super::files::{encode_group, restore_group};
use super::sources::{encode_source, restore_source};

/// `Debug` text of the factory that stands for none.
const DEFAULT_ADAPTER: &str = "DefaultPhysicalExprAdapterFactory";

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let Some(exec) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some(scan) = exec.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let default_expression_adapter = match &scan.expr_adapter_factory {
        None => false,
        Some(factory) if format!("{factory:?}") == DEFAULT_ADAPTER => true,
        Some(factory) => return plan_err!("its expressions are adapted to files by {factory:?}"),
    };
    let table = scan.file_source().table_schema();
    check_schema(table.table_schema())?;
    let Some(projection) = scan.file_source().projection() else {
        return plan_err!("its source of {} has no projection", scan.file_source().file_type());
    };
    let split = scan.output_partitioning.as_ref();
    Ok(Some(Node::FileScan(proto::FileScanNode {
        object_store_url: scan.object_store_url.as_str().to_owned(),
        groups: scan.file_groups.iter().map(|group| encode_group(group, context)).collect::<Result<_>>()?,
        constraints: encode_constraints(&scan.constraints),
        limit: encode_fetch(scan.limit),
        preserve_order: scan.preserve_order,
        output_ordering: context.orderings(&scan.output_ordering)?,
        compression: scan.file_compression_type.get_variant().to_string(),
        batch_size: encode_fetch(scan.batch_size),
        statistics: Some(encode_statistics(&statistics_of(scan))?),
        output_partitioning: split.map(|split| context.partitioning(split)).transpose()?,
        file_schema: encode_schema(table.file_schema())?,
        partition_fields: encode_fields(table.table_partition_cols())?,
        virtual_fields: encode_fields(table.virtual_columns())?,
        projection: context.projected(projection.as_ref())?,
        default_expression_adapter,
        source: Some(encode_source(scan, context)?),
    })))
}

fn encode_fields(fields: &Fields) -> Result<Vec<Vec<u8>>> {
    fields.iter().map(encode_field).collect()
}

fn decode_fields(fields: &[Vec<u8>]) -> Result<Fields> {
    fields.iter().map(|field| decode_field(field)).collect()
}

/// Statistics as they are kept. A scan with a filter shows them as inexact; with a source that has none it does not.
fn statistics_of(scan: &FileScanConfig) -> Statistics {
    if scan.file_source().filter().is_none() {
        return scan.statistics();
    }
    let unfiltered = Arc::new(CsvSource::new(scan.file_source().table_schema().clone()));
    FileScanConfigBuilder::from(scan.clone()).with_source(unfiltered).build().statistics()
}

pub(super) fn restore(node: &proto::FileScanNode, context: &DecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let table = TableSchema::builder(Arc::new(decode_schema(&node.file_schema)?))
        .with_table_partition_cols(decode_fields(&node.partition_fields)?)
        .with_virtual_columns(decode_fields(&node.virtual_fields)?)
        .build();
    let schema = Arc::clone(table.table_schema());
    let url = ObjectStoreUrl::parse(&node.object_store_url)?;
    let projection = ProjectionExprs::new(context.projected(&node.projection, &schema)?);
    let source = restore_source(node, table, &url, context)?;
    let Some(source) = source.try_pushdown_projection(&projection)? else {
        return internal_err!("a source of {} takes no projection", source.file_type());
    };
    let groups = node.groups.iter().map(|group| restore_group(group, &schema, context)).collect::<Result<_>>()?;
    let Some(statistics) = &node.statistics else { return internal_err!("a scan of files has no statistics") };
    let split = node.output_partitioning.is_some();
    let split = split.then(|| context.partitioning(&node.output_partitioning, &schema)).transpose()?;
    let adapter = node.default_expression_adapter.then(default_adapter);
    let mut scan = FileScanConfigBuilder::new(url, sized(source, node))
        .with_file_groups(groups)
        .with_constraints(decode_constraints(&node.constraints))
        .with_limit(decode_fetch(node.limit))
        .with_output_ordering(context.orderings(&node.output_ordering, &schema)?)
        .with_file_compression_type(FileCompressionType::from_str(&node.compression)?)
        .with_batch_size(decode_fetch(node.batch_size))
        .with_statistics(decode_statistics(statistics)?)
        .with_output_partitioning(split)
        .with_expr_adapter(adapter)
        .build();
    scan.preserve_order = node.preserve_order;
    Ok(DataSourceExec::from_data_source(scan))
}

fn default_adapter() -> Arc<dyn datafusion::physical_expr_adapter::PhysicalExprAdapterFactory> {
    Arc::new(datafusion::physical_expr_adapter::DefaultPhysicalExprAdapterFactory)
}

/// The source with its batch size, where one was set before the scan runs.
fn sized(source: Arc<dyn FileSource>, node: &proto::FileScanNode) -> Arc<dyn FileSource> {
    let size = match &node.source {
        Some(proto::file_scan_node::Source::Parquet(parquet)) => parquet.batch_size,
        Some(proto::file_scan_node::Source::Csv(csv)) => csv.batch_size,
        _ => None,
    };
    match size {
        Some(size) => source.with_batch_size(size as usize),
        None => source,
    }
}
