package org.springald.example;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.TreeSet;

/**
 * Lists the tables of a Springald cluster, runs the 22 TPC-H queries and compares their answers.
 *
 * <pre>
 * mvn -q compile exec:exec -Durl=jdbc:arrow-flight-sql://127.0.0.1:50050?useEncryption=false \
 *     -Dqueries=../../../benchmarks/queries -Danswers=../../../benchmarks/answers/sf0.01
 * </pre>
 *
 * The cluster needs the eight TPC-H tables at scale 0.01.
 */
public final class Tpch {
    private static final int QUERIES = 22;

    /** Query 11 asks for parts worth more than this fraction: 0.0001 / scale. */
    private static final String QUERY_11_FRACTION = "0.01";

    private Tpch() {}

    public static void main(String[] arguments) throws SQLException, IOException {
        if (arguments.length != 3) {
            System.err.println("usage: Tpch URL QUERIES ANSWERS");
            System.exit(2);
        }
        int verified = run(arguments[0], Path.of(arguments[1]), Path.of(arguments[2]));
        System.out.printf("%d of %d verified%n", verified, QUERIES);
        System.exit(verified == QUERIES ? 0 : 1);
    }

    private static int run(String url, Path queries, Path answers) throws SQLException, IOException {
        try (Connection connection = DriverManager.getConnection(url)) {
            System.out.println("tables: " + String.join(", ", tables(connection)));
            int verified = 0;
            for (int number = 1; number <= QUERIES; number++) {
                String name = String.format("q%02d", number);
                String sql = Files.readString(queries.resolve(name + ".sql"));
                Answer answer = Answer.read(answers.resolve(name + ".csv"));
                String wrong = verify(connection, sql.replace("{fraction}", QUERY_11_FRACTION), answer);
                if (wrong == null) {
                    verified++;
                } else {
                    System.out.printf("query %d: %s%n", number, wrong);
                }
            }
            return verified;
        }
    }

    /** Names of all tables that the server lists. */
    private static TreeSet<String> tables(Connection connection) throws SQLException {
        TreeSet<String> names = new TreeSet<>();
        try (ResultSet tables = connection.getMetaData().getTables(null, null, "%", null)) {
            while (tables.next()) {
                if (!"information_schema".equals(tables.getString("TABLE_SCHEM"))) {
                    names.add(tables.getString("TABLE_NAME"));
                }
            }
        }
        return names;
    }

    /** Runs a query; returns how its result differs from the answer, or null if it does not. */
    private static String verify(Connection connection, String sql, Answer answer) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery(sql)) {
            int columns = result.getMetaData().getColumnCount();
            if (columns != answer.columns()) {
                return columns + " columns, not " + answer.columns();
            }
            int row = 0;
            for (; result.next(); row++) {
                if (row >= answer.rows().size()) {
                    return "more than " + row + " rows";
                }
                List<String> expected = answer.rows().get(row);
                for (int column = 0; column < columns; column++) {
                    Object actual = result.getObject(column + 1);
                    if (!answer.isAnsweredBy(column, expected.get(column), actual)) {
                        return "row " + (row + 1) + ": " + actual + ", not " + expected.get(column);
                    }
                }
            }
            return row == answer.rows().size() ? null : row + " rows, not " + answer.rows().size();
        }
    }
}
