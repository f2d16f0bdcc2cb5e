//! Queries of queries: set operations, WITH, recursion; and unnested lists.

use super::Generator;
use super::scope::{Output, Query};
use super::select::SelectList;
use crate::fuzz_sql::family::{Family, SCALARS};
use crate::fuzz_sql::node::{Class, Item, List, Node};

const OPERATORS: [&str; 8] = [
    " UNION ALL ",
    " UNION ALL ",
    " UNION ALL ",
    " UNION ",
    " INTERSECT ",
    " INTERSECT ALL ",
    " EXCEPT ",
    " EXCEPT ALL ",
];

/// Steps of a recursion.
const MAX_STEPS: i64 = 3;

impl Generator<'_> {
    /// Two or three queries with columns of the same families.
    pub(super) fn set_operation(&mut self, depth: usize) -> Query {
        let count = self.choice.below(3) + 1;
        let families: Vec<Family> = (0..count)
            .map(|_| if self.choice.percent(40) { Family::Integer } else { *self.choice.pick(&SCALARS) })
            .collect();
        let first = self.select_of(&families, depth - 1);
        let mut rows = first.rows;
        let mut node = Node::new(Class::Query).text("(").child(first.node).text(")");
        let operands = *self.choice.pick(&[1, 1, 1, 2]);
        let operator = *self.choice.pick(&OPERATORS);
        for _ in 0..operands {
            let next = self.select_of(&families, depth - 1);
            rows += next.rows;
            node = node.text(operator).text("(").child(next.node).text(")");
        }
        let mut query = Query { node, outputs: first.outputs, key: None, rows, has_tail: false };
        let tail = if self.choice.percent(20) { self.output_tail(&query) } else { None };
        query.has_tail = tail.is_some();
        query.node = query.node.optional(tail);
        query
    }

    /// WITH queries, which relations of the statement can name.
    pub(super) fn with_clause(&mut self) -> Node {
        let is_recursive = self.choice.percent(30);
        let mut items = Vec::new();
        if is_recursive {
            items.push(self.recursive_query());
        }
        if !is_recursive || self.choice.percent(30) {
            let query = self.query(1);
            let name = self.name('q');
            items.push(Item::new(Node::other().text(&format!("{name} AS (")).child(query.node.clone()).text(")")));
            self.with_queries.push((name, query));
        }
        let prefix = if is_recursive { "WITH RECURSIVE " } else { "WITH " };
        Node::other().list(List::new(prefix, ", ", items).required()).text(" ")
    }

    /// A recursion over numbers, or along the keys of a table.
    fn recursive_query(&mut self) -> Item {
        let (name, alias) = (self.name('q'), self.name('t'));
        let (step, key) = (self.name('c'), self.name('c'));
        let is_numbers = self.choice.percent(40);
        let most = if is_numbers { self.choice.between(3, 12) } else { self.choice.between(1, MAX_STEPS) };
        let (first, next, rows) = if is_numbers {
            let first = format!("SELECT 1 AS {step}, 0 AS {key}");
            let next = format!("SELECT {alias}.{step} + 1, {alias}.{key} + {alias}.{step} FROM {name} AS {alias}");
            (first, next, most as usize)
        } else {
            let (start, more) = (self.choice.pick(self.tables).clone(), self.choice.pick(self.tables).clone());
            let (left, right) = (self.name('t'), self.name('t'));
            let first = format!(
                "SELECT 1 AS {step}, CAST({left}.k AS BIGINT) AS {key} FROM {} AS {left} WHERE {left}.id < 4",
                start.name
            );
            let next = format!(
                "SELECT {alias}.{step} + 1, CAST({right}.g AS BIGINT) FROM {name} AS {alias} \
                 JOIN {} AS {right} ON {right}.k = {alias}.{key}",
                more.name
            );
            (first, next, 100)
        };
        let operator = if is_numbers || self.choice.percent(60) { "UNION ALL" } else { "UNION" };
        let text = format!("{name} AS ({first} {operator} {next} WHERE {alias}.{step} < {most})");
        let outputs = [step, key].map(|name| Output { name, family: Family::Integer }).to_vec();
        let query = Query { node: Node::new(Class::Query), outputs, key: None, rows, has_tail: false };
        self.with_queries.push((name, query));
        Item::new(Node::other().text(&text))
    }

    /// A row for each element of a list.
    pub(super) fn unnest(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let list_depth = usize::from(self.choice.percent(30));
        let elements = self.expression(Family::List, &from.scope, list_depth);
        let mut list = SelectList::default();
        self.push_total(&mut list, &from.scope);
        let unnested = Node::other().text("unnest(").child(elements).text(")");
        list.push(unnested, Family::Integer, self.name('c'));
        let conditions = self.conditions(&from.scope, 1);
        let node = Node::new(Class::Query)
            .text("SELECT ")
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions));
        Query { node, outputs: list.outputs, key: None, rows: from.scope.rows * 2, has_tail: false }
    }
}
