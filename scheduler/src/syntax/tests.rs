//! Clauses with their refusals, and SQL that passes.

use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use springald_core::error::ErrorCode;
use springald_core::sample;

use super::*;

fn state() -> SessionState {
    sample::register(SessionStateBuilder::new().with_default_features()).build()
}

fn parsed(sql: &str, dialect: &str) -> Result<Statement, DataFusionError> {
    let dialect = dialect_from_str(dialect).expect("a dialect");
    let mut statements = DFParserBuilder::new(sql).with_dialect(dialect.as_ref()).build()?.parse_statements()?;
    assert_eq!(statements.len(), 1, "{sql}");
    Ok(statements.pop_front().expect("one statement"))
}

/// Fails the test unless the check refuses each statement with a message that has the words.
fn assert_refused(dialect: &str, cases: &[(&str, &str)]) {
    let state = state();
    for (sql, words) in cases {
        let statement = parsed(sql, dialect).expect(sql);
        let error = check(&statement, &state).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::Unsupported, "{sql}: {error}");
        assert!(error.message().contains(words), "{sql}: {error}");
        // Wherever it stands.
        if let Statement::Statement(inner) = &statement
            && matches!(inner.as_ref(), ast::Statement::Query(_))
        {
            let mut nested = 0;
            for place in [
                format!("EXPLAIN {sql}"),
                format!("EXPLAIN ANALYZE {sql}"),
                format!("CREATE VIEW v AS {sql}"),
                format!("SELECT 1 FROM ({sql}) AS q"),
                format!("SELECT 1 WHERE 1 IN ({sql})"),
                format!("SELECT coalesce(({sql}), 2)"),
                format!("SELECT 1 FROM t JOIN u ON EXISTS ({sql})"),
                format!("SELECT 1 UNION ALL ({sql})"),
                format!("SELECT a FROM t ORDER BY ({sql})"),
                format!("COPY ({sql}) TO '/tmp/x.csv'"),
            ] {
                // Some clauses and words do not parse everywhere.
                let Ok(statement) = parsed(&place, dialect) else { continue };
                nested += 1;
                let error = check(&statement, &state).expect_err(&place);
                assert_eq!(error.code(), ErrorCode::Unsupported, "{place}: {error}");
            }
            assert!(nested >= 3, "{sql} is parsed in {nested} places");
        }
    }
}

fn assert_accepted(dialect: &str, cases: &[&str]) {
    let state = state();
    for sql in cases {
        check(&parsed(sql, dialect).expect(sql), &state).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn ignored_clauses_of_queries_are_refused() {
    assert_refused(
        "generic",
        &[
            ("SELECT a FROM t FOR UPDATE", "FOR UPDATE"),
            ("SELECT a FROM t FOR SHARE OF t SKIP LOCKED", "FOR SHARE"),
            ("SELECT a FROM t FOR XML AUTO", "FOR XML"),
            ("SELECT a FROM t FOR JSON AUTO", "FOR JSON"),
            ("SELECT a FROM t SETTINGS max_threads = 1", "SETTINGS"),
            ("SELECT a FROM t FORMAT JSONCompact", "FORMAT"),
            (
                "WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM q LIMIT 5) SELECT n FROM q",
                "LIMIT or OFFSET",
            ),
            (
                "WITH RECURSIVE q AS (WITH t AS (SELECT 1 AS n) SELECT n FROM t UNION SELECT n FROM q) SELECT n FROM q",
                "WITH of a UNION",
            ),
            ("WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL BY NAME SELECT n FROM q) SELECT n FROM q", "UNION BY NAME"),
            ("SELECT a FROM t |> AGGREGATE sum(a) DESC GROUP BY a", "|> AGGREGATE"),
            ("FROM t", "FROM without SELECT"),
        ],
    );
    assert_refused(
        "postgres",
        &[("WITH q AS MATERIALIZED (SELECT random() AS x) SELECT x FROM q", "MATERIALIZED in WITH")],
    );
    assert_refused(
        "duckdb",
        &[
            ("SELECT a FROM t UNION SELECT a FROM u ORDER BY ALL", "ORDER BY ALL"),
            ("VALUES (2), (1) ORDER BY ALL DESC", "ORDER BY ALL"),
        ],
    );
}

#[test]
fn ignored_clauses_of_select_are_refused() {
    assert_refused(
        "generic",
        &[
            ("SELECT /*+ BROADCAST(t) */ a FROM t", "optimizer hint"),
            ("SELECT a FROM t PREWHERE a > 1", "PREWHERE"),
            ("SELECT a FROM t START WITH a = 1 CONNECT BY PRIOR a = b", "CONNECT BY"),
            ("SELECT a FROM t CONNECT BY a = b", "WITH RECURSIVE"),
            ("SELECT a FROM t GROUP BY a WITH ROLLUP", "GROUP BY ROLLUP"),
            ("SELECT a FROM t GROUP BY a WITH CUBE", "GROUP BY CUBE"),
            ("SELECT a FROM t GROUP BY a WITH TOTALS", "WITH TOTALS"),
            ("SELECT a FROM t GROUP BY ALL WITH ROLLUP", "WITH ROLLUP"),
            ("SELECT a INTO u FROM t", "INTO"),
            ("SELECT a FROM t LATERAL VIEW explode(a) u AS b", "LATERAL VIEW"),
            ("SELECT a FROM t CLUSTER BY a", "CLUSTER BY"),
            ("SELECT a FROM t DISTRIBUTE BY a", "DISTRIBUTE BY"),
            ("SELECT a FROM t SORT BY a", "SORT BY"),
            ("SELECT * ILIKE 'a%' FROM t", "* ILIKE"),
            ("SELECT t.* ILIKE 'a%' FROM t", "* ILIKE"),
            ("SELECT * RENAME a AS b FROM t", "* RENAME"),
            ("SELECT sum(a) OVER (w ORDER BY b) FROM t WINDOW w AS (PARTITION BY a)", "extends window w"),
            ("SELECT sum(a) OVER w FROM t WINDOW w AS (v ORDER BY a)", "extends window v"),
            ("SELECT sum(a) OVER w FROM t WINDOW v AS (ORDER BY a), w AS v", "WINDOW w AS v"),
            ("SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY a), W AS (ORDER BY b)", "a second window W"),
            ("SELECT a FROM t WINDOW w AS (ORDER BY a) ORDER BY sum(b) OVER w", "OVER w outside"),
            ("SELECT a FROM t WINDOW w AS (ORDER BY a) QUALIFY sum(b) OVER w > 1", "OVER w outside"),
            ("SELECT a FROM t GROUP BY a HAVING sum(b) OVER w > 1 WINDOW w AS (ORDER BY a)", "OVER w outside"),
            ("SELECT * REPLACE (sum(b) OVER w AS b) FROM t WINDOW w AS (ORDER BY a)", "OVER w outside"),
            (
                "SELECT (SELECT sum(a) OVER w FROM u WINDOW w AS (ORDER BY a)) FROM t WINDOW w AS (ORDER BY b)",
                "subquery",
            ),
            ("SELECT a FROM t |> SELECT sum(a) OVER w", "OVER w outside"),
        ],
    );
    assert_refused("mssql", &[("SELECT TOP 3 a FROM t", "TOP is not supported: write LIMIT")]);
    assert_refused(
        "mysql",
        &[
            ("SELECT STRAIGHT_JOIN a FROM t", "STRAIGHT_JOIN"),
            ("SELECT SQL_CALC_FOUND_ROWS a FROM t", "SQL_CALC_FOUND_ROWS"),
            ("SELECT a FROM t USE INDEX (i)", "index hint"),
            ("SELECT a FROM t PARTITION (p0)", "PARTITION"),
        ],
    );
    assert_refused(
        "bigquery",
        &[
            ("SELECT AS STRUCT a FROM t", "SELECT AS STRUCT"),
            ("SELECT DISTINCT AS VALUE a FROM t", "SELECT AS VALUE"),
            ("SELECT a FROM t FOR SYSTEM_TIME AS OF '2020-01-01'", "FOR SYSTEM_TIME AS OF"),
            ("SELECT a FROM UNNEST([1, 2]) AS a WITH OFFSET", "WITH OFFSET"),
        ],
    );
    assert_refused("redshift", &[("SELECT *, a EXCLUDE (b) FROM t", "EXCLUDE")]);
}

#[test]
fn ignored_clauses_of_relations_are_refused() {
    assert_refused(
        "generic",
        &[
            ("SELECT a FROM t WITH (NOLOCK)", "remove the hints"),
            ("SELECT a FROM generate_series(1, 3) WITH ORDINALITY", "WITH ORDINALITY"),
            ("SELECT a FROM UNNEST([1, 2]) WITH ORDINALITY", "WITH ORDINALITY"),
            ("SELECT a FROM t AS x (a INT, b TEXT)", "type of column a"),
            ("SELECT a FROM (SELECT 1) AS x (a INT)", "type of column a"),
            ("SELECT a FROM range.nothing(1, 3)", "table function range.nothing"),
            ("SELECT a FROM t, LATERAL generate_series(start => 1) AS x", "named argument"),
            ("SELECT a FROM t GLOBAL JOIN u ON t.a = u.a", "GLOBAL JOIN"),
            ("SELECT a FROM (t GLOBAL LEFT JOIN u ON t.a = u.a)", "GLOBAL JOIN"),
            ("SELECT a FROM TABLE(f(1))", "TABLE (…)"),
            ("SELECT * FROM t PIVOT (sum(a) FOR b IN (1, 2))", "PIVOT"),
            ("SELECT * FROM t UNPIVOT (a FOR b IN (c, d))", "UNPIVOT"),
            ("SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a INT PATH '$')) AS t", "JSON_TABLE"),
        ],
    );
    assert_refused(
        "databricks",
        &[
            ("SELECT a FROM t VERSION AS OF 3", "VERSION AS OF"),
            ("SELECT a FROM t TIMESTAMP AS OF 'x'", "TIMESTAMP AS OF"),
        ],
    );
    assert_refused("clickhouse", &[("SELECT a FROM range(1, 3, SETTINGS x = 1)", "SETTINGS of a table function")]);
}

#[test]
fn ignored_clauses_of_functions_are_refused() {
    assert_refused(
        "generic",
        &[
            ("SELECT abs(DISTINCT a) FROM t", "DISTINCT in a call of abs"),
            ("SELECT ABS(ALL a) FROM t", "ALL in a call of abs"),
            ("SELECT abs(a ORDER BY a) FROM t", "ORDER BY in a call of abs"),
            ("SELECT abs(a) FILTER (WHERE a > 1) FROM t", "FILTER in a call of abs"),
            ("SELECT abs(a) OVER (ORDER BY a) FROM t", "OVER in a call of abs"),
            ("SELECT abs(a) IGNORE NULLS FROM t", "IGNORE NULLS or RESPECT NULLS in a call of abs"),
            ("SELECT abs(a) WITHIN GROUP (ORDER BY a) FROM t", "WITHIN GROUP in a call of abs"),
            ("SELECT unnest([1, 2]) FILTER (WHERE a > 1) FROM t", "FILTER in a call of unnest"),
            ("SELECT map(DISTINCT [1], [2])", "DISTINCT in a call of map"),
            ("SELECT unnest(a => [1, 2])", "named argument of unnest"),
            ("SELECT quantile(0.5)(a) FROM t", "quantile (…)(…)"),
            ("SELECT array(SELECT a FROM t)", "array (SELECT …)"),
            ("SELECT row_number() FILTER (WHERE a > 1) OVER () FROM t", "FILTER in a call of row_number"),
            ("SELECT first_value(a) FILTER (WHERE a > 1) OVER () FROM t", "FILTER in a call of first_value"),
            ("SELECT lag(DISTINCT a) OVER () FROM t", "DISTINCT or ALL in a call of lag"),
            ("SELECT rank() IGNORE NULLS OVER (ORDER BY a) FROM t", "IGNORE NULLS in a call of rank"),
            ("SELECT sum(a IGNORE NULLS) OVER () FROM t", "IGNORE NULLS or RESPECT NULLS in a call of sum"),
            ("SELECT count(DISTINCT *) FROM t", "DISTINCT * in a call of count"),
            ("SELECT count(DISTINCT t.*) OVER () FROM t", "DISTINCT * in a call of count"),
            ("SELECT corr(DISTINCT a, b) FROM t", "DISTINCT in a call of corr"),
            ("SELECT covar(DISTINCT a, b) OVER () FROM t", "DISTINCT in a call of covar"),
            ("SELECT regr_slope(DISTINCT a, b) FROM t", "DISTINCT in a call of regr_slope"),
            ("SELECT nth_value(DISTINCT a, 2) FROM t", "DISTINCT in a call of nth_value"),
            ("SELECT quantile_cont(a, 0.5 ORDER BY b) FROM t", "another expression"),
        ],
    );
}

#[test]
fn ignored_parts_of_expressions_are_refused() {
    assert_refused(
        "generic",
        &[
            ("SELECT CAST(a AS CHAR(3)) FROM t", "length in a conversion to CHAR(3)"),
            ("SELECT a::CHAR(3) FROM t", "length in a conversion to CHAR(3)"),
            ("SELECT TRY_CAST(a AS CHAR(3)) FROM t", "length in a conversion"),
            ("SELECT CAST(a AS CHAR(3)[]) FROM t", "length in a conversion"),
            ("SELECT CAST(a AS STRUCT<b CHAR(3)>) FROM t", "length in a conversion"),
            ("SELECT CAST(a AS FLOAT(53)) FROM t", "precision of FLOAT(53)"),
            ("SELECT CAST(a AS DATE FORMAT 'YYYY') FROM t", "FORMAT in CAST"),
            ("SELECT TRIM(a, 'x', 'y') FROM t", "TRIM with several"),
            ("SELECT a COLLATE \"de\" FROM t", "COLLATE"),
            ("SELECT a LIKE ANY ('x') FROM t", "LIKE ANY"),
            ("SELECT a IS NFC NORMALIZED FROM t", "IS NORMALIZED"),
            ("SELECT a RLIKE 'x' FROM t", "RLIKE"),
        ],
    );
    assert_refused("oracle", &[("SELECT a FROM t, u WHERE t.a = u.a(+)", "(+)")]);
}

#[test]
fn ignored_clauses_of_commands_are_refused() {
    assert_refused(
        "generic",
        &[
            ("EXPLAIN VERBOSE SELECT 1", "EXPLAIN VERBOSE"),
            ("EXPLAIN FORMAT tree SELECT 1", "FORMAT tree"),
            ("EXPLAIN FORMAT pgjson SELECT 1", "FORMAT pgjson"),
            ("EXPLAIN (ANALYZE, FORMAT pgjson) SELECT 1", "FORMAT pgjson"),
            ("EXPLAIN (ANALYZE, LEVEL summary) SELECT 1", "LEVEL"),
            ("EXPLAIN (ANALYZE, METRICS 'rows') SELECT 1", "METRICS"),
            ("EXPLAIN (COSTS true) SELECT 1", "COSTS"),
            ("EXPLAIN EXPLAIN VERBOSE SELECT 1", "EXPLAIN VERBOSE"),
            ("DESCRIBE ANALYZE SELECT 1", "DESCRIBE with options"),
            ("DESCRIBE VERBOSE SELECT 1", "DESCRIBE with options"),
            ("CREATE OR ALTER VIEW v AS SELECT 1", "CREATE OR ALTER VIEW"),
            ("CREATE SCHEMA s AUTHORIZATION u", "AUTHORIZATION"),
            ("CREATE SCHEMA AUTHORIZATION u", "AUTHORIZATION"),
            ("CREATE SCHEMA s WITH (a = 1)", "options"),
            ("CREATE SCHEMA s OPTIONS (a = 1)", "options"),
            ("CREATE SCHEMA s DEFAULT COLLATE 'x'", "DEFAULT COLLATE"),
            ("DROP TABLE t CASCADE", "CASCADE"),
            ("DROP VIEW v RESTRICT", "RESTRICT"),
            ("DROP TABLE t PURGE", "PURGE"),
            ("DROP TEMPORARY TABLE t", "TEMPORARY"),
            ("CREATE EXTERNAL TABLE t (a INT COMMENT 'x') STORED AS CSV LOCATION '/x'", "COMMENT 'x' for column a"),
            ("CREATE EXTERNAL TABLE t (a INT CHECK (a > 1)) STORED AS CSV LOCATION '/x'", "CHECK"),
            ("CREATE EXTERNAL TABLE t (a FLOAT(53)) STORED AS CSV LOCATION '/x'", "precision of FLOAT(53)"),
            ("PRAGMA x = 1", "PRAGMA"),
            ("ALTER TABLE t RENAME TO u", "ALTER TABLE"),
            ("ANALYZE TABLE t", "ANALYZE TABLE"),
            ("VACUUM t", "VACUUM"),
            ("SHOW VARIABLES", "SHOW VARIABLES"),
        ],
    );
    assert_refused("hive", &[("DESCRIBE FORMATTED t", "DESCRIBE EXTENDED or FORMATTED")]);
    assert_refused(
        "mysql",
        &[("CREATE ALGORITHM=MERGE VIEW v AS SELECT 1", "ALGORITHM"), ("LOCK TABLES t READ", "LOCK TABLES")],
    );
    assert_refused("clickhouse", &[("CREATE VIEW v (a INT) AS SELECT 1", "type of column a")]);
    assert_refused("snowflake", &[("CREATE SECURE VIEW v AS SELECT 1", "SECURE")]);
}

#[test]
fn ordinary_sql_passes() {
    assert_accepted(
        "generic",
        &[
            "SELECT 1",
            "SELECT ALL a FROM t",
            "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b",
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT * EXCEPT (a) FROM t",
            "SELECT * REPLACE (a + 1 AS a) FROM t",
            "SELECT t.* FROM t AS t (a, b)",
            "FROM t SELECT a",
            "SELECT a FROM t AS x TABLESAMPLE BERNOULLI (10) REPEATABLE (1)",
            "SELECT a FROM (SELECT a FROM t) AS x TABLESAMPLE SYSTEM (10)",
            "SELECT a FROM t ORDER BY 1 DESC NULLS LAST LIMIT 3 OFFSET 2 ROWS",
            "SELECT a FROM t LIMIT 1, 2",
            "SELECT a FROM t LIMIT ALL",
            "SELECT a FROM t UNION ALL BY NAME SELECT a FROM u EXCEPT SELECT 1 INTERSECT ALL SELECT 2 ORDER BY a",
            "VALUES (1, 'a'), (2, 'b') ORDER BY 1",
            "SELECT a, count(*) FROM t GROUP BY ALL",
            "SELECT a, count(*) FROM t GROUP BY ROLLUP (a), CUBE (b), GROUPING SETS ((a), ()) HAVING count(*) > 1",
            "WITH q (a) AS (SELECT 1) SELECT a FROM q",
            "WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL (SELECT n + 1 FROM q WHERE n < 5 LIMIT 1)) SELECT n FROM q LIMIT 2",
            "WITH RECURSIVE q AS (SELECT 1 AS n ORDER BY n LIMIT 1) SELECT n FROM q",
            "SELECT sum(a) OVER w, max(a) OVER w + 1 AS b FROM t WINDOW w AS (PARTITION BY b ORDER BY c ROWS 2 PRECEDING)",
            "SELECT a FROM (SELECT sum(a) OVER w AS a FROM t WINDOW w AS (ORDER BY a)) AS q",
            "SELECT sum(a) FILTER (WHERE a > 1) OVER (ORDER BY a RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
            "SELECT lag(a, 1, 0) IGNORE NULLS OVER (ORDER BY a), first_value(a IGNORE NULLS) OVER () FROM t",
            "SELECT count(DISTINCT a) OVER (), row_number() OVER () FROM t QUALIFY row_number() OVER () = 1",
            "SELECT count(DISTINCT a), sum(ALL a), array_agg(a ORDER BY b DESC), count(t.*) FROM t",
            "SELECT first_value(a ORDER BY b) IGNORE NULLS, string_agg(a, ',' ORDER BY a) FILTER (WHERE a > 'x') FROM t",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), quantile_cont(a, 0.5 ORDER BY A) FROM t",
            "SELECT CASE a WHEN 1 THEN 2 ELSE 3 END, a BETWEEN 1 AND 2, a IN (1, 2), NOT a IS DISTINCT FROM 3 FROM t",
            "SELECT CAST(a AS DECIMAL(10, 2)), a::VARCHAR, TRY_CAST(a AS INT(11)), DATE '2020-01-01', a::INT[] FROM t",
            "SELECT EXTRACT(YEAR FROM a), SUBSTRING(a FROM 1 FOR 2), TRIM(BOTH 'x' FROM a), POSITION('a' IN b) FROM t",
            "SELECT OVERLAY(a PLACING 'x' FROM 1), CEIL(a), INTERVAL '1' DAY, a AT TIME ZONE 'UTC' FROM t",
            "SELECT a LIKE 'x' ESCAPE '\\', a ILIKE 'x', a SIMILAR TO 'x', a ~ 'x' FROM t",
            "SELECT a[1], a['b'], a[1:2], [1, 2], struct(1, 'a'), {'a': 1}, MAP {'a': 1} FROM t",
            "SELECT a FROM t WHERE a = ANY (SELECT b FROM u) AND a > ALL (SELECT b FROM u) AND EXISTS (SELECT 1)",
            "SELECT current_date, now(), CURRENT_TIMESTAMP",
            "SELECT a FROM t JOIN u USING (a) LEFT JOIN v ON t.b = v.b CROSS JOIN w NATURAL JOIN x LEFT SEMI JOIN y ON true",
            "SELECT a FROM t, LATERAL (SELECT b FROM u WHERE u.a = t.a) AS q, UNNEST([1, 2]) AS n (x)",
            "SELECT * FROM generate_series(1, 3) AS s (a), range(1, 2)",
            "SELECT a FROM t |> WHERE a > 1 |> EXTEND a + 1 AS b |> AGGREGATE sum(a) AS s GROUP BY b |> ORDER BY s |> LIMIT 2",
            "SELECT a FROM t |> AS x |> JOIN u ON x.a = u.a |> UNION ALL (SELECT 1) |> SELECT a",
            "SELECT $1 + 1",
            "EXPLAIN SELECT 1",
            "EXPLAIN FORMAT indent SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN (ANALYZE, FORMAT indent) SELECT 1",
            "DESCRIBE t",
            "DESCRIBE SELECT 1",
            "SHOW TABLES",
            "SHOW COLUMNS FROM t",
            "SHOW ALL",
            "SHOW FUNCTIONS LIKE 'a%'",
            "SHOW CREATE TABLE t",
            "SET springald.partitions = 3",
            "SET TIME ZONE = 'UTC'",
            "RESET springald.partitions",
            "CREATE OR REPLACE VIEW v (a, b) AS SELECT 1, 2",
            "DROP VIEW IF EXISTS v",
            "DROP TABLE t",
            "CREATE SCHEMA IF NOT EXISTS s",
            "DROP SCHEMA s CASCADE",
            "CREATE EXTERNAL TABLE t (a INT NOT NULL, b VARCHAR(25) NULL, c DECIMAL(15, 2)) STORED AS CSV LOCATION '/x'",
            "CREATE EXTERNAL TABLE t STORED AS PARQUET PARTITIONED BY (a) LOCATION '/x/' OPTIONS ('a' 'b')",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE t (a INT)",
            "BEGIN",
            "COMMIT",
        ],
    );
}

#[test]
fn ordinary_sql_of_other_dialects_passes() {
    assert_accepted(
        "duckdb",
        &["SELECT a FROM t ORDER BY ALL DESC", "SELECT array_transform([1, 2], lambda x : x + 1)"],
    );
    assert_accepted("databricks", &["SELECT array_transform(array(1, 2), x -> x + 1)"]);
    assert_accepted("hive", &["SELECT a FROM t TABLESAMPLE (10) AS x"]);
    assert_accepted("mysql", &["SELECT DISTINCTROW a FROM t WHERE {d '2020-01-01'} = b", "SELECT {fn abs(a)} FROM t"]);
    assert_accepted("postgres", &["WITH q AS NOT MATERIALIZED (SELECT 1 AS a) SELECT a FROM q"]);
    assert_accepted("snowflake", &["SELECT a FROM t SAMPLE (10)"]);
}

#[test]
fn benchmark_queries_pass() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../benchmarks");
    let mut files = vec![];
    find_sql(directory.as_ref(), &mut files);
    // One of them has a number that depends on the size of the data.
    let read = |file| std::fs::read_to_string(file).expect("read").replace("{fraction}", "0.1");
    let queries: Vec<String> = files.iter().map(read).collect();
    let queries: Vec<&str> = queries.iter().flat_map(|text| text.split(';')).map(str::trim).collect();
    let queries: Vec<&str> = queries.into_iter().filter(|query| !query.is_empty()).collect();
    assert!(queries.len() >= 22, "{files:?}");
    assert_accepted("generic", &queries);
}

fn find_sql(directory: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_sql(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}
