//! The cells of a batch as text.

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

/// Calls `each` with the cells of each row, in order. `null` stands for NULL.
///
/// # Errors
/// Of `each`, or if there is no text for a column's type.
pub(super) fn for_each_row<E: From<ArrowError>>(
    batch: &RecordBatch,
    null: &str,
    mut each: impl FnMut(Vec<String>) -> Result<(), E>,
) -> Result<(), E> {
    let options = FormatOptions::new().with_null(null).with_duration_format(DurationFormat::Pretty);
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref() as &dyn Array, &options))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..batch.num_rows() {
        let cells = formatters.iter().map(|formatter| formatter.value(row).try_to_string());
        each(cells.collect::<Result<_, ArrowError>>()?)?;
    }
    Ok(())
}

/// The text with control characters escaped: data must neither break the lines nor steer the terminal.
pub(super) fn shown(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_text_that_steers_terminals_then_it_is_escaped() {
        assert_eq!(shown("a\u{1b}[31mb\tü".to_owned()), "a\\u{1b}[31mb\\tü");
    }
}
