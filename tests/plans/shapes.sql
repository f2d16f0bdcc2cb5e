-- window_both_directions
SELECT n_nationkey, lag(n_regionkey) OVER (ORDER BY n_nationkey), count(*) OVER (ORDER BY n_nationkey DESC) FROM nation;
-- window_filter
SELECT n_nationkey, count(*) FILTER (WHERE n_regionkey > 1) OVER () FROM nation;
-- window_ignore_nulls
SELECT o_orderkey, first_value(nullif(o_shippriority, 0)) IGNORE NULLS OVER (PARTITION BY o_custkey ORDER BY o_orderkey) FROM orders;
-- window_over_constant_partition
SELECT o_orderkey, row_number() OVER (PARTITION BY o_custkey ORDER BY o_orderkey) FROM orders WHERE o_custkey = 7;
-- window_top_rows
SELECT * FROM (SELECT o_orderkey, row_number() OVER (PARTITION BY o_custkey ORDER BY o_totalprice DESC) AS r FROM orders) WHERE r <= 2;
-- grouping_set_of_nothing
SELECT count(*) FROM orders GROUP BY GROUPING SETS (());
-- grouping_sets
SELECT o_orderstatus, o_orderpriority, count(*) FROM orders GROUP BY GROUPING SETS ((o_orderstatus), (o_orderpriority), ());
-- distinct_aggregates
SELECT o_orderstatus, count(DISTINCT o_custkey), sum(o_totalprice) FROM orders GROUP BY o_orderstatus;
-- scalar_subquery_in_filter
SELECT count(*) FROM lineitem WHERE l_quantity > (SELECT avg(l_quantity) FROM lineitem);
-- scalar_subquery_in_projection
SELECT n_name, n_regionkey - (SELECT max(r_regionkey) FROM region) FROM nation;
-- scalar_subquery_in_join
SELECT count(*) FROM orders JOIN customer ON o_custkey = c_custkey AND o_totalprice > (SELECT avg(o_totalprice) FROM orders);
-- scalar_subquery_nested
SELECT count(*) FROM orders WHERE o_totalprice > (SELECT avg(o_totalprice) FROM orders WHERE o_custkey > (SELECT min(c_custkey) FROM customer));
-- scalar_subquery_in_order
SELECT o_orderkey FROM orders ORDER BY o_totalprice - (SELECT min(o_totalprice) FROM orders), o_orderkey LIMIT 3;
-- limit_in_subquery
SELECT q.k, rank() OVER (PARTITION BY q.b ORDER BY q.k) FROM (SELECT o_orderkey AS k, o_custkey AS b FROM orders ORDER BY o_orderdate LIMIT 40) q WHERE q.b > 1;
-- offset_in_subquery
SELECT count(*) FROM (SELECT o_orderkey FROM orders ORDER BY o_orderkey LIMIT 10 OFFSET 5) JOIN lineitem ON l_orderkey = o_orderkey;
-- order_without_limit
SELECT o_orderkey, o_totalprice FROM orders ORDER BY o_totalprice DESC, o_orderkey;
-- sorted_distinct
SELECT DISTINCT o_orderkey FROM orders_sorted ORDER BY o_orderkey LIMIT 9;
-- sorted_aggregate
SELECT o_orderkey, count(*) FROM orders_sorted GROUP BY o_orderkey;
-- sorted_merge
SELECT o_orderkey FROM orders_sorted WHERE o_custkey > 10 ORDER BY o_orderkey;
-- union_of_groups
SELECT o_custkey, count(*) FROM orders GROUP BY o_custkey UNION ALL SELECT c_nationkey, sum(c_custkey) FROM customer GROUP BY c_nationkey;
-- intersect
SELECT o_custkey FROM orders INTERSECT SELECT c_custkey FROM customer;
-- left_join_of_small_build_side
SELECT n_name, count(c_custkey) FROM nation LEFT JOIN customer ON n_nationkey = c_nationkey GROUP BY n_name;
-- full_join
SELECT count(*) FROM nation FULL JOIN region ON n_regionkey = r_regionkey;
-- semi_join
SELECT count(*) FROM customer WHERE c_custkey IN (SELECT o_custkey FROM orders WHERE o_totalprice > 300000);
-- null_aware_anti_join
SELECT count(*) FROM customer WHERE c_custkey NOT IN (SELECT nullif(o_custkey, 3) FROM orders);
-- nested_loop_left_join
SELECT count(*) FROM nation LEFT JOIN orders ON n_nationkey > o_custkey;
-- cross_join
SELECT count(*) FROM nation, orders WHERE o_totalprice > 400000;
-- view_read_twice
WITH totals AS (SELECT o_custkey, sum(o_totalprice) AS total FROM orders GROUP BY o_custkey) SELECT count(*) FROM totals a JOIN totals b ON a.o_custkey = b.o_custkey AND a.total < b.total;
-- having_filters_the_probe_side
SELECT c_name, sum(l_quantity) FROM customer, orders, lineitem WHERE o_orderkey IN (SELECT l_orderkey FROM lineitem GROUP BY l_orderkey HAVING sum(l_quantity) > 250) AND c_custkey = o_custkey AND o_orderkey = l_orderkey GROUP BY c_name;
-- recursive_query
WITH RECURSIVE chain AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM chain WHERE n < 5) SELECT n, count(o_orderkey) FROM chain LEFT JOIN orders ON n = o_custkey GROUP BY n;
-- unnest
SELECT o_orderkey, unnest(make_array(o_custkey, o_shippriority)) FROM orders WHERE o_orderkey < 100;
-- table_sample
SELECT count(*) FROM orders TABLESAMPLE BERNOULLI (10) REPEATABLE (7);
