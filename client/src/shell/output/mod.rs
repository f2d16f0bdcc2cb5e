//! Writes results, as they arrive, in one of the formats.
//!
//! A writer holds no more than a page of rows, however large the result is.

mod cells;
mod csv;
mod json;
mod table;
mod vertical;

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::error::ShellError;
use super::options::Format;

/// What stands for NULL where people read.
const NULL: &str = "<null>";

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// The format.
    pub format: Format,
    /// Whether table and csv name their columns.
    pub header: bool,
}

/// Writes one result.
pub(super) trait ResultWriter {
    /// Writes more rows, or keeps them for the page.
    ///
    /// # Errors
    /// If they cannot be written.
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ShellError>;

    /// Writes what is left.
    ///
    /// # Errors
    /// If it cannot be written.
    fn end(&mut self) -> Result<(), ShellError>;
}

/// A writer for a result with this schema. Results without columns, as DDL has, are written as nothing.
pub(super) fn writer<'a>(style: Style, schema: SchemaRef, out: &'a mut dyn Write) -> Box<dyn ResultWriter + 'a> {
    match style.format {
        _ if schema.fields().is_empty() => Box::new(Nothing),
        Format::Table => Box::new(table::TableWriter::new(&schema, style.header, out)),
        Format::Csv => Box::new(csv::CsvWriter::new(&schema, style.header, out)),
        Format::Json => Box::new(json::JsonWriter::new(out)),
        Format::Vertical => Box::new(vertical::VerticalWriter::new(&schema, out)),
    }
}

struct Nothing;

impl ResultWriter for Nothing {
    fn batch(&mut self, _batch: &RecordBatch) -> Result<(), ShellError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), ShellError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::{Int32Type, Schema};

    use super::*;

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a,\"b\"\nc"), Some("NULL")]));
        let decimals = Decimal128Array::from(vec![Some(150), Some(-25)]).with_precision_and_scale(15, 2);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None]);
        let columns: [(&str, ArrayRef); 4] =
            [("n", numbers), ("t", texts), ("d", Arc::new(decimals.expect("decimals"))), ("l", Arc::new(lists))];
        RecordBatch::try_from_iter(columns).expect("batch")
    }

    fn written(format: Format, header: bool, batches: &[RecordBatch], schema: &SchemaRef) -> String {
        let mut out = Vec::new();
        let mut writer = writer(Style { format, header }, schema.clone(), &mut out);
        for batch in batches {
            writer.batch(batch).expect("written");
        }
        writer.end().expect("written");
        drop(writer);
        String::from_utf8(out).expect("text")
    }

    fn all(format: Format) -> String {
        written(format, true, &[batch()], &batch().schema())
    }

    #[test]
    fn given_a_table_then_null_is_not_the_text_null_and_lines_stay_whole() {
        let wanted = r#"
┌────────┬──────────┬───────┬────────┐
│      n ┆ t        ┆     d ┆ l      │
╞════════╪══════════╪═══════╪════════╡
│      1 ┆ a,"b"\nc ┆  1.50 ┆ [1, 2] │
│ <null> ┆ NULL     ┆ -0.25 ┆ <null> │
└────────┴──────────┴───────┴────────┘
"#;
        assert_eq!(all(Format::Table), wanted.trim_start());
    }

    #[test]
    fn given_csv_then_fields_are_quoted_where_needed_and_null_is_empty() {
        assert_eq!(all(Format::Csv), "n,t,d,l\n1,\"a,\"\"b\"\"\nc\",1.50,\"[1, 2]\"\n,NULL,-0.25,\n");
        assert_eq!(written(Format::Csv, true, &[], &batch().schema()), "n,t,d,l\n");
        assert_eq!(written(Format::Csv, false, &[], &batch().schema()), "");
    }

    #[test]
    fn given_json_then_each_row_is_a_line_with_all_columns() {
        let wanted = "{\"n\":1,\"t\":\"a,\\\"b\\\"\\nc\",\"d\":1.50,\"l\":[1,2]}\n\
                      {\"n\":null,\"t\":\"NULL\",\"d\":-0.25,\"l\":null}\n";
        assert_eq!(all(Format::Json), wanted);
        assert_eq!(written(Format::Json, true, &[], &batch().schema()), "");
    }

    #[test]
    fn given_vertical_then_each_column_is_a_line() {
        let wanted = "\
─ row 1 ─
n │ 1
t │ a,\"b\"\\nc
d │ 1.50
l │ [1, 2]
─ row 2 ─
n │ <null>
t │ NULL
d │ -0.25
l │ <null>
";
        assert_eq!(all(Format::Vertical), wanted);
    }

    #[test]
    fn given_no_columns_then_nothing_is_written() {
        let schema: SchemaRef = Arc::new(Schema::empty());
        for format in [Format::Table, Format::Csv, Format::Json, Format::Vertical] {
            assert_eq!(written(format, true, &[], &schema), "");
        }
    }

    #[test]
    fn given_more_rows_than_a_page_then_each_page_is_a_table_and_none_is_empty() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2 * table::PAGE_ROWS as i64));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("batch");
        let text = written(Format::Table, true, std::slice::from_ref(&batch), &batch.schema());
        assert_eq!(text.matches('╞').count(), 2);
        let empty = written(Format::Table, true, &[], &batch.schema());
        assert_eq!(empty.matches('╞').count(), 1, "{empty}");
    }
}
