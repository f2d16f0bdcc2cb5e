//! Names of tables and schemas, and the keys under which the store has them.

use std::fmt;

use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use springald_core::error::{Error, Result};

/// The one catalog there is.
pub const CATALOG: &str = "springald";

/// The schema of names written without one. It always exists.
pub const DEFAULT_SCHEMA: &str = "public";

/// The schema in which DataFusion describes all others.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// Longest name of a table or schema, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// All that the catalog keeps is below this prefix.
pub(super) const PREFIX: &str = "catalog/";
pub(super) const TABLES: &str = "catalog/tables/springald/";
pub(super) const SCHEMAS: &str = "catalog/schemas/springald/";

/// A table's or view's name, with its schema. The catalog is always [`CATALOG`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name within the schema.
    pub name: String,
}

impl TableName {
    /// What `reference` means in a session with these options. It may name a table that does not exist.
    ///
    /// # Errors
    /// Another catalog than [`CATALOG`]; an empty or too long name.
    pub fn resolve(reference: &TableReference, options: &ConfigOptions) -> Result<Self> {
        let full = reference.clone().resolve(&options.catalog.default_catalog, &options.catalog.default_schema);
        check_catalog(&full.catalog)?;
        check_name("schema", &full.schema)?;
        check_name("table", &full.table)?;
        Ok(Self { schema: full.schema.to_string(), name: full.table.to_string() })
    }

    /// As DataFusion writes it.
    pub fn reference(&self) -> TableReference {
        TableReference::full(CATALOG, self.schema.as_str(), self.name.as_str())
    }

    pub(super) fn key(&self) -> String {
        format!("{}{}", tables_of(&self.schema), encoded(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CATALOG}.{}.{}", self.schema, self.name)
    }
}

/// Prefix of the keys of a schema's tables.
pub(super) fn tables_of(schema: &str) -> String {
    format!("{TABLES}{}/", encoded(schema))
}

pub(super) fn schema_key(schema: &str) -> String {
    format!("{SCHEMAS}{}", encoded(schema))
}

/// Any SQL identifier as one segment of a key: different names give different segments, and none has a '/'.
fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

pub(super) fn check_catalog(catalog: &str) -> Result<()> {
    if catalog == CATALOG {
        return Ok(());
    }
    Err(Error::not_found(format!("catalog {catalog:?} does not exist: the only one is {CATALOG}")))
}

pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        let shown: String = name.chars().take(40).collect();
        return Err(Error::invalid(format!(
            "{shown:?} cannot be the name of a {what}: names have 1 to {MAX_NAME_BYTES} bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> TableName {
        TableName { schema: schema.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn given_names_that_look_like_paths_their_keys_stay_apart_and_below_the_prefix() {
        let names = [name("a", "b/c"), name("a/b", "c"), name("a", "b%2Fc"), name("..", ".."), name("A", "é \n")];
        let keys: Vec<_> = names.iter().map(TableName::key).collect();
        for (position, key) in keys.iter().enumerate() {
            let segments = key.strip_prefix(TABLES).expect("below the prefix").split('/').count();
            assert_eq!(segments, 2, "{key}");
            assert!(!keys[position + 1..].contains(key), "{key} is the key of two tables");
        }
    }

    #[test]
    fn given_a_name_without_schema_or_catalog_the_sessions_defaults_complete_it() {
        let mut options = ConfigOptions::default();
        options.catalog.default_catalog = CATALOG.to_owned();
        options.catalog.default_schema = "sales".to_owned();
        let resolve = |text: &str| TableName::resolve(&TableReference::from(text), &options);
        assert_eq!(resolve("t").expect("bare"), name("sales", "t"));
        assert_eq!(resolve("s.t").expect("with schema"), name("s", "t"));
        assert!(resolve("other.s.t").is_err());
        assert!(TableName::resolve(&TableReference::bare("x".repeat(300)), &options).is_err());
    }
}
