//! Everything that is encoded here because DataFusion's encoding loses it.

/// A loss of DataFusion's encoding.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The operator or expression.
    pub item: &'static str,
    /// What its encoding by DataFusion 55.2 leaves out or changes.
    pub lost: &'static str,
    /// What DataFusion has to have for the encoding of ours to go. No release up to 55.2 has it.
    pub until: &'static str,
}

const fn loss(item: &'static str, lost: &'static str, until: &'static str) -> Loss {
    Loss { item, lost, until }
}

/// The losses that are closed here.
pub const LOSSES: &[Loss] = &[
    loss(
        "Literal",
        "Float16 becomes Float32; metadata of the field",
        "a Float16 scalar and a field in the literal's message",
    ),
    loss("CastExpr, TryCastExpr", "target field; safe casts", "the field and the options in their messages"),
    loss("BinaryExpr", "fail_on_overflow", "the flag in its message"),
    loss("ScalarFunctionExpr", "metadata of the return field; the time zone of a function", "both in its message"),
    loss("FilterExec", "projection of all columns; batch size and fetch past 32 bits", "64 bits and an optional list"),
    loss("ProjectionExec", "metadata of the projected schema", "the schema in its message"),
    loss("GlobalLimitExec, LocalLimitExec", "skip and fetch past 32 bits", "64 bits"),
    loss("CoalescePartitionsExec, CoalesceBatchesExec", "fetch past 32 bits", "64 bits"),
    loss("RepartitionExec", "split points of Float16", "a Float16 scalar"),
    loss("SortPreservingMergeExec", "enable_round_robin_repartition", "the flag in its message"),
    loss("UnnestExec", "quotation of table names in its options", "parts of names in its message"),
    loss("AggregateExec", "grouping sets of nothing; functions that rely on order", "a number of sets; the flag"),
    loss(
        "WindowAggExec, BoundedWindowAggExec",
        "reversal, IGNORE NULLS, FILTER, can_repartition",
        "all in their message",
    ),
    loss(
        "FileScanConfig",
        "preserve_order, compression, adapter, virtual columns, exact statistics behind a filter, \
        unique constraints, limit past 32 bits",
        "all in its message",
    ),
    loss(
        "PartitionedFile",
        "ordering, ETag, version, metadata_size_hint, table_reference, Float16 values",
        "all in its message",
    ),
    loss("FileGroup", "statistics", "the same in its message"),
    loss(
        "ParquetSource",
        "reader, metadata_size_hint, reverse_row_groups, sort_order_for_reorder",
        "all in its message",
    ),
    loss("CsvSource", "terminator and options that are not read", "CsvOptions in its message"),
    loss("JsonSource", "newline_delimited", "the flag in its message"),
    loss("ArrowSource", "the format for streams", "the format in its message"),
    loss("MemorySourceConfig", "order behind a projection; fetch past 32 bits", "the projected order in its message"),
    loss("LazyMemoryExec", "ordering, partitioning, projection, several generators", "all in its message"),
    loss("RecursiveQueryExec, WorkTableExec", "no encoding", "an encoding"),
    loss("PartialSortExec, PartitionedTopKExec", "no encoding", "an encoding"),
    loss("PiecewiseMergeJoinExec", "no encoding", "an encoding"),
    loss("StreamingTableExec", "no encoding; its rows are collected", "stays: streams are not plans"),
];
