//! Finds out which file is to blame when reading a table has failed.
//!
//! Errors of readers seldom say which file, and never which table. After a failure (never before one, so that good
//! queries pay nothing) the table's files are looked at one by one: is it there, can it be read, can its columns become
//! those of the table? A file that may be as it is (one that lacks a column, or has one of a type that is cast) is not
//! blamed for the failure of something else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::can_cast_types;
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

/// What the message of a failed cast contains: a value of a file, or one that the query made.
const CAST_ERROR: &str = "Cast error";

/// A table whose files may be the cause of a failure.
pub(super) struct Suspect<'a> {
    pub(super) name: &'a TableName,
    pub(super) reader: &'a dyn FileFormat,
    pub(super) locations: &'a [Location],
    pub(super) expected: Expected<'a>,
}

/// What the files should hold.
#[derive(Clone, Copy)]
pub(super) enum Expected<'a> {
    /// These columns, and each file says which it has.
    Columns(&'a SchemaRef),
    /// The columns of the first file: the table is being made.
    Agreement,
    /// Only the table says what its files mean, as with CSV.
    Anything,
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
    let what = match find_fault(session, suspect, error.message()).await {
        Some(fault) => fault.to_string(),
        None => error.message().to_owned(),
    };
    Error::new(ErrorCode::Query, format!("table {}: {what}", suspect.name)).with_source(error)
}

/// The first file that is missing, cannot be read, or does not fit; `None` if there is none within the limits. What failed
/// said `message`.
pub(super) async fn find_fault(session: &dyn Session, suspect: &Suspect<'_>, message: &str) -> Option<Fault> {
    timeout(DEADLINE, search(session, suspect, message)).await.ok().flatten()
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

async fn search(session: &dyn Session, suspect: &Suspect<'_>, message: &str) -> Option<Fault> {
    let is_cast = message.contains(CAST_ERROR);
    let mut first: Option<SchemaRef> = None;
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
            let problem = match (found, suspect.expected) {
                (Err(error), _) => Some(problem_of(&file, Error::from(error).message())),
                (Ok(found), Expected::Columns(expected)) => {
                    let misfit = difference(expected, &found, |from, to| is_cast || !can_cast_types(from, to));
                    misfit.map(|misfit| format!("{misfit}; has it changed since the table was created?"))
                }
                (Ok(found), Expected::Agreement) => {
                    let first = first.get_or_insert_with(|| Arc::clone(&found));
                    difference(first, &found, |_, _| true).map(|misfit| format!("{misfit} by the files before it"))
                }
                (Ok(_), Expected::Anything) => None,
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

/// The first column of another type than expected, where `matters` says so of both types. A file may lack columns, and
/// have more.
fn difference(expected: &Schema, found: &Schema, matters: impl Fn(&DataType, &DataType) -> bool) -> Option<String> {
    expected.fields().iter().find_map(|field| {
        let (wanted, other) = (field.data_type(), found.field_with_name(field.name()).ok()?.data_type());
        let is_misfit = !alike(wanted, other) && matters(other, wanted);
        is_misfit.then(|| format!("its column {:?} is {other}, where {wanted} was expected", field.name()))
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
        let difference = |found: &[(&str, DataType)], all| {
            super::difference(&expected, &schema(found), |from, to| all || !can_cast_types(from, to))
        };
        let same = [("b", DataType::Utf8), ("a", DataType::Int64), ("more", DataType::Date32)];
        assert_eq!(difference(&same, true), None);
        let changed = difference(&[("a", DataType::Utf8), ("b", DataType::Utf8)], true).expect("a");
        assert!(changed.contains("\"a\" is Utf8, where Int64"), "{changed}");
        assert_eq!(difference(&[("a", DataType::Utf8)], false), None, "it can be cast, and may lack the other");
        let list = DataType::new_list(DataType::Utf8, true);
        assert!(difference(&[("a", list)], false).is_some(), "a list is no number");
    }
}
