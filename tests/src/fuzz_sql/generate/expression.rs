//! Expressions.

use super::Generator;
use super::scope::Scope;
use super::templates::{self, operand};
use crate::fuzz_sql::family::{Family, SCALARS};
use crate::fuzz_sql::node::{Class, Node};

/// Tries to find a template for whose operands there are columns.
const MAX_TEMPLATE_TRIES: usize = 8;

impl Generator<'_> {
    /// An expression of a family over the columns of a scope.
    pub(super) fn expression(&mut self, family: Family, scope: &Scope, depth: usize) -> Node {
        if depth == 0 || self.choice.percent(40) {
            return self.leaf(family, scope);
        }
        if self.choice.percent(4)
            && let Some(subquery) = self.scalar_subquery(family, scope)
        {
            return subquery;
        }
        if self.choice.percent(15) {
            return self.conditional(family, scope, depth - 1);
        }
        if family == Family::Boolean
            && self.choice.percent(8)
            && let Some(subquery) = self.boolean_subquery(scope)
        {
            return subquery;
        }
        let template = self.template(templates::scalar(family), scope);
        self.fill(family, template, scope, depth - 1)
    }

    /// One of several templates; mostly one for whose operands the scope has columns.
    pub(super) fn template(&mut self, all: &[&'static str], scope: &Scope) -> &'static str {
        let mut template = *self.choice.pick(all);
        for _ in 0..MAX_TEMPLATE_TRIES {
            let mut operands = template.split('@').skip(1).filter_map(|part| operand(part.chars().next()?));
            if operands.all(|family| !scope.of_family(family).is_empty()) {
                break;
            }
            template = *self.choice.pick(all);
        }
        template
    }

    /// A column of the family, or a literal.
    pub(super) fn leaf(&mut self, family: Family, scope: &Scope) -> Node {
        let columns = scope.of_family(family);
        if columns.is_empty() || self.choice.percent(12) {
            return Node::expression(family, &family.literal(self.choice));
        }
        let column = *self.choice.pick(&columns);
        Node::expression(family, &column.sql)
    }

    fn conditional(&mut self, family: Family, scope: &Scope, depth: usize) -> Node {
        let node = Node::new(Class::Expression(family));
        let first = self.expression(family, scope, depth);
        match self.choice.below(6) {
            0 | 1 => {
                let condition = self.expression(Family::Boolean, scope, depth);
                let second = self.expression(family, scope, depth);
                let other = self.choice.percent(70).then(|| Node::other().text(" ELSE ").child(second));
                node.text("CASE WHEN ").child(condition).text(" THEN ").child(first).optional(other).text(" END")
            }
            2 => {
                let column = self.leaf(Family::Integer, scope);
                let second = self.expression(family, scope, depth);
                node.text("CASE ")
                    .child(column)
                    .text(" WHEN 1 THEN ")
                    .child(first)
                    .text(" ELSE ")
                    .child(second)
                    .text(" END")
            }
            3 if family.is_sortable() => {
                let second = self.leaf(family, scope);
                node.text("NULLIF(").child(first).text(", ").child(second).text(")")
            }
            4 if family.is_sortable() => {
                let name = *self.choice.pick(&["greatest(", "least("]);
                let second = self.expression(family, scope, depth);
                node.text(name).child(first).text(", ").child(second).text(")")
            }
            _ => {
                let second = self.expression(family, scope, depth);
                node.text("COALESCE(").child(first).text(", ").child(second).text(")")
            }
        }
    }

    /// Fills the holes of a template.
    pub(super) fn fill(&mut self, family: Family, template: &str, scope: &Scope, depth: usize) -> Node {
        let mut node = Node::new(Class::Expression(family));
        let mut parts = template.split('@');
        node = node.text(parts.next().unwrap_or_default());
        for part in parts {
            let mut characters = part.chars();
            let letter = characters.next().unwrap_or_default();
            node = match letter {
                'k' => node.text(&self.choice.between(1, 5).to_string()),
                'o' => node.text(&scope.total.clone().unwrap_or_default().join(", ")),
                'x' => {
                    let families: Vec<Family> =
                        SCALARS.into_iter().filter(|f| !scope.of_family(*f).is_empty()).collect();
                    let family = if families.is_empty() { Family::Integer } else { *self.choice.pick(&families) };
                    node.child(self.leaf(family, scope))
                }
                letter => node.child(self.expression(operand(letter).unwrap_or(Family::Integer), scope, depth)),
            };
            node = node.text(characters.as_str());
        }
        node
    }

    /// An aggregate of a family, now and then with FILTER. Falls back to a count.
    pub(super) fn aggregate(&mut self, family: Family, scope: &Scope) -> Node {
        let is_ordered = scope.total.as_ref().is_some_and(|total| !total.is_empty());
        let fitting: Vec<&'static str> = templates::aggregate(family)
            .iter()
            .copied()
            .filter(|template| is_ordered || !template.contains("@o"))
            .collect();
        let (family, template) = match fitting.is_empty() {
            true => (Family::Integer, "count(*)"),
            false => (family, self.template(&fitting, scope)),
        };
        let depth = self.choice.below(2);
        let call = self.fill(family, template, scope, depth);
        let takes_filter = !["arrow_typeof", "array_", "round"].iter().any(|name| template.starts_with(name));
        Node::new(Class::Expression(family)).child(call).optional(
            (takes_filter && self.choice.percent(25)).then(|| {
                Node::other().text(" FILTER (WHERE ").child(self.expression(Family::Boolean, scope, 1)).text(")")
            }),
        )
    }

    /// Families of which the scope has columns, each as often as it has some.
    pub(super) fn families_of(&mut self, scope: &Scope, count: usize) -> Vec<Family> {
        let all: Vec<Family> = scope.columns.iter().map(|column| column.family).collect();
        (0..count).map(|_| if all.is_empty() { Family::Integer } else { *self.choice.pick(&all) }).collect()
    }

    /// A direction for ORDER BY.
    pub(super) fn direction(&mut self) -> &'static str {
        self.choice.pick::<&str>(&["", "", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST"])
    }
}
