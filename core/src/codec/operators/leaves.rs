//! Leaves with rows of their own: batches in memory, and generated series. DataFusion's encoding projects the order of
//! batches twice, and forgets that, how and whether series are ordered, partitioned and projected.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::functions_table::generate_series::{
    Empty, GenSeriesArgs, GenerateSeriesTable, GenericSeriesState, TimestampValue,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::{LazyBatchGenerator, LazyMemoryExec};
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;
use springald_proto::plan::series::Kind;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::debug_text::starts_with;
use super::super::values::{
    check_schema, decode_batches, decode_indices, decode_schema, encode_batches, encode_indices, encode_schema,
};

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    if let Some(series) = plan.downcast_ref::<LazyMemoryExec>() {
        return encode_lazy_memory(series, context).map(Some);
    }
    let Some(exec) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some(memory) = exec.data_source().downcast_ref::<MemorySourceConfig>() else { return Ok(None) };
    let schema = memory.original_schema();
    check_schema(&schema)?;
    Ok(Some(Node::MemoryScan(proto::MemoryScanNode {
        partitions: memory.partitions().iter().map(|batches| encode_partition(batches)).collect::<Result<_>>()?,
        schema: encode_schema(&schema)?,
        projection: memory.projection().as_deref().map(encode_indices),
        orderings: context.orderings(memory.sort_information())?,
        show_sizes: memory.show_sizes(),
        fetch: encode_fetch(datafusion::datasource::source::DataSource::fetch(memory)),
    })))
}

/// Batches whose schemas are equal share a stream.
fn encode_partition(batches: &[RecordBatch]) -> Result<proto::MemoryPartition> {
    let mut streams = vec![];
    for group in batches.chunk_by(|one, other| one.schema() == other.schema()) {
        let Some(first) = group.first() else { continue };
        check_schema(&first.schema())?;
        streams.push(encode_batches(&first.schema(), group)?);
    }
    Ok(proto::MemoryPartition { streams })
}

pub(super) fn restore_memory_scan(
    node: &proto::MemoryScanNode,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut partitions = vec![];
    for partition in &node.partitions {
        let batches: Result<Vec<_>> = partition.streams.iter().map(|stream| decode_batches(stream)).collect();
        partitions.push(batches?.concat());
    }
    let schema = Arc::new(decode_schema(&node.schema)?);
    let projection = node.projection.as_ref().map(decode_indices);
    let memory = MemorySourceConfig::try_new(&partitions, Arc::clone(&schema), projection.clone())?
        .with_limit(decode_fetch(node.fetch))
        .with_show_sizes(node.show_sizes);
    let projected = match &projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(&schema),
    };
    let orderings = context.orderings(&node.orderings, &projected)?;
    let whole = orderings.iter().map(|ordering| unprojected(ordering, projection.as_deref(), &schema));
    let memory = memory.try_with_sort_information(whole.collect::<Result<_>>()?)?;
    match memory.sort_information() == orderings.as_slice() {
        true => Ok(DataSourceExec::from_data_source(memory)),
        false => internal_err!("a scan of memory has another order than the one that was sent"),
    }
}

/// The ordering in terms of the columns before the projection, which is what a scan takes.
fn unprojected(ordering: &LexOrdering, projection: Option<&[usize]>, schema: &SchemaRef) -> Result<LexOrdering> {
    let Some(projection) = projection else { return Ok(ordering.clone()) };
    let mut expressions = vec![];
    for sort in ordering.iter() {
        if collect_columns(&sort.expr).iter().any(|column| column.index() >= projection.len()) {
            return internal_err!("the order of a scan of memory has columns that it does not read");
        }
        let expression = Arc::clone(&sort.expr).transform(|expression| {
            let Some(column) = expression.downcast_ref::<Column>() else { return Ok(Transformed::no(expression)) };
            let index = projection[column.index()];
            Ok(Transformed::yes(Arc::new(Column::new(schema.field(index).name(), index)) as Arc<dyn PhysicalExpr>))
        });
        expressions.push(PhysicalSortExpr::new(expression.data()?, sort.options));
    }
    match LexOrdering::new(expressions) {
        Some(ordering) => Ok(ordering),
        None => internal_err!("the order of a scan of memory is empty"),
    }
}

// === Generated series

fn encode_lazy_memory(exec: &LazyMemoryExec, context: &EncodeContext<'_>) -> Result<Node> {
    let generators = exec.generators();
    let series = generators.iter().map(|generator| encode_series(&*generator.read()));
    let series = series.collect::<Result<Vec<_>>>()?;
    let schema = exec.schema();
    let (whole, projection) = match (schema.fields().len(), series.iter().find_map(series_type)) {
        (0, Some(data_type)) => {
            let field = Field::new("value", data_type, false);
            (Arc::new(Schema::new(vec![field])), Some(encode_indices(&[])))
        }
        _ => (Arc::clone(&schema), None),
    };
    let has_schema = |generator: &Arc<_>| generates(&*parking_lot::RwLock::read(generator), &whole);
    if !generators.iter().all(has_schema) {
        return plan_err!("the schema of what it generates cannot be read");
    }
    let orderings: Vec<_> = exec.properties().equivalence_properties().oeq_class().iter().cloned().collect();
    Ok(Node::LazyMemory(proto::LazyMemoryNode {
        schema: encode_schema(&whole)?,
        projection,
        generators: series,
        partitioning: Some(context.partitioning(&exec.properties().partitioning)?),
        orderings: context.orderings(&orderings)?,
    }))
}

fn series_type(series: &proto::Series) -> Option<DataType> {
    match series.kind.as_ref()? {
        Kind::Empty(_) => None,
        Kind::Int64(_) => Some(DataType::Int64),
        Kind::Timestamp(range) => {
            Some(DataType::Timestamp(TimeUnit::Nanosecond, range.time_zone.as_deref().map(Into::into)))
        }
        Kind::Date(_) => Some(DataType::Timestamp(TimeUnit::Nanosecond, None)),
    }
}

/// True if the generator makes batches of this schema, which its text starts with.
fn generates(generator: &dyn LazyBatchGenerator, schema: &SchemaRef) -> bool {
    generator.as_any().is::<Empty>()
        || starts_with(&generator, &format!("GenericSeriesState {{ schema: {schema:?}, start: "))
}

fn encode_series(generator: &dyn LazyBatchGenerator) -> Result<proto::Series> {
    let any = generator.as_any();
    if let Some(empty) = any.downcast_ref::<Empty>() {
        return Ok(proto::Series {
            include_end_name: is_generate_series(empty.name())?,
            kind: Some(Kind::Empty(true)),
        });
    }
    if let Some(series) = any.downcast_ref::<GenericSeriesState<i64>>() {
        let range = proto::SeriesRange {
            start: *series.start(),
            end: *series.end(),
            step: *series.step(),
            include_end: series.include_end(),
            batch_size: series.batch_size() as u64,
            ..Default::default()
        };
        let kind = Some(Kind::Int64(range));
        return Ok(proto::Series { include_end_name: is_generate_series(series.name())?, kind });
    }
    let Some(series) = any.downcast_ref::<GenericSeriesState<TimestampValue>>() else {
        return plan_err!("its rows are generated by an unknown {generator}");
    };
    let (start, step) = (series.start(), series.step());
    let range = proto::SeriesRange {
        start: start.value(),
        end: series.end().value(),
        step: step.nanoseconds,
        step_months: step.months,
        step_days: step.days,
        time_zone: start.tz_str().map(|zone| zone.to_string()),
        include_end: series.include_end(),
        batch_size: series.batch_size() as u64,
    };
    let is_date = starts_with(start, &format!("TimestampValue {{ value: {}, parsed_tz: None", start.value()));
    let kind = Some(if is_date { Kind::Date(range) } else { Kind::Timestamp(range) });
    Ok(proto::Series { include_end_name: is_generate_series(series.name())?, kind })
}

fn is_generate_series(name: &str) -> Result<bool> {
    match name {
        "generate_series" => Ok(true),
        "range" => Ok(false),
        _ => plan_err!("its rows are generated by an unknown function {name}"),
    }
}

pub(super) fn restore_lazy_memory(
    node: &proto::LazyMemoryNode,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(decode_schema(&node.schema)?);
    let generators = node.generators.iter().map(|series| {
        let (arguments, batch_size) = restore_series(series)?;
        GenerateSeriesTable::new(Arc::clone(&schema), arguments).as_generator(batch_size)
    });
    let generators = generators.collect::<Result<Vec<_>>>()?;
    let mut exec = LazyMemoryExec::try_new(Arc::clone(&schema), generators)?
        .with_projection(node.projection.as_ref().map(decode_indices));
    let projected = exec.schema();
    exec.try_set_partitioning(context.partitioning(&node.partitioning, &projected)?)?;
    for ordering in context.orderings(&node.orderings, &projected)? {
        exec.add_ordering(ordering);
    }
    Ok(Arc::new(exec))
}

fn restore_series(series: &proto::Series) -> Result<(GenSeriesArgs, usize)> {
    let name = if series.include_end_name { "generate_series" } else { "range" };
    let step = |range: &proto::SeriesRange| IntervalMonthDayNano::new(range.step_months, range.step_days, range.step);
    Ok(match &series.kind {
        Some(Kind::Empty(_)) => (GenSeriesArgs::ContainsNull { name }, 0),
        Some(Kind::Int64(range)) => {
            let (start, end, step, include_end) = (range.start, range.end, range.step, range.include_end);
            (GenSeriesArgs::Int64Args { start, end, step, include_end, name }, range.batch_size as usize)
        }
        Some(Kind::Timestamp(range)) => {
            let (start, end, include_end) = (range.start, range.end, range.include_end);
            let tz = range.time_zone.as_deref().map(Into::into);
            (
                GenSeriesArgs::TimestampArgs { start, end, step: step(range), tz, include_end, name },
                range.batch_size as usize,
            )
        }
        Some(Kind::Date(range)) => {
            let (start, end, include_end) = (range.start, range.end, range.include_end);
            (GenSeriesArgs::DateArgs { start, end, step: step(range), include_end, name }, range.batch_size as usize)
        }
        None => return internal_err!("a generated series is unknown"),
    })
}
