//! Generates random queries whose answers are defined: any correct engine gives the same rows.
//!
//! ```text
//! statement ─▶ [WITH] query [ORDER BY [LIMIT]]
//! query     ─▶ select | aggregate | window | DISTINCT | set operation | top rows of groups | unnest
//!                └─▶ from ─▶ table of files | WITH query | subquery | VALUES | series, joined
//!                expressions ─▶ templates over the columns of the scope, subqueries
//! ```
//!
//! Where the order of rows decides (LIMIT, row numbers, frames of rows, array_agg), rows are ordered totally: by the
//! unique columns of all relations in FROM, or by all columns. Sums are of integers and decimals only. No expression
//! fails for a row, so it does not matter for which rows an engine evaluates it.

mod compound;
mod expression;
mod relation;
mod scope;
mod select;
mod subquery;
mod templates;
mod window;

use super::choice::Choice;
use super::node::{Item, List, Node};
use super::table::Table;
use scope::Query;

/// Relations of one statement, without those of subqueries in expressions.
const MAX_RELATIONS: usize = 6;

/// Subqueries in expressions of one statement.
const MAX_SUBQUERIES: usize = 3;

/// A statement that was generated.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub node: Node,
    /// Columns of the result by which it is ordered.
    pub ordered: Vec<usize>,
}

/// State of one generation.
struct Generator<'a> {
    choice: &'a mut Choice,
    tables: &'a [Table],
    /// Number of names that were given.
    names: usize,
    with_queries: Vec<(String, Query)>,
    /// Relations that may still be added.
    relations: usize,
    /// Subqueries in expressions that may still be added.
    subqueries: usize,
}

/// Generates a statement over the tables.
pub(crate) fn statement(choice: &mut Choice, tables: &[Table]) -> Statement {
    let mut generator = Generator {
        choice,
        tables,
        names: 0,
        with_queries: Vec::new(),
        relations: MAX_RELATIONS,
        subqueries: MAX_SUBQUERIES,
    };
    generator.statement()
}

impl Generator<'_> {
    fn statement(&mut self) -> Statement {
        let with = self.choice.percent(20).then(|| self.with_clause());
        let depth = *self.choice.pick(&[1, 2, 2]);
        let query = self.query(depth);
        let (order, ordered) = if query.has_tail { (None, Vec::new()) } else { self.final_order(&query) };
        Statement { node: Node::other().optional(with).child(query.node).optional(order), ordered }
    }

    /// A query; `depth` bounds how deeply subqueries in FROM are nested.
    fn query(&mut self, depth: usize) -> Query {
        match self.choice.below(100) {
            0..=29 => self.select(depth),
            30..=54 => self.aggregate_query(depth),
            55..=77 => self.window_query(depth),
            78..=83 => self.distinct(depth),
            84..=87 => self.top_rows(depth),
            88..=90 => self.unnest(depth),
            _ if depth > 0 => self.set_operation(depth),
            _ => self.select(depth),
        }
    }

    /// ORDER BY at the end of a statement, now and then with LIMIT, and the columns by which the result is ordered.
    fn final_order(&mut self, query: &Query) -> (Option<Node>, Vec<usize>) {
        if self.choice.percent(40) {
            return (None, Vec::new());
        }
        let sortable: Vec<usize> =
            (0..query.outputs.len()).filter(|index| query.outputs[*index].family.is_sortable()).collect();
        let most = self.choice.below(3) + 1;
        let keys = self.choice.some(&sortable, most);
        let items = keys.iter().map(|index| {
            let text = format!("{}{}", query.outputs[*index].name, self.direction());
            Item::fixed(&text)
        });
        let mut items: Vec<Item> = items.collect();
        let total = if self.choice.percent(70) { query.total() } else { None };
        let Some(total) = total else {
            let order = Node::other().list(List::new(" ORDER BY ", ", ", items));
            return (Some(order), keys);
        };
        let more = total.iter().filter(|index| !keys.contains(index));
        items.extend(more.map(|index| Item::fixed(&query.outputs[*index].name)));
        let order = Node::other().list(List::new(" ORDER BY ", ", ", items)).optional(self.limit(true));
        (Some(order), (0..query.outputs.len()).collect())
    }

    /// LIMIT, OFFSET or both, in half of the cases. Below other operators, DataFusion drops the order of an OFFSET
    /// without LIMIT, so that any rows are skipped: it is generated at the end of statements only.
    fn limit(&mut self, is_final: bool) -> Option<Node> {
        let (rows, skipped) = (self.choice.between(0, 25), self.choice.between(0, 9));
        match self.choice.below(8) {
            0 | 1 => Some(Node::other().text(&format!(" LIMIT {rows}"))),
            2 => Some(Node::other().text(&format!(" LIMIT {rows} OFFSET {skipped}"))),
            3 if is_final => Some(Node::other().text(&format!(" OFFSET {skipped}"))),
            _ => None,
        }
    }

    /// A name that the statement does not have yet: `t` for relations, `c` for columns, `q` for WITH queries.
    fn name(&mut self, kind: char) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::world;
    use super::*;

    /// Of the statements, at least so many percent are to be planned by DataFusion.
    const PLANNED_PERCENT: usize = 80;

    #[test]
    fn same_seed_gives_same_statement() {
        let sql = |seed| {
            let tables = world::tables(&mut Choice::new(1), "w");
            statement(&mut Choice::new(seed), &tables).node.sql()
        };
        assert_eq!(sql(5), sql(5));
        assert_ne!(sql(5), sql(6));
    }

    #[tokio::test]
    async fn most_statements_can_be_planned() {
        let tables = world::tables(&mut Choice::new(1), "w");
        let context = SessionContext::new();
        for table in &tables {
            let file = super::super::table::DataFile::default();
            let mut sql = table.rows_query(&file);
            if let Some(column) = &table.layout.partitioned_by {
                sql = format!("SELECT *, 'x' AS {column} FROM ({sql})");
            }
            let create = format!("CREATE VIEW {} AS {sql}", table.name);
            context.sql(&create).await.unwrap_or_else(|error| panic!("{create}: {error}"));
        }
        let (mut planned, all) = (0, 200);
        for seed in 0..all {
            let sql = statement(&mut Choice::new(seed), &tables).node.sql();
            match context.sql(&sql).await {
                Ok(_) => planned += 1,
                Err(error) => println!("{sql}\n  {error}"),
            }
        }
        assert!(planned * 100 >= PLANNED_PERCENT * all as usize, "{planned} of {all} statements were planned");
    }
}
