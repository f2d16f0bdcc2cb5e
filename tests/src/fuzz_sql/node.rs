//! Syntax tree of a generated query.
//!
//! The tree knows no grammar: a node is text with nodes between it, and says which of its parts can be left out and
//! which nodes can stand in for it. That is all that shrinking needs; the engines reject what makes no sense.

use std::collections::HashSet;

use super::family::Family;

/// Kind of a node. A node can be replaced by one of the same class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Query,
    Relation,
    Expression(Family),
    /// Part of a clause; replaced by nothing.
    Other,
}

/// Node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub class: Class,
    pub parts: Vec<Part>,
}

/// Part of a node.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Child(Node),
    /// A node that can be left out.
    Optional(Node),
    List(List),
}

/// Items between separators.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// Text before the first item; absent when there are no items.
    pub prefix: &'static str,
    pub separator: &'static str,
    /// Text in place of an empty list.
    pub empty: &'static str,
    /// Number of items that must stay.
    pub least: usize,
    pub items: Vec<Item>,
}

/// Item of a list.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub node: Node,
    /// True if the item goes only with a name that it mentions: without it, the answer would not be defined.
    pub is_fixed: bool,
}

impl Item {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, is_fixed: false }
    }

    pub(crate) fn fixed(text: &str) -> Self {
        Self { node: Node::other().text(text), is_fixed: true }
    }
}

impl List {
    pub(crate) fn new(prefix: &'static str, separator: &'static str, items: Vec<Item>) -> Self {
        Self { prefix, separator, empty: "", least: 0, items }
    }

    /// Keeps at least one item.
    pub(crate) fn required(mut self) -> Self {
        self.least = 1;
        self
    }

    pub(crate) fn or_if_empty(mut self, text: &'static str) -> Self {
        self.empty = text;
        self
    }
}

impl Node {
    pub(crate) fn new(class: Class) -> Self {
        Self { class, parts: Vec::new() }
    }

    pub(crate) fn other() -> Self {
        Self::new(Class::Other)
    }

    pub(crate) fn expression(family: Family, text: &str) -> Self {
        Self::new(Class::Expression(family)).text(text)
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.parts.push(Part::Text(text.to_owned()));
        self
    }

    pub(crate) fn child(mut self, node: Node) -> Self {
        self.parts.push(Part::Child(node));
        self
    }

    pub(crate) fn optional(mut self, node: Option<Node>) -> Self {
        self.parts.extend(node.map(Part::Optional));
        self
    }

    pub(crate) fn list(mut self, list: List) -> Self {
        self.parts.push(Part::List(list));
        self
    }

    /// Returns the SQL text.
    pub(crate) fn sql(&self) -> String {
        let mut text = String::new();
        self.render(&mut text);
        text
    }

    fn render(&self, text: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(fragment) => text.push_str(fragment),
                Part::Child(node) | Part::Optional(node) => node.render(text),
                Part::List(list) => list.render(text),
            }
        }
    }

    /// Calls `visit` with every node of the tree, this one first.
    pub(crate) fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        visit(self);
        for part in &self.parts {
            match part {
                Part::Text(_) => {}
                Part::Child(node) | Part::Optional(node) => node.visit(visit),
                Part::List(list) => list.items.iter().for_each(|item| item.node.visit(visit)),
            }
        }
    }

    /// Removes what mentions one of `names`: items, optional parts, and expressions, which become literals. Returns
    /// false if something that cannot be removed mentions a name.
    pub(crate) fn prune(&mut self, names: &HashSet<String>) -> bool {
        let mut is_clean = true;
        let mut parts = Vec::with_capacity(self.parts.len());
        for mut part in std::mem::take(&mut self.parts) {
            let keeps = match &mut part {
                Part::Text(text) => {
                    is_clean &= !words(text).any(|word| names.contains(word));
                    true
                }
                Part::Child(node) => {
                    is_clean &= node.prune(names);
                    true
                }
                Part::Optional(node) => node.prune(names),
                Part::List(list) => {
                    list.items.retain_mut(|item| item.node.prune(names));
                    is_clean &= list.items.len() >= list.least;
                    true
                }
            };
            if keeps {
                parts.push(part);
            }
        }
        self.parts = parts;
        match self.class {
            Class::Expression(family) if !is_clean => {
                self.parts = vec![Part::Text(family.plain_literal().to_owned())];
                true
            }
            _ => is_clean,
        }
    }
}

impl List {
    fn render(&self, text: &mut String) {
        text.push_str(if self.items.is_empty() { self.empty } else { self.prefix });
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                text.push_str(self.separator);
            }
            item.node.render(text);
        }
    }
}

/// The words of a text, without what is quoted.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split('\'').step_by(2);
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    outside.flat_map(move |part| part.split(move |character| !is_word(character)).filter(|word| !word.is_empty()))
}

/// Names that a text defines and that are its own: of relations (`t1`), columns (`c1`) and WITH queries (`q1`).
pub(crate) fn defined_names(text: &str) -> HashSet<String> {
    let words: Vec<&str> = words(text).collect();
    let is_name = |word: &str| {
        let mut characters = word.chars();
        matches!(characters.next(), Some('t' | 'c' | 'q')) && word.len() > 1 && characters.all(|c| c.is_ascii_digit())
    };
    let mut names = HashSet::new();
    for (index, word) in words.iter().enumerate().filter(|(_, word)| is_name(word)) {
        let is_after_as = index > 0 && words[index - 1] == "AS";
        let is_with_query = word.starts_with('q') && words.get(index + 1) == Some(&"AS");
        // Columns of `AS t1(c1, c2)` and `q1(c1, c2) AS`.
        let mut before = words[..index].iter().rev().skip_while(|word| word.starts_with('c') && is_name(word));
        let is_listed = word.starts_with('c')
            && match (before.next(), before.next()) {
                (Some(name), Some(&"AS")) => name.starts_with('t') && is_name(name),
                (Some(name), Some(&("WITH" | "RECURSIVE"))) => name.starts_with('q') && is_name(name),
                _ => false,
            };
        if is_after_as || is_with_query || is_listed {
            names.insert((*word).to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn defined_names_are_aliases_and_column_lists() {
        let sql = "WITH q1 AS (SELECT t1.k AS c1 FROM w1 AS t1) SELECT t2.c1 AS c4, 'AS c9' FROM q1 AS t2 \
                   JOIN (VALUES (1, 2)) AS t3(c2, c3) ON t3.c2 = t2.c1";
        assert_eq!(defined_names(sql), names(&["q1", "c1", "t1", "t2", "t3", "c2", "c3", "c4"]));
    }

    #[test]
    fn prune_removes_items_and_replaces_expressions() {
        let sum = Node::new(Class::Expression(Family::Integer))
            .child(Node::expression(Family::Integer, "t1.k"))
            .text(" + ")
            .child(Node::expression(Family::Integer, "t2.k"));
        let list = List::new(" ORDER BY ", ", ", vec![Item::fixed("t1.id"), Item::fixed("t2.id")]);
        let mut node = Node::other().text("SELECT ").child(sum).list(list);
        assert!(node.prune(&names(&["t2"])));
        assert_eq!(node.sql(), "SELECT t1.k + 1 ORDER BY t1.id");
    }
}
