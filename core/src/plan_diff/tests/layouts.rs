//! Names of the fields of all types that are compared, as their debug texts have them. An upgrade of DataFusion that adds
//! a field fails here; then the comparison and `docs/decisions/0001-plan-equality.md` have to follow.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::physical_plan::{CsvSource, FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{NotExpr, UnKnownColumn, lit};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, StandardWindowExpr, WindowAggExec, WindowExpr};

use super::constructed;
use super::examples::{QUERIES, configs};
use super::fixture::{Fixture, Plan, config, plan};
use super::scan_losses;
use crate::plan_diff::layout;

const LAYOUTS: &str = include_str!("layouts.txt");

/// Fields by the name of their type.
#[derive(Default)]
struct Layouts(BTreeMap<String, Vec<String>>);

impl Layouts {
    /// Adds the names at the first level of the debug text.
    fn add(&mut self, item: &dyn Debug) {
        let text = format!("{item:#?}");
        let name = text.lines().next().unwrap_or_default().trim_end_matches(" {").to_owned();
        let is_name =
            |name: &&str| !name.is_empty() && !name.contains(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let names = text.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": ").map(|parts| parts.0));
        let names: Vec<String> = names.filter(is_name).map(str::to_owned).collect();
        let known = self.0.entry(name.clone()).or_insert_with(|| names.clone());
        assert_eq!(*known, names, "two layouts of {name}");
    }

    fn add_plan(&mut self, plan: &Plan) {
        match layout::without_children(plan) {
            Ok(alone) if !plan.children().is_empty() => self.add(&alone),
            _ => self.add(plan),
        }
        self.add(plan.properties());
        self.add(&plan.properties().eq_properties);
        let visited = plan.apply_expressions(&mut |expression| {
            self.add_expression(expression);
            Ok(TreeNodeRecursion::Continue)
        });
        visited.expect("visits");
        plan.dynamic_expressions_produced().iter().for_each(|expression| self.add_expression(expression));
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            self.add(aggregate.group_expr());
            aggregate.aggr_expr().iter().for_each(|aggregate| self.add(aggregate));
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>().and_then(HashJoinExec::filter) {
            self.add(join);
        }
        let windows = plan.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr);
        let windows = windows.or_else(|| plan.downcast_ref::<BoundedWindowAggExec>().map(|node| node.window_expr()));
        windows.into_iter().flatten().for_each(|window| self.add_window(window));
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            self.add_scan(scan);
        }
        plan.children().into_iter().for_each(|child| self.add_plan(child));
    }

    fn add_expression(&mut self, expression: &Arc<dyn PhysicalExpr>) {
        self.add(expression);
        expression.children().into_iter().for_each(|child| self.add_expression(child));
    }

    fn add_window(&mut self, window: &Arc<dyn WindowExpr>) {
        self.add(window);
        if let Some(standard) = window.as_any().downcast_ref::<StandardWindowExpr>() {
            self.add(standard.get_standard_func_expr());
        }
    }

    fn add_scan(&mut self, scan: &DataSourceExec) {
        let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>() else {
            return self.add(scan.data_source());
        };
        self.add(files.file_source().table_schema());
        if let Some(parquet) = files.file_source().downcast_ref::<ParquetSource>() {
            self.add(parquet);
        }
        if let Some(csv) = files.file_source().downcast_ref::<CsvSource>() {
            self.add(csv);
        }
        files.file_groups.iter().for_each(|group| self.add(group));
    }
}

#[tokio::test]
async fn layouts_are_those_that_are_compared() {
    let fixture = Fixture::new().await;
    let mut layouts = Layouts::default();
    for config in configs().into_iter().take(3) {
        let session = fixture.session(config).await;
        for sql in QUERIES {
            layouts.add_plan(&plan(&session, sql).await);
        }
    }
    let lambdas = fixture.session(config().set_str("datafusion.sql_parser.dialect", "duckdb")).await;
    let sql = "SELECT array_transform(make_array(id, g), x -> x + 1) FROM t";
    layouts.add_plan(&plan(&lambdas, sql).await);
    layouts.add(&ConfigOptions::new());
    layouts.add(&NotExpr::new(lit(true)));
    layouts.add(&UnKnownColumn::new("a"));
    layouts.add_plan(&scan_losses::reader(|_| {}, 2));
    for (_, plan, _) in constructed::pairs() {
        layouts.add_plan(&plan);
    }
    let lines = layouts.0.iter().map(|(name, fields)| format!("{name}: {}\n", fields.join(" ")));
    let found: String = lines.collect();
    assert_eq!(found, LAYOUTS, "layouts have changed to\n{found}");
}

#[test]
fn version_is_the_one_that_was_read() {
    assert_eq!(datafusion::DATAFUSION_VERSION, "55.2.0", "read docs/decisions/0001-plan-equality.md first");
}
