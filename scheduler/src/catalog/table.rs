//! A table over files, as DataFusion sees it.
//!
//! What the table is was settled when it was created; what a scan depends on besides (which files there are now,
//! caches, reader settings) comes from the session that scans. So nothing is inferred again, and one value serves all
//! sessions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use springald_core::error::{Error, Result};
use springald_proto::records::{ExternalTable, PartitionColumn};

use super::blame::{self, Expected, Suspect};
use super::format::Format;
use super::location::Location;
use super::name::TableName;

/// A table over files. See the module.
#[derive(Debug)]
pub struct CatalogTable {
    name: TableName,
    format: Format,
    options: HashMap<String, String>,
    locations: Vec<Location>,
    /// Answers what no session is needed for: schemas, and which filters partitions answer.
    prototype: ListingTable,
    file_schema: SchemaRef,
    definition: String,
}

impl CatalogTable {
    /// The table of a stored record.
    ///
    /// # Errors
    /// The record is of a newer version, or damaged.
    pub(super) fn from_record(name: &TableName, record: &ExternalTable) -> Result<Self> {
        let format = Format::from_record(record.format)?;
        let locations = record.locations.iter().map(|text| Location::parse(text)).collect::<Result<Vec<_>>>()?;
        let file_schema = Arc::new(decode_schema(&record.file_schema)?);
        let columns = record.partition_columns.iter().map(partition_column).collect::<Result<Vec<_>>>()?;
        let options = ListingOptions::new(format.plain_reader()).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(listing_urls(name, &locations))
            .with_listing_options(options.with_table_partition_cols(columns))
            .with_schema(Arc::clone(&file_schema));
        Ok(Self {
            name: name.clone(),
            format,
            options: record.options.clone(),
            locations,
            prototype: ListingTable::try_new(config)?,
            file_schema,
            definition: record.sql.clone(),
        })
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    pub(super) fn locations(&self) -> &[Location] {
        &self.locations
    }

    pub(super) fn reader(&self, session: &dyn Session) -> datafusion::error::Result<Arc<dyn FileFormat>> {
        self.format.reader(session, &self.options)
    }

    /// What is to be looked into when reading the table failed.
    pub(super) fn suspect<'a>(&'a self, reader: &'a dyn FileFormat) -> Suspect<'a> {
        Suspect {
            name: &self.name,
            reader,
            locations: &self.locations,
            expected: match self.format.is_self_describing() {
                true => Expected::Columns(&self.file_schema),
                false => Expected::Anything,
            },
        }
    }

    /// The table with this session's reader settings and caches.
    fn listing(&self, session: &dyn Session) -> datafusion::error::Result<ListingTable> {
        let mut options = self.prototype.options().clone();
        options.format = self.reader(session)?;
        let config = ListingTableConfig::new_with_multi_paths(self.prototype.table_paths().clone())
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.file_schema));
        let cache = session.runtime_env().cache_manager.get_file_statistic_cache();
        Ok(ListingTable::try_new(config)?.with_cache(cache))
    }

    async fn plan_scan<'a>(
        &self,
        session: &dyn Session,
        args: ScanArgs<'a>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let plan = self.listing(session)?.scan_with_args(session, args).await?.into_inner();
        self.check_presence(session, &plan).await?;
        Ok(plan)
    }

    /// A file or directory that is gone is an error, where DataFusion would see an empty table.
    async fn check_presence(&self, session: &dyn Session, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let single_files = self.locations.iter().filter(|location| location.is_single_file()).count();
        if scanned_files(plan) >= single_files.max(1) {
            return Ok(());
        }
        for location in &self.locations {
            blame::check_exists(session, location).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        self.prototype.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.definition)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        self.prototype.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let args = ScanArgs::default().with_projection(projection.map(Vec::as_slice));
        let args = args.with_filters(Some(filters)).with_limit(limit);
        Ok(self.scan_with_args(session, args).await?.into_inner())
    }

    async fn scan_with_args<'a>(
        &self,
        session: &dyn Session,
        args: ScanArgs<'a>,
    ) -> datafusion::error::Result<ScanResult> {
        match self.plan_scan(session, args).await {
            Ok(plan) => Ok(ScanResult::new(plan)),
            Err(error) => {
                let reader = self.reader(session)?;
                let error = blame::explain(session, &self.suspect(reader.as_ref()), Error::from(error)).await;
                Err(DataFusionError::from(error))
            }
        }
    }
}

/// The locations for DataFusion's listing, which keeps caches by table.
pub(super) fn listing_urls(name: &TableName, locations: &[Location]) -> Vec<ListingTableUrl> {
    locations.iter().map(|location| location.url().clone().with_table_ref(name.reference())).collect()
}

fn scanned_files(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    let scan = source.and_then(|source| source.downcast_ref::<FileScanConfig>());
    scan.map_or(0, |scan| scan.file_groups.iter().map(|group| group.len()).sum())
}

fn partition_column(column: &PartitionColumn) -> Result<(String, DataType)> {
    let PartitionColumn { name, data_type } = column;
    let data_type = data_type.parse().map_err(|error: ArrowError| {
        Error::internal(format!("the type {data_type:?} of partition column {name} is unknown")).with_source(error)
    })?;
    Ok((name.clone(), data_type))
}

/// A schema as an Arrow IPC message.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    let message = message.map_err(|error| Error::internal("the schema cannot be encoded").with_source(error))?;
    Ok(message.0.to_vec())
}

fn decode_schema(bytes: &[u8]) -> Result<Schema> {
    Schema::try_from(IpcMessage(bytes.to_vec().into()))
        .map_err(|error| Error::internal(format!("its stored schema is damaged: {error}")).with_source(error))
}
