//! Texts of expressions, with holes.
//!
//! A hole is `@` and a letter: the family of an operand (see [`operand`]), `@x` any family that can be sorted, `@k` a
//! small number, `@o` a total order of the rows. Expressions fail on no row, and depend on nothing but their operands:
//! engines may evaluate them for rows that others leave out, and in any order.

use crate::fuzz_sql::family::Family;

/// The family that a hole stands for.
pub(super) fn operand(letter: char) -> Option<Family> {
    Some(match letter {
        'i' => Family::Integer,
        'f' => Family::Float,
        'd' => Family::Decimal,
        'b' => Family::Boolean,
        't' => Family::Text,
        'n' => Family::Binary,
        'D' => Family::Date,
        'T' => Family::Timestamp,
        'z' => Family::Zoned,
        'h' => Family::Time,
        'l' => Family::List,
        's' => Family::Struct,
        'm' => Family::Map,
        _ => return None,
    })
}

/// Expressions of a family over columns.
pub(super) fn scalar(family: Family) -> &'static [&'static str] {
    match family {
        Family::Integer => &INTEGER,
        Family::Float => &FLOAT,
        Family::Decimal => &DECIMAL,
        Family::Boolean => &BOOLEAN,
        Family::Text => &TEXT,
        Family::Binary => &["decode(encode(@n, 'hex'), 'hex')", "CAST(@t AS BYTEA)", "sha256(@t)"],
        Family::Date => &[
            "CAST(@T AS DATE)",
            "(@D + INTERVAL '1 day')",
            "(@D - INTERVAL '1 month')",
            "CAST(date_trunc('month', @T) AS DATE)",
            "make_date(2020, 1 + @k, 1)",
            "CAST(@z AS DATE)",
        ],
        Family::Timestamp => &[
            "(@T + INTERVAL '90 minutes')",
            "date_trunc('day', @T)",
            "date_bin(INTERVAL '2 hours', @T)",
            "CAST(@D AS TIMESTAMP)",
            "to_timestamp(CAST(@T AS VARCHAR))",
            "to_timestamp(@i)",
            "to_timestamp_millis(@i)",
            "to_local_time(@z)",
        ],
        Family::Zoned => &[
            "(@z + INTERVAL '1 day')",
            "date_trunc('hour', @z)",
            "(@T AT TIME ZONE 'Europe/Berlin')",
            "arrow_cast(@T, 'Timestamp(Microsecond, Some(\"UTC\"))')",
            "arrow_cast(@z, 'Timestamp(Millisecond, Some(\"Asia/Tokyo\"))')",
        ],
        Family::Time => &["CAST(@T AS TIME)"],
        Family::List => &[
            "array_append(@l, @i)",
            "make_array(@i, @i)",
            "array_sort(@l)",
            "array_concat(@l, @l)",
            "array_slice(@l, 1, 2)",
            "array_distinct(@l)",
            "array_remove(@l, @k)",
            "range(0, @k)",
        ],
        Family::Struct => &["named_struct('a', @i, 'b', @t)", "named_struct('a', @x, 'b', @x)"],
        Family::Map => &["MAP(make_array('a', 'b'), make_array(@i, @i))", "MAP {'c': @i}"],
    }
}

const INTEGER: [&str; 24] = [
    "(@i + @i)",
    "(@i - @k)",
    "(@i * @k)",
    "(@i % @k)",
    "abs(@i)",
    "length(@t)",
    "strpos(@t, 'b')",
    "ascii(@t)",
    "CAST(@b AS INT)",
    "CAST(@i AS BIGINT)",
    "CAST(@d AS BIGINT)",
    "TRY_CAST(@t AS BIGINT)",
    "TRY_CAST(@f AS INT)",
    "extract(DOW FROM @T)",
    "date_part('year', @D)",
    "date_part('hour', @z)",
    "array_length(@l)",
    "cardinality(@m)",
    "@s['a']",
    "@l[1]",
    "(@i & @k)",
    "gcd(@i, @k)",
    "levenshtein(@t, 'abc')",
    "octet_length(@t)",
];

const FLOAT: [&str; 15] = [
    "(@f + @f)",
    "(@f * 0.5)",
    "(- @f)",
    "CAST(@i AS DOUBLE)",
    "CAST(@d AS DOUBLE)",
    "CAST(@i AS REAL)",
    "arrow_cast(@i, 'Float16')",
    "abs(@f)",
    "nanvl(@f, @f)",
    "round(@f)",
    "floor(@f)",
    "power(@f, 2)",
    "(@f / 4)",
    "date_part('epoch', @T)",
    "TRY_CAST(@t AS DOUBLE)",
];

const DECIMAL: [&str; 8] = [
    "(@d + @d)",
    "(@d * @k)",
    "(@d - 0.5)",
    "(- @d)",
    "CAST(@i AS DECIMAL(20, 3))",
    "CAST(@d AS DECIMAL(38, 6))",
    "round(@d, 1)",
    "abs(@d)",
];

const BOOLEAN: [&str; 34] = [
    "(@i < @i)",
    "(@i = @i)",
    "(@i >= @k)",
    "(@i <> @k)",
    "(@i % 2 = 0)",
    "(@f > @f)",
    "(@f = @f)",
    "(@d <= @d)",
    "(@t = @t)",
    "(@t > 'a')",
    "(@D < @D)",
    "(@T >= @T)",
    "(@z > @z)",
    "(@n = @n)",
    "(@h < @h)",
    "(@x IS NULL)",
    "(@x IS NOT NULL)",
    "(@b AND @b)",
    "(@b OR @b)",
    "(NOT @b)",
    "(@b IS TRUE)",
    "(@b IS NOT FALSE)",
    "(@i IN (@k, @k, NULL))",
    "(@i NOT IN (@k, @k))",
    "(@i BETWEEN @k AND 7)",
    "(@t LIKE 'a%')",
    "(@t NOT LIKE '%b_')",
    "(@t ILIKE 'b%')",
    "(@t ~ '^[ab]')",
    "(@t IS DISTINCT FROM @t)",
    "(@i IS NOT DISTINCT FROM @i)",
    "isnan(@f)",
    "array_has(@l, @k)",
    "starts_with(@t, 'a')",
];

const TEXT: [&str; 27] = [
    "upper(@t)",
    "lower(@t)",
    "(@t || @t)",
    "concat(@t, @i)",
    "concat_ws('-', @t, @t)",
    "substr(@t, 2)",
    "replace(@t, 'a', 'x')",
    "lpad(@t, 4, '*')",
    "trim(@t)",
    "left(@t, 2)",
    "right(@t, @k)",
    "reverse(@t)",
    "split_part(@t, 'b', 1)",
    "regexp_replace(@t, 'a+', 'z')",
    "translate(@t, 'ab', 'xy')",
    "md5(@t)",
    "encode(@n, 'hex')",
    "CAST(@i AS VARCHAR)",
    "CAST(@D AS VARCHAR)",
    "CAST(@T AS VARCHAR)",
    "CAST(@z AS VARCHAR)",
    "CAST(@d AS VARCHAR)",
    "CAST(@b AS VARCHAR)",
    "to_char(@D, '%Y-%m')",
    "arrow_typeof(@x)",
    "@s['b']",
    "array_to_string(@l, ',')",
];

/// Aggregates of a family.
pub(super) fn aggregate(family: Family) -> &'static [&'static str] {
    match family {
        Family::Integer => &[
            "count(*)",
            "count(@x)",
            "count(DISTINCT @x)",
            "sum(@i)",
            "sum(DISTINCT @i)",
            "min(@i)",
            "max(@i)",
            "bit_and(@i)",
            "bit_or(@i)",
            "bit_xor(@i)",
            "approx_distinct(@t)",
            "median(@i)",
            "first_value(@i ORDER BY @o)",
            "last_value(@i ORDER BY @o)",
            "nth_value(@i, 2 ORDER BY @o)",
            "array_length(array_agg(@i))",
        ],
        Family::Float => &[
            "avg(@i)",
            "min(@f)",
            "max(@f)",
            // The last bits depend on the order of rows: rounded, by a factor that puts no usual value on a boundary.
            "round(stddev(@i) * 997.13)",
            "round(var_pop(@i) * 997.13)",
            "round(covar_samp(@i, @i) * 997.13)",
            "first_value(@f ORDER BY @o)",
        ],
        Family::Decimal => {
            &["sum(@d)", "avg(@d)", "min(@d)", "max(@d)", "sum(DISTINCT @d)", "last_value(@d ORDER BY @o)"]
        }
        Family::Boolean => &["bool_and(@b)", "bool_or(@b)", "first_value(@b ORDER BY @o)"],
        Family::Text => &[
            "min(@t)",
            "max(@t)",
            "string_agg(@t, ',' ORDER BY @o)",
            "string_agg(@t, '' ORDER BY @o DESC)",
            "first_value(@t ORDER BY @o)",
            "arrow_typeof(sum(@i))",
        ],
        Family::Binary => &["min(@n)", "max(@n)"],
        Family::Date => &["min(@D)", "max(@D)", "last_value(@D ORDER BY @o)"],
        Family::Timestamp => &["min(@T)", "max(@T)", "first_value(@T ORDER BY @o)"],
        Family::Zoned => &["min(@z)", "max(@z)"],
        Family::Time => &["min(@h)", "max(@h)"],
        Family::List => &[
            "array_agg(@i ORDER BY @o)",
            "array_agg(@x ORDER BY @o DESC)",
            "array_sort(array_agg(DISTINCT @i))",
            "first_value(@l ORDER BY @o)",
        ],
        Family::Struct => &["first_value(@s ORDER BY @o)"],
        Family::Map => &["first_value(@m ORDER BY @o)"],
    }
}

/// Window functions that depend on the order of equal rows: they need a total order.
pub(super) const ORDERED_WINDOW: [(&str, Family); 13] = [
    ("row_number()", Family::Integer),
    ("ntile(3)", Family::Integer),
    ("lag(@i)", Family::Integer),
    ("lag(@x, 2)", Family::Text),
    ("lead(@i, 1, -1)", Family::Integer),
    ("lead(@t)", Family::Text),
    ("first_value(@i)", Family::Integer),
    ("last_value(@t)", Family::Text),
    ("nth_value(@i, 2)", Family::Integer),
    ("last_value(@d)", Family::Decimal),
    ("first_value(@f)", Family::Float),
    ("lag(@D, 1)", Family::Date),
    ("array_agg(@i)", Family::List),
];

/// Those of [`ORDERED_WINDOW`] that can leave out NULLs.
pub(super) fn takes_nulls_clause(function: &str) -> bool {
    ["lag", "lead", "first_value", "last_value", "nth_value"].iter().any(|name| function.starts_with(name))
}

/// Window functions whose value is the same for rows that are equal in their order.
pub(super) const RANK_WINDOW: [(&str, Family); 4] = [
    ("rank()", Family::Integer),
    ("dense_rank()", Family::Integer),
    ("percent_rank()", Family::Float),
    ("cume_dist()", Family::Float),
];

/// Aggregates over windows that do not depend on the order of the rows in a frame.
pub(super) const AGGREGATE_WINDOW: [(&str, Family); 13] = [
    ("count(*)", Family::Integer),
    ("count(@x)", Family::Integer),
    ("sum(@i)", Family::Integer),
    ("min(@i)", Family::Integer),
    ("max(@i)", Family::Integer),
    ("avg(@i)", Family::Float),
    ("sum(@d)", Family::Decimal),
    ("max(@d)", Family::Decimal),
    ("min(@t)", Family::Text),
    ("max(@D)", Family::Date),
    ("max(@f)", Family::Float),
    ("bool_or(@b)", Family::Boolean),
    ("count(DISTINCT @i)", Family::Integer),
];
