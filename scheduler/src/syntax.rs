//! Refuses syntax that DataFusion parses, and ignores when it plans.
//!
//! A clause that is ignored gives other rows than it asks for. So the check lists what planning reads of each part of the
//! syntax tree, and refuses the rest by name:
//!
//! ```text
//!   SQL ─parser─▶ syntax tree ──check──▶ the same tree ─planner─▶ logical plan
//!                                  └───▶ error that names the clause, and what to write instead
//! ```
//!
//! Every part is taken apart without `..`: a new field of a new version of the parser does not compile until it is either
//! known to be read by the planner, or refused. `..` and `_` stand only where the planner refuses the whole part itself, or
//! takes it apart without `..` too. The check goes by `datafusion-sql` 55.2 and `sqlparser` 0.62.
//!
//! Pure: knows no session but its functions, and no catalog.

mod command;
mod data_type;
mod expression;
mod function;
mod query;
mod relation;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{self, Expr, Query, Select, TableFactor, Visit, Visitor};
use springald_core::error::{Error, Result};

use self::function::NamedWindows;

/// Refuses a statement that asks for something that planning would ignore. The functions are those of `state`.
///
/// # Errors
/// Names the clause and, where there is one, what to write instead.
pub(crate) fn check(statement: &Statement, state: &SessionState) -> Result<()> {
    let mut checker = Checker { state, windows: NamedWindows::default() };
    match statement {
        Statement::Statement(statement) => checker.walk(statement.as_ref()),
        Statement::CreateExternalTable(table) => command::check_external_table(table),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => checker.walk(query.as_ref()),
            CopyToSource::Relation(_) => Ok(()),
        },
        Statement::Explain(explain) => {
            command::check_explain(&explain.options)?;
            check(&explain.statement, state)
        }
        Statement::Reset(_) => Ok(()),
    }
}

/// An error that says what is not supported, and what to do.
fn refused(clause: &str, advice: &str) -> Error {
    Error::unsupported(format!("{clause} is not supported: {advice}"))
}

/// Refuses a clause that is present.
fn refuse_if(present: bool, clause: &str, advice: &str) -> Result<()> {
    match present {
        true => Err(refused(clause, advice)),
        false => Ok(()),
    }
}

/// Visits each part of a statement, wherever it stands.
struct Checker<'a> {
    state: &'a SessionState,
    windows: NamedWindows,
}

impl Checker<'_> {
    fn walk(&mut self, part: &impl Visit) -> Result<()> {
        match part.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// The visitor's form of a result.
fn flow(checked: Result<()>) -> ControlFlow<Box<Error>> {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl Visitor for Checker<'_> {
    type Break = Box<Error>;

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> ControlFlow<Self::Break> {
        flow(command::check(statement))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        flow(query::check(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        flow(query::check_select(select).and_then(|()| self.windows.allow(select)))
    }

    fn pre_visit_table_factor(&mut self, relation: &TableFactor) -> ControlFlow<Self::Break> {
        flow(relation::check(relation))
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Self::Break> {
        let checked = match expression {
            Expr::Function(function) => function::check(function, self.state, &self.windows),
            expression => expression::check(expression),
        };
        flow(checked)
    }
}
