#!/usr/bin/env python3
"""Writes the answers of the 22 TPC-H queries with an engine that shares no code with Springald: DuckDB.

    pip install duckdb==2.0.0
    cargo run --release -p springald-bench --bin tpch-data -- --scale 1 --dir data/sf1
    python3 benchmarks/answers/generate.py --scale 1 --data data/sf1

reads `<data>/<table>/*.parquet` and writes `benchmarks/answers/sf1/q01.csv` to `q22.csv`. A file starts with a header of
`name:type` (integer, decimal, float, string, date); NULL is an empty field. Files above 300 KiB are gzipped.

It stops if an answer is not the only right one: if rows that tie on the ORDER BY keys lie on both sides of a LIMIT.
"""

import argparse
import csv
import gzip
import io
import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).resolve().parent
TABLES = ["lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region"]
GZIP_ABOVE_BYTES = 300 * 1024
LIMIT = re.compile(r"\nlimit (\d+)\s*$")
ORDER_BY = re.compile(r"\norder by\n(.*?)(?:\nlimit|\s*$)", re.DOTALL)


def kind_of(sql_type: str) -> str:
    """The type of the header for a DuckDB type."""
    if sql_type in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT"):
        return "integer"
    if sql_type.startswith("DECIMAL"):
        return "decimal"
    if sql_type in ("DOUBLE", "FLOAT"):
        return "float"
    if sql_type == "VARCHAR":
        return "string"
    if sql_type == "DATE":
        return "date"
    raise SystemExit(f"no header type for {sql_type}")


def text_of(value: object) -> str:
    """A cell: shortest text that reads back to the same value."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    if text == "":
        raise SystemExit("an answer holds empty text, which would read as NULL")
    return text


def order_columns(sql: str, names: list[str]) -> list[int]:
    """Positions of the ORDER BY columns (all of the queries order by output columns)."""
    found = ORDER_BY.findall(sql)
    keys = found[-1].split(",") if found else []
    return [names.index(key.split()[0]) for key in keys]


def check_limit(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Stops if a tie lies across the LIMIT."""
    limit = LIMIT.search(sql)
    if limit is None:
        return
    count = int(limit.group(1))
    result = connection.execute(f"{sql[: limit.start()]}\nlimit {count + 1}")
    keys = order_columns(sql, [column[0] for column in result.description])
    rows = result.fetchall()
    if len(rows) > count and all(rows[count - 1][key] == rows[count][key] for key in keys):
        raise SystemExit(f"rows {count} and {count + 1} tie: the answer is not unique")


def write_answer(directory: pathlib.Path, number: int, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Runs one query and writes its answer."""
    check_limit(connection, sql)
    result = connection.execute(sql)
    header = [f"{column[0]}:{kind_of(str(column[1]))}" for column in result.description]
    rows = result.fetchall()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[text_of(cell) for cell in row] for row in rows])
    content = buffer.getvalue().encode()
    path = directory / f"q{number:02}.csv"
    packed = directory / f"q{number:02}.csv.gz"
    path.unlink(missing_ok=True)
    packed.unlink(missing_ok=True)
    if len(content) > GZIP_ABOVE_BYTES:
        packed.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
    else:
        path.write_bytes(content)
    print(f"q{number:02}: {len(rows)} rows", flush=True)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scale", required=True, help="as in the name of the directory: 0.01, 0.1, 1, 10")
    arguments.add_argument("--data", required=True, type=pathlib.Path, help="directory with the generated tables")
    options = arguments.parse_args()

    connection = duckdb.connect()
    for table in TABLES:
        files = (options.data / table / "*.parquet").as_posix().replace("'", "''")
        connection.execute(f"create view {table} as select * from read_parquet('{files}')")
    fraction = f"{0.0001 / float(options.scale):.12f}".rstrip("0")
    directory = HERE / f"sf{options.scale}"
    directory.mkdir(exist_ok=True)
    for number in range(1, 23):
        sql = (HERE.parent / "queries" / f"q{number:02}.sql").read_text().rstrip().replace("{fraction}", fraction)
        write_answer(directory, number, connection, sql)
    return 0


if __name__ == "__main__":
    sys.exit(main())
