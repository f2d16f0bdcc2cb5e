//! Random tables.

use super::choice::Choice;
use super::family::{COLUMN_TYPES, ColumnType, Format};
use super::table::{Column, DataFile, Layout, SortKey, Table};

/// Columns that every table has, before those of random types.
pub(crate) const COMMON: [&str; 4] = ["id", "k", "g", "s"];

/// Column in the names of directories.
const PARTITION_COLUMN: &str = "p";

/// What is special about a table.
#[derive(Clone, Copy, PartialEq)]
enum Feature {
    /// All types.
    Wide,
    Plain,
    Sorted,
    Partitioned,
    Empty,
}

const TABLES: [(Format, Feature); 11] = [
    (Format::Parquet, Feature::Wide),
    (Format::Parquet, Feature::Plain),
    (Format::Parquet, Feature::Plain),
    (Format::Parquet, Feature::Sorted),
    (Format::Parquet, Feature::Sorted),
    (Format::Parquet, Feature::Partitioned),
    (Format::Parquet, Feature::Empty),
    (Format::Csv, Feature::Plain),
    (Format::Csv, Feature::Partitioned),
    (Format::Json, Feature::Plain),
    (Format::Arrow, Feature::Wide),
];

/// Makes the tables of a world. Their names start with `prefix`.
pub(crate) fn tables(choice: &mut Choice, prefix: &str) -> Vec<Table> {
    let named = TABLES.iter().enumerate();
    named.map(|(number, (format, feature))| table(choice, format!("{prefix}{number}"), *format, *feature)).collect()
}

fn table(choice: &mut Choice, name: String, format: Format, feature: Feature) -> Table {
    let kinds = columns(choice, format, feature);
    let columns: Vec<Column> = kinds
        .iter()
        .map(|(name, kind)| Column {
            name: (*name).to_owned(),
            arrow: kind.arrow.to_owned(),
            is_nullable: *name != "id" || choice.percent(50),
        })
        .collect();
    let rows = match feature {
        Feature::Empty => 0,
        Feature::Wide => choice.between(20, 60),
        _ => *choice.pick(&[1, 8, 20, 30, 40, 60, 90]),
    };
    let first_id = *choice.pick(&[0, 0, 10, 30]);
    let mut rows: Vec<Vec<String>> = (0..rows)
        .map(|row| {
            let id = format!("'{}'", first_id + row);
            std::iter::once(id).chain(kinds[1..].iter().map(|(_, kind)| kind.value(choice))).collect()
        })
        .collect();
    let layout = layout(choice, format, feature, &columns);
    if layout.sorted_by.is_empty() {
        let count = rows.len();
        rows = choice.some(&rows, count);
    } else if choice.percent(60) {
        // Ranges that do not overlap: the files are sorted one after the other.
        sort_by_integer(&mut rows, &layout.sorted_by[0], &columns);
    }
    let files = files(choice, rows, &layout);
    Table { name, format, layout, columns, files }
}

fn kind(name: &str) -> &'static ColumnType {
    COLUMN_TYPES.iter().find(|kind| kind.name == name).expect("all names here are in the list")
}

/// The columns of a table: the common ones, then random ones.
fn columns(choice: &mut Choice, format: Format, feature: Feature) -> Vec<(&'static str, &'static ColumnType)> {
    let fitting: Vec<&'static ColumnType> = COLUMN_TYPES.iter().filter(|kind| kind.is_stored_as(format)).collect();
    let is_wide = feature == Feature::Wide;
    let key = if format == Format::Csv || choice.percent(70) { "i64" } else { "i32" };
    let text = if format == Format::Parquet && choice.percent(40) { "dict" } else { "s" };
    let common = [("id", kind("i64")), ("k", kind(key)), ("g", kind("i32")), ("s", kind(text))];
    let most = if is_wide { fitting.len() } else { choice.between(3, 9) as usize };
    let chosen = choice.some(&fitting, most);
    let more = chosen.into_iter().filter(|kind| !COMMON.contains(&kind.name)).map(|kind| (kind.name, kind));
    common.into_iter().chain(more).collect()
}

fn layout(choice: &mut Choice, format: Format, feature: Feature, columns: &[Column]) -> Layout {
    let mut layout = Layout::default();
    if format == Format::Parquet {
        layout.row_group_rows = *choice.pick(&[0, 3, 5, 10]);
    }
    if feature == Feature::Sorted {
        let orders: [&[&str]; 6] = [&["id"], &["k"], &["k", "id"], &["g", "k", "id"], &["g", "id"], &["k", "g"]];
        let names = *choice.pick(&orders);
        layout.sorted_by = names
            .iter()
            .filter(|name| columns.iter().any(|column| column.name == **name))
            .map(|name| SortKey {
                column: (*name).to_owned(),
                is_descending: choice.percent(25),
                nulls_first: choice.percent(40),
            })
            .collect();
        layout.has_declared_order = choice.percent(40);
    }
    if feature == Feature::Partitioned {
        layout.partitioned_by = Some(PARTITION_COLUMN.to_owned());
    }
    layout
}

/// Sorts rows by a column of integers, as the order says.
fn sort_by_integer(rows: &mut [Vec<String>], key: &SortKey, columns: &[Column]) {
    let index = columns.iter().position(|column| column.name == key.column).unwrap_or_default();
    let value = |row: &Vec<String>| row[index].trim_matches('\'').parse::<i64>().ok();
    rows.sort_by_key(|row| {
        let value = value(row);
        let value = if key.is_descending { value.map(|value| -value) } else { value };
        // None is less than Some.
        (value.is_none() != key.nulls_first, value)
    });
}

/// Divides rows among several files; now and then, one has none.
fn files(choice: &mut Choice, rows: Vec<Vec<String>>, layout: &Layout) -> Vec<DataFile> {
    let partitions: Vec<Option<String>> = match &layout.partitioned_by {
        Some(_) => ["1", "2", "x y", "10"].iter().map(|value| Some((*value).to_owned())).collect(),
        None => vec![None],
    };
    let count = choice.between(2, 5) as usize;
    let each = rows.len().div_ceil(count).max(1);
    let mut chunks: Vec<Vec<Vec<String>>> = rows.chunks(each).map(<[Vec<String>]>::to_vec).collect();
    if choice.percent(30) || chunks.len() < 2 {
        chunks.insert(choice.below(chunks.len() + 1), Vec::new());
    }
    let with_partition = chunks.into_iter().map(|rows| DataFile { partition: choice.pick(&partitions).clone(), rows });
    with_partition.collect()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::writer;
    use super::*;

    #[tokio::test]
    async fn tables_of_several_seeds_can_be_written_and_read() {
        let context = SessionContext::new();
        let directory = tempfile::tempdir().expect("a temporary directory");
        for seed in 0..4 {
            for table in tables(&mut Choice::new(seed), &format!("x{seed}_")) {
                let location = directory.path().join(&table.name);
                writer::write(&table, &location, &context).await.unwrap_or_else(|error| {
                    panic!("{}", writer::failed(&table, &error));
                });
                let create = table.create_statement(&table.name, &format!("{}/", location.display()), true);
                context.sql(&create).await.expect(&create);
                let read = context.sql(&format!("SELECT * FROM {}", table.name)).await.expect(&create);
                assert_eq!(read.count().await.expect(&create), table.rows(), "{}", table.to_text());
            }
        }
    }
}
