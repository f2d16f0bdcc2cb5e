//! Types of columns, and the families of types that expressions are made for.

use super::choice::Choice;

/// Types between which expressions do not distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Integer,
    Float,
    Decimal,
    Boolean,
    Text,
    Binary,
    Date,
    Timestamp,
    /// Timestamps with a time zone.
    Zoned,
    Time,
    List,
    Struct,
    Map,
}

/// Families that can be sorted, grouped and compared.
pub(crate) const SCALARS: [Family; 10] = [
    Family::Integer,
    Family::Float,
    Family::Decimal,
    Family::Boolean,
    Family::Text,
    Family::Binary,
    Family::Date,
    Family::Timestamp,
    Family::Zoned,
    Family::Time,
];

impl Family {
    /// True if rows can be ordered by values of the family.
    pub(crate) fn is_sortable(self) -> bool {
        SCALARS.contains(&self)
    }

    /// True if rows can be grouped by values of the family.
    pub(crate) fn is_groupable(self) -> bool {
        self != Family::Map
    }

    /// The shortest literal.
    pub(crate) fn plain_literal(self) -> &'static str {
        match self {
            Family::Integer => "1",
            Family::Float => "0.5",
            Family::Decimal => "CAST(1 AS DECIMAL(10, 2))",
            Family::Boolean => "TRUE",
            Family::Text => "'a'",
            Family::Binary => "X'61'",
            Family::Date => "DATE '2020-03-01'",
            Family::Timestamp => "TIMESTAMP '2020-03-01 00:00:00'",
            Family::Zoned => "arrow_cast('2020-03-01T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
            Family::Time => "TIME '10:00:00'",
            Family::List => "make_array(1, 2)",
            Family::Struct => "named_struct('a', 1, 'b', 'x')",
            Family::Map => "MAP {'a': 1}",
        }
    }

    /// A random literal, now and then NULL.
    pub(crate) fn literal(self, choice: &mut Choice) -> String {
        let small = choice.between(-1, 9);
        match self {
            _ if choice.percent(4) => format!("NULLIF({0}, {0})", self.plain_literal()),
            Family::Integer => match choice.below(8) {
                0 => format!("CAST({small} AS SMALLINT)"),
                1 => format!("arrow_cast({}, 'UInt64')", small.abs()),
                _ => small.to_string(),
            },
            Family::Float => match choice.below(8) {
                0 => "CAST('NaN' AS DOUBLE)".to_owned(),
                1 => format!("arrow_cast({small}.5, 'Float16')"),
                2 => format!("CAST({small}.25 AS REAL)"),
                3 => "CAST('Infinity' AS DOUBLE)".to_owned(),
                _ => format!("{small}.25"),
            },
            Family::Decimal => match choice.below(3) {
                0 => format!("arrow_cast('{small}.125', 'Decimal256(50, 5)')"),
                1 => format!("arrow_cast('{small}.5', 'Decimal64(14, 3)')"),
                _ => format!("CAST({small}.75 AS DECIMAL(12, 4))"),
            },
            Family::Boolean => (*choice.pick(&["TRUE", "FALSE"])).to_owned(),
            Family::Text => quoted(choice.pick::<&str>(&TEXTS)),
            Family::Binary => (*choice.pick(&["X'61'", "X''", "X'00ff'"])).to_owned(),
            Family::Date => format!("DATE '{}'", choice.pick(&DATES)),
            Family::Timestamp => format!("TIMESTAMP '{} {}'", choice.pick(&DATES), choice.pick(&TIMES)),
            Family::Time => format!("TIME '{}'", choice.pick(&TIMES)),
            Family::List => format!("make_array({small}, NULL, 3)"),
            Family::Struct => format!("named_struct('a', {small}, 'b', 'ab')"),
            Family::Zoned | Family::Map => self.plain_literal().to_owned(),
        }
    }
}

const TEXTS: [&str; 14] =
    ["", "a", "b", "B", "ab", "abc", "ba", "ä", "e%", "_x", " pad ", "12", "a text longer than twelve", "it's"];
const DATES: [&str; 6] = ["1969-12-31", "2020-02-28", "2020-02-29", "2020-03-01", "2020-03-29", "2021-10-31"];
const TIMES: [&str; 6] = ["00:00:00", "01:30:00", "02:30:00.123", "10:00:00.123456", "12:00:00", "23:59:59.999"];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Formats that can store a type, as bits.
const CSV: u8 = 1;
const JSON: u8 = 2;
const PARQUET: u8 = 4;
const ARROW: u8 = 8;
const BINARY_FORMATS: u8 = PARQUET | ARROW;
const ALL: u8 = CSV | JSON | BINARY_FORMATS;

/// File formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Csv,
    Json,
    Arrow,
}

impl Format {
    /// Name in SQL.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Format::Parquet => "PARQUET",
            Format::Csv => "CSV",
            Format::Json => "JSON",
            Format::Arrow => "ARROW",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Format::Parquet => PARQUET,
            Format::Csv => CSV,
            Format::Json => JSON,
            Format::Arrow => ARROW,
        }
    }
}

/// Type of a stored column.
#[derive(Debug)]
pub(crate) struct ColumnType {
    /// Usual name of a column of the type.
    pub name: &'static str,
    /// Type as `arrow_cast` takes it; `Struct` and `Map` stand for one type each.
    pub arrow: &'static str,
    /// Type in a column list, for formats that describe no types.
    pub sql: &'static str,
    pub family: Family,
    formats: u8,
}

const fn column(name: &'static str, arrow: &'static str, sql: &'static str, family: Family, formats: u8) -> ColumnType {
    ColumnType { name, arrow, sql, family, formats }
}

/// All types of stored columns.
pub(crate) static COLUMN_TYPES: [ColumnType; 36] = [
    column("i8", "Int8", "TINYINT", Family::Integer, ALL),
    column("i16", "Int16", "SMALLINT", Family::Integer, ALL),
    column("i32", "Int32", "INT", Family::Integer, ALL),
    column("i64", "Int64", "BIGINT", Family::Integer, ALL),
    column("u8", "UInt8", "TINYINT UNSIGNED", Family::Integer, ALL),
    column("u16", "UInt16", "SMALLINT UNSIGNED", Family::Integer, ALL),
    column("u32", "UInt32", "INT UNSIGNED", Family::Integer, ALL),
    column("u64", "UInt64", "BIGINT UNSIGNED", Family::Integer, ALL),
    column("f16", "Float16", "", Family::Float, BINARY_FORMATS),
    column("f32", "Float32", "REAL", Family::Float, CSV | BINARY_FORMATS),
    column("f64", "Float64", "DOUBLE", Family::Float, CSV | BINARY_FORMATS),
    column("dec32", "Decimal32(7, 2)", "", Family::Decimal, BINARY_FORMATS),
    column("dec64", "Decimal64(14, 3)", "", Family::Decimal, BINARY_FORMATS),
    column("dec128", "Decimal128(20, 4)", "DECIMAL(20, 4)", Family::Decimal, CSV | BINARY_FORMATS),
    column("dec256", "Decimal256(50, 5)", "DECIMAL(50, 5)", Family::Decimal, CSV | BINARY_FORMATS),
    column("b", "Boolean", "BOOLEAN", Family::Boolean, ALL),
    column("s", "Utf8", "VARCHAR", Family::Text, ALL),
    column("sv", "Utf8View", "", Family::Text, BINARY_FORMATS),
    column("ls", "LargeUtf8", "", Family::Text, BINARY_FORMATS),
    column("dict", "Dictionary(Int32, Utf8)", "", Family::Text, BINARY_FORMATS),
    column("dicti", "Dictionary(Int8, Int64)", "", Family::Integer, BINARY_FORMATS),
    column("bin", "Binary", "", Family::Binary, BINARY_FORMATS),
    column("binv", "BinaryView", "", Family::Binary, BINARY_FORMATS),
    column("fsb", "FixedSizeBinary(2)", "", Family::Binary, BINARY_FORMATS),
    column("d", "Date32", "DATE", Family::Date, ALL),
    column("d64", "Date64", "", Family::Date, ARROW),
    column("tss", "Timestamp(Second, None)", "", Family::Timestamp, BINARY_FORMATS),
    column("tsm", "Timestamp(Millisecond, None)", "", Family::Timestamp, BINARY_FORMATS),
    column("ts", "Timestamp(Nanosecond, None)", "TIMESTAMP", Family::Timestamp, ALL),
    column("tz", "Timestamp(Microsecond, Some(\"+02:00\"))", "", Family::Zoned, BINARY_FORMATS),
    column("tzb", "Timestamp(Millisecond, Some(\"Europe/Berlin\"))", "", Family::Zoned, BINARY_FORMATS),
    column("t", "Time64(Microsecond)", "TIME", Family::Time, BINARY_FORMATS),
    column("l", "List(Int64)", "BIGINT[]", Family::List, JSON | BINARY_FORMATS),
    column("l2", "List(Int64)", "BIGINT[]", Family::List, BINARY_FORMATS),
    column("st", "Struct", "STRUCT<a BIGINT, b VARCHAR>", Family::Struct, JSON | BINARY_FORMATS),
    column("m", "Map", "", Family::Map, BINARY_FORMATS),
];

impl ColumnType {
    /// True if files of the format can have a column of the type.
    pub(crate) fn is_stored_as(&self, format: Format) -> bool {
        self.formats & format.bit() != 0
    }

    /// A random value as a SQL literal.
    pub(crate) fn value(&self, choice: &mut Choice) -> String {
        if choice.percent(15) {
            return null(self.arrow).to_owned();
        }
        let is_unsigned = self.arrow.starts_with('U');
        match self.family {
            Family::Integer if is_unsigned => format!("'{}'", choice.between(0, 9)),
            Family::Integer => format!("'{}'", choice.between(-2, 9)),
            Family::Float if choice.percent(20) => {
                format!("'{}'", choice.pick(&["NaN", "-0.0", "0.0", "inf", "-inf"]))
            }
            Family::Float => format!("'{}'", choice.between(-8, 24) as f64 * 0.25),
            Family::Decimal => format!("'{}'", choice.between(-8, 24) as f64 * 0.25),
            Family::Boolean => format!("'{}'", choice.percent(50)),
            Family::Text => quoted(choice.pick::<&str>(&TEXTS)),
            Family::Binary if self.arrow.starts_with("Fixed") => {
                format!("'{}'", choice.pick(&["ab", "aa", "zz", "a "]))
            }
            Family::Binary => quoted(choice.pick::<&str>(&TEXTS)),
            Family::Date => format!("'{}'", choice.pick(&DATES)),
            Family::Timestamp => format!("'{}T{}'", choice.pick(&DATES), choice.pick(&TIMES)),
            Family::Zoned => format!("'{}T{}Z'", choice.pick(&DATES), choice.pick(&TIMES)),
            Family::Time => format!("'{}'", choice.pick(&TIMES)),
            Family::List => match choice.below(4) {
                0 => "arrow_cast(make_array(), 'List(Int64)')".to_owned(),
                1 => format!("make_array({}, NULL)", choice.between(0, 3)),
                _ => format!("make_array({}, {})", choice.between(0, 3), choice.between(0, 3)),
            },
            Family::Struct => {
                format!("named_struct('a', {}, 'b', {})", choice.between(0, 5), quoted(choice.pick::<&str>(&TEXTS)))
            }
            Family::Map => format!("MAP {{'a': {}, 'b': {}}}", choice.between(0, 5), choice.between(0, 5)),
        }
    }
}

/// NULL as a SQL literal of the type.
pub(crate) fn null(arrow: &str) -> &'static str {
    match arrow {
        "Struct" => "CASE WHEN FALSE THEN named_struct('a', 1, 'b', 'x') END",
        "Map" => "CASE WHEN FALSE THEN MAP {'a': 1} END",
        "List(Int64)" => "arrow_cast(NULL, 'List(Int64)')",
        _ => "NULL",
    }
}
