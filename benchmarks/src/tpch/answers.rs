//! The committed answers: `benchmarks/answers/sf<scale>/q<nn>.csv`, gzipped as `.csv.gz` where they are large.
//!
//! `benchmarks/answers/generate.py` writes them with DuckDB from the very Parquet files that the generator makes. A
//! file starts with a header of `name:type`, types being integer, decimal, float, string and date. They are part of
//! the program, so that an installed binary can verify.

use std::io::Read;

use include_dir::{Dir, include_dir};

use super::value::{Kind, Value};
use super::{Query, Scale};
use crate::error::{BenchError, Result};

static ANSWERS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/answers");

/// Bound on an unpacked answer file; the largest are near 1 MiB.
const MAX_BYTES: u64 = 64 << 20;

/// A column of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name in the reference; engines may name expressions otherwise.
    pub name: String,
    /// Type in the reference.
    pub kind: Kind,
}

/// The reference result of one query at one scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each with one value per column, in the order the reference engine gave.
    pub rows: Vec<Vec<Value>>,
}

/// The scales that have answers, ascending.
pub fn scales_with_answers() -> Vec<Scale> {
    let names = ANSWERS.dirs().filter_map(|dir| dir.path().file_name()?.to_str()?.strip_prefix("sf"));
    let mut scales: Vec<Scale> = names.filter_map(|name| name.parse().ok()).collect();
    scales.sort_by(|a, b| a.factor().total_cmp(&b.factor()));
    scales
}

impl Answer {
    /// The committed answer of `query` at `scale`; `None` if that scale has none.
    ///
    /// # Errors
    /// [`BenchError::Answers`] if the file is damaged.
    pub fn load(query: &Query, scale: Scale) -> Result<Option<Self>> {
        let path = format!("{}/q{:02}.csv", scale.directory_name(), query.number);
        let damaged = |reason: String| BenchError::Answers { scale, query: query.number, reason };
        if let Some(file) = ANSWERS.get_file(&path) {
            return Self::parse(file.contents()).map(Some).map_err(damaged);
        }
        let Some(file) = ANSWERS.get_file(format!("{path}.gz")) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let unpacked = flate2::read::GzDecoder::new(file.contents()).take(MAX_BYTES).read_to_end(&mut text);
        unpacked.map_err(|error| damaged(error.to_string()))?;
        Self::parse(&text).map(Some).map_err(damaged)
    }

    /// Reads the text of an answer file; the error says where it is damaged.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(|error| error.to_string())?.clone();
        let columns = header.iter().map(parse_column).collect::<Result<Vec<Column>, String>>()?;
        let mut rows = Vec::new();
        for (index, record) in reader.records().enumerate() {
            // The reader refuses records of another length than the header's.
            let record = record.map_err(|error| error.to_string())?;
            let cell = |(column, text): (&Column, &str)| {
                Value::parse(column.kind, text).ok_or_else(|| {
                    format!("row {}, column {}: {text:?} is not {:?}", index + 1, column.name, column.kind)
                })
            };
            rows.push(columns.iter().zip(record.iter()).map(cell).collect::<Result<Vec<Value>, String>>()?);
        }
        Ok(Self { columns, rows })
    }
}

fn parse_column(field: &str) -> Result<Column, String> {
    let parsed = field
        .rsplit_once(':')
        .and_then(|(name, kind)| Some(Column { name: name.to_owned(), kind: Kind::from_name(kind)? }));
    parsed.ok_or_else(|| format!("header field {field:?} is not name:type"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpch::QUERIES;

    #[test]
    fn given_a_file_then_cells_have_the_types_of_the_header() {
        let answer =
            Answer::parse(b"k:integer,v:decimal,d:date,s:string,f:float\n7,1.50,1970-01-02,\"a,b\",0.5\n,,,,\n")
                .expect("well-formed");
        assert_eq!(answer.columns[1], Column { name: "v".to_owned(), kind: Kind::Decimal });
        let row = vec![
            Value::Number { digits: 7, scale: 0 },
            Value::Number { digits: 150, scale: 2 },
            Value::Date(1),
            Value::Text("a,b".to_owned()),
            Value::Float(0.5),
        ];
        assert_eq!(answer.rows, vec![row, vec![Value::Null; 5]]);
    }

    #[test]
    fn given_damaged_files_then_the_error_says_where() {
        for (text, part) in
            [("k\n1\n", "name:type"), ("k:integer\nx\n", "row 1"), ("a:integer,b:integer\n1\n", "2 fields")]
        {
            let error = Answer::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn given_the_committed_scales_then_every_query_has_a_readable_answer() {
        let scales: Vec<String> = scales_with_answers().iter().map(Scale::to_string).collect();
        assert_eq!(scales, ["0.01", "0.1", "1", "10"]);
        for scale in scales_with_answers() {
            for query in &QUERIES {
                let answer = Answer::load(query, scale).expect("readable").expect("present");
                assert!(!answer.columns.is_empty(), "query {} at {scale}", query.number);
                let ordered = query.order_by.iter().all(|column| *column < answer.columns.len());
                assert!(ordered, "query {} is ordered by a column it does not have", query.number);
                assert!(!query.order_by.is_empty() || answer.rows.len() == 1, "query {}", query.number);
            }
        }
    }
}
