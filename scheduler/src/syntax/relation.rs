//! What stands in FROM.

use datafusion::sql::sqlparser::ast::{
    FunctionArg, Join, ObjectName, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs, TableVersion,
};
use springald_core::error::Result;

use super::{query, refuse_if, refused};

/// Checks a relation, without the queries in it.
pub(super) fn check(relation: &TableFactor) -> Result<()> {
    match relation {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            // Planned by springald_core::sample.
            sample: _,
            index_hints,
        } => {
            if let Some(TableFunctionArgs { args: _, settings }) = args {
                check_function_name(name)?;
                refuse_if(settings.is_some(), "SETTINGS of a table function", "remove it")?;
            }
            refuse_if(!with_hints.is_empty(), "WITH (…) after a table", "remove the hints")?;
            version.as_ref().map_or(Ok(()), check_version)?;
            refuse_if(*with_ordinality, "WITH ORDINALITY", "number the rows with row_number() OVER ()")?;
            refuse_if(
                !partitions.is_empty(),
                "PARTITION (…) after a table",
                "filter by the partition columns in WHERE",
            )?;
            refuse_if(json_path.is_some(), "a path after a table", "write it in the SELECT list")?;
            refuse_if(!index_hints.is_empty(), "an index hint", "remove it: tables have no indexes")?;
            check_alias(alias.as_ref())
        }
        TableFactor::Derived { lateral: _, subquery: _, alias, sample: _ } => check_alias(alias.as_ref()),
        TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
            check_function_name(name)?;
            let is_named = |arg: &FunctionArg| !matches!(arg, FunctionArg::Unnamed(_));
            refuse_if(args.iter().any(is_named), "a named argument of a table function", "write the values in order")?;
            refuse_if(*with_ordinality, "WITH ORDINALITY", "number the rows with row_number() OVER ()")?;
            check_alias(alias.as_ref())
        }
        TableFactor::UNNEST { alias, array_exprs: _, with_offset, with_offset_alias, with_ordinality } => {
            refuse_if(*with_offset || with_offset_alias.is_some(), "UNNEST … WITH OFFSET", "remove it")?;
            refuse_if(*with_ordinality, "UNNEST … WITH ORDINALITY", "remove it")?;
            check_alias(alias.as_ref())
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            query::check_from(table_with_joins)?;
            check_alias(alias.as_ref())
        }
        TableFactor::TableFunction { .. } => Err(refused("TABLE (…) in FROM", "write the function without TABLE")),
        TableFactor::JsonTable { .. } => Err(refused("JSON_TABLE", "read JSON from files")),
        TableFactor::OpenJsonTable { .. } => Err(refused("OPENJSON", "read JSON from files")),
        TableFactor::XmlTable { .. } => Err(refused("XMLTABLE", "convert the XML before it is read")),
        TableFactor::Pivot { .. } => Err(refused("PIVOT", "write one aggregate with FILTER (WHERE …) for each column")),
        TableFactor::Unpivot { .. } => Err(refused("UNPIVOT", "write a UNION ALL of the columns")),
        TableFactor::MatchRecognize { .. } => Err(refused("MATCH_RECOGNIZE", "write window functions")),
        TableFactor::SemanticView { .. } => Err(refused("SEMANTIC_VIEW", "write a query over the tables")),
    }
}

fn check_version(version: &TableVersion) -> Result<()> {
    let clause = match version {
        TableVersion::ForSystemTimeAsOf(_) => "FOR SYSTEM_TIME AS OF",
        TableVersion::TimestampAsOf(_) => "TIMESTAMP AS OF",
        TableVersion::VersionAsOf(_) => "VERSION AS OF",
        TableVersion::Function(_) => "AT or BEFORE after a table",
        TableVersion::Changes { .. } => "CHANGES",
    };
    Err(refused(clause, "tables have no versions; remove it"))
}

/// DataFusion takes a part of a table function's name for all of it.
fn check_function_name(name: &ObjectName) -> Result<()> {
    refuse_if(name.0.len() > 1, &format!("the table function {name}"), "write its name without a schema")
}

pub(super) fn check_join(join: &Join) -> Result<()> {
    // DataFusion refuses the kinds of joins that it does not plan, and reads all of the others.
    let Join { relation: _, global, join_operator: _ } = join;
    refuse_if(*global, "GLOBAL JOIN", "write JOIN: how rows are sent to it is decided by the planner")
}

pub(super) fn check_alias(alias: Option<&TableAlias>) -> Result<()> {
    let Some(TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(()) };
    refuse_if(at.is_some(), &format!("AT after the alias {name}"), "remove it")?;
    for TableAliasColumnDef { name, data_type } in columns {
        let clause = format!("the type of column {name} in an alias");
        refuse_if(data_type.is_some(), &clause, "cast the column in the SELECT list")?;
    }
    Ok(())
}
