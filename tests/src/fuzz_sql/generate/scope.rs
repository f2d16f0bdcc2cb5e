//! Names that expressions can use, and what is known of the rows behind them.

use crate::fuzz_sql::family::Family;
use crate::fuzz_sql::node::{Item, Node};

/// Column that expressions can use.
#[derive(Clone, Debug)]
pub(super) struct ScopeColumn {
    pub sql: String,
    pub family: Family,
}

/// Rows that expressions are evaluated for.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub columns: Vec<ScopeColumn>,
    /// Columns that order the rows such that rows equal in all of them are equal in all columns.
    pub total: Option<Vec<String>>,
    /// Expected number of rows.
    pub rows: usize,
}

/// Relation in FROM.
pub(super) struct Relation {
    pub node: Node,
    pub scope: Scope,
}

/// Column of a query's result.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub name: String,
    pub family: Family,
}

/// A query that was generated.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub node: Node,
    pub outputs: Vec<Output>,
    /// Outputs such that rows equal in all of them are equal in all outputs; `None` if only all outputs are known to be.
    pub key: Option<Vec<usize>>,
    /// Expected number of rows.
    pub rows: usize,
    /// True if ORDER BY or LIMIT stands at its end.
    pub has_tail: bool,
}

impl Scope {
    pub(super) fn of_family(&self, family: Family) -> Vec<&ScopeColumn> {
        self.columns.iter().filter(|column| column.family == family).collect()
    }

    pub(super) fn sortable(&self) -> Vec<ScopeColumn> {
        self.columns.iter().filter(|column| column.family.is_sortable()).cloned().collect()
    }

    /// The items of the total order, for ORDER BY.
    pub(super) fn total_items(&self) -> Option<Vec<Item>> {
        Some(self.total.as_ref()?.iter().map(|column| Item::fixed(column)).collect())
    }
}

impl Query {
    /// The scope of queries that read this one as `alias`.
    pub(super) fn scope(&self, alias: &str) -> Scope {
        let qualified = |output: &Output| format!("{alias}.{}", output.name);
        let columns =
            self.outputs.iter().map(|output| ScopeColumn { sql: qualified(output), family: output.family }).collect();
        let total = self.total().map(|indices| indices.iter().map(|index| qualified(&self.outputs[*index])).collect());
        Scope { columns, total, rows: self.rows }
    }

    /// Outputs that order the rows such that only equal rows are equal in all of them.
    pub(super) fn total(&self) -> Option<Vec<usize>> {
        let all_sortable = self.outputs.iter().all(|output| output.family.is_sortable());
        self.key.clone().or_else(|| all_sortable.then(|| (0..self.outputs.len()).collect()))
    }
}
