//! Lists the tables of a Springald cluster, runs the 22 TPC-H queries and compares their answers.
//!
//! ```sh
//! cargo run --release --example tpch -- grpc://127.0.0.1:50050 benchmarks/queries benchmarks/answers/sf0.01
//! ```
//!
//! The cluster needs the eight TPC-H tables at scale 0.01.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use springald_client::Client;

const QUERIES: usize = 22;

/// Query 11 asks for parts worth more than this fraction: 0.0001 / scale.
const QUERY_11_FRACTION: &str = "0.01";

/// Relative difference up to which two floating-point numbers are the same answer.
const FLOAT_TOLERANCE: f64 = 1e-9;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, queries, answers] = arguments.as_slice() else {
        return Err("usage: tpch URL QUERIES ANSWERS".into());
    };
    let client = Client::connect(url).await?;
    let mut tables: Vec<String> = client
        .tables()
        .await?
        .into_iter()
        .filter(|table| table.schema.as_deref() != Some("information_schema"))
        .map(|table| table.name)
        .collect();
    tables.sort();
    println!("tables: {}", tables.join(", "));

    let mut verified = 0;
    for number in 1..=QUERIES {
        let query = Path::new(queries).join(format!("q{number:02}.sql"));
        let answer = Path::new(answers).join(format!("q{number:02}.csv"));
        match verify(&client, &query, &answer).await {
            Ok(()) => verified += 1,
            Err(error) => println!("query {number}: {error}"),
        }
    }
    println!("{verified} of {QUERIES} verified");
    Ok(if verified == QUERIES { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a query. The error tells what failed, or how the result differs from the answer.
async fn verify(client: &Client, query: &Path, answer: &Path) -> Result<()> {
    let sql = fs::read_to_string(query)?.replace("{fraction}", QUERY_11_FRACTION);
    let result = rows(&client.collect(&sql).await?)?;

    let mut answer = csv::Reader::from_path(answer)?;
    let header = answer.headers()?.clone();
    let kinds: Vec<&str> = header.iter().filter_map(|column| Some(column.rsplit_once(':')?.1)).collect();
    let expected: Vec<csv::StringRecord> = answer.records().collect::<csv::Result<_>>()?;
    if expected.len() != result.len() {
        return Err(format!("{} rows, not {}", result.len(), expected.len()).into());
    }
    for (number, (expected, actual)) in expected.iter().zip(&result).enumerate() {
        if expected.len() != actual.len() {
            return Err(format!("{} columns, not {}", actual.len(), expected.len()).into());
        }
        for ((kind, expected), actual) in kinds.iter().zip(expected).zip(actual) {
            if !is_answered_by(kind, expected, actual)? {
                return Err(format!("row {}: {:?}, not {expected:?}", number + 1, actual.text).into());
            }
        }
    }
    Ok(())
}

/// A value of a result.
struct Cell {
    /// `None` is NULL.
    text: Option<String>,
    /// Digits after the point, of decimals.
    scale: Option<i8>,
}

fn rows(batches: &[RecordBatch]) -> Result<Vec<Vec<Cell>>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| cell(column, row)).collect::<Result<_>>()?);
        }
    }
    Ok(rows)
}

fn cell(column: &dyn Array, row: usize) -> Result<Cell> {
    let scale = if let DataType::Decimal128(_, scale) = column.data_type() { Some(*scale) } else { None };
    let text = if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) };
    Ok(Cell { text, scale })
}

/// True if the cell is the answer `expected`, the text of a column of type `kind`. An empty text is NULL.
fn is_answered_by(kind: &str, expected: &str, actual: &Cell) -> Result<bool> {
    let Some(text) = &actual.text else { return Ok(expected.is_empty()) };
    Ok(match kind {
        "decimal" => plain(text) == plain(expected),
        "float" => {
            let (expected, actual_value): (f64, f64) = (expected.parse()?, text.parse()?);
            let difference = (expected - actual_value).abs();
            // Averages of decimals are decimals here, cut off after their last digit.
            let last_digit = actual.scale.map_or(0.0, |scale| 10_f64.powi(-i32::from(scale)));
            difference < last_digit || difference <= expected.abs() * FLOAT_TOLERANCE
        }
        _ => text == expected,
    })
}

/// A decimal without zeros at its end: 1.50 and 1.5 are the same.
fn plain(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}
