//! What drivers ask about the server itself: its abilities and its types.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SupportedSqlGrammar,
    XdbcDataType,
};
use springald_core::error::{Error, Result};

use super::metadata::failed;

/// What the server can do.
pub(super) fn sql_info() -> Result<&'static SqlInfoData> {
    static INFO: LazyLock<Result<SqlInfoData>> = LazyLock::new(|| build_sql_info().build().map_err(failed));
    INFO.as_ref().map_err(Error::clone)
}

/// The SQL types there are.
pub(super) fn type_info() -> Result<&'static XdbcTypeInfoData> {
    static INFO: LazyLock<Result<XdbcTypeInfoData>> = LazyLock::new(|| build_type_info().build().map_err(failed));
    INFO.as_ref().map_err(Error::clone)
}

/// One bit per value of an enum.
fn bits<const N: usize>(values: [i32; N]) -> i32 {
    values.into_iter().fold(0, |mask, value| mask | (1 << value))
}

fn build_sql_info() -> SqlInfoDataBuilder {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Springald");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    names(&mut info);
    abilities(&mut info);
    transactions(&mut info);
    info
}

/// How names are written.
fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlKeywords, &[] as &[&str]);
    info.append(SqlInfo::SqlNumericFunctions, &["abs", "ceil", "floor", "power", "round", "sqrt"][..]);
    info.append(SqlInfo::SqlStringFunctions, &["concat", "length", "lower", "replace", "substr", "trim", "upper"][..]);
    info.append(SqlInfo::SqlSystemFunctions, &["coalesce", "nullif", "version"][..]);
    info.append(SqlInfo::SqlDatetimeFunctions, &["date_bin", "date_part", "date_trunc", "now", "to_timestamp"][..]);
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlProcedureTerm, "");
    info.append(SqlInfo::SqlCatalogAtStart, true);
}

/// What SQL can say.
fn abilities(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    let group_by =
        [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    info.append(SqlInfo::SqlSupportedGroupBy, bits(group_by));
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    let grammar = [SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32];
    info.append(SqlInfo::SqlSupportedGrammar, bits(grammar));
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, bits([SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]));
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    info.append(SqlInfo::SqlSupportedSubqueries, bits(subqueries));
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    info.append(SqlInfo::SqlSupportedUnions, bits(unions));
}

/// None.
fn transactions(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(SqlInfo::SqlDefaultTransactionIsolation, 0i64);
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(SqlInfo::SqlBatchUpdatesSupported, false);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// A SQL type: its name, code, digits or characters (where that says something), and the quotes of its literals.
struct SqlType(&'static str, XdbcDataType, Option<i32>, Option<&'static str>);

const TYPES: [SqlType; 17] = [
    SqlType("BOOLEAN", XdbcDataType::XdbcBit, Some(1), None),
    SqlType("TINYINT", XdbcDataType::XdbcTinyint, Some(3), None),
    SqlType("SMALLINT", XdbcDataType::XdbcSmallint, Some(5), None),
    SqlType("INTEGER", XdbcDataType::XdbcInteger, Some(10), None),
    SqlType("BIGINT", XdbcDataType::XdbcBigint, Some(19), None),
    SqlType("REAL", XdbcDataType::XdbcReal, Some(7), None),
    SqlType("FLOAT", XdbcDataType::XdbcFloat, Some(7), None),
    SqlType("DOUBLE", XdbcDataType::XdbcDouble, Some(15), None),
    SqlType("DECIMAL", XdbcDataType::XdbcDecimal, Some(76), None),
    SqlType("NUMERIC", XdbcDataType::XdbcNumeric, Some(76), None),
    SqlType("CHAR", XdbcDataType::XdbcChar, None, Some("'")),
    SqlType("VARCHAR", XdbcDataType::XdbcVarchar, None, Some("'")),
    SqlType("VARBINARY", XdbcDataType::XdbcVarbinary, None, Some("'")),
    SqlType("DATE", XdbcDataType::XdbcDate, Some(10), Some("'")),
    SqlType("TIME", XdbcDataType::XdbcTime, Some(18), Some("'")),
    SqlType("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some(29), Some("'")),
    SqlType("INTERVAL", XdbcDataType::XdbcInterval, None, Some("'")),
];

fn build_type_info() -> XdbcTypeInfoDataBuilder {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for SqlType(name, code, size, quote) in TYPES {
        let text = matches!(code, XdbcDataType::XdbcChar | XdbcDataType::XdbcVarchar);
        let number = quote.is_none() && code != XdbcDataType::XdbcBit;
        let decimal = matches!(code, XdbcDataType::XdbcDecimal | XdbcDataType::XdbcNumeric);
        builder.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: code,
            sql_data_type: code,
            column_size: size,
            literal_prefix: quote.map(str::to_owned),
            literal_suffix: quote.map(str::to_owned),
            create_params: decimal.then(|| vec!["precision".to_owned(), "scale".to_owned()]),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: text,
            searchable: Searchable::Full,
            unsigned_attribute: number.then_some(false),
            fixed_prec_scale: false,
            auto_increment: number.then_some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: decimal.then_some(0),
            maximum_scale: decimal.then_some(76),
            num_prec_radix: number.then_some(10),
            datetime_subcode: None,
            interval_precision: None,
        });
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_question_about_one_ability_there_is_one_answer() {
        let info = sql_info().expect("info");
        let one = info.record_batch([SqlInfo::FlightSqlServerCancel as u32]).expect("one");
        assert_eq!(one.num_rows(), 1);
        assert!(info.record_batch([]).expect("all").num_rows() > 40);
    }

    #[test]
    fn given_a_question_about_types_all_or_one_are_told() {
        let info = type_info().expect("info");
        assert_eq!(info.record_batch(None).expect("all").num_rows(), TYPES.len());
        assert_eq!(info.record_batch(XdbcDataType::XdbcBigint as i32).expect("one").num_rows(), 1);
    }
}
