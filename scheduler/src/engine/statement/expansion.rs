//! How many tables a statement reads, when each query of its WITH stands wherever it is named.
//!
//! That is how it is planned. Thirty queries of which each names the one before it twice read a billion tables, and the
//! process would have no memory left long before the plan was there to be counted.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Visit, Visitor};
use springald_core::error::{Error, Result};

/// Tables and views that a statement names, once for each time.
const MAX_TABLES: usize = 5000;

/// Refuses a statement that reads too many tables. Views count as one.
///
/// # Errors
/// Says what to do instead.
pub(super) fn check(statement: &Statement) -> Result<()> {
    let mut tables = Tables::default();
    let visited = match explained(statement) {
        Statement::Statement(sql) => sql.visit(&mut tables),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(&mut tables),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::invalid(format!(
            "the statement reads more than {MAX_TABLES} tables, with those of its WITH queries once for each time that they \
             are named: name them less often, or split the statement"
        ))),
    }
}

fn explained(mut statement: &Statement) -> &Statement {
    while let Statement::Explain(explain) = statement {
        statement = &explain.statement;
    }
    statement
}

#[derive(Default)]
struct Tables {
    /// The query that is visited, behind those around it.
    queries: Vec<Counted>,
}

/// A query, as far as it was visited.
#[derive(Default)]
struct Counted {
    /// Names of the queries of its WITH, by their addresses.
    with: HashMap<usize, String>,
    /// Tables of those that were visited already.
    known: HashMap<String, usize>,
    /// Its own tables.
    tables: usize,
}

impl Tables {
    fn add(&mut self, tables: usize) -> ControlFlow<()> {
        let Some(query) = self.queries.last_mut() else { return ControlFlow::Continue(()) };
        query.tables = query.tables.saturating_add(tables);
        match query.tables > MAX_TABLES {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let with = named.map(|named| (address(&named.query), named.alias.name.value.to_lowercase())).collect();
        self.queries.push(Counted { with, ..Counted::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let (Some(done), Some(outer)) = (self.queries.pop(), self.queries.last_mut()) else {
            return ControlFlow::Continue(());
        };
        match outer.with.get(&address(query)) {
            Some(name) => {
                outer.known.insert(name.clone(), done.tables);
                ControlFlow::Continue(())
            }
            None => self.add(done.tables),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [name] => name.as_ident().map(|name| name.value.to_lowercase()),
            _ => None,
        };
        let known = name.and_then(|name| self.queries.iter().rev().find_map(|query| query.known.get(&name)));
        self.add(known.map_or(1, |tables| (*tables).max(1)))
    }
}

/// Two queries of one syntax tree never have the same.
fn address(query: &Query) -> usize {
    std::ptr::from_ref(query).addr()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn checked(sql: &str) -> Result<()> {
        check(&DFParser::parse_sql(sql).expect(sql)[0])
    }

    /// Queries of which each names the one before it `times` times.
    fn chain(count: usize, times: usize) -> String {
        let query = |n: usize| {
            let tables: Vec<String> = (0..times).map(|time| format!("Q{n} AS t{time}")).collect();
            format!("q{} AS (SELECT t0.x FROM {})", n + 1, tables.join(", "))
        };
        let queries: Vec<String> = (0..count).map(query).collect();
        format!("WITH q0 AS (SELECT 1 AS x), {} SELECT x FROM q{count}", queries.join(", "))
    }

    #[test]
    fn given_queries_of_with_that_name_each_other_then_their_tables_count_each_time() {
        checked(&chain(12, 2)).expect("4096");
        checked(&chain(1000, 1)).expect("one, a thousand deep");
        for head in ["", "EXPLAIN ", "EXPLAIN ANALYZE ", "CREATE VIEW v AS "] {
            let error = checked(&format!("{head}{}", chain(40, 2))).expect_err(head);
            assert!(error.message().contains("5000 tables"), "{error}");
        }
        checked(&format!("COPY ({}) TO '/tmp/x.csv'", chain(40, 2))).expect_err("copied");
        checked(&format!("SELECT * FROM ({}) AS t WHERE x IN (SELECT 1)", chain(8, 5))).expect_err("in brackets");
    }

    #[test]
    fn given_a_name_that_means_something_else_further_in_then_the_inner_one_counts() {
        let inner = "SELECT * FROM (WITH q9 AS (SELECT 1 AS x) SELECT * FROM q9) AS t";
        let sql = chain(9, 2).replace("SELECT x FROM q9", &format!("{inner}{}", ", u".repeat(100)));
        checked(&sql).expect("few");
        let outer = chain(9, 2).replace("SELECT x FROM q9", "SELECT 1 FROM (SELECT * FROM q9, s.q9, q9 a) AS t");
        checked(&outer).expect("1025");
    }

    #[test]
    fn given_a_thousand_branches_then_they_pass() {
        let branch = "SELECT a FROM t JOIN u ON t.a = u.a";
        checked(&format!("{branch}{}", format!(" UNION ALL {branch}").repeat(999))).expect("2000");
    }
}
