//! Types in expressions and column definitions.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, StructField};
use springald_core::error::Result;

use super::{refuse_if, refused};

/// The use of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Values are converted to it. A length would shorten or pad them.
    Conversion,
    /// A column of files has it. A length describes the values, and does not change them.
    Column,
}

/// Checks a type. DataFusion takes all kinds of types apart without `_`, but ignores some of their parameters.
pub(super) fn check(data_type: &DataType, used: Use) -> Result<()> {
    match data_type {
        DataType::Float(ExactNumberInfo::Precision(_) | ExactNumberInfo::PrecisionAndScale(..)) => {
            Err(refused(&format!("the precision of {data_type}"), "write REAL (4 bytes) or DOUBLE (8 bytes)"))
        }
        // Of VARCHAR(n), DataFusion documents that it ignores the length, with a setting that refuses it
        // (`datafusion.sql_parser.support_varchar_with_length`).
        DataType::Char(Some(_)) | DataType::String(Some(_)) if used == Use::Conversion => Err(refused(
            &format!("the length in a conversion to {data_type}"),
            "write VARCHAR, and left(…, n) to shorten",
        )),
        DataType::Array(ArrayElemTypeDef::AngleBracket(element)) => check(element, used),
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => check(element, used),
        DataType::Struct(fields, _) => fields.iter().try_for_each(|field| {
            let StructField { field_name: _, field_type, options } = field;
            refuse_if(options.is_some(), "OPTIONS of a field", "remove them")?;
            check(field_type, used)
        }),
        // The width of an integer, as in INT(11), is for display: values do not depend on it.
        _ => Ok(()),
    }
}
