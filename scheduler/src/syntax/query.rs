//! Queries: SELECT, set operations, WITH, ORDER BY, LIMIT, and what follows them.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    Cte, CteAsMaterialized, Distinct, ForClause, GroupByExpr, GroupByWithModifier, LockType, NamedWindowDefinition,
    NamedWindowExpr, OrderByKind, PipeOperator, Query, Select, SelectFlavor, SelectItem, SetExpr, SetOperator,
    SetQuantifier, TableWithJoins, ValueTableMode, WildcardAdditionalOptions, With,
};
use springald_core::error::Result;

use super::{function, refuse_if, refused, relation};

/// Checks a query, without the parts that are visited by themselves.
pub(super) fn check(query: &Query) -> Result<()> {
    let Query {
        with,
        body,
        order_by,
        // DataFusion takes both apart, and refuses what it cannot plan.
        limit_clause: _,
        fetch: _,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if let Some(lock) = locks.first() {
        let clause = match lock.lock_type {
            LockType::Share => "FOR SHARE",
            LockType::Update => "FOR UPDATE",
        };
        return Err(refused(clause, "queries lock no rows; remove it"));
    }
    if let Some(clause) = for_clause {
        let clause = match clause {
            ForClause::Browse => "FOR BROWSE",
            ForClause::Json { .. } => "FOR JSON",
            ForClause::Xml { .. } => "FOR XML",
        };
        return Err(refused(clause, "results are Arrow record batches; remove it"));
    }
    refuse_if(settings.is_some(), "SETTINGS in a query", "change a setting with the statement SET")?;
    refuse_if(format_clause.is_some(), "FORMAT", "results are Arrow record batches; remove it")?;
    let orders_by_all = order_by.as_ref().is_some_and(|order_by| matches!(order_by.kind, OrderByKind::All(_)));
    refuse_if(
        orders_by_all && !matches!(body.as_ref(), SetExpr::Select(_)),
        "ORDER BY ALL after a set operation, VALUES or brackets",
        "list the columns or their positions: ORDER BY 1, 2",
    )?;
    check_body(body)?;
    with.as_ref().map_or(Ok(()), check_with)?;
    pipe_operators.iter().try_for_each(check_pipe)
}

/// Checks a set operation: its SELECTs and queries are visited by themselves.
fn check_body(body: &SetExpr) -> Result<()> {
    match body {
        SetExpr::SetOperation { left, right, op: _, set_quantifier: _ } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Table(_) => Err(refused("TABLE", "write SELECT * FROM the table")),
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
        // Refused by DataFusion.
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => Ok(()),
    }
}

fn check_with(with: &With) -> Result<()> {
    let With { with_token: _, recursive, cte_tables } = with;
    for cte in cte_tables {
        let Cte { alias, query, from, materialized, closing_paren_token: _ } = cte;
        relation::check_alias(Some(alias))?;
        refuse_if(from.is_some(), "FROM after a query of WITH", "remove it")?;
        refuse_if(
            *materialized == Some(CteAsMaterialized::Materialized),
            "MATERIALIZED in WITH",
            "a query of WITH runs once for each reference; remove the word",
        )?;
        if *recursive {
            check_recursive(query)?;
        }
    }
    Ok(())
}

/// Of a UNION that is a query of WITH RECURSIVE, DataFusion plans the two sides only. Its ORDER BY means nothing without
/// a limit: the query that reads it has no order by that.
fn check_recursive(query: &Query) -> Result<()> {
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } = query.body.as_ref() else {
        return Ok(());
    };
    let by_name = match set_quantifier {
        SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => true,
        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => false,
    };
    refuse_if(by_name, "UNION BY NAME in WITH RECURSIVE", "write both sides' columns in the same order")?;
    for (present, clause) in [
        (query.with.is_some(), "WITH"),
        (query.limit_clause.is_some(), "LIMIT or OFFSET"),
        (query.fetch.is_some(), "FETCH"),
        (!query.pipe_operators.is_empty(), "|>"),
    ] {
        let clause = format!("{clause} of a UNION in WITH RECURSIVE");
        refuse_if(present, &clause, "put it into a query that reads this one, or into brackets around one side")?;
    }
    Ok(())
}

fn check_pipe(operator: &PipeOperator) -> Result<()> {
    match operator {
        PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
            let mut columns = full_table_exprs.iter().chain(group_by_expr);
            let is_ordered =
                columns.any(|column| column.order_by.asc.is_some() || column.order_by.nulls_first.is_some());
            refuse_if(is_ordered, "ASC, DESC or NULLS in |> AGGREGATE", "add |> ORDER BY behind it")
        }
        PipeOperator::Join(join) => relation::check_join(join),
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => exprs.iter().try_for_each(check_item),
        // DataFusion refuses those that it does not plan, and reads all of the others.
        _ => Ok(()),
    }
}

/// Checks a SELECT, without the parts that are visited by themselves.
pub(super) fn check_select(select: &Select) -> Result<()> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    refuse_if(!optimizer_hints.is_empty(), "an optimizer hint (/*+ … */)", "remove it")?;
    match distinct {
        None | Some(Distinct::All | Distinct::Distinct | Distinct::On(_)) => {}
    }
    if let Some(modifiers) = select_modifiers {
        refuse_if(modifiers.is_any_set(), &format!("SELECT {}", modifiers.to_string().trim()), "remove it")?;
    }
    refuse_if(top.is_some(), "TOP", "write LIMIT at the end of the query")?;
    refuse_if(exclude.is_some(), "EXCLUDE after the SELECT list", "write SELECT * EXCLUDE (…)")?;
    refuse_if(
        into.is_some(),
        "SELECT … INTO",
        "tables are made with CREATE EXTERNAL TABLE, and views with CREATE VIEW",
    )?;
    refuse_if(!lateral_views.is_empty(), "LATERAL VIEW", "write unnest(…) in the SELECT list or in FROM")?;
    refuse_if(prewhere.is_some(), "PREWHERE", "write WHERE")?;
    refuse_if(!connect_by.is_empty(), "CONNECT BY or START WITH", "write WITH RECURSIVE")?;
    refuse_if(!cluster_by.is_empty(), "CLUSTER BY", "write ORDER BY")?;
    refuse_if(!distribute_by.is_empty(), "DISTRIBUTE BY", "remove it")?;
    refuse_if(!sort_by.is_empty(), "SORT BY", "write ORDER BY")?;
    match value_table_mode {
        None => {}
        Some(ValueTableMode::AsStruct | ValueTableMode::DistinctAsStruct) => {
            return Err(refused("SELECT AS STRUCT", "write SELECT named_struct(…)"));
        }
        Some(ValueTableMode::AsValue | ValueTableMode::DistinctAsValue) => {
            return Err(refused("SELECT AS VALUE", "write SELECT with a column"));
        }
    }
    match flavor {
        SelectFlavor::Standard | SelectFlavor::FromFirst => {}
        SelectFlavor::FromFirstNoSelect => return Err(refused("FROM without SELECT", "write SELECT * FROM")),
    }
    projection.iter().try_for_each(check_item)?;
    from.iter().try_for_each(check_from)?;
    check_group_by(group_by)?;
    check_windows(named_window)
}

fn check_item(item: &SelectItem) -> Result<()> {
    match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => check_wildcard(options),
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { expr: _, alias: _ } => Ok(()),
        SelectItem::ExprWithAliases { expr: _, aliases: _ } => {
            Err(refused("a list of names for one expression", "write one expression for each name"))
        }
    }
}

fn check_wildcard(options: &WildcardAdditionalOptions) -> Result<()> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude: _,
        opt_except: _,
        opt_replace: _,
        opt_rename,
        opt_alias,
    } = options;
    refuse_if(opt_ilike.is_some(), "* ILIKE", "list the columns")?;
    refuse_if(opt_rename.is_some(), "* RENAME", "list the columns, with AS")?;
    refuse_if(opt_alias.is_some(), "* AS", "remove AS")
}

/// Checks the joins of a FROM: its relations are visited by themselves.
pub(super) fn check_from(from: &TableWithJoins) -> Result<()> {
    let TableWithJoins { relation: _, joins } = from;
    joins.iter().try_for_each(relation::check_join)
}

fn check_group_by(group_by: &GroupByExpr) -> Result<()> {
    let modifiers = match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    match modifiers.first() {
        None => Ok(()),
        Some(GroupByWithModifier::Rollup) => Err(refused("GROUP BY … WITH ROLLUP", "write GROUP BY ROLLUP (…)")),
        Some(GroupByWithModifier::Cube) => Err(refused("GROUP BY … WITH CUBE", "write GROUP BY CUBE (…)")),
        Some(GroupByWithModifier::Totals) => {
            Err(refused("GROUP BY … WITH TOTALS", "write GROUP BY GROUPING SETS ((…), ())"))
        }
        Some(GroupByWithModifier::GroupingSets(_)) => {
            Err(refused("GROUPING SETS after the columns of GROUP BY", "write GROUP BY GROUPING SETS (…)"))
        }
    }
}

/// DataFusion replaces the names in the SELECT list; of two definitions that differ in case only it takes the last.
fn check_windows(windows: &[NamedWindowDefinition]) -> Result<()> {
    let mut names = HashSet::new();
    for NamedWindowDefinition(name, definition) in windows {
        let folded = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
        refuse_if(!names.insert(folded), &format!("a second window {name}"), "give each window its own name")?;
        match definition {
            NamedWindowExpr::NamedWindow(other) => {
                return Err(refused(&format!("WINDOW {name} AS {other}"), "write the definition in brackets"));
            }
            NamedWindowExpr::WindowSpec(window) => function::check_window(window)?,
        }
    }
    Ok(())
}
