//! Private fields, read from derived `Debug` texts.
//!
//! A derived text has all fields in the order of their declaration. [`fields`] separates them and fails if their names are
//! not those that this version of DataFusion has, so that a new field is an error and is never ignored.

use std::fmt::{self, Debug, Write};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::report::{Stop, unreadable};

/// Name of a type, and its fields in order.
pub(super) type Layout<const N: usize> = (&'static str, [&'static str; N]);

pub(super) const DYNAMIC_FILTER: Layout<6> =
    ("DynamicFilterPhysicalExpr", ["children", "remapped_children", "inner", "state_watch", "data_type", "nullable"]);

pub(super) const AGGREGATE: Layout<14> = (
    "AggregateFunctionExpr",
    [
        "fun",
        "args",
        "arg_fields",
        "return_field",
        "name",
        "human_display",
        "schema",
        "order_bys",
        "ignore_nulls",
        "ordering_fields",
        "is_distinct",
        "is_reversed",
        "input_fields",
        "is_nullable",
    ],
);

pub(super) const PLAIN_WINDOW: Layout<6> = (
    "PlainAggregateWindowExpr",
    ["aggregate", "partition_by", "order_by", "window_frame", "is_constant_in_partition", "filter"],
);

pub(super) const SLIDING_WINDOW: Layout<5> =
    ("SlidingAggregateWindowExpr", ["aggregate", "partition_by", "order_by", "window_frame", "filter"]);

pub(super) const WINDOW_FUNCTION: Layout<6> =
    ("WindowUDFExpr", ["fun", "args", "name", "input_fields", "is_reversed", "ignore_nulls"]);

pub(super) const PARQUET_SOURCE: Layout<10> = (
    "ParquetSource",
    [
        "table_parquet_options",
        "metrics",
        "table_schema",
        "predicate",
        "parquet_file_reader_factory",
        "batch_size",
        "metadata_size_hint",
        "projection",
        "reverse_row_groups",
        "sort_order_for_reorder",
    ],
);

pub(super) const CSV_SOURCE: Layout<5> =
    ("CsvSource", ["options", "batch_size", "table_schema", "projection", "metrics"]);

pub(super) const MERGE: Layout<6> =
    ("SortPreservingMergeExec", ["input", "expr", "metrics", "fetch", "cache", "enable_round_robin_repartition"]);

pub(super) const PIECEWISE_JOIN: Layout<13> = (
    "PiecewiseMergeJoinExec",
    [
        "buffered",
        "streamed",
        "on",
        "operator",
        "join_type",
        "schema",
        "buffered_fut",
        "metrics",
        "left_child_plan_required_order",
        "right_batch_required_orders",
        "sort_options",
        "cache",
        "num_partitions",
    ],
);

pub(super) const WORK_TABLE: Layout<6> =
    ("WorkTableExec", ["name", "schema", "projection", "work_table", "metrics", "cache"]);

pub(super) const ANALYZE: Layout<8> = (
    "AnalyzeExec",
    ["verbose", "show_statistics", "metric_types", "metric_categories", "format", "input", "schema", "cache"],
);

/// Indentation of a field in an alternate `Debug` text.
const INDENT: &str = "    ";

/// Returns the texts of the fields of `item`, with maps of strings in order.
pub(super) fn fields<const N: usize>(item: &dyn Debug, layout: &Layout<N>) -> Result<[String; N], Box<Stop>> {
    let (name, expected) = layout;
    let mut texts = [const { String::new() }; N];
    let mut next = 0;
    let text = format!("{item:#?}");
    let mut lines = text.lines();
    let opened = lines.next().is_some_and(|line| line.strip_suffix(" {") == Some(*name));
    for line in lines {
        if let Some(value) = field_named(line, expected.get(next).copied()) {
            texts[next].push_str(value);
            next += 1;
        } else if begins_field(line) {
            return Err(unreadable(name, format!("unexpected field in its debug text: {line}")));
        } else if next > 0 {
            texts[next - 1].push('\n');
            texts[next - 1].push_str(line);
        }
    }
    if !opened || next != N {
        return Err(unreadable(name, format!("its debug text has {next} of {N} fields")));
    }
    // The last field is followed by the brace that closes the item.
    let last = texts[N - 1].trim_end_matches('}').trim_end().len();
    texts[N - 1].truncate(last);
    Ok(texts.map(|text| sorted_maps(text.trim_end_matches(','))))
}

/// Returns what follows the name of the expected field in the line.
fn field_named<'a>(line: &'a str, name: Option<&str>) -> Option<&'a str> {
    line.strip_prefix(INDENT)?.strip_prefix(name?)?.strip_prefix(": ")
}

/// Returns true if the line has a name and a colon at the indentation of fields.
fn begins_field(line: &str) -> bool {
    let Some((name, _)) = line.strip_prefix(INDENT).and_then(|line| line.split_once(": ")) else { return false };
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Sorts adjacent entries of maps of strings, which hash maps print in any order, and leaves out ids of dictionaries: they
/// mean something within one file only, and fields that differ in nothing else are equal.
fn sorted_maps(text: &str) -> String {
    let is_entry = |line: &str| line.trim_start().starts_with('"') && line.contains("\": \"");
    let is_id = |line: &&str| line.trim_start().starts_with("dict_id: ");
    let mut sorted: Vec<&str> = text.lines().filter(|line| !is_id(line)).collect();
    for entries in sorted.chunk_by_mut(|one, other| is_entry(one) && is_entry(other)) {
        entries.sort_unstable();
    }
    sorted.join("\n")
}

/// Returns the end of the text of `item`, from the first string on that is `mark`.
pub(super) fn text_after(item: &dyn Debug, mark: &'static str) -> Option<String> {
    let mut tail = Tail { mark, found: false, text: String::new() };
    write!(tail, "{item:?}").ok()?;
    tail.found.then_some(tail.text)
}

struct Tail {
    mark: &'static str,
    found: bool,
    text: String,
}

impl Write for Tail {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        match self.found {
            true => self.text.push_str(part),
            false => self.found = part == self.mark,
        }
        Ok(())
    }
}

/// Returns the text of `item` up to its field `end`, without the number in a field `masked`.
///
/// Formatting ends there, which is cheap for the first fields of an item with large ones behind them. A text of a string
/// does not end it: names of fields follow a separator, strings a quotation mark.
pub(super) fn text_before(item: &dyn Debug, end: &'static str, masked: &'static str) -> Option<String> {
    let mut head = Head { end, masked, text: String::new(), after_separator: false, skip: 0, found: false };
    // Ends with an error when the field is reached.
    let _ = write!(head, "{item:?}");
    head.found.then_some(head.text)
}

struct Head {
    end: &'static str,
    masked: &'static str,
    text: String,
    after_separator: bool,
    /// Parts of the text that are left out: a colon and a number.
    skip: u8,
    found: bool,
}

impl Write for Head {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let begins = std::mem::replace(&mut self.after_separator, part == ", " || part == " { ");
        if begins && part == self.end {
            self.found = true;
            return Err(fmt::Error);
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        if begins && part == self.masked {
            self.skip = 2;
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// Returns the first name in the text of `item`: that of its type, if the text is derived.
pub(super) fn type_name(item: &dyn Debug) -> String {
    let mut name = FirstPart(String::new());
    // Ends with an error after the first part.
    let _ = write!(name, "{item:?}");
    name.0
}

struct FirstPart(String);

impl Write for FirstPart {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        match self.0.is_empty() {
            true => self.0.push_str(part),
            false => return Err(fmt::Error),
        }
        Ok(())
    }
}

/// Returns a copy of `plan` whose children are leaves, so that its text is short.
pub(super) fn without_children(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, Box<Stop>> {
    let leaf = |child: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
        Arc::new(LeafExec { properties: Arc::clone(child.properties()) })
    };
    let children = plan.children().into_iter().map(leaf).collect();
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    let copy = Arc::clone(plan).replace_children(children, options);
    copy.map_err(|error| unreadable("children", error.to_string()))
}

/// Stands for a child in a copy of an operator that is only printed.
struct LeafExec {
    properties: Arc<PlanProperties>,
}

impl Debug for LeafExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafExec")
    }
}

impl DisplayAs for LeafExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafExec")
    }
}

impl ExecutionPlan for LeafExec {
    fn name(&self) -> &str {
        "LeafExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a leaf that stands for a child is not executed")
    }
}
