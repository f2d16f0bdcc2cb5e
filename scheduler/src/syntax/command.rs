//! Statements that are no queries.

use datafusion::common::format::{ExplainFormat, ExplainStatementOptions};
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, CreateView, DescribeAlias, ObjectType, SchemaName, Statement,
    ViewColumnDef,
};
use springald_core::error::{Error, Result};

use super::data_type::{self, Use};
use super::{refuse_if, refused};

/// Checks a statement, without the queries in it.
pub(super) fn check(statement: &Statement) -> Result<()> {
    match statement {
        // Visited by itself.
        Statement::Query(_) => Ok(()),
        // DataFusion takes them apart without `..`.
        Statement::Set(_)
        | Statement::ShowVariable { variable: _ }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowCreate { obj_type: _, obj_name: _ }
        | Statement::ShowFunctions { filter: _ } => Ok(()),
        Statement::Explain {
            describe_alias,
            analyze,
            verbose,
            query_plan,
            estimate,
            statement: _,
            format,
            options,
        } => {
            let word = match describe_alias {
                DescribeAlias::Describe | DescribeAlias::Desc => "DESCRIBE",
                DescribeAlias::Explain => "EXPLAIN",
            };
            let has_options = *verbose || *query_plan || *estimate || format.is_some() || options.is_some();
            let is_analyzed = *analyze && *describe_alias != DescribeAlias::Explain;
            refuse_if(has_options || is_analyzed, &format!("{word} with options"), "remove them")
        }
        Statement::ExplainTable { describe_alias: _, hive_format, has_table_keyword: _, table_name: _ } => {
            refuse_if(hive_format.is_some(), "DESCRIBE EXTENDED or FORMATTED", "write DESCRIBE")
        }
        Statement::CreateView(view) => check_view(view),
        Statement::CreateSchema { schema_name, if_not_exists: _, with, options, default_collate_spec, clone } => {
            let has_owner = !matches!(schema_name, SchemaName::Simple(_));
            refuse_if(has_owner, "CREATE SCHEMA … AUTHORIZATION", "remove it")?;
            let has_options = with.is_some() || options.is_some();
            refuse_if(has_options, "CREATE SCHEMA with options", "remove WITH or OPTIONS")?;
            refuse_if(default_collate_spec.is_some(), "CREATE SCHEMA … DEFAULT COLLATE", "remove it")?;
            refuse_if(clone.is_some(), "CREATE SCHEMA … CLONE", "make its tables and views again")
        }
        Statement::Drop { .. } => check_drop(statement),
        // Refused once they are planned, whatever their clauses.
        Statement::Copy { .. }
        | Statement::CreateTable(_)
        | Statement::CreateDatabase { .. }
        | Statement::CreateFunction(_)
        | Statement::CreateIndex(_)
        | Statement::DropFunction(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::Prepare { .. }
        | Statement::Execute { .. }
        | Statement::Deallocate { .. }
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. } => Ok(()),
        other => Err(Error::unsupported(format!("the statement {} is not supported", words(other)))),
    }
}

/// The first two words of a statement: no value stands there.
fn words(statement: &Statement) -> String {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let is_keyword = |word: &&str| word.chars().all(|letter| letter.is_ascii_uppercase());
    words.iter().take_while(|word| is_keyword(word)).copied().collect::<Vec<_>>().join(" ")
}

fn check_view(view: &CreateView) -> Result<()> {
    let CreateView {
        or_alter,
        or_replace: _,
        // Refused by DataFusion.
        materialized: _,
        secure,
        name: _,
        name_before_not_exists: _,
        columns,
        query: _,
        options: _,
        cluster_by: _,
        comment: _,
        with_no_schema_binding: _,
        if_not_exists: _,
        // Refused by the catalog.
        temporary: _,
        copy_grants: _,
        to: _,
        params,
    } = view;
    refuse_if(*or_alter, "CREATE OR ALTER VIEW", "write CREATE OR REPLACE VIEW")?;
    refuse_if(*secure, "SECURE for a view", "remove it")?;
    refuse_if(params.is_some(), "ALGORITHM, DEFINER or SQL SECURITY of a view", "remove it")?;
    for ViewColumnDef { name, data_type, options: _ } in columns {
        let clause = format!("the type of column {name} of a view");
        refuse_if(data_type.is_some(), &clause, "cast the column in the view's query")?;
    }
    Ok(())
}

fn check_drop(statement: &Statement) -> Result<()> {
    let Statement::Drop { object_type, if_exists: _, names: _, cascade, restrict, purge, temporary, table } = statement
    else {
        return Ok(());
    };
    refuse_if(*purge, "PURGE in DROP", "remove it: the files of a table are never deleted")?;
    refuse_if(*temporary, "TEMPORARY in DROP", "remove it: no table is temporary")?;
    refuse_if(table.is_some(), "ON in DROP", "remove it")?;
    // Of a schema they decide about the tables in it.
    let is_relation = matches!(object_type, ObjectType::Table | ObjectType::View);
    refuse_if(
        is_relation && (*cascade || *restrict),
        "CASCADE or RESTRICT in DROP TABLE or DROP VIEW",
        "remove it: views that name what is dropped are kept",
    )
}

/// Checks `EXPLAIN`, of which the plan and the stages are shown in one format.
pub(super) fn check_explain(options: &ExplainStatementOptions) -> Result<()> {
    let ExplainStatementOptions { analyze: _, verbose, format, analyze_level, analyze_categories, show_statistics } =
        options;
    refuse_if(*verbose, "EXPLAIN VERBOSE", "write EXPLAIN, which shows the plan and its stages")?;
    if let Some(format) = format {
        let clause = format!("EXPLAIN with FORMAT {format}");
        refuse_if(*format != ExplainFormat::Indent, &clause, "plans are shown as indented text; remove FORMAT")?;
    }
    refuse_if(analyze_level.is_some(), "EXPLAIN with LEVEL", "remove it: all metrics are shown")?;
    refuse_if(analyze_categories.is_some(), "EXPLAIN with METRICS", "remove it: all metrics are shown")?;
    refuse_if(show_statistics.is_some(), "EXPLAIN with COSTS", "remove it")
}

/// Checks the columns of an external table. Its other clauses are checked by the catalog.
pub(super) fn check_external_table(table: &CreateExternalTable) -> Result<()> {
    let CreateExternalTable {
        name: _,
        columns,
        file_type: _,
        locations: _,
        table_partition_cols: _,
        order_exprs: _,
        if_not_exists: _,
        or_replace: _,
        temporary: _,
        unbounded: _,
        options: _,
        constraints: _,
    } = table;
    for ColumnDef { name, data_type, options } in columns {
        data_type::check(data_type, Use::Column)?;
        for ColumnOptionDef { name: _, option } in options {
            match option {
                ColumnOption::Null | ColumnOption::NotNull => {}
                // Planned as the table's, and refused by the catalog.
                ColumnOption::Default(_) | ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) => {}
                other => return Err(refused(&format!("{other} for column {name}"), "remove it")),
            }
        }
    }
    Ok(())
}
