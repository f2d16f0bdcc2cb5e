package org.springald.example;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Date;
import java.util.ArrayList;
import java.util.List;

/** The right answer of a query: the types of its columns, and its rows as text. */
record Answer(List<String> kinds, List<List<String>> rows) {
    /** Relative difference up to which two floating-point numbers are the same answer. */
    private static final BigDecimal FLOAT_TOLERANCE = new BigDecimal("1e-9");

    /** Reads a CSV file with a header of {@code name:type}. */
    static Answer read(Path path) throws IOException {
        List<String> lines = Files.readAllLines(path);
        List<String> kinds = new ArrayList<>();
        for (String column : fields(lines.get(0))) {
            kinds.add(column.substring(column.lastIndexOf(':') + 1));
        }
        return new Answer(kinds, lines.stream().skip(1).map(Answer::fields).toList());
    }

    int columns() {
        return kinds.size();
    }

    /** True if {@code actual}, as JDBC returns it, is the answer {@code expected} of a column. */
    boolean isAnsweredBy(int column, String expected, Object actual) {
        if (actual == null || expected.isEmpty()) {
            return actual == null && expected.isEmpty();
        }
        String kind = kinds.get(column);
        if (kind.equals("string")) {
            return expected.equals(actual);
        }
        if (kind.equals("date")) {
            return actual instanceof Date date && expected.equals(date.toLocalDate().toString());
        }
        BigDecimal wanted = new BigDecimal(expected);
        BigDecimal found = new BigDecimal(actual.toString());
        BigDecimal difference = wanted.subtract(found).abs();
        if (!kind.equals("float")) {
            return difference.signum() == 0;
        }
        // Averages of decimals are decimals here, cut off after their last digit.
        boolean isCutOff = actual instanceof BigDecimal decimal && difference.compareTo(decimal.ulp()) < 0;
        return isCutOff || difference.compareTo(wanted.abs().multiply(FLOAT_TOLERANCE)) <= 0;
    }

    /** The fields of a line of CSV; quotes in quotes are doubled. */
    private static List<String> fields(String line) {
        List<String> fields = new ArrayList<>();
        StringBuilder field = new StringBuilder();
        boolean quoted = false;
        for (int index = 0; index < line.length(); index++) {
            char character = line.charAt(index);
            boolean isDoubled = quoted && line.startsWith("\"\"", index);
            if (isDoubled) {
                field.append('"');
                index++;
            } else if (character == '"') {
                quoted = !quoted;
            } else if (character == ',' && !quoted) {
                fields.add(field.toString());
                field.setLength(0);
            } else {
                field.append(character);
            }
        }
        fields.add(field.toString());
        return fields;
    }
}
