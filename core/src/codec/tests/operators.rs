//! Operators that planning makes rarely, and numbers past 32 bits.

use datafusion::arrow::datatypes::Fields;
use datafusion::common::{
    Column as LogicalColumn, JoinType, NullHandling, RecursionUnnestOption, TableReference, UnnestOptions,
};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::buffer::BufferExec;
#[expect(deprecated, reason = "DataFusion still encodes it")]
use datafusion::physical_plan::coalesce_batches::CoalesceBatchesExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, PiecewiseMergeJoinExec, SymmetricHashJoinExec};
use datafusion::physical_plan::joins::{StreamJoinPartitionMode, utils::JoinOn};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};

use super::*;

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn ordering() -> LexOrdering {
    let sort = |name, index| PhysicalSortExpr::new_default(column(name, index));
    [sort("a", 0), sort("b", 1).reverse()].into()
}

fn rows() -> Arc<dyn ExecutionPlan> {
    Arc::new(EmptyExec::new(schema()).with_partitions(2))
}

fn sorted() -> Arc<dyn ExecutionPlan> {
    Arc::new(SortExec::new(ordering(), rows()).with_preserve_partitioning(true))
}

fn one() -> Arc<dyn ExecutionPlan> {
    Arc::new(CoalescePartitionsExec::new(rows()))
}

fn join(fetch: Option<usize>) -> Arc<dyn ExecutionPlan> {
    let on: JoinOn = vec![(column("a", 0), column("b", 1))];
    let null = datafusion::common::NullEquality::NullEqualsNull;
    let mode = PartitionMode::CollectLeft;
    let projection = Some(vec![3, 0]);
    let join = HashJoinExec::try_new(one(), rows(), on, None, &JoinType::Inner, projection, mode, null, false);
    let join: Arc<dyn ExecutionPlan> = Arc::new(join.expect("joins"));
    match fetch {
        Some(_) => join.with_fetch(fetch).expect("a fetch"),
        None => join,
    }
}

#[test]
fn numbers_past_32_bits_arrive() {
    for limit in [1, LARGE - 1, LARGE, LARGE + 7] {
        let limited = |plan: Arc<dyn ExecutionPlan>| plan.with_fetch(Some(limit)).expect("a limit");
        let filter = || FilterExecBuilder::new(lit(true), rows()).with_batch_size(limit).build().expect("a filter");
        let mut global = GlobalLimitExec::new(one(), 3, Some(limit));
        global.set_required_ordering(Some(ordering()));
        let mut local = LocalLimitExec::new(rows(), limit);
        local.set_required_ordering(Some(ordering()));
        #[expect(deprecated, reason = "DataFusion still encodes it")]
        let batches = CoalesceBatchesExec::new(rows(), limit).with_fetch(Some(limit));
        let plans: Vec<Arc<dyn ExecutionPlan>> = vec![
            limited(Arc::new(filter())),
            limited(one()),
            Arc::new(local),
            Arc::new(global),
            Arc::new(GlobalLimitExec::new(one(), limit, None)),
            Arc::new(batches),
            limited(sorted()),
            Arc::new(SortPreservingMergeExec::new(ordering(), sorted()).with_fetch(Some(limit))),
            join(Some(limit)),
            Arc::new(BufferExec::new(rows(), limit)),
            Arc::new(PartialSortExec::new(ordering(), rows(), 1).with_fetch(Some(limit))),
        ];
        for sent in &plans {
            let there = assert_kept(sent);
            assert_eq!(there.fetch(), sent.fetch());
        }
    }
}

#[test]
fn filter_arrives_equal() {
    for projection in [None, Some(vec![0, 1]), Some(vec![]), Some(vec![1, 1])] {
        let builder = FilterExecBuilder::new(lit(true), rows()).with_default_selectivity(33);
        let filter = builder.apply_projection(projection).expect("projects").build().expect("a filter");
        assert_kept(&(Arc::new(filter) as Arc<dyn ExecutionPlan>));
    }
}

#[test]
fn projection_keeps_metadata_of_schema() {
    let metadata = |key: &str| [(key.to_owned(), "v".to_owned())].into();
    let fields = vec![Field::new("x", DataType::Int64, true).with_metadata(metadata("field"))];
    let schema = Schema::new_with_metadata(fields, metadata("schema"));
    let expressions = || vec![ProjectionExpr::new(column("a", 0), "x")];
    let sent = ProjectionExec::try_new_with_schema_metadata(expressions(), rows(), &schema).expect("projects");
    let there = assert_kept(&(Arc::new(sent) as Arc<dyn ExecutionPlan>));
    assert_eq!(there.schema().as_ref(), &schema);
    assert_kept(
        &(Arc::new(ProjectionExec::try_new(expressions(), rows()).expect("projects")) as Arc<dyn ExecutionPlan>),
    );
}

#[test]
fn merges_and_repartitions_arrive_equal() {
    for round_robin in [true, false] {
        let merge = SortPreservingMergeExec::new(ordering(), sorted()).with_round_robin_repartition(round_robin);
        assert_kept(&(Arc::new(merge) as Arc<dyn ExecutionPlan>));
    }
    let splits = [
        Partitioning::RoundRobinBatch(3),
        Partitioning::Hash(vec![column("b", 1)], 3),
        Partitioning::UnknownPartitioning(3),
    ];
    for split in splits {
        let repartition = RepartitionExec::try_new(sorted(), split).expect("splits");
        assert_kept(&(Arc::new(repartition.clone()) as Arc<dyn ExecutionPlan>));
        assert_kept(&(Arc::new(repartition.with_preserve_order()) as Arc<dyn ExecutionPlan>));
    }
}

#[test]
fn sorts_without_upstream_encoding_arrive_equal() {
    for preserve in [true, false] {
        let sort = PartialSortExec::new(ordering(), rows(), 1).with_preserve_partitioning(preserve);
        assert_kept(&(Arc::new(sort) as Arc<dyn ExecutionPlan>));
    }
    for kind in [WindowFnKind::Rank, WindowFnKind::RowNumber] {
        let sort = PartitionedTopKExec::try_new(rows(), ordering(), 1, LARGE, kind).expect("sorts");
        assert_kept(&(Arc::new(sort) as Arc<dyn ExecutionPlan>));
    }
}

#[test]
fn piecewise_merge_join_arrives_equal() {
    for (operator, kind) in [(Operator::Lt, JoinType::Inner), (Operator::GtEq, JoinType::Full)] {
        let on = (column("a", 0), column("b", 1));
        let join = PiecewiseMergeJoinExec::try_new(one(), rows(), on, operator, kind, 12).expect("joins");
        let there = assert_kept(&(Arc::new(join) as Arc<dyn ExecutionPlan>));
        assert!(format!("{there:?}").ends_with("num_partitions: 12 }"));
    }
}

#[test]
fn symmetric_hash_join_arrives_equal() {
    let on: JoinOn = vec![(column("a", 0), column("b", 1))];
    let null = datafusion::common::NullEquality::NullEqualsNothing;
    let mode = StreamJoinPartitionMode::SinglePartition;
    let order = Some(ordering());
    let join =
        SymmetricHashJoinExec::try_new(one(), one(), on, None, &JoinType::Left, null, order.clone(), order, mode);
    assert_kept(&(Arc::new(join.expect("joins")) as Arc<dyn ExecutionPlan>));
}

#[test]
fn unnest_keeps_names_of_tables() {
    let item = Field::new_list("l", Arc::new(Field::new("item", DataType::Int64, true)), true);
    let input = Arc::new(EmptyExec::new(Arc::new(Schema::new(vec![item]))));
    let output = Arc::new(Schema::new(Fields::from(vec![Field::new("l", DataType::Int64, true)])));
    let column = |table: TableReference| LogicalColumn::new(Some(table), "l");
    for handling in [NullHandling::Preserve, NullHandling::Drop, NullHandling::PreserveAndExpandEmpty] {
        let recursion = RecursionUnnestOption {
            input_column: column(TableReference::bare("With.Dot")),
            output_column: column(TableReference::full("C", "s s", "t")),
            depth: 2,
        };
        let options = UnnestOptions { null_handling: handling, recursions: vec![recursion] };
        let lists = vec![ListUnnest { index_in_input_schema: 0, depth: 1 }];
        let unnest = UnnestExec::new(Arc::clone(&input) as _, lists, vec![], Arc::clone(&output), options);
        assert_kept(&(Arc::new(unnest.expect("unnests")) as Arc<dyn ExecutionPlan>));
    }
}

#[test]
fn operators_kept_by_datafusion_arrive_equal() {
    let hashed = || -> Arc<dyn ExecutionPlan> {
        let split = Partitioning::Hash(vec![column("a", 0)], 2);
        Arc::new(RepartitionExec::try_new(rows(), split).expect("splits"))
    };
    let plans: Vec<Arc<dyn ExecutionPlan>> = vec![
        rows(),
        Arc::new(PlaceholderRowExec::new(schema()).with_partitions(3)),
        Arc::new(CooperativeExec::new(rows())),
        UnionExec::try_new(vec![rows(), sorted()]).expect("unites"),
        Arc::new(InterleaveExec::try_new(vec![hashed(), hashed()]).expect("interleaves")),
        Arc::new(SortExec::new(ordering(), rows()).with_fetch(Some(3))),
        join(None),
    ];
    plans.iter().for_each(|sent| drop(assert_kept(sent)));
}

#[test]
fn operator_without_encoding_is_refused_by_name() {
    let explain = Arc::new(ExplainExec::new(schema(), vec![], false));
    let above: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(lit(true), explain).expect("fits"));
    let error = encode_plan(above).expect_err("no encoding").strip_backtrace();
    assert!(
        error.ends_with("cannot send operator ExplainExec to executors: Error during planning: it has no encoding")
    );
}

#[test]
fn plan_nested_too_deeply_is_refused() {
    let deep = |levels: usize| {
        (0..levels).fold(rows(), |plan, _| Arc::new(FilterExec::try_new(lit(true), plan).expect("fits")) as _)
    };
    encode_plan(deep(10)).expect("as usual");
    let error = encode_plan(deep(60)).expect_err("too deep");
    assert!(error.to_string().contains("nested too deeply"), "{error}");
    let not = |expression, _| Arc::new(datafusion::physical_expr::expressions::NotExpr::new(expression)) as _;
    let nested: Arc<dyn PhysicalExpr> = (0..60).fold(lit(true), not);
    let error = encode_plan(Arc::new(FilterExec::try_new(nested, rows()).expect("fits"))).expect_err("too deep");
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}

/// Fields that DataFusion's schemas have no place for.
#[test]
fn schema_that_is_not_kept_is_refused() {
    let key = Box::new(DataType::Int8);
    let dictionary = DataType::Dictionary(key, Box::new(DataType::Utf8));
    #[expect(deprecated, reason = "the only way to make one")]
    let ordered = Field::new_dict("d", dictionary, true, 1, true);
    let zone = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Second, Some("".into()));
    for field in [ordered, Field::new_list("l", Arc::new(Field::new("item", zone, true)), true)] {
        let plan = Arc::new(EmptyExec::new(Arc::new(Schema::new(vec![field]))));
        let error = encode_plan(plan).expect_err("not kept").strip_backtrace();
        assert!(error.contains("EmptyExec"), "{error}");
    }
}
