//! Makes a case smaller while the difference remains.
//!
//! First settings, then the query, then tables: files, rows, columns and layout. What is smaller is tried first. A
//! candidate counts if the same kind of difference remains, and DataFusion agrees with itself: so a query whose answer
//! is not defined any more is left aside.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::answer::DifferenceKind;
use super::case::{Case, Settings};
use super::check::{Verdict, check};
use super::engines::{Engines, Mode};
use super::generate::Statement;
use super::node::{Class, List, Node, Part, defined_names, words};
use super::table::{DataFile, Layout, Table};

/// Candidates of a query that are tried.
const MAX_QUERY_TRIES: usize = 350;

/// Longest time for one case; more than enough unless candidates do not end.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Candidates of tables that are tried.
const MAX_TABLE_TRIES: usize = 120;

/// A difference to be kept while the case is made smaller.
pub(crate) struct Shrinker<'a> {
    engines: &'a Engines,
    kind: DifferenceKind,
    /// The mode that differs; `None` if DataFusion differs from itself.
    mode: Option<Mode>,
    tried: HashSet<String>,
    started: Instant,
    /// Number that makes the names of tables unique.
    number: &'a mut usize,
}

impl<'a> Shrinker<'a> {
    pub(crate) fn new(engines: &'a Engines, kind: DifferenceKind, mode: Option<Mode>, number: &'a mut usize) -> Self {
        Self { engines, kind, mode, tried: HashSet::new(), started: Instant::now(), number }
    }

    /// Shrinks a statement over these tables, which exist under their names.
    pub(crate) async fn shrink(
        &mut self,
        name: &str,
        statement: &Statement,
        settings: &Settings,
        tables: &[Table],
    ) -> Case {
        // The order of the result says which columns count; only of other differences can it be left out.
        let ordered = if self.kind == DifferenceKind::Order { statement.ordered.clone() } else { Vec::new() };
        let mut case = Case {
            name: name.to_owned(),
            tables: Vec::new(),
            settings: settings.clone(),
            sql: statement.node.sql(),
            ordered,
        };
        self.shrink_settings(&mut case).await;
        let mut node = statement.node.clone();
        self.shrink_query(&mut case, &mut node).await;
        let used: HashSet<String> = words(&case.sql).map(str::to_owned).collect();
        case.tables = tables.iter().filter(|table| used.contains(&table.name)).cloned().collect();
        self.shrink_tables(&mut case, &used).await;
        case
    }

    async fn holds(&self, sql: &str, settings: &Settings, ordered: &[usize]) -> bool {
        let modes: Vec<Mode> = self.mode.into_iter().collect();
        match check(self.engines, sql, settings, ordered, &modes).await {
            Verdict::Own(difference) => self.mode.is_none() && difference.kind == self.kind,
            Verdict::Differs(found) => found.iter().any(|(_, difference)| difference.kind == self.kind),
            _ => false,
        }
    }

    async fn shrink_settings(&self, case: &mut Case) {
        let all = Settings::default();
        if self.holds(&case.sql, &all, &case.ordered).await {
            case.settings = all;
            return;
        }
        for is_shared in [true, false] {
            let count = if is_shared { case.settings.shared.len() } else { case.settings.staged.len() };
            for index in (0..count).rev() {
                let mut fewer = case.settings.clone();
                let list = if is_shared { &mut fewer.shared } else { &mut fewer.staged };
                list.remove(index);
                if self.holds(&case.sql, &fewer, &case.ordered).await {
                    case.settings = fewer;
                }
            }
        }
    }

    async fn shrink_query(&mut self, case: &mut Case, node: &mut Node) {
        let mut tries = 0;
        'smaller: loop {
            let names = defined_names(&node.sql());
            let mut candidates: Vec<(String, Node)> = Vec::new();
            for mut candidate in variants(node, self.kind == DifferenceKind::Order) {
                let left = defined_names(&candidate.sql());
                let dangling: HashSet<String> = names.difference(&left).cloned().collect();
                if dangling.is_empty() || candidate.prune(&dangling) {
                    candidates.push((candidate.sql(), candidate));
                }
            }
            candidates.sort_by_key(|(sql, _)| sql.len());
            for (sql, candidate) in candidates {
                if sql.len() >= case.sql.len() || !self.tried.insert(sql.clone()) {
                    continue;
                }
                tries += 1;
                if tries > MAX_QUERY_TRIES || self.started.elapsed() > MAX_TIME {
                    return;
                }
                if self.holds(&sql, &case.settings, &case.ordered).await {
                    *node = candidate;
                    case.sql = sql;
                    continue 'smaller;
                }
            }
            return;
        }
    }

    async fn shrink_tables(&mut self, case: &mut Case, used: &HashSet<String>) {
        let mut tries = 0;
        for index in 0..case.tables.len() {
            'smaller: loop {
                for candidate in smaller_tables(&case.tables[index], used) {
                    if !self.tried.insert(candidate.to_text()) {
                        continue;
                    }
                    tries += 1;
                    if tries > MAX_TABLE_TRIES || self.started.elapsed() > MAX_TIME {
                        return;
                    }
                    let before = std::mem::replace(&mut case.tables[index], candidate);
                    if self.holds_with_tables(case).await {
                        continue 'smaller;
                    }
                    case.tables[index] = before;
                }
                break;
            }
        }
    }

    /// True if the difference is there with the case's own tables, made anew under other names.
    async fn holds_with_tables(&mut self, case: &Case) -> bool {
        let mut sql = case.sql.clone();
        let mut names = Vec::new();
        let mut is_made = true;
        for table in &case.tables {
            *self.number += 1;
            let name = format!("shrunk{}", *self.number);
            is_made &= self.engines.create(table, &name).await.is_ok();
            sql = replace_word(&sql, &table.name, &name);
            names.push(name);
        }
        let holds = is_made && self.holds(&sql, &case.settings, &case.ordered).await;
        for name in names {
            self.engines.remove(&name).await;
        }
        holds
    }
}

/// All trees that are one step smaller. `keeps_order`: the parts of the whole statement and its select list stay.
fn variants(node: &Node, keeps_order: bool) -> Vec<Node> {
    let mut found = Vec::new();
    if !keeps_order {
        replacements(node, &mut found);
    }
    for (index, part) in node.parts.iter().enumerate() {
        let with_part = |part: Part| {
            let mut other = node.clone();
            other.parts[index] = part;
            other
        };
        match part {
            Part::Text(_) => {}
            Part::Child(child) => {
                // The root's child is the statement's query, whose select list decides what the order means.
                let keeps_order = keeps_order && child.class == Class::Query && node.class == Class::Other;
                found.extend(variants(child, keeps_order).into_iter().map(|child| with_part(Part::Child(child))));
            }
            Part::Optional(child) => {
                if !keeps_order || node.class == Class::Query {
                    found.push(with_part(Part::Text(String::new())));
                }
                found.extend(variants(child, false).into_iter().map(|child| with_part(Part::Optional(child))));
            }
            Part::List(list) => {
                let fewer = if keeps_order { Vec::new() } else { fewer_items(list) };
                let fewer = fewer.into_iter().chain(smaller_items(list));
                found.extend(fewer.map(|list| with_part(Part::List(list))));
            }
        }
    }
    found
}

/// Nodes below that can stand in for a node, and the plain literal of an expression.
fn replacements(node: &Node, found: &mut Vec<Node>) {
    if node.class == Class::Other {
        return;
    }
    if let Class::Expression(family) = node.class {
        found.push(Node::expression(family, family.plain_literal()));
    }
    let mut is_first = true;
    node.visit(&mut |below| {
        if !is_first && below.class == node.class {
            found.push(below.clone());
        }
        is_first = false;
    });
}

fn fewer_items(list: &List) -> Vec<List> {
    let removable: Vec<usize> = (0..list.items.len()).filter(|index| !list.items[*index].is_fixed).collect();
    let without = |removed: &[usize]| {
        let mut fewer = list.clone();
        let kept = list.items.iter().enumerate().filter(|(index, _)| !removed.contains(index));
        fewer.items = kept.map(|(_, item)| item.clone()).collect();
        fewer
    };
    let half = removable.len() / 2;
    let halves = if half > 1 { vec![&removable[..half], &removable[half..]] } else { vec![] };
    let singles = removable.chunks(1);
    halves.into_iter().chain(singles).map(without).filter(|fewer| fewer.items.len() >= list.least).collect()
}

fn smaller_items(list: &List) -> Vec<List> {
    let mut found = Vec::new();
    for (index, item) in list.items.iter().enumerate() {
        for smaller in variants(&item.node, false) {
            let mut other = list.clone();
            other.items[index].node = smaller;
            found.push(other);
        }
    }
    found
}

/// Tables with less in them.
fn smaller_tables(table: &Table, used: &HashSet<String>) -> Vec<Table> {
    let mut found = Vec::new();
    let mut add = |change: &dyn Fn(&mut Table)| {
        let mut other = table.clone();
        change(&mut other);
        if other != *table {
            found.push(other);
        }
    };
    add(&|table| remove_columns(table, |name| !used.contains(name)));
    for index in 0..table.files.len() {
        if table.files.len() > 1 {
            add(&|table| drop(table.files.remove(index)));
        }
        let rows = table.files[index].rows.len();
        for part in [2, 4] {
            let size = rows.div_ceil(part).max(1);
            for start in (0..rows).step_by(size).filter(|_| rows > part) {
                add(&|table| drop(table.files[index].rows.drain(start..rows.min(start + size))));
            }
        }
        if rows <= 6 {
            for row in 0..rows {
                add(&|table| drop(table.files[index].rows.remove(row)));
            }
        }
    }
    add(&|table| table.layout = Layout { partitioned_by: table.layout.partitioned_by.clone(), ..Layout::default() });
    add(&|table| table.layout.row_group_rows = 0);
    add(&|table| table.layout.has_declared_order = false);
    if table.layout.partitioned_by.as_ref().is_some_and(|column| !used.contains(column)) {
        add(&|table| {
            table.layout.partitioned_by = None;
            table.files.iter_mut().for_each(|file: &mut DataFile| file.partition = None);
        });
    }
    found
}

fn remove_columns(table: &mut Table, is_removed: impl Fn(&str) -> bool) {
    let is_sort_key = |name: &str| table.layout.sorted_by.iter().any(|key| key.column == name);
    let kept: Vec<usize> = (0..table.columns.len())
        .filter(|index| {
            *index == 0 || !is_removed(&table.columns[*index].name) || is_sort_key(&table.columns[*index].name)
        })
        .collect();
    table.columns = kept.iter().map(|index| table.columns[*index].clone()).collect();
    for row in table.files.iter_mut().flat_map(|file| &mut file.rows) {
        *row = kept.iter().map(|index| row[*index].clone()).collect();
    }
}

/// Replaces a word outside of quotes.
pub(crate) fn replace_word(text: &str, word: &str, by: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut replaced = String::with_capacity(text.len());
    for (index, part) in text.split('\'').enumerate() {
        if index > 0 {
            replaced.push('\'');
        }
        if index % 2 == 1 {
            replaced.push_str(part);
            continue;
        }
        let mut rest = part;
        while let Some(start) = rest.find(word) {
            let end = start + word.len();
            let is_whole = !rest[..start].ends_with(is_word) && !rest[end..].starts_with(is_word);
            replaced.push_str(&rest[..start]);
            replaced.push_str(if is_whole { by } else { word });
            rest = &rest[end..];
        }
        replaced.push_str(rest);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::super::family::Family;
    use super::super::node::Item;
    use super::*;

    #[test]
    fn replace_word_leaves_quotes_and_longer_words() {
        assert_eq!(replace_word("w1 w11 'w1' w1.w1", "w1", "x"), "x w11 'w1' x.x");
    }

    #[test]
    fn variants_drop_items_and_replace_expressions() {
        let item = |text: &str| Item::new(Node::expression(Family::Integer, text));
        let sum = Node::new(Class::Expression(Family::Integer))
            .child(Node::expression(Family::Integer, "a"))
            .text(" + ")
            .child(Node::expression(Family::Integer, "b"));
        let list = List::new("", ", ", vec![item("x"), Item::new(sum)]).required();
        let node = Node::new(Class::Query).text("SELECT ").list(list);
        let found: Vec<String> = variants(&node, false).iter().map(Node::sql).collect();
        for expected in ["SELECT x", "SELECT a + b", "SELECT x, a", "SELECT x, b", "SELECT x, 1"] {
            assert!(found.contains(&expected.to_owned()), "{expected}: {found:?}");
        }
    }
}
