//! Finds out which file is to blame when reading a table has failed.
//!
//! Errors of readers seldom say which file, and never which table. After a failure (never before one, so that good
//! queries pay nothing) the table's files are looked at one by one: is it there, can it be read, does it still have
//! the table's columns?

use std::fmt;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use springald_core::error::{Error, ErrorCode, Result};
use tokio::time::timeout;

use super::location::Location;
use super::name::TableName;
use super::table::listing_urls;

/// Most files looked at after one failure.
const MAX_FILES: usize = 256;

/// Longest search after one failure.
const DEADLINE: Duration = Duration::from_secs(5);

/// A table whose files may be the cause of a failure.
pub(super) struct Suspect<'a> {
    pub(super) name: &'a TableName,
    pub(super) reader: &'a dyn FileFormat,
    pub(super) locations: &'a [Location],
    /// What the files should hold; `None` where only the table says what its files mean, as with CSV.
    pub(super) schema: Option<&'a SchemaRef>,
}

/// What is wrong, and with which file.
pub(super) struct Fault {
    file: String,
    problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}: {}", self.file, self.problem)
    }
}

/// The error with the table's name, and the file's if one is found at fault.
pub(super) async fn explain(session: &dyn Session, suspect: &Suspect<'_>, error: Error) -> Error {
    // A file that is not as it was is the query's own error, whatever its reader calls it.
    let by_files =
        matches!(error.code(), ErrorCode::Query | ErrorCode::Internal | ErrorCode::Invalid | ErrorCode::NotFound);
    if !by_files {
        return error.context(format!("table {}", suspect.name));
    }
    let what = match find_fault(session, suspect).await {
        Some(fault) => fault.to_string(),
        None => error.message().to_owned(),
    };
    Error::new(ErrorCode::Query, format!("table {}: {what}", suspect.name)).with_source(error)
}

/// The first file that is missing, cannot be read, or does not fit; `None` if there is none within the limits.
pub(super) async fn find_fault(session: &dyn Session, suspect: &Suspect<'_>) -> Option<Fault> {
    timeout(DEADLINE, search(session, suspect)).await.ok().flatten()
}

/// Fails if the file, or the local directory, does not exist.
pub(super) async fn check_exists(session: &dyn Session, location: &Location) -> Result<()> {
    let missing = || Error::not_found(format!("{} does not exist", location.text()));
    if location.is_local() {
        return match tokio::fs::metadata(location.local_path()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing().with_source(error)),
            Err(error) => Err(cannot_be_read(location, error)),
        };
    }
    if !location.is_single_file() {
        return Ok(());
    }
    let store = session.runtime_env().object_store(location.url())?;
    match store.head(location.url().prefix()).await {
        Ok(_) => Ok(()),
        Err(error @ object_store::Error::NotFound { .. }) => Err(missing().with_source(error)),
        Err(error) => Err(cannot_be_read(location, error)),
    }
}

fn cannot_be_read(location: &Location, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorCode::Query, format!("{} cannot be read: {error}", location.text())).with_source(error)
}

async fn search(session: &dyn Session, suspect: &Suspect<'_>) -> Option<Fault> {
    let mut expected = suspect.schema.cloned();
    let mut looked_at = 0;
    for (location, url) in suspect.locations.iter().zip(listing_urls(suspect.name, suspect.locations)) {
        if let Err(error) = check_exists(session, location).await {
            return Some(Fault { file: location.text().to_owned(), problem: error.message().to_owned() });
        }
        let store = session.runtime_env().object_store(&url).ok()?;
        let mut files = url.list_all_files(session, store.as_ref(), "").await.ok()?;
        while let Some(Ok(file)) = files.next().await {
            if looked_at == MAX_FILES {
                return None;
            }
            looked_at += 1;
            let found = suspect.reader.infer_schema(session, &store, std::slice::from_ref(&file)).await;
            let problem = match (found, &expected) {
                (Err(error), _) => Some(problem_of(&file, Error::from(error).message())),
                (Ok(found), Some(expected)) => difference(expected, &found),
                (Ok(found), None) => {
                    expected = Some(found);
                    None
                }
            };
            if let Some(problem) = problem {
                return Some(Fault { file: full_name(location, &file), problem });
            }
        }
    }
    None
}

fn problem_of(file: &ObjectMeta, message: &str) -> String {
    match file.size {
        0 => "it is empty".to_owned(),
        size => format!("it cannot be read ({size} bytes): {message}"),
    }
}

fn full_name(location: &Location, file: &ObjectMeta) -> String {
    if location.is_local() {
        return format!("/{}", file.location);
    }
    format!("{}{}", location.url().object_store().as_str(), file.location)
}

/// How a file's columns differ from those expected, if in a way that matters. More columns do not.
fn difference(expected: &Schema, found: &Schema) -> Option<String> {
    expected.fields().iter().find_map(|field| match found.field_with_name(field.name()) {
        Err(_) => Some(format!("it has no column {:?}; has it changed since the table was created?", field.name())),
        Ok(other) if alike(field.data_type(), other.data_type()) => None,
        Ok(other) => Some(format!(
            "its column {:?} is {}, where {} was expected; has it changed since the table was created?",
            field.name(),
            other.data_type(),
            field.data_type()
        )),
    })
}

/// Equal, but for the ways in which text and bytes can be laid out.
fn alike(left: &DataType, right: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    let text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    let bytes = |data_type: &DataType| matches!(data_type, Binary | LargeBinary | BinaryView);
    left.equals_datatype(right) || (text(left) && text(right)) || (bytes(left) && bytes(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn given_a_file_whose_columns_changed_the_difference_names_column_and_types() {
        let expected = schema(&[("a", DataType::Int64), ("b", DataType::Utf8View)]);
        let same = schema(&[("b", DataType::Utf8), ("a", DataType::Int64), ("more", DataType::Date32)]);
        assert_eq!(difference(&expected, &same), None);
        let changed = difference(&expected, &schema(&[("a", DataType::Utf8), ("b", DataType::Utf8)])).expect("a");
        assert!(changed.contains("\"a\" is Utf8, where Int64"), "{changed}");
        let missing = difference(&expected, &schema(&[("a", DataType::Int64)])).expect("b");
        assert!(missing.contains("no column \"b\""), "{missing}");
    }
}
