//! Relations in FROM: tables, subqueries, values, series, and joins of them.

use super::Generator;
use super::scope::{Relation, Scope, ScopeColumn};
use crate::fuzz_sql::family::Family;
use crate::fuzz_sql::node::{Class, Item, List, Node};

/// Rows that a join may give.
const MAX_JOINED_ROWS: usize = 4000;

/// Part of the pairs of rows that an equality of keys is expected to keep: one of these.
const KEY_SELECTIVITY: usize = 8;

/// Joins, and which sides are there after them.
const JOINS: [(&str, bool, bool); 9] = [
    (" JOIN ", true, true),
    (" JOIN ", true, true),
    (" LEFT JOIN ", true, true),
    (" RIGHT JOIN ", true, true),
    (" FULL JOIN ", true, true),
    (" LEFT SEMI JOIN ", true, false),
    (" LEFT ANTI JOIN ", true, false),
    (" RIGHT SEMI JOIN ", false, true),
    (" RIGHT ANTI JOIN ", false, true),
];

impl Generator<'_> {
    /// The relation of a FROM clause: one, or a join of up to three.
    pub(super) fn from(&mut self, depth: usize) -> Relation {
        let mut relation = self.relation(depth);
        for _ in 0..*self.choice.pick(&[0, 0, 1, 1, 1, 2]) {
            if self.relations == 0 {
                break;
            }
            let other = self.relation(depth);
            relation = self.join(relation, other);
        }
        relation
    }

    fn relation(&mut self, depth: usize) -> Relation {
        self.relations = self.relations.saturating_sub(1);
        match self.choice.below(20) {
            0..=6 if depth > 0 => self.derived(depth - 1),
            7 => self.values(),
            8 => self.series(),
            _ => self.named_relation(),
        }
    }

    /// A table of files, or a WITH query.
    pub(super) fn named_relation(&mut self) -> Relation {
        let alias = self.name('t');
        if !self.with_queries.is_empty() && self.choice.percent(35) {
            let (name, query) = self.choice.pick(&self.with_queries).clone();
            let node = Node::new(Class::Relation).text(&format!("{name} AS {alias}"));
            return Relation { node, scope: query.scope(&alias) };
        }
        let table = self.choice.pick(self.tables);
        let column = |name: &str, family| ScopeColumn { sql: format!("{alias}.{name}"), family };
        let stored = table.columns.iter().map(|stored| column(&stored.name, stored.family()));
        let partition = table.layout.partitioned_by.iter().map(|name| column(name, Family::Text));
        let scope = Scope {
            columns: stored.chain(partition).collect(),
            total: Some(vec![format!("{alias}.id")]),
            rows: table.rows(),
        };
        let node = Node::new(Class::Relation).text(&format!("{} AS {alias}", table.name));
        Relation { node, scope }
    }

    fn derived(&mut self, depth: usize) -> Relation {
        let query = self.query(depth);
        let alias = self.name('t');
        let scope = query.scope(&alias);
        let node = Node::new(Class::Relation).text("(").child(query.node).text(&format!(") AS {alias}"));
        Relation { node, scope }
    }

    fn values(&mut self) -> Relation {
        let (alias, number, text) = (self.name('t'), self.name('c'), self.name('c'));
        let rows = (0..self.choice.between(1, 6)).map(|_| {
            let integer = Family::Integer.literal(self.choice);
            let row = format!("({integer}, {})", Family::Text.literal(self.choice));
            Item::new(Node::other().text(&row))
        });
        let rows = List::new("", ", ", rows.collect()).required();
        let count = rows.items.len();
        let node =
            Node::new(Class::Relation).text("(VALUES ").list(rows).text(&format!(") AS {alias}({number}, {text})"));
        let columns = vec![
            ScopeColumn { sql: format!("{alias}.{number}"), family: Family::Integer },
            ScopeColumn { sql: format!("{alias}.{text}"), family: Family::Text },
        ];
        let total = Some(columns.iter().map(|column| column.sql.clone()).collect());
        Relation { node, scope: Scope { columns, total, rows: count } }
    }

    fn series(&mut self) -> Relation {
        let (alias, column) = (self.name('t'), self.name('c'));
        let (first, last) = (self.choice.between(-1, 2), self.choice.between(1, 9));
        let function = *self.choice.pick(&["generate_series", "range"]);
        let text = format!("{function}({first}, {last}) AS {alias}({column})");
        let column = ScopeColumn { sql: format!("{alias}.{column}"), family: Family::Integer };
        let total = Some(vec![column.sql.clone()]);
        let scope = Scope { columns: vec![column], total, rows: (last - first + 1).max(0) as usize };
        Relation { node: Node::new(Class::Relation).text(&text), scope }
    }

    fn join(&mut self, left: Relation, right: Relation) -> Relation {
        let both = Scope {
            columns: left.scope.columns.iter().chain(&right.scope.columns).cloned().collect(),
            total: left.scope.total.iter().zip(right.scope.total.iter()).map(|(l, r)| [&l[..], &r[..]].concat()).next(),
            rows: 0,
        };
        let pairs = left.scope.rows * right.scope.rows;
        let is_small = pairs <= MAX_JOINED_ROWS;
        let node = Node::new(Class::Relation);
        if is_small && self.choice.percent(10) {
            let node = node.child(left.node).text(" CROSS JOIN ").child(right.node);
            return Relation { node, scope: Scope { rows: pairs, ..both } };
        }
        let mut conditions = Vec::new();
        if !is_small || self.choice.percent(80) {
            conditions.extend(self.key_equality(&left.scope, &right.scope));
        }
        if conditions.is_empty() && !is_small {
            return left;
        }
        let is_equi = !conditions.is_empty();
        if !is_equi || self.choice.percent(35) {
            conditions.push(Item::new(self.residual(&left.scope, &right.scope, &both)));
        }
        let (keyword, has_left, has_right) = *self.choice.pick(&JOINS);
        let pairs = if is_equi { pairs / KEY_SELECTIVITY + left.scope.rows.max(right.scope.rows) } else { pairs };
        let on = List::new("", " AND ", conditions).or_if_empty("TRUE");
        let node = node.child(left.node).text(keyword).child(right.node).text(" ON ").list(on);
        let scope = match (has_left, has_right) {
            (true, true) => Scope { rows: pairs.min(MAX_JOINED_ROWS), ..both },
            (true, false) => left.scope,
            _ => right.scope,
        };
        Relation { node, scope }
    }

    /// An equality of one or two columns, or of expressions.
    fn key_equality(&mut self, left: &Scope, right: &Scope) -> Vec<Item> {
        let families = [
            Family::Integer,
            Family::Integer,
            Family::Integer,
            Family::Text,
            Family::Decimal,
            Family::Date,
            Family::Float,
        ];
        let fitting: Vec<Family> = families
            .into_iter()
            .filter(|family| !left.of_family(*family).is_empty() && !right.of_family(*family).is_empty())
            .collect();
        if fitting.is_empty() {
            return Vec::new();
        }
        let count = *self.choice.pick(&[1, 1, 1, 2]);
        let equality = |generator: &mut Self| {
            let family = *generator.choice.pick(&fitting);
            let depth = usize::from(generator.choice.percent(15));
            let left = Node::expression(family, &generator.choice.pick(&left.of_family(family)).sql.clone());
            let right = match depth {
                0 => Node::expression(family, &generator.choice.pick(&right.of_family(family)).sql.clone()),
                _ => generator.expression(family, right, depth),
            };
            let equality = Node::new(Class::Expression(Family::Boolean));
            Item::new(match generator.choice.percent(90) {
                true => equality.child(left).text(" = ").child(right),
                false => equality.text("(").child(left).text(" IS NOT DISTINCT FROM ").child(right).text(")"),
            })
        };
        (0..count).map(|_| equality(self)).collect()
    }

    /// A condition over both sides that is no equality of keys.
    fn residual(&mut self, left: &Scope, right: &Scope, both: &Scope) -> Node {
        if self.choice.percent(30) {
            return self.expression(Family::Boolean, both, 2);
        }
        let family =
            *self.choice.pick(&[Family::Integer, Family::Integer, Family::Decimal, Family::Text, Family::Date]);
        let (left, right) = (self.leaf(family, left), self.leaf(family, right));
        let operator = *self.choice.pick(&[" < ", " <= ", " > ", " <> "]);
        Node::new(Class::Expression(Family::Boolean)).child(left).text(operator).child(right)
    }
}
