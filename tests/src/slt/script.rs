//! Sqllogictest scripts: from text to records.
//!
//! Expected rows are skipped: in-process DataFusion gives them. A script that includes others is one sequence of records;
//! each record knows the file and the line that it was read from.

use std::fs;
use std::path::{Path, PathBuf};

/// Name of the engine in `skipif` and `onlyif`.
const ENGINE: &str = "datafusion";

/// Deepest nesting of `include`.
const MAX_INCLUDES: usize = 8;

/// A statement or a query of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identifies the record: `<script>:<line>`, or `<script>><included file>:<line>`; with `@<n>` behind it for the
    /// n-th repetition of an included file.
    pub id: String,
    /// Text of the statement, without the expected rows.
    pub sql: String,
}

/// Reads the script at `path`; its name in ids is the path below `root`.
///
/// # Errors
/// Names the file that cannot be read, or the line that is no directive.
pub fn read(root: &Path, path: &Path) -> Result<Vec<Record>, String> {
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let mut records = Vec::new();
    read_into(&mut records, &name, path, 0)?;
    number_repetitions(&mut records);
    Ok(records)
}

/// Tells apart the records of a file that is included several times.
fn number_repetitions(records: &mut [Record]) {
    let mut seen = std::collections::HashMap::new();
    for record in records {
        let count: &mut usize = seen.entry(record.id.clone()).or_default();
        *count += 1;
        if *count > 1 {
            record.id = format!("{}@{count}", record.id);
        }
    }
}

fn read_into(records: &mut Vec<Record>, name: &str, path: &Path, depth: usize) -> Result<(), String> {
    if depth > MAX_INCLUDES {
        return Err(format!("{name}: includes are nested too deeply"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut lines = Lines { lines: text.lines().collect(), next: 0 };
    let mut applies = true;
    while let Some(line) = lines.take() {
        let number = lines.next;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["halt"] => return Ok(()),
            ["skipif", engine] => applies = applies && !engine.eq_ignore_ascii_case(ENGINE),
            ["onlyif", engine] => applies = applies && engine.eq_ignore_ascii_case(ENGINE),
            ["include", pattern] => {
                let folder = path.parent().unwrap_or(Path::new("."));
                for included in matching(folder, pattern)? {
                    let part = included.file_name().unwrap_or_default().to_string_lossy();
                    let part = format!("{}>{part}", name.split('>').next().unwrap_or(name));
                    read_into(records, &part, &included, depth + 1)?;
                }
            }
            ["statement" | "query", ..] => {
                let sql = lines.statement();
                if std::mem::replace(&mut applies, true) {
                    records.push(Record { id: format!("{name}:{number}"), sql });
                }
            }
            ["system", ..] => drop(lines.statement()),
            ["hash-threshold" | "subtest" | "control" | "connection" | "sleep" | "let", ..] => {}
            _ => return Err(format!("{name}:{number}: {line:?} is no directive")),
        }
    }
    Ok(())
}

/// Files in `folder` that match a pattern with at most one `*` in its last segment, by name.
fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let Some((before, after)) = pattern.split_once('*') else { return Ok(vec![folder.join(pattern)]) };
    let prefix = folder.join(before);
    let (folder, start) = match before.ends_with('/') {
        true => (prefix.as_path(), ""),
        false => {
            (prefix.parent().unwrap_or(folder), prefix.file_name().and_then(|name| name.to_str()).unwrap_or_default())
        }
    };
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(start) && name.ends_with(after)
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Lines of a script, and the number of those that were read.
struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some(line)
    }

    /// Text up to the next empty line or `----`; what is expected behind `----` is passed over.
    fn statement(&mut self) -> String {
        // The first line belongs to it even if it is empty.
        let mut sql = Vec::from_iter(self.take());
        while let Some(line) = self.take() {
            match line {
                "" => break,
                "----" => {
                    self.skip_expected();
                    break;
                }
                _ => sql.push(line),
            }
        }
        sql.join("\n")
    }

    /// Passes over expected rows, which end with an empty line. Those of an error end with two; what stands between them
    /// is no directive, and a directive does not stand there.
    fn skip_expected(&mut self) {
        while self.take().is_some_and(|line| !line.is_empty()) {}
        let is_directive = |line: &str| {
            let word = line.split_whitespace().next().unwrap_or_default();
            line.trim().is_empty()
                || word.starts_with('#')
                || ["statement", "query", "include", "halt", "skipif", "onlyif", "hash-threshold", "control", "subtest"]
                    .contains(&word)
        };
        while self.lines.get(self.next).is_some_and(|line| !is_directive(line)) {
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let folder = tempfile::TempDir::new().expect("a directory");
        let path = folder.path().join("a.slt");
        fs::write(&path, text).expect("written");
        for (name, text) in more {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let records = read(folder.path(), &path).expect("a script");
        records.into_iter().map(|record| (record.id, record.sql)).collect()
    }

    #[test]
    fn script_records_have_lines_and_no_expected_rows() {
        let text = "# x\nstatement ok\nCREATE TABLE t\nAS SELECT 1\n\nquery I rowsort\nSELECT 1\n----\n1\n\nquery error\nSELECT x\n";
        let found = records(text, &[]);
        let sql: Vec<&str> = found.iter().map(|(_, sql)| sql.as_str()).collect();
        assert_eq!(sql, ["CREATE TABLE t\nAS SELECT 1", "SELECT 1", "SELECT x"]);
        assert_eq!(found[2].0, "a.slt:11");
        assert_eq!(records("statement ok\n\nSELECT 1\n\n", &[])[0].1, "\nSELECT 1");
    }

    #[test]
    fn script_multi_line_error_is_passed_over() {
        let text = "statement error\nSELECT x\n----\nfirst\n\nsecond\n\n\nquery I\nSELECT 2\n----\n2\n";
        assert_eq!(records(text, &[]).len(), 2);
    }

    #[test]
    fn script_conditions_and_halt_leave_records_out() {
        let text =
            "skipif postgres\nquery I\nSELECT 1\n\nonlyif postgres\nquery I\nSELECT 2\n\nhalt\n\nquery I\nSELECT 3\n";
        assert_eq!(records(text, &[]), [("a.slt:2".to_owned(), "SELECT 1".to_owned())]);
    }

    #[test]
    fn script_includes_are_named_and_numbered() {
        let parts = [("q2.part", "query I\nSELECT 2\n"), ("q1.part", "query I\nSELECT 1\n")];
        let found = records("include ./q*.part\n\ninclude q1.part\n", &parts);
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a.slt>q1.part:1", "a.slt>q2.part:1", "a.slt>q1.part:1@2"]);
    }
}
