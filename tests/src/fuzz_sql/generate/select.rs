//! Queries of one SELECT: plain, aggregating, DISTINCT.

use super::Generator;
use super::scope::{Output, Query, Relation, Scope, ScopeColumn};
use crate::fuzz_sql::family::Family;
use crate::fuzz_sql::node::{Class, Item, List, Node};

/// Columns of a select list in the making.
#[derive(Default)]
pub(super) struct SelectList {
    pub items: Vec<Item>,
    pub outputs: Vec<Output>,
    /// Text of each item's expression.
    pub sources: Vec<String>,
}

impl SelectList {
    pub(super) fn push(&mut self, node: Node, family: Family, name: String) {
        self.sources.push(node.sql());
        self.items.push(Item::new(Node::other().child(node).text(&format!(" AS {name}"))));
        self.outputs.push(Output { name, family });
    }

    /// The outputs that are the columns of a total order, if all of these are there.
    pub(super) fn key(&self, total: &Option<Vec<String>>) -> Option<Vec<usize>> {
        total.as_ref()?.iter().map(|column| self.sources.iter().position(|source| source == column)).collect()
    }
}

impl Generator<'_> {
    /// SELECT expressions FROM … [WHERE] [ORDER BY … LIMIT].
    pub(super) fn select(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let mut list = SelectList::default();
        if self.choice.percent(50) {
            self.push_total(&mut list, &from.scope);
        }
        let count = self.choice.below(3) + 1;
        for family in self.families_of(&from.scope, count) {
            let expression_depth = self.choice.below(3);
            let node = self.expression(family, &from.scope, expression_depth);
            list.push(node, family, self.name('c'));
        }
        self.finish_select("SELECT ", list, from)
    }

    /// SELECT of one expression of each family, for a side of a set operation.
    pub(super) fn select_of(&mut self, families: &[Family], depth: usize) -> Query {
        let from = self.from(depth);
        let mut list = SelectList::default();
        for family in families {
            let expression_depth = self.choice.below(2);
            let node = self.expression(*family, &from.scope, expression_depth);
            list.push(node, *family, self.name('c'));
        }
        self.finish_select("SELECT ", list, from)
    }

    fn finish_select(&mut self, head: &str, list: SelectList, from: Relation) -> Query {
        let key = list.key(&from.scope.total);
        let conditions = self.conditions(&from.scope, 2);
        let tail = if self.choice.percent(25) { self.tail(&from.scope) } else { None };
        let has_tail = tail.is_some();
        let node = Node::new(Class::Query)
            .text(head)
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions))
            .optional(tail);
        Query { node, outputs: list.outputs, key, rows: from.scope.rows, has_tail }
    }

    /// Adds the columns of the total order, if they are few.
    pub(super) fn push_total(&mut self, list: &mut SelectList, scope: &Scope) {
        let columns = scope.total.clone().unwrap_or_default();
        if columns.len() > 3 {
            return;
        }
        for column in columns {
            let found = scope.columns.iter().find(|known| known.sql == column);
            let family = found.map_or(Family::Integer, |known| known.family);
            let name = self.name('c');
            list.push(Node::expression(family, &column), family, name);
        }
    }

    /// ORDER BY with a total order, and LIMIT or OFFSET.
    pub(super) fn tail(&mut self, scope: &Scope) -> Option<Node> {
        let total = scope.total_items()?;
        let keys = self.choice.below(3);
        let columns = self.choice.some(&scope.sortable(), keys);
        let items = columns.iter().map(|column| Item::new(Node::other().text(&column.sql).text(self.direction())));
        let items: Vec<Item> = items.collect::<Vec<_>>().into_iter().chain(total).collect();
        let limit = self.limit(false);
        Some(Node::other().list(List::new(" ORDER BY ", ", ", items)).optional(limit))
    }

    /// SELECT keys, aggregates … GROUP BY … [HAVING] [ORDER BY … LIMIT].
    pub(super) fn aggregate_query(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let mut list = SelectList::default();
        let count = *self.choice.pick(&[0, 1, 1, 1, 2, 2, 3]);
        let keys = self.group_keys(&from.scope, count);
        for (node, family) in &keys {
            list.push(node.clone(), *family, self.name('c'));
        }
        let (group_by, is_plain) = self.group_by(&keys);
        let is_keyed = is_plain && keys.iter().all(|(_, family)| family.is_sortable());
        let key = is_keyed.then(|| (0..keys.len()).collect());
        if !is_plain && !keys.is_empty() && self.choice.percent(40) {
            let grouping = Node::expression(Family::Integer, &format!("grouping({})", keys[0].0.sql()));
            list.push(grouping, Family::Integer, self.name('c'));
        }
        let count = self.choice.below(3) + usize::from(keys.is_empty() || self.choice.percent(80));
        for _ in 0..count {
            let family = self.aggregated_family(&from.scope);
            let node = self.aggregate(family, &from.scope);
            let family = if let Class::Expression(family) = node.class { family } else { family };
            list.push(node, family, self.name('c'));
        }
        let conditions = self.conditions(&from.scope, 1);
        let having = self.choice.percent(20).then(|| self.having(&from.scope));
        let rows = if keys.is_empty() { 1 } else { from.scope.rows };
        let mut query = Query { node: Node::new(Class::Query), outputs: list.outputs, key, rows, has_tail: false };
        let tail = if self.choice.percent(25) { self.output_tail(&query) } else { None };
        query.has_tail = tail.is_some();
        query.node = query
            .node
            .text("SELECT ")
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions))
            .optional(group_by)
            .optional(having)
            .optional(tail);
        query
    }

    /// Columns, and now and then other expressions, to group by.
    fn group_keys(&mut self, scope: &Scope, count: usize) -> Vec<(Node, Family)> {
        let groupable: Vec<ScopeColumn> =
            scope.columns.iter().filter(|column| column.family.is_groupable()).cloned().collect();
        let columns = self.choice.some(&groupable, count);
        let key = |column: ScopeColumn| {
            let is_expression = self.choice.percent(20) && column.family == Family::Integer;
            let text = if is_expression { format!("({} % 3)", column.sql) } else { column.sql };
            (Node::expression(column.family, &text), column.family)
        };
        columns.into_iter().map(key).collect()
    }

    /// GROUP BY, and whether the keys differ from row to row.
    fn group_by(&mut self, keys: &[(Node, Family)]) -> (Option<Node>, bool) {
        let texts: Vec<String> = keys.iter().map(|(node, _)| node.sql()).collect();
        let clause = |text: String| Some(Node::other().text(" GROUP BY ").text(&text));
        if keys.is_empty() {
            let is_set = self.choice.percent(25);
            return (is_set.then(|| Node::other().text(" GROUP BY GROUPING SETS (())")), true);
        }
        let all = texts.join(", ");
        let first = &texts[0];
        match self.choice.below(12) {
            0 => (clause(format!("ROLLUP ({all})")), false),
            1 => (clause(format!("CUBE ({all})")), false),
            2 => (clause(format!("GROUPING SETS (({all}), ({first}), ())")), false),
            3 => (clause(format!("GROUPING SETS (({first}), ({all}))")), false),
            4 if texts.len() > 1 => (clause(format!("{first}, ROLLUP ({})", texts[1..].join(", "))), false),
            _ => {
                // No expressions: shrinking would put literals in their place, which are ordinals here.
                let items = texts.iter().map(|text| Item::new(Node::other().text(text))).collect();
                (Some(Node::other().list(List::new(" GROUP BY ", ", ", items))), true)
            }
        }
    }

    /// A family of which the scope has columns, more often one of numbers.
    fn aggregated_family(&mut self, scope: &Scope) -> Family {
        match self.choice.percent(45) {
            true => Family::Integer,
            false => self.families_of(scope, 1)[0],
        }
    }

    fn having(&mut self, scope: &Scope) -> Node {
        let node = Node::other().text(" HAVING ");
        match self.choice.below(3) {
            0 => node.text("count(*) > 1"),
            1 => node.child(self.aggregate(Family::Integer, scope)).text(&format!(" < {}", self.choice.between(1, 30))),
            _ => node.child(self.aggregate(Family::Boolean, scope)),
        }
    }

    /// ORDER BY outputs by name with a total order, and LIMIT or OFFSET.
    pub(super) fn output_tail(&mut self, query: &Query) -> Option<Node> {
        let column =
            |index: usize| ScopeColumn { sql: query.outputs[index].name.clone(), family: query.outputs[index].family };
        let total = query.total()?.into_iter().map(|index| query.outputs[index].name.clone()).collect();
        let columns = (0..query.outputs.len()).map(column).collect();
        self.tail(&Scope { columns, total: Some(total), rows: query.rows })
    }

    /// SELECT DISTINCT, or DISTINCT ON with the first row of each.
    pub(super) fn distinct(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let sortable = from.scope.sortable();
        let mut list = SelectList::default();
        let count = self.choice.below(3) + 1;
        for column in self.choice.some(&sortable, count) {
            list.push(Node::expression(column.family, &column.sql), column.family, self.name('c'));
        }
        let total = from.scope.total_items();
        let (Some(total), true, false) = (total, self.choice.percent(40), sortable.is_empty()) else {
            if list.items.is_empty() {
                list.push(Node::expression(Family::Integer, "1"), Family::Integer, self.name('c'));
            }
            return self.finish_distinct(list, from);
        };
        let on = self.choice.pick(&sortable).sql.clone();
        let order = std::iter::once(Item::fixed(&format!("{on}{}", self.direction()))).chain(total).collect();
        let conditions = self.conditions(&from.scope, 1);
        let node = Node::new(Class::Query)
            .text(&format!("SELECT DISTINCT ON ({on}) "))
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions))
            .list(List::new(" ORDER BY ", ", ", order));
        Query { node, outputs: list.outputs, key: None, rows: from.scope.rows, has_tail: true }
    }

    fn finish_distinct(&mut self, list: SelectList, from: Relation) -> Query {
        let conditions = self.conditions(&from.scope, 1);
        let mut query = Query {
            node: Node::new(Class::Query),
            outputs: list.outputs,
            key: None,
            rows: from.scope.rows,
            has_tail: false,
        };
        let tail = if self.choice.percent(50) { self.output_tail(&query) } else { None };
        query.has_tail = tail.is_some();
        query.node = query
            .node
            .text("SELECT DISTINCT ")
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions))
            .optional(tail);
        query
    }
}
