//! Tables of the fuzzer: columns, rows as SQL literals, and how their files are laid out.

use super::family::{COLUMN_TYPES, ColumnType, Family, Format};

/// A table of several files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub name: String,
    pub format: Format,
    pub layout: Layout,
    pub columns: Vec<Column>,
    pub files: Vec<DataFile>,
}

/// Layout of a table's files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout {
    /// Rows of a Parquet row group; 0: the writer's default.
    pub row_group_rows: usize,
    /// Order of the rows in each file, which Parquet files declare.
    pub sorted_by: Vec<SortKey>,
    /// True if the order is declared in CREATE EXTERNAL TABLE, too.
    pub has_declared_order: bool,
    /// Column that stands in the names of directories.
    pub partitioned_by: Option<String>,
}

/// Column of a sort order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SortKey {
    pub column: String,
    pub is_descending: bool,
    pub nulls_first: bool,
}

/// Column of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub name: String,
    /// Type as in [`ColumnType::arrow`].
    pub arrow: String,
    pub is_nullable: bool,
}

/// File of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DataFile {
    /// Value of the column that the table is partitioned by.
    pub partition: Option<String>,
    /// SQL literals, one for each column.
    pub rows: Vec<Vec<String>>,
}

impl Column {
    pub(crate) fn kind(&self) -> Option<&'static ColumnType> {
        COLUMN_TYPES.iter().find(|kind| kind.arrow == self.arrow)
    }

    /// Family of the type; that of text for types that the fuzzer does not make.
    pub(crate) fn family(&self) -> Family {
        self.kind().map_or(Family::Text, |kind| kind.family)
    }
}

impl SortKey {
    fn sql(&self) -> String {
        let direction = if self.is_descending { "DESC" } else { "ASC" };
        let nulls = if self.nulls_first { "FIRST" } else { "LAST" };
        format!("{} {direction} NULLS {nulls}", self.column)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [column, direction, "NULLS", nulls] = words[..] else { return None };
        Some(Self { column: column.to_owned(), is_descending: direction == "DESC", nulls_first: nulls == "FIRST" })
    }
}

impl Table {
    /// Number of rows of all files.
    pub(crate) fn rows(&self) -> usize {
        self.files.iter().map(|file| file.rows.len()).sum()
    }

    /// The statement that declares the table over the files of a directory.
    pub(crate) fn create_statement(&self, name: &str, location: &str, with_order: bool) -> String {
        let mut sql = format!("CREATE EXTERNAL TABLE {name} ");
        if matches!(self.format, Format::Csv | Format::Json) {
            let partition = self.layout.partitioned_by.iter().map(|column| format!("{column} VARCHAR"));
            let columns = self.columns.iter().map(|column| {
                let sql_type = column.kind().map_or("VARCHAR", |kind| kind.sql);
                format!("{} {sql_type}", column.name)
            });
            sql += &format!("({}) ", columns.chain(partition).collect::<Vec<_>>().join(", "));
        }
        sql += &format!("STORED AS {} ", self.format.sql());
        if let Some(column) = &self.layout.partitioned_by {
            sql += &format!("PARTITIONED BY ({column}) ");
        }
        if with_order && self.layout.has_declared_order {
            sql += &format!("WITH ORDER ({}) ", self.order());
        }
        sql += &format!("LOCATION '{location}'");
        if self.format == Format::Csv {
            sql += " OPTIONS ('format.has_header' 'true')";
        }
        sql
    }

    fn order(&self) -> String {
        self.layout.sorted_by.iter().map(SortKey::sql).collect::<Vec<_>>().join(", ")
    }

    /// The query whose rows are those of a file.
    pub(crate) fn rows_query(&self, file: &DataFile) -> String {
        let nulls = || self.columns.iter().map(|column| super::family::null(&column.arrow).to_owned()).collect();
        let no_row: Vec<Vec<String>> = vec![nulls()];
        let rows = if file.rows.is_empty() { &no_row } else { &file.rows };
        let rows = rows.iter().map(|row| format!("({})", row.join(", "))).collect::<Vec<_>>().join(", ");
        let columns = self.columns.iter().enumerate().map(|(index, column)| {
            let value = format!("column{}", index + 1);
            let cast = match column.arrow.as_str() {
                "Struct" | "Map" => value,
                fixed if fixed.starts_with("FixedSizeBinary") => {
                    format!("arrow_cast(arrow_cast({value}, 'Binary'), '{fixed}')")
                }
                zoned if zoned.starts_with("Timestamp") => format!("arrow_cast({value}, '{zoned}')"),
                other => format!("arrow_cast({value}, '{other}')"),
            };
            format!("{cast} AS {}", column.name)
        });
        let mut sql = format!("SELECT {} FROM (VALUES {rows})", columns.collect::<Vec<_>>().join(", "));
        if file.rows.is_empty() {
            sql += " WHERE FALSE";
        }
        if !self.layout.sorted_by.is_empty() {
            sql = format!("SELECT * FROM ({sql}) ORDER BY {}", self.order());
        }
        sql
    }

    /// The lines that describe the table in a file of cases.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("-- TABLE {} {}\n", self.name, self.format.sql());
        if self.layout.row_group_rows > 0 {
            text += &format!("-- ROW GROUP {}\n", self.layout.row_group_rows);
        }
        if !self.layout.sorted_by.is_empty() {
            let keyword = if self.layout.has_declared_order { "ORDER" } else { "SORTED BY" };
            text += &format!("-- {keyword} {}\n", self.order());
        }
        if let Some(column) = &self.layout.partitioned_by {
            text += &format!("-- PARTITIONED BY {column}\n");
        }
        for column in &self.columns {
            let nullable = if column.is_nullable { "" } else { " NOT NULL" };
            text += &format!("-- COLUMN {} {}{nullable}\n", column.name, column.arrow);
        }
        for file in &self.files {
            let partition = file.partition.as_ref().map(|value| format!(" {value}")).unwrap_or_default();
            text += &format!("-- FILE{partition}\n");
            for row in &file.rows {
                text += &format!("-- ROW {}\n", row.join(", "));
            }
        }
        text
    }

    /// Takes in a line that [`Self::to_text`] wrote after the first. Returns false if it is another line.
    pub(crate) fn take_line(&mut self, line: &str) -> bool {
        let rest = |keyword: &str| line.strip_prefix(keyword);
        if let Some(rows) = rest("-- ROW GROUP ") {
            self.layout.row_group_rows = rows.parse().unwrap_or_default();
        } else if let Some(keys) = rest("-- ORDER ").or_else(|| rest("-- SORTED BY ")) {
            self.layout.has_declared_order = line.starts_with("-- ORDER");
            self.layout.sorted_by = keys.split(", ").filter_map(SortKey::parse).collect();
        } else if let Some(column) = rest("-- PARTITIONED BY ") {
            self.layout.partitioned_by = Some(column.to_owned());
        } else if let Some(column) = rest("-- COLUMN ") {
            let (column, is_nullable) = column.strip_suffix(" NOT NULL").map_or((column, true), |name| (name, false));
            let Some((name, arrow)) = column.split_once(' ') else { return false };
            self.columns.push(Column { name: name.to_owned(), arrow: arrow.to_owned(), is_nullable });
        } else if let Some(partition) = rest("-- FILE") {
            let partition = Some(partition.trim().to_owned()).filter(|value| !value.is_empty());
            self.files.push(DataFile { partition, rows: Vec::new() });
        } else if let (Some(row), Some(file)) = (rest("-- ROW "), self.files.last_mut()) {
            file.rows.push(split_row(row));
        } else {
            return false;
        }
        true
    }
}

/// The literals of a row: text at commas outside of quotes and brackets.
fn split_row(text: &str) -> Vec<String> {
    let (mut cells, mut cell, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0, false);
    for character in text.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' | ']' | '}' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                cells.push(std::mem::take(&mut cell).trim().to_owned());
                continue;
            }
            _ => {}
        }
        cell.push(character);
    }
    // Spaces within quotes stay: they are inside of the outermost characters.
    cells.push(cell.trim().to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_text_is_read_back_as_written() {
        let column =
            |name: &str, arrow: &str, is_nullable| Column { name: name.into(), arrow: arrow.into(), is_nullable };
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = Table {
            name: "l".to_owned(),
            format: Format::Parquet,
            layout: Layout {
                row_group_rows: 3,
                sorted_by: vec![SortKey { column: "s".into(), is_descending: true, nulls_first: false }],
                has_declared_order: true,
                partitioned_by: Some("p".to_owned()),
            },
            columns: vec![column("id", "Int64", false), column("s", "Utf8", true), column("l", "List(Int64)", true)],
            files: vec![
                DataFile {
                    partition: Some("1".to_owned()),
                    rows: vec![row(&["'1'", "' it''s, '", "make_array(1, NULL)"])],
                },
                DataFile { partition: Some("2".to_owned()), rows: vec![] },
            ],
        };
        let text = table.to_text();
        let mut read = Table { layout: Layout::default(), columns: vec![], files: vec![], ..table.clone() };
        for line in text.lines().skip(1) {
            assert!(read.take_line(line), "{line}");
        }
        assert_eq!(read, table);
    }
}
