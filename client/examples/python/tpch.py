"""Lists the tables of a Springald cluster, runs the 22 TPC-H queries and compares their answers.

    pip install -r requirements.txt
    python tpch.py grpc://127.0.0.1:50050 ../../../benchmarks/queries ../../../benchmarks/answers/sf0.01

The cluster needs the eight TPC-H tables at scale 0.01.
"""

import csv
import sys
from decimal import Decimal
from pathlib import Path

import adbc_driver_flightsql.dbapi as flightsql

# Query 11 asks for parts worth more than this fraction: 0.0001 / scale.
QUERY_11_FRACTION = "0.01"


def tables(connection):
    """Names of all tables that the server lists."""
    catalogs = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    return sorted(
        table["table_name"]
        for catalog in catalogs
        for schema in catalog["catalog_db_schemas"] or []
        for table in schema["db_schema_tables"] or []
        if schema["db_schema_name"] != "information_schema"
    )


def is_answered_by(kind, expected, actual):
    """True if the cell `actual` is the answer `expected`, the text of a column of type `kind`."""
    if actual is None or expected == "":
        return actual is None and expected == ""
    match kind:
        case "integer":
            return int(expected) == actual
        case "decimal":
            return Decimal(expected) == actual
        case "date":
            return expected == actual.isoformat()
        case "string":
            return expected == actual
        case "float":
            difference = abs(Decimal(expected) - Decimal(actual))
            # Averages of decimals are decimals here, cut off after their last digit.
            last_digit = Decimal(1).scaleb(actual.as_tuple().exponent) if isinstance(actual, Decimal) else 0
            return difference < last_digit or difference <= abs(Decimal(expected)) * Decimal("1e-9")
    raise ValueError(f"the answers have a column of type {kind}")


def difference(answer, result):
    """The first difference between the rows of an answer and of a result; None if there is none."""
    header, *rows = csv.reader(answer.read_text().splitlines())
    kinds = [column.rsplit(":", 1)[1] for column in header]
    if len(rows) != result.num_rows or len(kinds) != result.num_columns:
        return f"{result.num_rows} rows of {result.num_columns} columns, not {len(rows)} of {len(kinds)}"
    actual_rows = zip(*(column.to_pylist() for column in result.columns))
    for number, (expected_row, actual_row) in enumerate(zip(rows, actual_rows), start=1):
        for kind, expected, actual in zip(kinds, expected_row, actual_row):
            if not is_answered_by(kind, expected, actual):
                return f"row {number}: {actual!r}, not {expected!r}"
    return None


def main(url, queries, answers):
    verified = 0
    with flightsql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        print("tables:", ", ".join(tables(connection)))
        for number in range(1, 23):
            sql = (Path(queries) / f"q{number:02}.sql").read_text()
            cursor.execute(sql.replace("{fraction}", QUERY_11_FRACTION))
            wrong = difference(Path(answers) / f"q{number:02}.csv", cursor.fetch_arrow_table())
            verified += wrong is None
            if wrong:
                print(f"query {number}: {wrong}")
    print(f"{verified} of 22 verified")
    return 0 if verified == 22 else 1


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} URL QUERIES ANSWERS")
    sys.exit(main(*sys.argv[1:]))
