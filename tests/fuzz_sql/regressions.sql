--- Shrunk cases that differed once, and cases of each kind of fault. tests/tests/fuzz_sql.rs runs all of them;
--- the form is described in tests/src/fuzz_sql/case.rs. Reports of springald-fuzz-sql are in this form, too.

-- TABLE l PARQUET
-- ROW GROUP 5
-- COLUMN id Int64
-- COLUMN k Int64
-- COLUMN b Int32
-- COLUMN v Int64
-- COLUMN s Utf8
-- COLUMN f Float64
-- FILE
-- ROW '32', '4', '0', '3', 'ccc', '0.5'
-- ROW '44', '2', '0', '9', 'eee', NULL
-- ROW '4', '4', '0', '2', 'ee', '1.0'
-- ROW '30', '2', '2', '2', 'a', '0.0'
-- ROW '26', '5', '2', '0', 'bbb', NULL
-- ROW '46', '4', '2', '10', 'bb', '1.0'
-- ROW '40', '5', '0', '7', 'aa', '1.0'
-- ROW '24', '3', '0', '12', 'e', '0.0'
-- ROW '31', '3', '3', '9', 'bb', '0.25'
-- ROW '12', '5', '0', '6', 'c', '0.0'
-- ROW '35', '0', '3', '11', 'aaa', NULL
-- ROW '5', NULL, '1', '9', 'aaa', '1.25'
-- FILE
-- ROW '45', '3', '1', '3', 'a', '0.75'
-- ROW '19', '5', '3', '3', 'ee', '0.25'
-- ROW '41', '6', '1', '1', 'bbb', '1.25'
-- ROW '37', '2', '1', '12', 'cc', '0.25'
-- ROW '20', '6', '0', '10', 'aaa', '0.5'
-- ROW '14', '0', '2', '7', 'eee', '0.5'
-- ROW '18', '4', '2', NULL, 'd', '0.0'
-- ROW '38', NULL, '2', NULL, 'ddd', '0.5'
-- ROW '47', '5', '3', '4', 'ccc', '1.25'
-- ROW '16', NULL, '0', '8', 'bb', '1.0'
-- ROW '39', '4', '3', '0', 'e', '0.75'
-- ROW '28', '0', '0', NULL, 'dd', '1.0'
-- FILE
-- ROW '43', '1', '3', NULL, 'dd', '0.25'
-- ROW '34', '6', '2', '4', 'ee', '1.0'
-- ROW '6', '6', '2', '3', 'b', '0.0'
-- ROW '27', NULL, '3', '7', 'c', '0.75'
-- ROW '36', '1', '0', '5', 'b', '0.0'
-- ROW '11', '4', '3', '12', 'bbb', '1.25'
-- ROW '8', '1', '0', NULL, 'ddd', NULL
-- ROW '25', '4', '1', '6', 'aa', '0.25'
-- ROW '17', '3', '1', '2', 'ccc', NULL
-- ROW '22', '1', '2', '11', 'cc', '1.0'
-- ROW '29', '1', '1', '8', 'eee', '1.25'
-- ROW '21', '0', '1', '4', 'b', '0.75'
-- FILE
-- ROW '7', '0', '3', '10', 'cc', '0.25'
-- ROW '42', '0', '2', '8', 'c', '0.0'
-- ROW '23', '2', '3', NULL, 'ddd', '1.25'
-- ROW '9', '2', '1', '11', 'e', '0.75'
-- ROW '3', '3', '3', NULL, 'd', '0.75'
-- ROW '1', '1', '1', '7', 'bb', '0.25'
-- ROW '15', '1', '3', '1', 'a', '0.75'
-- ROW '10', '3', '2', '5', 'aa', '1.0'
-- ROW '2', '2', '2', '1', 'ccc', '0.5'
-- ROW '33', '5', '1', NULL, 'd', '0.75'
-- ROW '0', '0', '0', '0', 'a', '0.0'
-- ROW '13', '6', '1', NULL, 'dd', '0.25'
-- FILE

-- TABLE r PARQUET
-- ROW GROUP 4
-- COLUMN id Int64
-- COLUMN k Int64
-- COLUMN b Int32
-- COLUMN v Int64
-- COLUMN s Utf8
-- COLUMN f Float64
-- FILE
-- ROW '111', '2', '2', '11', 'z', '5.5'
-- ROW '112', '3', '0', '12', 'a', '6.0'
-- ROW '102', '2', '2', '2', 'z', '1.0'
-- ROW '122', '4', '1', '22', 'b', '11.0'
-- ROW '110', '1', '1', '10', 'b', '5.0'
-- ROW '121', '3', '0', '21', 'a', '10.5'
-- ROW '123', NULL, '2', '23', 'z', '11.5'
-- ROW '118', '0', '0', '18', 'a', '9.0'
-- FILE
-- ROW '108', '8', '2', '8', 'z', '4.0'
-- ROW '107', NULL, '1', '7', 'b', '3.5'
-- ROW '113', '4', '1', '13', 'b', '6.5'
-- ROW '120', '2', '2', '20', 'z', '10.0'
-- ROW '106', '6', '0', '6', 'a', '3.0'
-- ROW '101', '1', '1', '1', 'b', '0.5'
-- ROW '114', '5', '2', '14', 'z', '7.0'
-- ROW '103', '3', '0', '3', 'a', '1.5'
-- FILE
-- ROW '104', '4', '1', '4', 'b', '2.0'
-- ROW '115', NULL, '0', '15', 'a', '7.5'
-- ROW '116', '7', '1', '16', 'b', '8.0'
-- ROW '109', '0', '0', '9', 'a', '4.5'
-- ROW '100', '0', '0', '0', 'a', '0.0'
-- ROW '119', '1', '1', '19', 'b', '9.5'
-- ROW '105', '5', '2', '5', 'z', '2.5'
-- ROW '117', '8', '2', '17', 'z', '8.5'

-- TABLE two_rows PARQUET
-- COLUMN v Int64
-- FILE
-- ROW '1'
-- FILE
-- ROW '2'

-- TABLE nothing PARQUET
-- COLUMN id Int64
-- COLUMN k Int64
-- COLUMN b Int32
-- COLUMN v Int64
-- COLUMN s Utf8
-- COLUMN f Float64
-- FILE
-- FILE

-- TABLE sorted PARQUET
-- ROW GROUP 4
-- SORTED BY a ASC NULLS LAST, id ASC NULLS LAST
-- COLUMN id Int64
-- COLUMN a Int64
-- COLUMN g Int32
-- FILE
-- ROW '13', '14', '1'
-- ROW '6', '13', '0'
-- ROW '16', '12', '1'
-- ROW '35', '5', '2'
-- ROW '39', '8', '0'
-- ROW '31', '2', '1'
-- ROW '9', '11', '0'
-- ROW '11', '4', '2'
-- ROW '34', '0', '1'
-- ROW '29', '9', '2'
-- FILE
-- ROW '18', '5', '0'
-- ROW '7', '1', '1'
-- ROW '17', '0', '2'
-- ROW '1', '5', '1'
-- ROW '22', '8', '1'
-- ROW '32', '7', '2'
-- ROW '26', '11', '2'
-- ROW '0', '0', '0'
-- ROW '36', '10', '0'
-- ROW '12', '9', '0'
-- FILE
-- ROW '23', '13', '2'
-- ROW '3', '15', '0'
-- ROW '4', '3', '1'
-- ROW '38', '3', '2'
-- ROW '8', '6', '2'
-- ROW '28', '4', '1'
-- ROW '33', '12', '0'
-- ROW '2', '10', '2'
-- ROW '25', '6', '1'
-- ROW '14', '2', '2'
-- FILE
-- ROW '27', '16', '0'
-- ROW '21', '3', '0'
-- ROW '30', '14', '0'
-- ROW '24', '1', '0'
-- ROW '20', '15', '2'
-- ROW '10', '16', '1'
-- ROW '37', '15', '1'
-- ROW '19', '10', '1'
-- ROW '15', '7', '0'
-- ROW '5', '8', '2'

-- TABLE ranges PARQUET
-- ROW GROUP 4
-- ORDER a ASC NULLS LAST, id ASC NULLS LAST
-- COLUMN id Int64
-- COLUMN a Int64
-- COLUMN g Int32
-- FILE
-- ROW '0', '0', '0'
-- ROW '1', '0', '1'
-- ROW '2', '0', '2'
-- ROW '3', '1', '0'
-- ROW '4', '1', '1'
-- ROW '5', '1', '2'
-- ROW '6', '2', '0'
-- ROW '7', '2', '1'
-- ROW '8', '2', '2'
-- ROW '9', '3', '0'
-- FILE
-- ROW '10', '3', '1'
-- ROW '11', '3', '2'
-- ROW '12', '4', '0'
-- ROW '13', '4', '1'
-- ROW '14', '4', '2'
-- ROW '15', '5', '0'
-- ROW '16', '5', '1'
-- ROW '17', '5', '2'
-- ROW '18', '6', '0'
-- ROW '19', '6', '1'
-- FILE
-- ROW '20', '6', '2'
-- ROW '21', '7', '0'
-- ROW '22', '7', '1'
-- ROW '23', '7', '2'
-- ROW '24', '8', '0'
-- ROW '25', '8', '1'
-- ROW '26', '8', '2'
-- ROW '27', '9', '0'
-- ROW '28', '9', '1'
-- ROW '29', '9', '2'
-- FILE
-- ROW '30', '10', '0'
-- ROW '31', '10', '1'
-- ROW '32', '10', '2'
-- ROW '33', '11', '0'
-- ROW '34', '11', '1'
-- ROW '35', '11', '2'
-- ROW '36', '12', '0'
-- ROW '37', '12', '1'
-- ROW '38', '12', '2'
-- ROW '39', '13', '0'

-- TABLE parts PARQUET
-- PARTITIONED BY p
-- COLUMN id Int64
-- COLUMN k Int64
-- FILE 1
-- ROW '0', '0'
-- ROW '1', '1'
-- ROW '2', '2'
-- ROW '3', '3'
-- ROW '4', '4'
-- ROW '5', '5'
-- FILE 2
-- ROW '6', '6'
-- ROW '7', '0'
-- ROW '8', '1'
-- ROW '9', '2'
-- ROW '10', '3'
-- ROW '11', '4'
-- FILE 3
-- ROW '12', '5'
-- ROW '13', '6'
-- ROW '14', '0'
-- ROW '15', '1'
-- ROW '16', '2'
-- ROW '17', '3'
-- FILE 1
-- ROW '18', '4'
-- ROW '19', '5'
-- ROW '20', '6'
-- ROW '21', '0'
-- ROW '22', '1'
-- ROW '23', '2'
-- FILE 2
-- ROW '24', '3'
-- ROW '25', '4'
-- ROW '26', '5'
-- ROW '27', '6'
-- ROW '28', '0'
-- ROW '29', '1'

-- TABLE wide PARQUET
-- COLUMN id Int64
-- COLUMN f16 Float16
-- COLUMN d64 Decimal64(14, 3)
-- COLUMN d256 Decimal256(50, 5)
-- COLUMN dict Dictionary(Int32, Utf8)
-- COLUMN l List(Int64)
-- COLUMN st Struct
-- COLUMN m Map
-- COLUMN tz Timestamp(Microsecond, Some("+02:00"))
-- FILE
-- ROW '0', '0.0', '0.25', '0.125', NULL, make_array(0, NULL), named_struct('a', 0, 'b', 'x'), MAP {'a': 0}, '2020-03-01T10:00:00Z'
-- ROW '1', '0.25', '1.25', '1.125', 'x', make_array(1, NULL), named_struct('a', 1, 'b', 'x'), MAP {'a': 1}, '2020-03-02T10:00:00Z'
-- ROW '2', '0.5', '2.25', '2.125', NULL, make_array(2, NULL), named_struct('a', 2, 'b', 'x'), MAP {'a': 2}, '2020-03-03T10:00:00Z'
-- ROW '3', '0.75', '3.25', '3.125', 'x', make_array(3, NULL), named_struct('a', 3, 'b', 'x'), MAP {'a': 3}, '2020-03-04T10:00:00Z'
-- FILE
-- ROW '4', '1.0', '4.25', '4.125', NULL, make_array(4, NULL), named_struct('a', 4, 'b', 'x'), MAP {'a': 4}, '2020-03-05T10:00:00Z'
-- ROW '5', '1.25', '5.25', '5.125', 'x', make_array(5, NULL), named_struct('a', 5, 'b', 'x'), MAP {'a': 5}, '2020-03-06T10:00:00Z'
-- ROW '6', '1.5', '6.25', '6.125', NULL, make_array(6, NULL), named_struct('a', 6, 'b', 'x'), MAP {'a': 6}, '2020-03-07T10:00:00Z'
-- ROW '7', '1.75', '7.25', '7.125', 'x', make_array(7, NULL), named_struct('a', 7, 'b', 'x'), MAP {'a': 7}, '2020-03-08T10:00:00Z'
-- FILE
-- ROW '8', '2.0', '8.25', '8.125', NULL, make_array(8, NULL), named_struct('a', 8, 'b', 'x'), MAP {'a': 8}, '2020-03-09T10:00:00Z'
-- ROW '9', '2.25', '9.25', '9.125', 'x', make_array(9, NULL), named_struct('a', 9, 'b', 'x'), MAP {'a': 9}, '2020-03-10T10:00:00Z'
-- ROW '10', '2.5', '10.25', '10.125', NULL, make_array(10, NULL), named_struct('a', 10, 'b', 'x'), MAP {'a': 10}, '2020-03-11T10:00:00Z'
-- ROW '11', '2.75', '11.25', '11.125', 'x', make_array(11, NULL), named_struct('a', 11, 'b', 'x'), MAP {'a': 11}, '2020-03-12T10:00:00Z'

-- TABLE lines CSV
-- COLUMN id Int64
-- COLUMN k Int64
-- FILE
-- FILE
-- ROW '0', '0'
-- ROW '1', '1'
-- ROW '2', '2'
-- ROW '3', '0'
-- ROW '4', '1'
-- FILE
-- ROW '5', '2'
-- ROW '6', '0'

-- CASE windows_of_opposite_orders
SELECT id, v, lag(v) OVER (ORDER BY id), count(*) OVER (ORDER BY id DESC) FROM l;

-- CASE windows_of_opposite_orders_lead
SELECT id, lead(v, 2, -1) OVER (PARTITION BY b ORDER BY id DESC), sum(v) OVER (PARTITION BY b ORDER BY id) FROM l;

-- CASE windows_of_opposite_orders_values
SELECT id, first_value(v) OVER (PARTITION BY b ORDER BY id), last_value(v) OVER (PARTITION BY b ORDER BY id DESC), nth_value(v, 2) OVER (PARTITION BY b ORDER BY id DESC NULLS LAST) FROM l;

-- CASE window_filter
SELECT id, count(*) FILTER (WHERE v IS NOT NULL) OVER () FROM l;

-- CASE window_filter_with_frame
SELECT id, sum(v) FILTER (WHERE v > 3) OVER (PARTITION BY b ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM l;

-- CASE window_filter_bounded
SELECT id, count(v) FILTER (WHERE b = 1) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM l;

-- CASE window_ignore_nulls
SELECT id, lag(v) IGNORE NULLS OVER (ORDER BY id), last_value(v) IGNORE NULLS OVER (ORDER BY id), nth_value(v, 2) IGNORE NULLS OVER (PARTITION BY b ORDER BY id) FROM l;

-- CASE window_ignore_nulls_reversed
SELECT id, first_value(v) IGNORE NULLS OVER (PARTITION BY b ORDER BY id DESC), lead(v) IGNORE NULLS OVER (PARTITION BY b ORDER BY id) FROM l;

-- CASE grouping_sets_of_nothing
SELECT count(*), sum(v) FROM l GROUP BY GROUPING SETS (());

-- CASE grouping_sets_of_nothing_over_no_rows
SELECT count(*), sum(v), 1 FROM nothing GROUP BY GROUPING SETS (());

-- CASE grouping_sets_with_nothing
SELECT b, k, grouping(b), count(*) FROM l GROUP BY GROUPING SETS ((b), (k, b), ());

-- CASE grouping_sets_of_nothing_twice
SELECT count(*) FROM l GROUP BY GROUPING SETS ((), ());

-- CASE float16_literal
SELECT id, arrow_typeof(arrow_cast(1.5, 'Float16') * f16), f16 + arrow_cast(0.1, 'Float16') FROM wide;

-- CASE float16_literal_in_filter
SELECT id FROM wide WHERE f16 > arrow_cast(0.1, 'Float16');

-- CASE wide_types
-- ORDERED 0
SELECT * FROM wide ORDER BY id;

-- CASE wide_types_exchanged
SELECT d256, count(*), max(d64), first_value(st ORDER BY id), first_value(m ORDER BY id), array_agg(tz ORDER BY id) FROM wide GROUP BY d256;

-- CASE function_of_session_time_zone
-- SET datafusion.execution.time_zone = +02:00
SELECT id, to_timestamp('2020-01-01T00:00:00'), date_part('hour', tz) FROM wide WHERE to_timestamp('2020-03-05T12:00:00') > tz;

-- CASE scalar_subquery_of_two_rows
SELECT count(*) FROM l WHERE k > (SELECT v FROM two_rows);

-- CASE scalar_subquery_of_two_rows_selected
SELECT id, (SELECT v FROM two_rows) FROM l;

-- CASE scalar_subquery_of_no_rows
SELECT id, (SELECT v FROM nothing) FROM l;

-- CASE scalar_subquery_in_aggregate
SELECT sum(v + (SELECT max(v) FROM r)) FROM l;

-- CASE scalar_subquery_in_aggregate_of_groups
SELECT b, max(v * (SELECT min(id) FROM r)), count(*) FILTER (WHERE v > (SELECT avg(v) FROM r)) FROM l GROUP BY b;

-- CASE scalar_subquery_in_order
-- ORDERED 0
SELECT id FROM l ORDER BY abs(v - (SELECT max(v) FROM r)), id;

-- CASE scalar_subquery_in_join
SELECT l.id, r.id FROM l JOIN r ON l.k = r.k AND l.v > (SELECT min(v) FROM r);

-- CASE scalar_subquery_in_outer_join
SELECT l.id, r.id FROM l LEFT JOIN r ON l.k = r.k AND l.v + (SELECT count(*) FROM two_rows) > r.v;

-- CASE scalar_subquery_in_window
SELECT id, sum(v + (SELECT max(v) FROM two_rows)) OVER (PARTITION BY b) FROM l;

-- CASE scalar_subquery_in_several_stages
SELECT b, count(*) FROM l WHERE v > (SELECT min(v) FROM r) GROUP BY b HAVING count(*) > (SELECT min(v) FROM r);

-- CASE scalar_subquery_correlated
SELECT id, (SELECT max(r.v) FROM r WHERE r.k = l.k) FROM l;

-- CASE limit_in_subquery_by_unused_column
SELECT q.k, rank() OVER (PARTITION BY q.b ORDER BY q.k) FROM (SELECT id, k, b FROM l ORDER BY id LIMIT 40) q WHERE q.b > 1;

-- CASE limit_in_subquery_offset
SELECT q.b, count(*) FROM (SELECT id, b FROM l ORDER BY id LIMIT 30 OFFSET 7) q GROUP BY q.b;

-- CASE limit_in_subquery_joined
SELECT q.k, r.id FROM (SELECT k FROM l ORDER BY id DESC LIMIT 9) q JOIN r ON q.k = r.k;

-- CASE limit_in_subquery_both_sides
SELECT a.b, count(*) FROM (SELECT b FROM l ORDER BY id LIMIT 11) a JOIN (SELECT b FROM r ORDER BY id LIMIT 17 OFFSET 5) c ON a.b = c.b GROUP BY a.b;

-- CASE limit_in_subquery_distinct
SELECT DISTINCT q.b FROM (SELECT b, id FROM l ORDER BY id LIMIT 3) q;

-- CASE limit_in_union
SELECT b FROM (SELECT b, id FROM l ORDER BY id LIMIT 5) UNION ALL SELECT b FROM (SELECT b, id FROM r ORDER BY id LIMIT 4);

-- CASE limit_of_zero_rows
SELECT count(*) FROM (SELECT id FROM l ORDER BY id LIMIT 0);

-- CASE sorted_distinct
-- ORDERED 0
SELECT DISTINCT a FROM sorted ORDER BY a LIMIT 9;

-- CASE sorted_merge
-- ORDERED 0 1
SELECT a, id FROM sorted ORDER BY a, id;

-- CASE sorted_aggregate
-- ORDERED 0
SELECT a, count(*), max(id) FROM sorted GROUP BY a ORDER BY a;

-- CASE sorted_merge_join
-- SET datafusion.optimizer.prefer_hash_join = false
SELECT s.id, t.id FROM sorted s JOIN ranges t ON s.a = t.a;

-- CASE sorted_merge_join_existing_sort
-- SET datafusion.optimizer.prefer_hash_join = false
-- SET datafusion.optimizer.prefer_existing_sort = true
-- ORDERED 0
SELECT s.a, count(*) FROM sorted s LEFT JOIN ranges t ON s.a = t.a GROUP BY s.a ORDER BY s.a;

-- CASE sorted_window
-- SET datafusion.optimizer.prefer_existing_sort = true
SELECT a, id, row_number() OVER (PARTITION BY a ORDER BY id) FROM sorted;

-- CASE sorted_limit_in_subquery
SELECT g, count(*) FROM (SELECT g FROM ranges ORDER BY a, id LIMIT 17) GROUP BY g;

-- CASE sorted_declared
-- ORDERED 0 1
SELECT a, id FROM ranges ORDER BY a, id LIMIT 12;

-- CASE window_of_constant_partition
SELECT id, row_number() OVER (PARTITION BY b ORDER BY id) FROM l WHERE b = 3;

-- CASE window_of_constant_partition_and_key
SELECT id, rank() OVER (PARTITION BY b, k ORDER BY v) FROM l WHERE b = 1 AND k = 2;

-- CASE window_of_constant_order
SELECT id, sum(v) OVER (PARTITION BY k ORDER BY b, id) FROM l WHERE b = 2;

-- CASE window_of_constant_partition_exchanged
SELECT q.b, max(q.n) FROM (SELECT b, row_number() OVER (PARTITION BY b ORDER BY id) AS n FROM l WHERE b = 3) q JOIN r ON q.b = r.b GROUP BY q.b;

-- CASE join_by_key
SELECT l.id, r.id FROM l JOIN r ON l.k = r.k;

-- CASE join_by_range
SELECT l.id, r.id FROM l JOIN r ON l.v < r.v;

-- CASE join_by_range_piecewise
-- SET datafusion.optimizer.enable_piecewise_merge_join = true
SELECT l.id, r.id FROM l JOIN r ON l.v < r.v;

-- CASE join_null_equal
SELECT l.id, r.id FROM l JOIN r ON (l.k IS NOT DISTINCT FROM r.k) AND l.v <> r.v;

-- CASE left_join_by_key
SELECT l.id, r.id FROM l LEFT JOIN r ON l.k = r.k;

-- CASE left_join_by_range
SELECT l.id, r.id FROM l LEFT JOIN r ON l.v < r.v;

-- CASE left_join_by_range_piecewise
-- SET datafusion.optimizer.enable_piecewise_merge_join = true
SELECT l.id, r.id FROM l LEFT JOIN r ON l.v < r.v;

-- CASE left_join_null_equal
SELECT l.id, r.id FROM l LEFT JOIN r ON (l.k IS NOT DISTINCT FROM r.k) AND l.v <> r.v;

-- CASE right_join_by_key
SELECT l.id, r.id FROM l RIGHT JOIN r ON l.k = r.k;

-- CASE right_join_by_range
SELECT l.id, r.id FROM l RIGHT JOIN r ON l.v < r.v;

-- CASE right_join_by_range_piecewise
-- SET datafusion.optimizer.enable_piecewise_merge_join = true
SELECT l.id, r.id FROM l RIGHT JOIN r ON l.v < r.v;

-- CASE right_join_null_equal
SELECT l.id, r.id FROM l RIGHT JOIN r ON (l.k IS NOT DISTINCT FROM r.k) AND l.v <> r.v;

-- CASE full_join_by_key
SELECT l.id, r.id FROM l FULL JOIN r ON l.k = r.k;

-- CASE full_join_by_range
SELECT l.id, r.id FROM l FULL JOIN r ON l.v < r.v;

-- CASE full_join_by_range_piecewise
-- SET datafusion.optimizer.enable_piecewise_merge_join = true
SELECT l.id, r.id FROM l FULL JOIN r ON l.v < r.v;

-- CASE full_join_null_equal
SELECT l.id, r.id FROM l FULL JOIN r ON (l.k IS NOT DISTINCT FROM r.k) AND l.v <> r.v;

-- CASE left_semi_by_key
SELECT l.id FROM l LEFT SEMI JOIN r ON l.k = r.k AND l.v > r.v;

-- CASE left_semi_by_range
SELECT l.id FROM l LEFT SEMI JOIN r ON l.v > r.v + 5;

-- CASE left_anti_by_key
SELECT l.id FROM l LEFT ANTI JOIN r ON l.k = r.k AND l.v > r.v;

-- CASE left_anti_by_range
SELECT l.id FROM l LEFT ANTI JOIN r ON l.v > r.v + 5;

-- CASE right_semi_by_key
SELECT r.id FROM l RIGHT SEMI JOIN r ON l.k = r.k AND l.v > r.v;

-- CASE right_semi_by_range
SELECT r.id FROM l RIGHT SEMI JOIN r ON l.v > r.v + 5;

-- CASE right_anti_by_key
SELECT r.id FROM l RIGHT ANTI JOIN r ON l.k = r.k AND l.v > r.v;

-- CASE right_anti_by_range
SELECT r.id FROM l RIGHT ANTI JOIN r ON l.v > r.v + 5;

-- CASE cross_join_of_values
SELECT l.id, c.x FROM l CROSS JOIN (VALUES (1), (2)) AS c(x);

-- CASE not_in_with_null
SELECT id FROM l WHERE v NOT IN (SELECT k FROM r);

-- CASE not_in_without_null
SELECT id FROM l WHERE v NOT IN (SELECT k FROM r WHERE k IS NOT NULL);

-- CASE not_in_of_nothing
SELECT id FROM l WHERE v NOT IN (SELECT v FROM nothing);

-- CASE except_all
SELECT b, k FROM l EXCEPT ALL SELECT b, k FROM r;

-- CASE intersect_all
SELECT b FROM l INTERSECT ALL SELECT b FROM r;

-- CASE partitioned_directories
SELECT p, k, count(*) FROM parts WHERE p <> '2' GROUP BY p, k;

-- CASE partitioned_directories_joined
SELECT a.p, count(*) FROM parts a JOIN parts b ON a.p = b.p AND a.k = b.k GROUP BY a.p;

-- CASE distinct_on
-- ORDERED 0 1
SELECT DISTINCT ON (b) b, id FROM l ORDER BY b, id DESC;

-- CASE top_rows_of_groups
-- SET datafusion.optimizer.enable_window_topn = true
SELECT b, id FROM (SELECT b, id, row_number() OVER (PARTITION BY b ORDER BY v DESC, id) AS n FROM l) WHERE n <= 2;

-- CASE series_joined
SELECT g.value, count(l.id) FROM generate_series(0, 8) AS g LEFT JOIN l ON l.k = g.value GROUP BY g.value;

-- CASE recursion_joined
WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM q WHERE n < 6) SELECT q.n, count(l.id) FROM q LEFT JOIN l ON l.k = q.n GROUP BY q.n;

-- CASE recursion_over_table
WITH RECURSIVE q AS (SELECT 1 AS n, k FROM l WHERE id < 4 UNION ALL SELECT q.n + 1, r.v FROM q JOIN r ON r.k = q.k WHERE q.n < 3) SELECT n, k FROM q;

-- CASE unnest
SELECT id, unnest(l) FROM wide;

-- CASE lines_with_an_empty_file
SELECT count(*), sum(k), bit_xor(id) FROM lines;

-- CASE tiny_batches
-- STAGED springald.batch_size = 1
SELECT l.b, count(*), sum(r.v) FROM l JOIN r ON l.k = r.k GROUP BY l.b;

-- CASE tiny_batches_sorted
-- STAGED springald.batch_size = 1
-- ORDERED 0 1
SELECT a, id, sum(id) OVER (PARTITION BY g ORDER BY id) FROM sorted ORDER BY a, id;

-- CASE broadcast_outer
-- STAGED springald.broadcast_bytes = 10MiB
SELECT l.id, r.id FROM r RIGHT JOIN l ON l.k = r.k AND r.v < 12;

-- CASE broadcast_anti
-- STAGED springald.broadcast_bytes = 10MiB
SELECT r.id FROM l RIGHT ANTI JOIN r ON l.k = r.k AND l.v > 6;

-- CASE order_by_column_and_expression
-- ORDERED 0 1
SELECT id, v FROM l ORDER BY id, v + 1 LIMIT 7;

-- CASE order_by_expressions_of_sorted
-- ORDERED 0
SELECT a, id FROM sorted ORDER BY a, id + 1;

-- CASE aggregate_ordered_by_expression
SELECT b, array_agg(v ORDER BY id, v + 1) FROM l GROUP BY b;

-- CASE order_by_cast_beside_constant
-- ORDERED 0
SELECT id, 1 AS y FROM l WHERE b = 1 ORDER BY CAST(id AS DOUBLE), id;

-- CASE window_ordered_by_cast_over_constants
SELECT id, lag(id) OVER (ORDER BY CAST(id AS DOUBLE) DESC, id DESC) FROM (SELECT id, 1 AS c FROM l UNION ALL SELECT id + 100, 2 FROM r);

-- CASE series_crossed
SELECT g.value, l.id FROM generate_series(1, 5) AS g, l;

-- CASE series_joined_outer
SELECT * FROM range(0, 10, 3) AS g LEFT JOIN l ON l.id > g.value;

-- CASE series_as_subquery
SELECT id FROM l WHERE id > (SELECT value FROM generate_series(5, 5));

-- CASE grouping_sets_of_nothing_ordered
SELECT string_agg(s, '' ORDER BY id DESC), first_value(v ORDER BY id) FROM l GROUP BY GROUPING SETS (());

-- CASE window_over_duplicate_grouping_sets
SELECT lag(x, 2) OVER (ORDER BY x), sum(x) OVER (ORDER BY x ROWS 1 PRECEDING) FROM (SELECT b AS x FROM (SELECT 2 AS b FROM l) AS q GROUP BY GROUPING SETS ((b), (b))) AS g;

-- CASE recursion_joined_to_series
WITH RECURSIVE q AS (SELECT 1 AS n, CAST(k AS BIGINT) AS k FROM l WHERE id < 4 UNION ALL SELECT q.n + 1, CAST(r.v AS BIGINT) FROM q JOIN r ON r.k = q.k WHERE q.n < 3) SELECT 1 AS c FROM q RIGHT JOIN generate_series(-1, 6) AS g (v) ON q.k = g.v WHERE CAST(g.v AS BIGINT) = g.v;
