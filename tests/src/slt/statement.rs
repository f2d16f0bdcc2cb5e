//! Kinds of statements: what is compared, what is carried over to the server, what is left out.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, ObjectName, ObjectType, Query, SetExpr, Statement as Sql, TableObject, visit_expressions,
    visit_relations,
};
use datafusion::sql::sqlparser::dialect::dialect_from_str;

/// Functions whose value differs from call to call. Statements with them are run, but their rows are not compared.
const VOLATILE: [&str; 12] = [
    "random",
    "now",
    "uuid",
    "uuidv7",
    "gen_random_uuid",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtimestamp",
    "today",
    "version",
    "input_file_name",
];

/// What becomes of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A query: runs on both sides, and is compared.
    Query {
        /// It calls a volatile function.
        is_volatile: bool,
    },
    /// `SET` and `RESET`: run in all sessions.
    Setting,
    /// `CREATE EXTERNAL TABLE`, with its locations.
    CreateExternal {
        /// Name as written.
        table: String,
        /// Locations as written.
        locations: Vec<String>,
    },
    /// Another statement that makes a table, or changes rows: its content becomes files for the server.
    ChangeTable {
        /// Name as written.
        table: String,
        /// It makes the table.
        is_create: bool,
    },
    /// `CREATE VIEW`.
    CreateView {
        /// Name as written.
        view: String,
    },
    /// `DROP TABLE` or `DROP VIEW`.
    Drop {
        /// Name as written.
        table: String,
        /// `DROP VIEW`.
        is_view: bool,
    },
    /// `CREATE SCHEMA` and `DROP SCHEMA`: run on both sides.
    Schema,
    /// Runs in process only; the name of the kind.
    Local(&'static str),
    /// Does not run at all; the name of the kind.
    Skipped(&'static str),
}

/// A statement and its kind.
pub struct Classified {
    /// What becomes of it.
    pub kind: Kind,
    /// Names of tables that it reads, as written.
    pub tables: Vec<String>,
}

/// Parses `sql` as DataFusion does. What cannot be parsed is a query that fails on both sides.
pub fn classify(sql: &str, dialect: &str) -> Classified {
    let plain = |kind| Classified { kind, tables: vec![] };
    if sql.to_ascii_lowercase().contains("information_schema") {
        return plain(Kind::Skipped("information_schema"));
    }
    let failing = || plain(Kind::Query { is_volatile: false });
    let Some(dialect) = dialect_from_str(dialect) else { return failing() };
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(dialect.as_ref())
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let Ok(mut statements) = parsed else { return failing() };
    if statements.len() > 1 {
        return plain(Kind::Skipped("several statements"));
    }
    let Some(statement) = statements.pop_front() else { return plain(Kind::Skipped("empty")) };
    match statement {
        Statement::Statement(statement) => classify_sql(*statement),
        Statement::CreateExternalTable(create) => {
            plain(Kind::CreateExternal { table: create.name.to_string(), locations: create.locations })
        }
        Statement::CopyTo(_) => plain(Kind::Local("COPY")),
        Statement::Explain(_) => plain(Kind::Skipped("EXPLAIN")),
        Statement::Reset(_) => plain(Kind::Setting),
    }
}

fn classify_sql(statement: Sql) -> Classified {
    let mut tables = Vec::new();
    let _ = visit_relations(&statement, |name: &ObjectName| {
        tables.push(name.to_string());
        ControlFlow::<()>::Continue(())
    });
    let kind = match &statement {
        Sql::Query(query) => match select_into(query) {
            Some(table) => Kind::ChangeTable { table, is_create: true },
            None => Kind::Query { is_volatile: is_volatile(&statement) },
        },
        other => kind_of(other),
    };
    Classified { kind, tables }
}

fn kind_of(statement: &Sql) -> Kind {
    match statement {
        Sql::Explain { .. } => Kind::Skipped("EXPLAIN"),
        Sql::ExplainTable { .. } => Kind::Query { is_volatile: false },
        Sql::Set(_) => Kind::Setting,
        Sql::CreateTable(create) => Kind::ChangeTable { table: create.name.to_string(), is_create: true },
        Sql::CreateView(create) => Kind::CreateView { view: create.name.to_string() },
        Sql::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => changed(name),
            _ => Kind::Local("INSERT"),
        },
        Sql::Update(_) | Sql::Delete(_) | Sql::Merge(_) | Sql::Truncate(_) => written_table(statement),
        Sql::Drop { object_type, names, .. } => match (object_type, names.as_slice()) {
            (ObjectType::Table, [name]) => Kind::Drop { table: name.to_string(), is_view: false },
            (ObjectType::View, [name]) => Kind::Drop { table: name.to_string(), is_view: true },
            (ObjectType::Schema, _) => Kind::Schema,
            _ => Kind::Local("DROP"),
        },
        Sql::CreateSchema { .. } => Kind::Schema,
        Sql::CreateDatabase { .. } => Kind::Local("CREATE DATABASE"),
        Sql::Prepare { .. } | Sql::Execute { .. } | Sql::Deallocate { .. } => Kind::Local("PREPARE, EXECUTE"),
        Sql::CreateFunction(_) | Sql::DropFunction(_) => Kind::Local("CREATE FUNCTION"),
        Sql::StartTransaction { .. } | Sql::Commit { .. } | Sql::Rollback { .. } => Kind::Local("transactions"),
        other if other.to_string().to_ascii_uppercase().starts_with("SHOW") => Kind::Skipped("SHOW"),
        _ => Kind::Local("other statements"),
    }
}

/// The table that an UPDATE, DELETE, MERGE or TRUNCATE changes: the first one that it names.
fn written_table(statement: &Sql) -> Kind {
    let mut first = Kind::Local("UPDATE, DELETE, MERGE, TRUNCATE");
    let _ = visit_relations(statement, |name: &ObjectName| {
        first = changed(name);
        ControlFlow::Break(())
    });
    first
}

fn changed(name: &ObjectName) -> Kind {
    Kind::ChangeTable { table: name.to_string(), is_create: false }
}

/// The table of `SELECT … INTO table`.
fn select_into(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select.into.as_ref()?.name.to_string()),
        _ => None,
    }
}

fn is_volatile(statement: &Sql) -> bool {
    let mut found = false;
    let _ = visit_expressions(statement, |expression: &Expr| {
        if let Expr::Function(function) = expression {
            let name = function.name.to_string().to_ascii_lowercase();
            found |= VOLATILE.contains(&name.as_str());
            // `current_date` and the like are functions without brackets.
            found |= matches!(function.args, FunctionArguments::None) && name.starts_with("current_");
        }
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

/// The statement with absolute locations, and the names of one catalog.
pub fn with_absolute_locations(sql: &str, locations: &[String], root: &std::path::Path) -> String {
    locations.iter().fold(sql.to_owned(), |sql, location| {
        if location.contains("://") || location.starts_with('/') {
            return sql;
        }
        let absolute = root.join(location).display().to_string();
        sql.replace(&format!("'{location}'"), &format!("'{absolute}'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sql: &str) -> Kind {
        classify(sql, "generic").kind
    }

    #[test]
    fn statement_kinds_follow_from_the_syntax() {
        let table = || "t".to_owned();
        let change = |is_create| Kind::ChangeTable { table: table(), is_create };
        assert_eq!(kind("SELECT 1;"), Kind::Query { is_volatile: false });
        assert_eq!(kind("SELECT random()"), Kind::Query { is_volatile: true });
        assert_eq!(kind("SELECT current_date"), Kind::Query { is_volatile: true });
        assert_eq!(kind("EXPLAIN SELECT 1"), Kind::Skipped("EXPLAIN"));
        assert_eq!(kind("SHOW TABLES"), Kind::Skipped("SHOW"));
        assert_eq!(kind("SET a.b = 1"), Kind::Setting);
        assert_eq!(kind("RESET a.b"), Kind::Setting);
        assert_eq!(kind("CREATE TABLE t AS SELECT 1"), change(true));
        assert_eq!(kind("INSERT INTO t VALUES (1)"), change(false));
        assert_eq!(kind("DELETE FROM t"), change(false));
        assert_eq!(kind("UPDATE t SET a = 1"), change(false));
        assert_eq!(kind("TRUNCATE TABLE t"), change(false));
        assert_eq!(kind("DROP VIEW t"), Kind::Drop { table: table(), is_view: true });
        assert_eq!(kind("no SQL at all"), Kind::Query { is_volatile: false });
    }

    #[test]
    fn relative_locations_become_absolute() {
        let sql = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '../a.csv'";
        let found = with_absolute_locations(sql, &["../a.csv".to_owned()], std::path::Path::new("/r"));
        assert!(found.ends_with("LOCATION '/r/../a.csv'"), "{found}");
    }
}
