//! Window functions.

use super::Generator;
use super::scope::{Query, Scope, ScopeColumn};
use super::select::SelectList;
use super::templates;
use crate::fuzz_sql::family::Family;
use crate::fuzz_sql::node::{Class, Item, List, Node};

/// Window of a function, without its frame.
#[derive(Clone)]
struct Window {
    partition: Vec<String>,
    order: Vec<OrderItem>,
    /// True if the order is total.
    is_total: bool,
}

#[derive(Clone)]
struct OrderItem {
    column: ScopeColumn,
    is_descending: bool,
    nulls_first: bool,
    /// True if the item is part of the total order.
    is_fixed: bool,
}

impl OrderItem {
    fn sql(&self) -> String {
        let direction = if self.is_descending { "DESC" } else { "ASC" };
        // The default is not written, so that plans find equal orders.
        let nulls = match (self.nulls_first, self.is_descending) {
            (true, false) => " NULLS FIRST",
            (false, true) => " NULLS LAST",
            _ => "",
        };
        format!("{} {direction}{nulls}", self.column.sql)
    }

    fn reversed(&self) -> Self {
        Self { is_descending: !self.is_descending, nulls_first: !self.nulls_first, ..self.clone() }
    }
}

impl Generator<'_> {
    /// SELECT columns, window functions … [QUALIFY] [ORDER BY … LIMIT].
    pub(super) fn window_query(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let mut list = SelectList::default();
        if self.choice.percent(70) {
            self.push_total(&mut list, &from.scope);
        }
        let columns = self.choice.below(2) + usize::from(list.items.is_empty());
        for column in self.choice.some(&from.scope.columns, columns) {
            list.push(Node::expression(column.family, &column.sql), column.family, self.name('c'));
        }
        let windows = self.windows(&from.scope);
        for _ in 0..*self.choice.pick(&[1, 1, 2, 2, 3]) {
            let window = self.choice.pick(&windows).clone();
            let (node, family) = self.window_function(&window, &from.scope);
            list.push(node, family, self.name('c'));
        }
        let key = list.key(&from.scope.total);
        let conditions = self.conditions(&from.scope, 1);
        let qualify = self.choice.percent(8).then(|| {
            let window = self.choice.pick(&windows).clone();
            Node::other().text(" QUALIFY rank() OVER (").child(self.over(&window)).text(") <= 3")
        });
        let tail = if self.choice.percent(20) { self.tail(&from.scope) } else { None };
        let has_tail = tail.is_some();
        let node = Node::new(Class::Query)
            .text("SELECT ")
            .list(List::new("", ", ", list.items).required())
            .text(" FROM ")
            .child(from.node)
            .list(List::new(" WHERE ", " AND ", conditions))
            .optional(qualify)
            .optional(tail);
        Query { node, outputs: list.outputs, key, rows: from.scope.rows, has_tail }
    }

    /// One to three windows, of which some have the partition or the order of another one, or the reverse of its order.
    fn windows(&mut self, scope: &Scope) -> Vec<Window> {
        let mut windows = vec![self.window(scope)];
        for _ in 0..self.choice.below(3) {
            let known = self.choice.pick(&windows).clone();
            let reversed = known.order.iter().map(OrderItem::reversed).collect();
            let other = match self.choice.below(5) {
                0 | 1 => Window { order: reversed, ..known },
                2 => Window { partition: Vec::new(), order: reversed, ..known },
                3 => Window { partition: known.partition, ..self.window(scope) },
                _ => self.window(scope),
            };
            windows.push(other);
        }
        windows
    }

    fn window(&mut self, scope: &Scope) -> Window {
        let sortable = scope.sortable();
        let partitions = *self.choice.pick(&[0, 0, 1, 1, 2]);
        let partition = self.choice.some(&sortable, partitions).into_iter().map(|column| column.sql).collect();
        let keys = *self.choice.pick(&[0, 1, 1, 2]);
        let mut order: Vec<OrderItem> =
            self.choice.some(&sortable, keys).into_iter().map(|column| self.order_item(column, false)).collect();
        let mut is_total = false;
        if self.choice.percent(70)
            && let Some(total) = scope.total.clone()
        {
            for column in total {
                let found = scope.columns.iter().find(|known| known.sql == column);
                let family = found.map_or(Family::Integer, |known| known.family);
                let item = self.order_item(ScopeColumn { sql: column, family }, true);
                order.push(item);
            }
            is_total = true;
        }
        Window { partition, order, is_total }
    }

    fn order_item(&mut self, column: ScopeColumn, is_fixed: bool) -> OrderItem {
        let is_descending = self.choice.percent(40);
        let nulls_first = if self.choice.percent(25) { !is_descending } else { is_descending };
        OrderItem { column, is_descending, nulls_first, is_fixed }
    }

    fn over(&mut self, window: &Window) -> Node {
        let partition = window.partition.iter().map(|column| Item::new(Node::other().text(column))).collect();
        let order = window.order.iter().map(|item| {
            let node = Node::other().text(&item.sql());
            Item { node, is_fixed: item.is_fixed }
        });
        Node::other().list(List::new(" PARTITION BY ", ", ", partition)).list(List::new(
            " ORDER BY ",
            ", ",
            order.collect(),
        ))
    }

    fn window_function(&mut self, window: &Window, scope: &Scope) -> (Node, Family) {
        let kind = self.choice.below(10);
        if kind < 2 && !window.order.is_empty() {
            let (template, family) = *self.choice.pick(&templates::RANK_WINDOW);
            let over = self.over(window);
            let node = Node::new(Class::Expression(family)).text(template).text(" OVER (").child(over).text(")");
            return (node, family);
        }
        let is_ordered = kind < 6 && window.is_total;
        let all: &[(&'static str, Family)] =
            if is_ordered { &templates::ORDERED_WINDOW } else { &templates::AGGREGATE_WINDOW };
        let texts: Vec<&'static str> = all.iter().map(|(template, _)| *template).collect();
        let template = self.template(&texts, scope);
        let family = all.iter().find(|(known, _)| *known == template).map_or(Family::Integer, |(_, family)| *family);
        let depth = self.choice.below(2);
        let call = self.fill(family, template, scope, depth);
        let takes_filter = !is_ordered && self.choice.percent(35);
        let filter = takes_filter
            .then(|| Node::other().text(" FILTER (WHERE ").child(self.expression(Family::Boolean, scope, 1)).text(")"));
        let ignores_nulls = is_ordered && templates::takes_nulls_clause(template) && self.choice.percent(40);
        let nulls = ignores_nulls.then(|| Node::other().text(" IGNORE NULLS"));
        let takes_frame = !template.starts_with("row_number")
            && !template.starts_with("ntile")
            && !template.starts_with("lag")
            && !template.starts_with("lead");
        let frame = if takes_frame && self.choice.percent(50) { self.frame(window) } else { None };
        let over = self.over(window);
        let node = Node::new(Class::Expression(family))
            .child(call)
            .optional(filter)
            .optional(nulls)
            .text(" OVER (")
            .child(over)
            .optional(frame)
            .text(")");
        (node, family)
    }

    /// A frame that the window's order defines.
    fn frame(&mut self, window: &Window) -> Option<Node> {
        let first = window.order.first()?;
        let is_single = window.order.len() == 1;
        let (unit, offset): (&str, fn(i64) -> String) = match self.choice.below(4) {
            0 | 1 if window.is_total => ("ROWS", |rows| rows.to_string()),
            2 if is_single && first.column.family == Family::Integer => ("RANGE", |rows| rows.to_string()),
            2 if is_single && first.column.family == Family::Date => {
                ("RANGE", |days| format!("INTERVAL '{days} days'"))
            }
            _ => ("GROUPS", |groups| groups.to_string()),
        };
        let bound = |generator: &mut Self, least: i64| {
            let place = generator.choice.between(least, 4);
            let text = match place {
                -4 => "UNBOUNDED PRECEDING".to_owned(),
                4 => "UNBOUNDED FOLLOWING".to_owned(),
                0 => "CURRENT ROW".to_owned(),
                before if before < 0 => format!("{} PRECEDING", offset(-before)),
                after => format!("{} FOLLOWING", offset(after)),
            };
            (place, text)
        };
        let (start, start_text) = bound(self, -4);
        let start_text = if start == 4 { "CURRENT ROW".to_owned() } else { start_text };
        let (_, end_text) = bound(self, if start == 4 { 0 } else { start.max(-3) });
        Some(Node::other().text(&format!(" {unit} BETWEEN {start_text} AND {end_text}")))
    }

    /// The first rows of each group: a row number in a subquery, and a condition on it.
    pub(super) fn top_rows(&mut self, depth: usize) -> Query {
        let from = self.from(depth);
        let mut window = self.window(&from.scope);
        if !window.is_total {
            window.order.truncate(1);
        }
        let function = match (window.is_total, window.order.is_empty()) {
            (true, _) => "row_number()",
            (false, false) => "rank()",
            (false, true) => return self.select(depth),
        };
        let mut inner = SelectList::default();
        self.push_total(&mut inner, &from.scope);
        let count = 1 + self.choice.below(2);
        for column in self.choice.some(&from.scope.sortable(), count) {
            inner.push(Node::expression(column.family, &column.sql), column.family, self.name('c'));
        }
        let (alias, number) = (self.name('t'), self.name('c'));
        let over = self.over(&window);
        let row_number = Node::expression(Family::Integer, function).text(" OVER (").child(over).text(")");
        inner.push(row_number, Family::Integer, number.clone());
        let mut outer = SelectList::default();
        for output in &inner.outputs {
            let column = format!("{alias}.{}", output.name);
            outer.push(Node::expression(output.family, &column), output.family, self.name('c'));
        }
        let query = Node::new(Class::Query)
            .text("SELECT ")
            .list(List::new("", ", ", inner.items).required())
            .text(" FROM ")
            .child(from.node);
        let node = Node::new(Class::Query)
            .text("SELECT ")
            .list(List::new("", ", ", outer.items).required())
            .text(" FROM (")
            .child(query)
            .text(&format!(") AS {alias} WHERE {alias}.{number} <= {}", self.choice.between(1, 4)));
        Query { node, outputs: outer.outputs, key: None, rows: from.scope.rows, has_tail: false }
    }
}
