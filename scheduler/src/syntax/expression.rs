//! Expressions, but for functions.

use datafusion::sql::sqlparser::ast::{Expr, TypedString};
use springald_core::error::Result;

use super::data_type::{self, Use};
use super::{refuse_if, refused};

/// Checks an expression, without the expressions in it.
pub(super) fn check(expression: &Expr) -> Result<()> {
    match expression {
        Expr::Cast { kind: _, expr: _, data_type, array, format } => {
            refuse_if(*array, "CAST (… AS … ARRAY)", "write the type with []")?;
            refuse_if(format.is_some(), "FORMAT in CAST", "write to_char(…), to_date(…) or to_timestamp(…)")?;
            data_type::check(data_type, Use::Conversion)
        }
        Expr::TypedString(TypedString { data_type, value: _, uses_odbc_syntax: _ }) => {
            data_type::check(data_type, Use::Conversion)
        }
        // DataFusion takes the first of them only.
        Expr::Trim { expr: _, trim_where: _, trim_what: _, trim_characters } => {
            let count = trim_characters.as_ref().map_or(0, Vec::len);
            refuse_if(count > 1, "TRIM with several lists of characters", "write them in one string")
        }
        Expr::Like { negated: _, any, expr: _, pattern: _, escape_char: _ }
        | Expr::ILike { negated: _, any, expr: _, pattern: _, escape_char: _ } => {
            refuse_if(*any, "LIKE ANY", "write one LIKE for each pattern")
        }
        Expr::Struct { values: _, fields } => {
            refuse_if(!fields.is_empty(), "STRUCT<…>(…)", "write named_struct(…), with casts")
        }
        other => check_kind(other),
    }
}

/// Refuses kinds of expressions that DataFusion does not plan, and accepts those of which it reads all.
fn check_kind(expression: &Expr) -> Result<()> {
    match expression {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { root: _, access_chain: _ }
        | Expr::JsonAccess { value: _, path: _ }
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(_, _)
        | Expr::IsNotDistinctFrom(_, _)
        | Expr::InList { expr: _, list: _, negated: _ }
        | Expr::InSubquery { expr: _, subquery: _, negated: _ }
        | Expr::Between { expr: _, negated: _, low: _, high: _ }
        | Expr::BinaryOp { left: _, op: _, right: _ }
        | Expr::SimilarTo { negated: _, expr: _, pattern: _, escape_char: _ }
        // SOME is another word for ANY.
        | Expr::AnyOp { left: _, compare_op: _, right: _, is_some: _ }
        | Expr::AllOp { left: _, compare_op: _, right: _ }
        | Expr::UnaryOp { op: _, expr: _ }
        | Expr::AtTimeZone { timestamp: _, time_zone: _ }
        | Expr::Extract { field: _, syntax: _, expr: _ }
        | Expr::Ceil { expr: _, field: _ }
        | Expr::Floor { expr: _, field: _ }
        | Expr::Position { expr: _, r#in: _ }
        | Expr::Substring { expr: _, substring_from: _, substring_for: _, special: _, shorthand: _ }
        | Expr::Overlay { expr: _, overlay_what: _, overlay_from: _, overlay_for: _ }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::Case { case_token: _, end_token: _, operand: _, conditions: _, else_result: _ }
        | Expr::Exists { subquery: _, negated: _ }
        | Expr::Subquery(_)
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        | Expr::Tuple(_)
        | Expr::Named { expr: _, name: _ }
        | Expr::Dictionary(_)
        | Expr::Map(_)
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(_, _)
        | Expr::Lambda(_) => Ok(()),
        // Checked elsewhere.
        Expr::Cast { .. }
        | Expr::TypedString(_)
        | Expr::Trim { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Struct { .. }
        | Expr::Function(_) => Ok(()),
        Expr::IsNormalized { .. } => Err(refused("IS NORMALIZED", "remove it")),
        Expr::InUnnest { .. } => Err(refused("IN UNNEST (…)", "write = ANY (…)")),
        Expr::RLike { .. } => Err(refused("RLIKE or REGEXP", "write ~ or regexp_like(…)")),
        Expr::Convert { .. } => Err(refused("CONVERT", "write CAST")),
        Expr::Collate { .. } => Err(refused("COLLATE", "strings are ordered by their bytes; remove it")),
        Expr::Prefixed { .. } => Err(refused("a string with a character set", "write the string alone")),
        Expr::MatchAgainst { .. } => Err(refused("MATCH … AGAINST", "write LIKE")),
        Expr::OuterJoin(_) => Err(refused("(+)", "write LEFT JOIN or RIGHT JOIN")),
        Expr::Prior(_) => Err(refused("PRIOR", "write WITH RECURSIVE")),
        Expr::MemberOf(_) => Err(refused("MEMBER OF", "write array_has(…)")),
    }
}
