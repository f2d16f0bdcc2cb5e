//! DataFusion's reader of Parquet, without the bounds of columns that it is not sure of.
//!
//! DataFusion takes the smallest and the largest value of the row groups that state them for those of the whole file.
//! Writers leave them out, or shorten them, where values are long; and no bound of floating-point values counts NaN.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::file_format::{FileFormat, FileMeta};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};

/// Reads Parquet. Statistics have bounds only where all row groups state them.
#[derive(Debug)]
pub(super) struct BoundedParquetFormat {
    inner: Arc<dyn FileFormat>,
}

impl BoundedParquetFormat {
    /// The reader of Parquet `inner` with certain bounds.
    pub(super) fn new(inner: Arc<dyn FileFormat>) -> Self {
        Self { inner }
    }

    /// The statistics without the bounds that may be wrong.
    async fn certain(
        &self,
        statistics: Statistics,
        session: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: &SchemaRef,
        object: &ObjectMeta,
    ) -> Statistics {
        // The footer was read a moment ago, and is in the cache.
        let hint = self.inner.downcast_ref::<ParquetFormat>().and_then(ParquetFormat::metadata_size_hint);
        let metadata = DFParquetMetadata::new(store, object)
            .with_metadata_size_hint(hint)
            .with_file_metadata_cache(Some(session.runtime_env().cache_manager.get_file_metadata_cache()))
            .fetch_metadata()
            .await;
        // Of a footer that cannot be read here (an encrypted one), nothing is certain.
        let uncertain = metadata.ok().map(|metadata| columns_without_bounds(&metadata));
        without_bounds(statistics, schema, |column| uncertain.as_ref().is_none_or(|columns| columns.contains(column)))
    }
}

/// Removes the bounds of the columns named by `is_uncertain`, and of all with floating-point values.
fn without_bounds(statistics: Statistics, schema: &SchemaRef, is_uncertain: impl Fn(&str) -> bool) -> Statistics {
    let mut statistics = statistics;
    for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
        if field.data_type().is_floating() || is_uncertain(field.name()) {
            column.min_value = Precision::Absent;
            column.max_value = Precision::Absent;
        }
    }
    statistics
}

/// Names of the columns of which some row group with values states no bound.
fn columns_without_bounds(metadata: &ParquetMetaData) -> HashSet<String> {
    let columns = metadata.file_metadata().schema_descr().columns().iter().enumerate();
    let states_all = |index: usize| metadata.row_groups().iter().all(|group| states_bounds(group, index));
    columns
        .filter(|(index, _)| !states_all(*index))
        .filter_map(|(_, column)| column.path().parts().first().cloned())
        .collect()
}

fn states_bounds(group: &RowGroupMetaData, column: usize) -> bool {
    let chunk = group.column(column);
    chunk.statistics().is_some_and(|statistics| {
        let has_both = statistics.min_bytes_opt().is_some() && statistics.max_bytes_opt().is_some();
        has_both || statistics.null_count_opt() == Some(chunk.num_values() as u64)
    })
}

#[async_trait]
impl FileFormat for BoundedParquetFormat {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.inner.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(
        &self,
        session: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.inner.infer_schema(session, store, objects).await
    }

    async fn infer_stats(
        &self,
        session: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        let statistics = self.inner.infer_stats(session, store, Arc::clone(&schema), object).await?;
        Ok(self.certain(statistics, session, store, &schema, object).await)
    }

    async fn infer_ordering(
        &self,
        session: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        self.inner.infer_ordering(session, store, schema, object).await
    }

    async fn infer_stats_and_ordering(
        &self,
        session: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        let mut found = self.inner.infer_stats_and_ordering(session, store, Arc::clone(&schema), object).await?;
        found.statistics = self.certain(found.statistics, session, store, &schema, object).await;
        Ok(found)
    }

    async fn create_physical_plan(
        &self,
        session: &dyn Session,
        scan: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_physical_plan(session, scan).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        session: &dyn Session,
        sink: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_writer_physical_plan(input, session, sink, order).await
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        self.inner.file_source(schema)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
    use datafusion::parquet::file::properties::WriterProperties;

    use super::*;

    fn statistics_of(columns: Vec<(&str, ArrayRef)>, rows: usize) -> Vec<(bool, bool)> {
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build();
        let file = tempfile::tempfile().expect("a file");
        let copy = file.try_clone().expect("a handle");
        let mut writer = ArrowWriter::try_new(copy, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let read = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).expect("a footer");
        let found = DFParquetMetadata::statistics_from_parquet_metadata(read.metadata(), &batch.schema());
        let uncertain = columns_without_bounds(read.metadata());
        let certain = without_bounds(found.expect("statistics"), &batch.schema(), |column| uncertain.contains(column));
        let is_known = |value: &Precision<_>| *value != Precision::Absent;
        certain.column_statistics.iter().map(|of| (is_known(&of.min_value), is_known(&of.max_value))).collect()
    }

    #[test]
    fn bounds_of_all_row_groups_are_kept() {
        let nulls = StringArray::from(vec![Some("a"), Some("b"), None, None]);
        let texts = StringArray::from(vec!["a", "b", "c", "d"]);
        assert_eq!(statistics_of(vec![("n", Arc::new(nulls)), ("s", Arc::new(texts))], 2), [(true, true); 2]);
    }

    #[test]
    fn bounds_are_dropped_where_a_row_group_states_none() {
        // The second row group has NaN alone, for which writers state nothing.
        let floats = Float64Array::from(vec![1.0, 2.0, f64::NAN, f64::NAN]);
        assert_eq!(statistics_of(vec![("f", Arc::new(floats))], 2), [(false, false)]);
    }
}
