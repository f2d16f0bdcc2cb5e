//! Subqueries in expressions.

use super::Generator;
use super::scope::Scope;
use crate::fuzz_sql::family::Family;
use crate::fuzz_sql::node::{Class, Item, List, Node};

impl Generator<'_> {
    /// A subquery with one value: of one row, or now and then of more, which is an error.
    pub(super) fn scalar_subquery(&mut self, family: Family, outer: &Scope) -> Option<Node> {
        if !self.take_subquery() {
            return None;
        }
        let relation = self.named_relation();
        let scope = &relation.scope;
        let mut conditions = self.conditions(scope, 1);
        let node = Node::new(Class::Expression(family)).text("(SELECT ");
        match self.choice.below(10) {
            0 => {
                let value = self.leaf(family, scope);
                let filter = List::new(" WHERE ", " AND ", conditions);
                Some(node.child(value).text(" FROM ").child(relation.node).list(filter).text(")"))
            }
            1..=3 => {
                let value = self.expression(family, scope, 1);
                let filter = List::new(" WHERE ", " AND ", conditions);
                let order = List::new(" ORDER BY ", ", ", scope.total_items()?);
                let end = *self.choice.pick(&[" LIMIT 1)", " LIMIT 1)", " LIMIT 1 OFFSET 2)"]);
                Some(node.child(value).text(" FROM ").child(relation.node).list(filter).list(order).text(end))
            }
            kind => {
                if kind > 6 {
                    conditions.extend(self.correlation(scope, outer));
                }
                let value = self.aggregate(family, scope);
                let filter = List::new(" WHERE ", " AND ", conditions);
                Some(node.child(value).text(" FROM ").child(relation.node).list(filter).text(")"))
            }
        }
    }

    /// IN, NOT IN, EXISTS, NOT EXISTS, and comparisons with a subquery.
    pub(super) fn boolean_subquery(&mut self, outer: &Scope) -> Option<Node> {
        if !self.take_subquery() {
            return None;
        }
        let relation = self.named_relation();
        let mut conditions = self.conditions(&relation.scope, 1);
        let node = Node::new(Class::Expression(Family::Boolean));
        if self.choice.percent(50) {
            conditions.extend(self.correlation(&relation.scope, outer));
            let head = *self.choice.pick(&["EXISTS (SELECT 1 FROM ", "NOT EXISTS (SELECT 1 FROM "]);
            let filter = List::new(" WHERE ", " AND ", conditions);
            return Some(node.text("(").text(head).child(relation.node).list(filter).text("))"));
        }
        let family =
            *self.choice.pick(&[Family::Integer, Family::Integer, Family::Text, Family::Decimal, Family::Date]);
        let value = self.expression(family, outer, 1);
        let found = self.expression(family, &relation.scope, 1);
        if self.choice.percent(30) {
            conditions.extend(self.correlation(&relation.scope, outer));
        }
        let operator = *self.choice.pick(&[" IN (SELECT ", " IN (SELECT ", " NOT IN (SELECT "]);
        let filter = List::new(" WHERE ", " AND ", conditions);
        let query =
            node.text("(").child(value).text(operator).child(found).text(" FROM ").child(relation.node).list(filter);
        Some(query.text("))"))
    }

    /// A condition that compares an inner column with an outer one.
    fn correlation(&mut self, inner: &Scope, outer: &Scope) -> Option<Item> {
        let families = [Family::Integer, Family::Integer, Family::Text, Family::Date];
        let fitting: Vec<Family> = families
            .into_iter()
            .filter(|family| !inner.of_family(*family).is_empty() && !outer.of_family(*family).is_empty())
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let family = *self.choice.pick(&fitting);
        let inner = self.choice.pick(&inner.of_family(family)).sql.clone();
        let outer = self.choice.pick(&outer.of_family(family)).sql.clone();
        let operator = if self.choice.percent(85) { "=" } else { "<" };
        Some(Item::new(Node::other().text(&format!("{inner} {operator} {outer}"))))
    }

    /// Conditions for WHERE, at most `most`.
    pub(super) fn conditions(&mut self, scope: &Scope, most: usize) -> Vec<Item> {
        let count = self.choice.below(most + 1);
        (0..count).map(|_| Item::new(self.expression(Family::Boolean, scope, 2))).collect()
    }

    /// True if one more subquery may stand in the statement.
    fn take_subquery(&mut self) -> bool {
        let may = self.subqueries > 0;
        self.subqueries = self.subqueries.saturating_sub(1);
        may
    }
}
