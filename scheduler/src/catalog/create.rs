//! `CREATE EXTERNAL TABLE`: finds the files, and settles once what the table is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::ListingOptions;
use datafusion::datasource::physical_plan::wrap_partition_type_in_dict;
use datafusion::execution::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use futures::StreamExt;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::secrets;
use springald_proto::records::{ExternalTable, PartitionColumn};

use super::blame::{self, Expected, Suspect};
use super::format::Format;
use super::location::Location;
use super::name::TableName;
use super::table::{encode_schema, listing_urls};

/// Most locations of one table.
const MAX_LOCATIONS: usize = 1000;

/// The record of the table that `create` describes. Lists its files and, where the statement gives no columns, reads
/// enough of them to know the columns.
///
/// # Errors
/// Name the table and, where there is one, the file.
pub(super) async fn describe(
    name: &TableName,
    create: &CreateExternalTable,
    state: &SessionState,
    sql: &str,
) -> Result<ExternalTable> {
    refuse_what_is_not_kept(create)?;
    let format = Format::from_sql(&create.file_type)?;
    let locations = existing_locations(name, create, state).await?;
    let mut options = create.options.clone();
    let texts: Vec<&str> = locations.iter().map(Location::text).collect();
    format.settle_options(&mut options, &texts, state.config_options().catalog.has_header);
    let reader = format.reader(state, &options).map_err(bad_option)?;
    let files = Files { name, format, reader, state };
    let locations = files.narrow(locations, &options, has_columns(create)).await?;
    let columns = files.columns(create, &locations).await?;
    Ok(ExternalTable {
        format: format.to_record().into(),
        locations: locations.iter().map(|location| location.text().to_owned()).collect(),
        file_schema: encode_schema(&columns.file_schema)?,
        partition_columns: columns
            .partitions
            .into_iter()
            .map(|(name, data_type)| PartitionColumn { name, data_type: data_type.to_string() })
            .collect(),
        options,
        // For people only: the options stand beside it.
        sql: secrets::sql(create.definition.as_deref().unwrap_or(sql)),
    })
}

/// What the statement says and a table over files would silently not do.
fn refuse_what_is_not_kept(create: &CreateExternalTable) -> Result<()> {
    let refused = [
        (create.temporary, "TEMPORARY tables"),
        (create.unbounded, "UNBOUNDED tables"),
        (!create.order_exprs.is_empty(), "WITH ORDER"),
        (!create.constraints.is_empty(), "constraints (PRIMARY KEY, UNIQUE) on external tables"),
        (!create.column_defaults.is_empty(), "DEFAULT values on external tables"),
    ];
    match refused.into_iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} are not supported"))),
        None => Ok(()),
    }
}

fn has_columns(create: &CreateExternalTable) -> bool {
    !create.schema.fields().is_empty()
}

fn bad_option(error: DataFusionError) -> Error {
    Error::from(error).context(
        "a table's OPTIONS describe its files, as in OPTIONS (has_header true, delimiter ';'); credentials come from \
         the environment of the processes",
    )
}

/// The statement's locations, each of which exists.
async fn existing_locations(
    name: &TableName,
    create: &CreateExternalTable,
    state: &SessionState,
) -> Result<Vec<Location>> {
    if create.locations.is_empty() || create.locations.len() > MAX_LOCATIONS {
        return Err(Error::invalid(format!("a table has 1 to {MAX_LOCATIONS} locations")));
    }
    let mut seen = HashSet::new();
    let mut locations: Vec<Location> = Vec::with_capacity(create.locations.len());
    for text in &create.locations {
        let location = existing(name, Location::parse(text)?, state).await?;
        if !seen.insert(location.text().to_owned()) {
            return Err(Error::invalid(format!("the location {text:?} is given twice")));
        }
        if let Some(first) = locations.first()
            && first.url().object_store() != location.url().object_store()
        {
            return Err(Error::unsupported(format!(
                "all locations of a table must be in one store, but {} and {} are not",
                first.text(),
                location.text()
            )));
        }
        locations.push(location);
    }
    Ok(locations)
}

/// Finds out whether a location without a trailing slash is a file or a directory.
async fn existing(name: &TableName, location: Location, state: &SessionState) -> Result<Location> {
    let missing = blame::check_exists(state, &location).await;
    if location.is_local() {
        missing?;
        let is_directory = tokio::fs::metadata(location.local_path()).await.is_ok_and(|metadata| metadata.is_dir());
        return if is_directory { location.into_directory() } else { Ok(location) };
    }
    match missing {
        Ok(()) => Ok(location),
        Err(error) if error.code() == ErrorCode::NotFound => {
            let directory = location.into_directory()?;
            if is_empty(name, &directory, state).await? { Err(error) } else { Ok(directory) }
        }
        Err(error) => Err(error),
    }
}

/// True if there is no file at the location.
async fn is_empty(name: &TableName, location: &Location, state: &SessionState) -> Result<bool> {
    let url = location.url().clone().with_table_ref(name.reference());
    let store = state.runtime_env().object_store(&url)?;
    let mut files = url.list_all_files(state, store.as_ref(), "").await?;
    match files.next().await {
        None => Ok(true),
        Some(Ok(_)) => Ok(false),
        Some(Err(error)) => Err(Error::from(error).context(location.text())),
    }
}

struct Columns {
    /// Without the partition columns.
    file_schema: SchemaRef,
    partitions: Vec<(String, DataType)>,
}

/// The files of a table that is being made.
struct Files<'a> {
    name: &'a TableName,
    format: Format,
    reader: Arc<dyn FileFormat>,
    state: &'a SessionState,
}

impl Files<'_> {
    /// Replaces directories by those of their files that have the format's ending, so that other files beside them
    /// (markers, checksums) are not taken for data.
    async fn narrow(
        &self,
        locations: Vec<Location>,
        options: &HashMap<String, String>,
        may_be_empty: bool,
    ) -> Result<Vec<Location>> {
        let suffixes = self.format.suffixes(options);
        let mut narrowed = Vec::with_capacity(locations.len());
        for location in locations {
            narrowed.push(match location.is_directory() {
                true => self.files_of_directory(&location, &suffixes, may_be_empty).await?,
                false => location,
            });
        }
        Ok(narrowed)
    }

    async fn files_of_directory(
        &self,
        directory: &Location,
        suffixes: &[String],
        may_be_empty: bool,
    ) -> Result<Location> {
        for suffix in suffixes {
            let candidate = directory.files_ending_with(suffix)?;
            if !is_empty(self.name, &candidate, self.state).await? {
                return Ok(candidate);
            }
        }
        if may_be_empty && let Some(usual) = suffixes.first() {
            return directory.files_ending_with(usual);
        }
        Err(Error::not_found(format!(
            "directory {} has no file ending in {}: name the files with a glob ({}*), or give the table's columns",
            directory.text(),
            suffixes.join(" or "),
            directory.text()
        )))
    }

    async fn columns(&self, create: &CreateExternalTable, locations: &[Location]) -> Result<Columns> {
        let options = ListingOptions::new(Arc::clone(&self.reader)).with_file_extension("");
        let partitions = self.partitions(create, &options, locations).await?;
        let options = options.with_table_partition_cols(partitions.clone());
        for url in listing_urls(self.name, locations) {
            options.validate_partitions(self.state, &url).await.map_err(|error| Error::from(error).context(&url))?;
        }
        let all = match has_columns(create) {
            true => Arc::clone(create.schema.inner()),
            false => self.infer(&options, locations).await?,
        };
        let file_schema = self.without_partitions(&all, &partitions, has_columns(create))?;
        if file_schema.fields().is_empty() {
            return Err(Error::invalid("no column is found in its files: give the table's columns"));
        }
        Ok(Columns { file_schema, partitions })
    }

    /// Columns that stand in the names of directories (`key=value`), with their types.
    async fn partitions(
        &self,
        create: &CreateExternalTable,
        options: &ListingOptions,
        locations: &[Location],
    ) -> Result<Vec<(String, DataType)>> {
        if has_columns(create) {
            let typed = create.table_partition_cols.iter().map(|column| {
                let field = create.schema.field_with_unqualified_name(column).map_err(Error::from)?;
                Ok((column.clone(), field.data_type().clone()))
            });
            return typed.collect();
        }
        let text = |column: String| (column, wrap_partition_type_in_dict(DataType::Utf8));
        if !create.table_partition_cols.is_empty() {
            return Ok(create.table_partition_cols.iter().cloned().map(text).collect());
        }
        match listing_urls(self.name, locations).first() {
            Some(url) if url.is_collection() => {
                let found = options.infer_partitions(self.state, url).await;
                Ok(found.map_err(|error| Error::from(error).context(url))?.into_iter().map(text).collect())
            }
            _ => Ok(vec![]),
        }
    }

    /// The columns of the files, the same at all locations.
    async fn infer(&self, options: &ListingOptions, locations: &[Location]) -> Result<SchemaRef> {
        let mut first: Option<SchemaRef> = None;
        for (location, url) in locations.iter().zip(listing_urls(self.name, locations)) {
            let schema = match options.infer_schema(self.state, &url).await {
                Ok(schema) => schema,
                Err(error) => return Err(self.at_fault(location, error).await),
            };
            match &first {
                None => first = Some(schema),
                Some(first) if first.fields() == schema.fields() => {}
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "the files at {} have other columns than those at {}",
                        location.text(),
                        locations[0].text()
                    )));
                }
            }
        }
        first.ok_or_else(|| Error::invalid("a table needs a location"))
    }

    async fn at_fault(&self, location: &Location, error: DataFusionError) -> Error {
        let locations = std::slice::from_ref(location);
        let suspect =
            Suspect { name: self.name, reader: self.reader.as_ref(), locations, expected: Expected::Agreement };
        match blame::find_fault(self.state, &suspect, &error.to_string()).await {
            Some(fault) => Error::new(ErrorCode::Query, fault.to_string()).with_source(error),
            None => Error::from(error).context(location.text()),
        }
    }

    /// The files' own columns. A column that is both in the files and in the directories' names is taken from the
    /// names, where the format finds the others without it.
    fn without_partitions(
        &self,
        all: &SchemaRef,
        partitions: &[(String, DataType)],
        declared: bool,
    ) -> Result<SchemaRef> {
        let is_partition = |column: &str| partitions.iter().any(|(name, _)| name == column);
        let by_name = matches!(self.format, Format::Parquet | Format::Ndjson);
        if !declared && !by_name && all.fields().iter().any(|field| is_partition(field.name())) {
            return Err(Error::unsupported(
                "a partition column is also a column of the files: give the table's columns, without it",
            ));
        }
        let own = all.fields().iter().filter(|field| !is_partition(field.name())).cloned().collect::<Vec<_>>();
        Ok(Arc::new(Schema::new_with_metadata(own, all.metadata().clone())))
    }
}
