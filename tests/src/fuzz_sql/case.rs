//! Cases: a query with all that it needs, and their text form.
//!
//! ```text
//! -- TABLE l PARQUET              tables before the first case are those of all cases
//! -- COLUMN id Int64
//! -- FILE
//! -- ROW '1'
//! -- CASE limit_keeps_its_merge
//! -- SET datafusion.optimizer.prefer_hash_join = false      in all engines
//! -- STAGED springald.batch_size = 3                        in staged sessions only
//! -- ORDERED 0                                              columns that order the result
//! SELECT …;
//! ```

use super::family::Format;
use super::table::{Layout, Table};

/// Settings of sessions, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    /// Of all engines.
    pub shared: Vec<(String, String)>,
    /// Of staged sessions, beside those that make them so.
    pub staged: Vec<(String, String)>,
}

/// A query with its tables and settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub name: String,
    pub tables: Vec<Table>,
    pub settings: Settings,
    pub sql: String,
    /// Columns of the result by which it is ordered.
    pub ordered: Vec<usize>,
}

/// The cases of a file.
#[derive(Debug, Default)]
pub(crate) struct Cases {
    /// Tables of all cases.
    pub tables: Vec<Table>,
    pub cases: Vec<Case>,
}

impl Case {
    /// Returns the text form.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("-- CASE {}\n", self.name);
        for table in &self.tables {
            text += &table.to_text();
        }
        for (name, value) in &self.settings.shared {
            text += &format!("-- SET {name} = {value}\n");
        }
        for (name, value) in &self.settings.staged {
            text += &format!("-- STAGED {name} = {value}\n");
        }
        if !self.ordered.is_empty() {
            let ordered: Vec<String> = self.ordered.iter().map(usize::to_string).collect();
            text += &format!("-- ORDERED {}\n", ordered.join(" "));
        }
        text + &self.sql + ";\n"
    }
}

impl Cases {
    /// Reads the text form.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut cases = Self::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            cases.take_line(line).ok_or_else(|| format!("line {number} is not understood: {line}"))?;
        }
        let unfinished = cases.cases.iter().find(|case| !case.sql.ends_with(';'));
        if let Some(case) = unfinished {
            return Err(format!("the query of case {} does not end with a semicolon", case.name));
        }
        for case in &mut cases.cases {
            case.sql.pop();
        }
        Ok(cases)
    }

    fn take_line(&mut self, line: &str) -> Option<()> {
        let setting = |text: &str| {
            let (name, value) = text.split_once(" = ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        let (tables, case) = match self.cases.last_mut() {
            Some(case) => (&mut case.tables, Some((&mut case.settings, &mut case.ordered, &mut case.sql))),
            None => (&mut self.tables, None),
        };
        if line.trim().is_empty() || line.starts_with("--- ") {
            return Some(());
        }
        if let Some(name) = line.strip_prefix("-- CASE ") {
            self.cases.push(Case {
                name: name.to_owned(),
                tables: Vec::new(),
                settings: Settings::default(),
                sql: String::new(),
                ordered: Vec::new(),
            });
            return Some(());
        }
        if let Some(table) = line.strip_prefix("-- TABLE ") {
            let (name, format) = table.split_once(' ')?;
            let all = [Format::Parquet, Format::Csv, Format::Json, Format::Arrow];
            let format = all.into_iter().find(|known| known.sql() == format)?;
            let (layout, columns, files) = (Layout::default(), Vec::new(), Vec::new());
            tables.push(Table { name: name.to_owned(), format, layout, columns, files });
            return Some(());
        }
        if line.starts_with("-- ") && tables.last_mut().is_some_and(|table| table.take_line(line)) {
            return Some(());
        }
        let (settings, ordered, sql) = case?;
        if let Some(text) = line.strip_prefix("-- SET ") {
            settings.shared.push(setting(text)?);
        } else if let Some(text) = line.strip_prefix("-- STAGED ") {
            settings.staged.push(setting(text)?);
        } else if let Some(columns) = line.strip_prefix("-- ORDERED ") {
            *ordered = columns.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        } else if line.starts_with("--") {
            return None;
        } else {
            let separator = if sql.is_empty() { "" } else { "\n" };
            *sql += &format!("{separator}{line}");
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_text_is_read_back_as_written() {
        let text = "-- TABLE l PARQUET\n-- COLUMN id Int64 NOT NULL\n-- FILE\n-- ROW '1'\n\n-- CASE one\n\
                    -- TABLE r CSV\n-- COLUMN id Int64\n-- FILE\n\
                    -- SET datafusion.execution.time_zone = +02:00\n-- STAGED springald.batch_size = 3\n\
                    -- ORDERED 0 1\nSELECT 1\nFROM l;\n-- CASE two\nSELECT 2;\n";
        let cases = Cases::parse(text).expect("cases");
        assert_eq!((cases.tables.len(), cases.cases.len()), (1, 2));
        let one = &cases.cases[0];
        assert_eq!((one.sql.as_str(), one.ordered.as_slice()), ("SELECT 1\nFROM l", [0, 1].as_slice()));
        assert_eq!(one.settings.staged, [("springald.batch_size".to_owned(), "3".to_owned())]);
        let written = Cases::parse(&one.to_text()).expect("cases");
        assert_eq!(written.cases, std::slice::from_ref(&one));
    }

    #[test]
    fn unknown_directive_is_an_error() {
        assert!(Cases::parse("-- CASE one\n-- WHAT\nSELECT 1;").is_err());
        assert!(Cases::parse("-- CASE one\nSELECT 1").is_err());
    }
}
