//! Comparison of the fields of operators, by type.

use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::functions_table::generate_series::{Empty, GenericSeriesState, TimestampValue};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::async_func::AsyncFuncExec;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec, SymmetricHashJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::memory::{LazyBatchGenerator, LazyMemoryExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::PartitionedTopKExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::work_table::WorkTableExec;

use super::Comparison;
use super::layout::{self, ANALYZE, MERGE, WORK_TABLE};
use super::report::{Check, Located, Stop, differs, same, same_text, unreadable};
use super::values::optional_statistics;
use crate::equivalences::ClearEquivalencesExec;
use crate::exchange::{ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use crate::sample::SampleExec;

impl Comparison<'_> {
    /// Compares what two operators of one type hold beside their children and the properties that all operators have.
    pub(super) fn fields(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        if left.downcast_delegate().is_some() || right.downcast_delegate().is_some() {
            return Err(unreadable("operator", format!("{} stands for another operator", left.name())));
        }
        macro_rules! by_type {
            ($($type:ty => $compare:expr),* $(,)?) => {
                $(if let (Some(one), Some(other)) = (left.downcast_ref::<$type>(), right.downcast_ref::<$type>()) {
                    let compare: fn(&mut Self, &$type, &$type) -> Check = $compare;
                    return compare(self, one, other);
                })*
            };
        }
        if left.is::<SortPreservingMergeExec>() {
            return self.merges(left, right);
        }
        if left.is::<PiecewiseMergeJoinExec>() {
            return self.piecewise_joins(left, right);
        }
        if left.is::<AnalyzeExec>() {
            return self.analyses(left, right);
        }
        by_type! {
            DataSourceExec => |comparison, left, right| comparison.sources(left.data_source(), right.data_source()),
            ProjectionExec => |comparison, left, right| {
                comparison.projections(left.projection_expr(), right.projection_expr())
            },
            FilterExec => Self::filter_operators,
            AggregateExec => Self::aggregations,
            HashJoinExec => Self::hash_joins,
            RepartitionExec => Self::repartitions,
            CoalescePartitionsExec => no_fields,
            ClearEquivalencesExec => no_fields,
            SampleExec => |_, left, right| same("sample", left.sample(), right.sample()),
            SortExec => Self::sorts,
            GlobalLimitExec => |comparison, left, right| {
                same("skip", &left.skip(), &right.skip())?;
                let orderings = (left.required_ordering().as_ref(), right.required_ordering().as_ref());
                comparison.optional_orderings("required_ordering", orderings.0, orderings.1)
            },
            LocalLimitExec => |comparison, left, right| {
                let orderings = (left.required_ordering().as_ref(), right.required_ordering().as_ref());
                comparison.optional_orderings("required_ordering", orderings.0, orderings.1)
            },
            UnionExec => no_fields,
            InterleaveExec => no_fields,
            NestedLoopJoinExec => Self::nested_loop_joins,
            CrossJoinExec => no_fields,
            SortMergeJoinExec => Self::sort_merge_joins,
            SymmetricHashJoinExec => Self::symmetric_joins,
            WindowAggExec => Self::windows,
            BoundedWindowAggExec => Self::bounded_windows,
            ScalarSubqueryExec => Self::scalar_subquery_operators,
            PartialSortExec => Self::partial_sorts,
            PartitionedTopKExec => Self::partitioned_top_k,
            UnnestExec => Self::unnests,
            CooperativeExec => no_fields,
            BufferExec => |_, left, right| same("capacity", &left.capacity(), &right.capacity()),
            AsyncFuncExec => Self::async_operators,
            EmptyExec => no_fields,
            PlaceholderRowExec => no_fields,
            LazyMemoryExec => Self::generators,
            StreamingTableExec => Self::streams,
            RecursiveQueryExec => Self::recursive_queries,
            WorkTableExec => Self::work_tables,
            ExplainExec => |_, left, right| {
                same("stringified_plans", left.stringified_plans(), right.stringified_plans())?;
                same("verbose", &left.verbose(), &right.verbose())
            },
            ExchangeReaderExec => Self::exchange_readers,
            ExchangeWriterExec => Self::exchange_writers,
            RuntimeFilterExec => |_, left, right| {
                same("stage", &left.stage(), &right.stage())?;
                same("partition", &left.partition(), &right.partition())?;
                same("columns", left.columns(), right.columns())
            },
        }
        self.deprecated_operators(left, right)
    }

    /// Operators that DataFusion's planner does not make any more.
    #[expect(deprecated)]
    fn deprecated_operators(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        use datafusion::physical_plan::coalesce_batches::CoalesceBatchesExec;
        if let (Some(left), Some(right)) = (left.downcast_ref(), right.downcast_ref()) {
            let (left, right): (&CoalesceBatchesExec, &CoalesceBatchesExec) = (left, right);
            return same("target_batch_size", &left.target_batch_size(), &right.target_batch_size());
        }
        Err(unreadable("operator", format!("{} is not known", left.name())))
    }

    fn filter_operators(&mut self, left: &FilterExec, right: &FilterExec) -> Check {
        self.expression(left.predicate(), right.predicate()).located(|| "predicate".to_owned())?;
        same("default_selectivity", &left.default_selectivity(), &right.default_selectivity())?;
        same("projection", left.projection(), right.projection())?;
        same("batch_size", &left.batch_size(), &right.batch_size())
    }

    fn repartitions(&mut self, left: &RepartitionExec, right: &RepartitionExec) -> Check {
        self.partitionings("partitioning", left.partitioning(), right.partitioning())?;
        same("preserve_order", &left.preserve_order(), &right.preserve_order())
    }

    /// The prefix of the input's order is derived from the input's properties; the dynamic filter is one of those that
    /// the operator produces.
    fn sorts(&mut self, left: &SortExec, right: &SortExec) -> Check {
        self.orderings("expr", left.expr(), right.expr())?;
        same("preserve_partitioning", &left.preserve_partitioning(), &right.preserve_partitioning())
    }

    fn partial_sorts(&mut self, left: &PartialSortExec, right: &PartialSortExec) -> Check {
        self.orderings("expr", left.expr(), right.expr())?;
        same("common_prefix_length", &left.common_prefix_length(), &right.common_prefix_length())?;
        same("preserve_partitioning", &left.preserve_partitioning(), &right.preserve_partitioning())
    }

    fn partitioned_top_k(&mut self, left: &PartitionedTopKExec, right: &PartitionedTopKExec) -> Check {
        self.orderings("expr", left.expr(), right.expr())?;
        same("partition_prefix_len", &left.partition_prefix_len(), &right.partition_prefix_len())?;
        same("fetch", &left.fetch(), &right.fetch())?;
        same("fn_kind", &left.fn_kind(), &right.fn_kind())
    }

    /// Whether ties are taken in turns has no getter, and is the last field of the text.
    fn merges(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        let (Some(one), Some(other)) = (left.downcast_ref(), right.downcast_ref()) else {
            return Err(differs("operator", &left.name(), &right.name()));
        };
        let (one, other): (&SortPreservingMergeExec, &SortPreservingMergeExec) = (one, other);
        self.orderings("expr", one.expr(), other.expr())?;
        same(MERGE.1[5], &takes_ties_in_turns(left)?, &takes_ties_in_turns(right)?)
    }

    fn aggregations(&mut self, left: &AggregateExec, right: &AggregateExec) -> Check {
        same("mode", left.mode(), right.mode())?;
        self.group_by(left.group_expr(), right.group_expr()).located(|| "group_by".to_owned())?;
        self.schemas("input_schema", &left.input_schema(), &right.input_schema())?;
        let (one, other) = (left.aggr_expr(), right.aggr_expr());
        same("number of aggregates", &one.len(), &other.len())?;
        for (index, (left, right)) in one.iter().zip(other).enumerate() {
            if !Arc::ptr_eq(left, right) && !self.identities.knows(&**left, &**right) {
                self.aggregates(left, right).located(|| format!("aggr_expr[{index}] {}", left.name()))?;
                self.identities.add(&**left, &**right);
            }
        }
        self.filters_of_aggregates(left.filter_expr(), right.filter_expr())?;
        let limits = [left, right].map(|node| node.limit_options().map(|limit| (limit.limit(), limit.descending())));
        same("limit_options", &limits[0], &limits[1])?;
        same("input_order_mode", left.input_order_mode(), right.input_order_mode())
    }

    fn group_by(&mut self, left: &PhysicalGroupBy, right: &PhysicalGroupBy) -> Check {
        for (field, left, right) in
            [("expr", left.expr(), right.expr()), ("null_expr", left.null_expr(), right.null_expr())]
        {
            same("number of expressions", &left.len(), &right.len()).located(|| field.to_owned())?;
            for (left, right) in left.iter().zip(right) {
                self.expression(&left.0, &right.0).located(|| field.to_owned())?;
                same("alias", &left.1, &right.1).located(|| field.to_owned())?;
            }
        }
        same("groups", left.groups(), right.groups())?;
        same("has_grouping_set", &left.has_grouping_set(), &right.has_grouping_set())
    }

    /// The order of the partition columns has no getter; the keys derived from it have one.
    fn windows(&mut self, left: &WindowAggExec, right: &WindowAggExec) -> Check {
        self.window_expressions(left.window_expr(), right.window_expr())?;
        self.expressions("partition_keys", &left.partition_keys(), &right.partition_keys())?;
        match (left.partition_by_sort_keys(), right.partition_by_sort_keys()) {
            (Ok(left), Ok(right)) => self.orderings("partition_by_sort_keys", &left, &right),
            (Err(_), Err(_)) => Ok(()),
            (left, right) => Err(differs("partition_by_sort_keys", &left, &right)),
        }
    }

    fn bounded_windows(&mut self, left: &BoundedWindowAggExec, right: &BoundedWindowAggExec) -> Check {
        self.window_expressions(left.window_expr(), right.window_expr())?;
        same("input_order_mode", &left.input_order_mode, &right.input_order_mode)?;
        self.expressions("partition_keys", &left.partition_keys(), &right.partition_keys())?;
        match (left.partition_by_sort_keys(), right.partition_by_sort_keys()) {
            (Ok(left), Ok(right)) => self.orderings("partition_by_sort_keys", &left, &right)?,
            (Err(_), Err(_)) => {}
            (left, right) => return Err(differs("partition_by_sort_keys", &left, &right)),
        }
        match (left.state_observer(), right.state_observer()) {
            (None, None) => Ok(()),
            (Some(left), Some(right)) if Arc::ptr_eq(left, right) => Ok(()),
            _ => Err(unreadable("state_observer", "the observer of a window operator")),
        }
    }

    fn scalar_subquery_operators(&mut self, left: &ScalarSubqueryExec, right: &ScalarSubqueryExec) -> Check {
        let indexes = [left, right].map(|node| node.subqueries().iter().map(|link| link.index).collect::<Vec<_>>());
        same("indexes of scalar subqueries", &indexes[0], &indexes[1])?;
        self.identities.pair_results(left.results(), right.results())
    }

    fn unnests(&mut self, left: &UnnestExec, right: &UnnestExec) -> Check {
        same("list_column_indices", left.list_column_indices(), right.list_column_indices())?;
        same("struct_column_indices", left.struct_column_indices(), right.struct_column_indices())?;
        same("options", left.options(), right.options())
    }

    fn async_operators(&mut self, left: &AsyncFuncExec, right: &AsyncFuncExec) -> Check {
        // Deprecated because DataFusion does not use it.
        #[expect(deprecated)]
        let (left, right) = (left.async_exprs(), right.async_exprs());
        same("number of functions", &left.len(), &right.len())?;
        let mut pairs = left.iter().zip(right);
        pairs.try_for_each(|(left, right)| self.async_functions(left, right)).located(|| "async_exprs".to_owned())
    }

    /// The projection has no getter. Generators that are known have one column, so that the schema shows it.
    fn generators(&mut self, left: &LazyMemoryExec, right: &LazyMemoryExec) -> Check {
        let (left, right) = (left.generators(), right.generators());
        same("number of generators", &left.len(), &right.len())?;
        for (left, right) in left.iter().zip(right) {
            if Arc::ptr_eq(left, right) {
                continue;
            }
            let (left, right) = (left.read(), right.read());
            if !is_known_generator(&*left) || !is_known_generator(&*right) {
                return Err(unreadable("generator", format!("{left} is not known")));
            }
            same("type of generator", &left.as_any().type_id(), &right.as_any().type_id())?;
            same("generator", &format!("{left:?}"), &format!("{right:?}"))?;
        }
        Ok(())
    }

    fn streams(&mut self, left: &StreamingTableExec, right: &StreamingTableExec) -> Check {
        same("number of streams", &left.partitions().len(), &right.partitions().len())?;
        let mut pairs = left.partitions().iter().zip(right.partitions());
        if let Some((left, _)) = pairs.find(|(left, right)| !Arc::ptr_eq(left, right)) {
            return Err(unreadable("partitions", format!("stream {}", layout::type_name(left))));
        }
        same("projection", left.projection(), right.projection())?;
        let orderings: Vec<_> = left.projected_output_ordering().into_iter().collect();
        let others: Vec<_> = right.projected_output_ordering().into_iter().collect();
        self.lists_of_orderings("projected_output_ordering", &orderings, &others)?;
        same("infinite", &left.is_infinite(), &right.is_infinite())?;
        same("limit", &left.limit(), &right.limit())
    }

    /// The work table is made with the operator, and given to the leaves of the recursive term that have its name.
    fn recursive_queries(&mut self, left: &RecursiveQueryExec, right: &RecursiveQueryExec) -> Check {
        same("name of query", left.name(), right.name())?;
        same("is_distinct", &left.is_distinct(), &right.is_distinct())
    }

    fn work_tables(&mut self, left: &WorkTableExec, right: &WorkTableExec) -> Check {
        same("name of query", left.name(), right.name())?;
        let (left, right) = (layout::fields(left, &WORK_TABLE)?, layout::fields(right, &WORK_TABLE)?);
        same_text(WORK_TABLE.1[2], &left[2], &right[2])
    }

    fn analyses(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        let (left, right) = (layout::without_children(left)?, layout::without_children(right)?);
        let (left, right) = (layout::fields(&left, &ANALYZE)?, layout::fields(&right, &ANALYZE)?);
        let mut pairs = ANALYZE.1.iter().zip(left.iter().zip(&right)).take(5);
        pairs.try_for_each(|(field, (left, right))| same_text(field, left, right))
    }

    fn exchange_readers(&mut self, left: &ExchangeReaderExec, right: &ExchangeReaderExec) -> Check {
        same("stage", &left.stage(), &right.stage())?;
        same("kind", &left.kind(), &right.kind())?;
        same("broadcast", &left.broadcast(), &right.broadcast())?;
        same("input_partitions", &left.input_partitions(), &right.input_partitions())?;
        optional_statistics("statistics", Some(left.statistics()), Some(right.statistics()))
    }

    fn exchange_writers(&mut self, left: &ExchangeWriterExec, right: &ExchangeWriterExec) -> Check {
        same("keys", left.keys(), right.keys())?;
        match (left.partitioning(), right.partitioning()) {
            (Some(left), Some(right)) => self.partitionings("output partitioning", left, right),
            (None, None) => Ok(()),
            (left, right) => Err(differs("output partitioning", &left, &right)),
        }
    }
}

fn no_fields<T>(_comparison: &mut Comparison<'_>, _left: &T, _right: &T) -> Check {
    Ok(())
}

fn takes_ties_in_turns(merge: &Arc<dyn ExecutionPlan>) -> Result<bool, Box<Stop>> {
    let text = format!("{:?}", layout::without_children(merge)?);
    match (text.ends_with("enable_round_robin_repartition: true }"), text.ends_with(": false }")) {
        (true, _) => Ok(true),
        (false, true) if text.ends_with("enable_round_robin_repartition: false }") => Ok(false),
        _ => Err(unreadable(MERGE.1[5], "not the last field of its debug text")),
    }
}

/// Generators whose debug text has all fields.
fn is_known_generator(generator: &dyn LazyBatchGenerator) -> bool {
    let generator = generator.as_any();
    generator.is::<Empty>()
        || generator.is::<GenericSeriesState<i64>>()
        || generator.is::<GenericSeriesState<TimestampValue>>()
}
