//! ClickHouse over HTTP, and its tables: the migrations of `clickhouse/migrations`, each applied once, in order.
//!
//! ```text
//! migrations/NNN_name.sql ──┐ placeholders        ┌──▶ one server: plain tables
//! cluster/NNN_name.sql ─────┼─────────────────────┤
//! views/name.sql ───────────┘                     └──▶ a cluster: replicated tables `…_local`, and `Distributed` ones over them
//! ```
//!
//! Every statement can be repeated: a migration that broke off in the middle is simply applied again.

use bytes::Bytes;
use include_dir::Dir;
use sha2::{Digest, Sha256};
use url::Url;

use crate::files::{CLICKHOUSE, texts};
use crate::http::{self, Answer};
use crate::{Error, Result};

/// The oldest server that has all that the tables need.
pub const OLDEST: (u32, u32) = (23, 3);

/// Where the tables are, and what kind of tables.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The database.
    pub database: String,
    /// Name of the ClickHouse cluster, for replicated and sharded tables; `None`: one server.
    pub cluster: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Names of the migrations that were applied now.
    pub applied: Vec<String>,
    /// How many there were already.
    pub earlier: usize,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    url: Url,
    headers: Vec<(hyper::header::HeaderName, String)>,
}

impl Server {
    /// The server at `http://[user[:password]@]host:port`.
    ///
    /// # Errors
    /// If that is no address.
    pub fn at(address: &str) -> Result<Self> {
        let mut url = http::address(address)?;
        let mut headers = vec![];
        if !url.username().is_empty() {
            headers.push((hyper::header::HeaderName::from_static("x-clickhouse-user"), url.username().to_owned()));
            let password = url.password().unwrap_or_default().to_owned();
            headers.push((hyper::header::HeaderName::from_static("x-clickhouse-key"), password));
            // Neither fails for an address that has a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        Ok(Self { url, headers })
    }

    /// Runs a statement and returns its rows in `format`, with parameters for its `{name:Type}`.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses it.
    pub async fn query(&self, sql: &str, format: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("default_format", format);
        for (name, value) in parameters {
            url.query_pairs_mut().append_pair(&format!("param_{name}"), value);
        }
        let answer = http::request(&url, &self.headers, Some(Bytes::from(sql.to_owned()))).await?;
        self.accepted(sql, &answer)?;
        Ok(answer.text())
    }

    /// Inserts rows, one JSON object per line, as Vector's sink does.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses them.
    pub async fn insert(&self, database: &str, table: &str, rows: impl Into<Bytes>) -> Result<()> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("input_format_import_nested_json", "1")
            .append_pair("input_format_skip_unknown_fields", "0")
            .append_pair("date_time_input_format", "best_effort")
            .append_pair("query", "INSERT INTO {database:Identifier}.{table:Identifier} FORMAT JSONEachRow")
            .append_pair("param_database", database)
            .append_pair("param_table", table);
        let answer = http::request(&url, &self.headers, Some(rows.into())).await?;
        self.accepted(&format!("rows for {table}"), &answer)
    }

    fn accepted(&self, what: &str, answer: &Answer) -> Result<()> {
        if answer.is_ok() {
            return Ok(());
        }
        let what = what.trim().lines().next().unwrap_or_default().to_owned();
        Err(Error::Refused { server: self.url.to_string(), what, why: answer.text().trim().to_owned() })
    }
}

/// Applies what was not applied yet.
///
/// # Errors
/// If the server cannot be reached, refuses a statement, or a migration that it has differs from the one here.
pub async fn migrate(server: &Server, schema: &Schema) -> Result<Migrated> {
    for statement in schema.first() {
        server.query(&statement, "TabSeparated", &[]).await?;
    }
    let known = known(server, schema).await?;
    let mut migrated = Migrated { applied: vec![], earlier: 0 };
    for (name, text) in schema.migrations() {
        let checksum = checksum(text);
        match known.iter().find(|(applied, _)| *applied == name) {
            Some((_, found)) if *found != checksum => return Err(Error::MigrationChanged { name }),
            Some(_) => migrated.earlier += 1,
            None => {
                for statement in schema.statements(text) {
                    server.query(&statement, "TabSeparated", &[]).await?;
                }
                let sql = format!(
                    "INSERT INTO {}.schema_migrations (name, checksum) SELECT {{name:String}}, {{checksum:String}}",
                    schema.database
                );
                server.query(&sql, "TabSeparated", &[("name", &name), ("checksum", &checksum)]).await?;
                migrated.applied.push(name);
            }
        }
    }
    for (_, text) in folder("views") {
        for statement in schema.statements(text) {
            server.query(&statement, "TabSeparated", &[]).await?;
        }
    }
    Ok(migrated)
}

async fn known(server: &Server, schema: &Schema) -> Result<Vec<(String, String)>> {
    let sql = format!("SELECT name, checksum FROM {}.schema_migrations", schema.database);
    let rows = server.query(&sql, "TabSeparated", &[]).await?;
    Ok(rows.lines().filter_map(|row| row.split_once('\t')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
}

fn folder(name: &str) -> Vec<(String, &'static str)> {
    CLICKHOUSE.get_dir(name).map(|folder: &Dir<'static>| texts(folder, "sql")).unwrap_or_default()
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Schema {
    /// The statements before any migration: the database, and the table of those that were applied.
    fn first(&self) -> Vec<String> {
        self.statements(
            "CREATE DATABASE IF NOT EXISTS {database} {on_cluster};\n\
             CREATE TABLE IF NOT EXISTS {database}.schema_migrations {on_cluster} (name String, checksum String, \
             applied_at DateTime64(6, 'UTC') DEFAULT now64(6)) ENGINE = {replicated}MergeTree ORDER BY name;\n",
        )
    }

    /// The migrations, in order, with their texts.
    pub fn migrations(&self) -> Vec<(String, &'static str)> {
        let mut all = folder("migrations");
        if self.cluster.is_some() {
            all.extend(folder("cluster").into_iter().map(|(name, text)| (format!("cluster/{name}"), text)));
        }
        all
    }

    /// The statements of a file, with the placeholders filled in and without comments.
    pub fn statements(&self, text: &str) -> Vec<String> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let on_cluster = self.cluster.as_ref().map(|name| format!("ON CLUSTER '{name}'")).unwrap_or_default();
        let (local, replicated) = if self.cluster.is_some() { ("_local", "Replicated") } else { ("", "") };
        let text = text
            .replace("{database}", &self.database)
            .replace("{on_cluster}", &on_cluster)
            .replace("{local}", local)
            .replace("{replicated}", replicated)
            .replace("{cluster}", self.cluster.as_deref().unwrap_or_default());
        text.split(";\n").map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_one_server_then_tables_are_plain_and_with_a_cluster_they_are_replicated_and_distributed() {
        let plain = Schema { database: "d".to_owned(), cluster: None };
        let all = |schema: &Schema| {
            let texts = schema.migrations().into_iter().map(|(_, text)| text);
            texts.flat_map(|text| schema.statements(text)).collect::<Vec<_>>().join("\n")
        };
        let one = all(&plain);
        assert!(
            one.contains("CREATE TABLE IF NOT EXISTS d.events \n") && one.contains("ENGINE = ReplacingMergeTree"),
            "{one}"
        );
        assert!(!one.contains("Replicated") && !one.contains("Distributed") && !one.contains("ON CLUSTER"), "{one}");
        let many = all(&Schema { cluster: Some("c".to_owned()), ..plain });
        for part in [
            "d.events_local ON CLUSTER 'c'",
            "ENGINE = ReplicatedReplacingMergeTree",
            "Distributed('c', 'd', 'events_local'",
        ] {
            assert!(many.contains(part), "{part} is not in\n{many}");
        }
        for text in [one, many] {
            assert!(!["{database}", "{local}", "{replicated}", "{on_cluster}"].iter().any(|name| text.contains(name)));
        }
    }
}
