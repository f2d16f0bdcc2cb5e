//! Comparison of scans: which files they read, and of which table.

use std::any::Any;
use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::DataSource;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_plan::projection::ProjectionExprs;

use super::Comparison;
use super::layout;
use super::report::{Check, Located, differs, same, unreadable};
use super::values::{fields, optional_statistics, scalars, statistics};

/// The factory that DataFusion takes if there is none. The type has no fields.
const DEFAULT_ADAPTER: &str = "DefaultPhysicalExprAdapterFactory";

impl Comparison<'_> {
    pub(super) fn sources(&mut self, left: &Arc<dyn DataSource>, right: &Arc<dyn DataSource>) -> Check {
        if Arc::ptr_eq(left, right) {
            return Ok(());
        }
        let (one, other): (&dyn Any, &dyn Any) = (left.as_ref(), right.as_ref());
        if let (Some(left), Some(right)) = (one.downcast_ref::<FileScanConfig>(), other.downcast_ref()) {
            return self.scans(left, right);
        }
        if let (Some(left), Some(right)) = (one.downcast_ref::<MemorySourceConfig>(), other.downcast_ref()) {
            return self.memory_sources(left, right);
        }
        if one.type_id() == other.type_id() {
            return Err(unreadable("data_source", format!("of an unknown type: {left:?}")));
        }
        Err(differs("data_source", left, right))
    }

    fn memory_sources(&mut self, left: &MemorySourceConfig, right: &MemorySourceConfig) -> Check {
        self.schemas("original_schema", &left.original_schema(), &right.original_schema())?;
        same("projection", left.projection(), right.projection())?;
        self.lists_of_orderings("sort_information", left.sort_information(), right.sort_information())?;
        same("show_sizes", &left.show_sizes(), &right.show_sizes())?;
        let (left, right) = (left.partitions(), right.partitions());
        let batches = [left, right].map(|partitions| partitions.iter().map(Vec::len).collect::<Vec<_>>());
        same("number of batches", &batches[0], &batches[1])?;
        for (partition, (left, right)) in left.iter().zip(right).enumerate() {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                self.schemas("schema of batch", &left.schema(), &right.schema())?;
                if left != right {
                    return Err(differs("batch", &(partition, index), &"other rows"));
                }
            }
        }
        Ok(())
    }

    fn scans(&mut self, left: &FileScanConfig, right: &FileScanConfig) -> Check {
        same("object_store_url", &left.object_store_url, &right.object_store_url)?;
        same("limit", &left.limit, &right.limit)?;
        same("preserve_order", &left.preserve_order, &right.preserve_order)?;
        same("file_compression_type", &left.file_compression_type, &right.file_compression_type)?;
        same("batch_size", &left.batch_size, &right.batch_size)?;
        same("constraints", &left.constraints, &right.constraints)?;
        adapters(left.expr_adapter_factory.as_ref(), right.expr_adapter_factory.as_ref())?;
        self.lists_of_orderings("output_ordering", &left.output_ordering, &right.output_ordering)?;
        match (&left.output_partitioning, &right.output_partitioning) {
            (Some(left), Some(right)) => self.partitionings("output_partitioning", left, right)?,
            (None, None) => {}
            (left, right) => return Err(differs("output_partitioning", left, right)),
        }
        self.file_sources(left, right)?;
        self.file_groups(&left.file_groups, &right.file_groups)?;
        // Returned as inexact if the source has a filter; nothing reads them otherwise.
        statistics(&left.statistics(), &right.statistics()).located(|| "statistics".to_owned())
    }

    fn file_groups(&mut self, left: &[FileGroup], right: &[FileGroup]) -> Check {
        let sizes = [left, right].map(|groups| groups.iter().map(FileGroup::len).collect::<Vec<_>>());
        same("number of files", &sizes[0], &sizes[1])?;
        for (left, right) in left.iter().zip(right) {
            if !std::ptr::eq(left.files(), right.files()) {
                for (left, right) in left.files().iter().zip(right.files()) {
                    self.files(left, right).located(|| format!("file {}", left.path()))?;
                }
            }
            match (left.file_statistics(None), right.file_statistics(None)) {
                (Some(left), Some(right)) if std::ptr::eq(left, right) => {}
                (Some(left), Some(right)) => statistics(left, right).located(|| "statistics of group".to_owned())?,
                (None, None) => {}
                (left, right) => return Err(differs("statistics of group", &left, &right)),
            }
        }
        Ok(())
    }

    /// Without a rest pattern: a new field has to be added here.
    fn files(&mut self, left: &PartitionedFile, right: &PartitionedFile) -> Check {
        let PartitionedFile {
            object_meta,
            partition_values,
            range,
            statistics,
            ordering,
            extensions,
            metadata_size_hint,
            table_reference,
            arrow_schema,
        } = left;
        same("object_meta", object_meta, &right.object_meta)?;
        scalars("partition_values", partition_values, &right.partition_values)?;
        same("range", range, &right.range)?;
        optional_statistics("statistics", statistics.as_ref(), right.statistics.as_ref())?;
        self.optional_orderings("ordering", ordering.as_ref(), right.ordering.as_ref())?;
        same("metadata_size_hint", metadata_size_hint, &right.metadata_size_hint)?;
        same("table_reference", table_reference, &right.table_reference)?;
        match (arrow_schema, &right.arrow_schema) {
            (Some(left), Some(right)) => self.schemas("arrow_schema", left, right)?,
            (None, None) => {}
            (left, right) => return Err(differs("arrow_schema", left, right)),
        }
        same("number of extensions", &extensions.len(), &right.extensions.len())?;
        if extensions.is_empty() {
            return Ok(());
        }
        let known = left.extension::<ParquetAccessPlan>();
        same("extension", &known, &right.extension::<ParquetAccessPlan>())?;
        let selection = left.extension::<ParquetRowSelection>();
        same("extension", &selection, &right.extension::<ParquetRowSelection>())?;
        match usize::from(known.is_some()) + usize::from(selection.is_some()) == extensions.len() {
            true => Ok(()),
            false => Err(unreadable("extensions", "an extension of an unknown type")),
        }
    }

    /// The other schemas are derived from these.
    pub(super) fn table_schemas(&mut self, left: &TableSchema, right: &TableSchema) -> Check {
        self.schemas("file_schema", left.file_schema(), right.file_schema())?;
        for (field, left, right) in [
            ("table_partition_cols", left.table_partition_cols(), right.table_partition_cols()),
            ("virtual_columns", left.virtual_columns(), right.virtual_columns()),
        ] {
            if left.len() != right.len() {
                return Err(differs(field, left, right));
            }
            left.iter().zip(right).try_for_each(|(left, right)| fields(field, left, right))?;
        }
        self.schemas("table_schema", left.table_schema(), right.table_schema())
    }

    pub(super) fn projections(&mut self, left: &ProjectionExprs, right: &ProjectionExprs) -> Check {
        let (left, right) = (left.as_ref(), right.as_ref());
        same("number of expressions", &left.len(), &right.len())?;
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            let place = || format!("expr[{index}]");
            self.expression(&left.expr, &right.expr).located(place)?;
            same("alias", &left.alias, &right.alias).located(place)?;
        }
        Ok(())
    }
}

type Adapter = Arc<dyn PhysicalExprAdapterFactory>;

fn adapters(left: Option<&Adapter>, right: Option<&Adapter>) -> Check {
    if let (Some(left), Some(right)) = (left, right)
        && Arc::ptr_eq(left, right)
    {
        return Ok(());
    }
    let names = [left, right].map(|adapter| adapter.map(|adapter| layout::type_name(adapter)));
    match names.iter().flatten().find(|name| *name != DEFAULT_ADAPTER) {
        Some(name) => Err(unreadable("expr_adapter_factory", name)),
        None => Ok(()),
    }
}
