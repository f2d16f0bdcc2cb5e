// Lists the tables of a Springald cluster, runs the 22 TPC-H queries and compares their answers.
//
//	go run . grpc://127.0.0.1:50050 ../../../benchmarks/queries ../../../benchmarks/answers/sf0.01
//
// The cluster needs the eight TPC-H tables at scale 0.01.
package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

const queryCount = 22

// Query 11 asks for parts worth more than this fraction: 0.0001 / scale.
const query11Fraction = "0.01"

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintf(os.Stderr, "usage: %s URL QUERIES ANSWERS\n", os.Args[0])
		os.Exit(2)
	}
	verified, err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Printf("%d of %d verified\n", verified, queryCount)
	if verified != queryCount {
		os.Exit(1)
	}
}

// run returns how many queries were answered right.
func run(ctx context.Context, url, queries, answers string) (int, error) {
	driver := flightsql.NewDriver(memory.DefaultAllocator)
	database, err := driver.NewDatabase(map[string]string{adbc.OptionKeyURI: url})
	if err != nil {
		return 0, err
	}
	defer database.Close()
	connection, err := database.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer connection.Close()

	names, err := tables(ctx, connection)
	if err != nil {
		return 0, fmt.Errorf("listing the tables: %w", err)
	}
	fmt.Println("tables:", strings.Join(names, ", "))

	verified := 0
	for number := 1; number <= queryCount; number++ {
		name := fmt.Sprintf("q%02d", number)
		err := verify(ctx, connection, filepath.Join(queries, name+".sql"), filepath.Join(answers, name+".csv"))
		if err != nil {
			fmt.Printf("query %d: %v\n", number, err)
			continue
		}
		verified++
	}
	return verified, nil
}

// tables returns the names of all tables that the server lists.
func tables(ctx context.Context, connection adbc.Connection) ([]string, error) {
	reader, err := connection.GetObjects(ctx, adbc.ObjectDepthTables, nil, nil, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	var names []string
	for reader.Next() {
		// Lists in lists: each catalog has schemas, each schema has tables.
		schemas := reader.RecordBatch().Column(1).(*array.List).ListValues().(*array.Struct)
		tables := schemas.Field(1).(*array.List)
		tableNames := tables.ListValues().(*array.Struct).Field(0).(*array.String)
		for schema := 0; schema < schemas.Len(); schema++ {
			if tables.IsNull(schema) || schemas.Field(0).ValueStr(schema) == "information_schema" {
				continue
			}
			from, to := tables.ValueOffsets(schema)
			for table := from; table < to; table++ {
				names = append(names, tableNames.Value(int(table)))
			}
		}
	}
	sort.Strings(names)
	return names, reader.Err()
}

// verify runs a query; the error tells how its result differs from the answer.
func verify(ctx context.Context, connection adbc.Connection, query, answer string) error {
	sql, err := os.ReadFile(query)
	if err != nil {
		return err
	}
	result, columns, err := collect(ctx, connection, strings.ReplaceAll(string(sql), "{fraction}", query11Fraction))
	if err != nil {
		return err
	}
	file, err := os.Open(answer)
	if err != nil {
		return err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return err
	}
	header, rows := lines[0], lines[1:]
	if len(rows) != len(result) || len(header) != columns {
		return fmt.Errorf("%d rows of %d columns, not %d of %d", len(result), columns, len(rows), len(header))
	}
	for number, row := range rows {
		for column, expected := range row {
			_, kind, _ := strings.Cut(header[column], ":")
			actual := result[number][column]
			if !isAnsweredBy(kind, expected, actual) {
				return fmt.Errorf("row %d: %v, not %q", number+1, actual, expected)
			}
		}
	}
	return nil
}

// collect returns all rows of a query, and the number of its columns.
func collect(ctx context.Context, connection adbc.Connection, sql string) (rows [][]cell, columns int, err error) {
	statement, err := connection.NewStatement()
	if err != nil {
		return nil, 0, err
	}
	defer statement.Close()
	if err := statement.SetSqlQuery(sql); err != nil {
		return nil, 0, err
	}
	reader, _, err := statement.ExecuteQuery(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer reader.Release()
	for reader.Next() {
		batch := reader.RecordBatch()
		for row := 0; row < int(batch.NumRows()); row++ {
			cells := make([]cell, batch.NumCols())
			for column := range cells {
				cells[column] = cellOf(batch.Column(column), row)
			}
			rows = append(rows, cells)
		}
	}
	return rows, reader.Schema().NumFields(), reader.Err()
}

// cell is a value as text, with what is needed to compare it.
type cell struct {
	null bool
	text string
	// Digits after the point, for decimals; -1 for other types.
	scale int
}

func cellOf(column arrow.Array, row int) cell {
	value := cell{null: column.IsNull(row), scale: -1}
	if !value.null {
		value.text = column.ValueStr(row)
	}
	if decimal, ok := column.DataType().(arrow.DecimalType); ok {
		value.scale = int(decimal.GetScale())
	}
	return value
}
