//! What a view's text may refer to, and the settings under which it is read.

use std::collections::HashMap;

use datafusion::common::{DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::sql::resolve::resolve_table_references;
use springald_core::error::{Error, ErrorCode, Result};
use springald_proto::records::View;

use super::name::{CATALOG, DEFAULT_SCHEMA, TableName};

/// Settings on which the meaning of a text depends: all below the first, and the second.
const PARSER_SETTINGS: &str = "datafusion.sql_parser.";
const TIME_ZONE: &str = "datafusion.execution.time_zone";

/// Refuses a view that would not mean later what it means now: views are planned with the default catalog and schema.
pub(super) fn check(name: &TableName, sql: &str, state: &SessionState) -> Result<()> {
    let options = state.config_options();
    let statement = state.sql_to_statement(sql, &options.sql_parser.dialect)?;
    let (references, _) = resolve_table_references(&statement, options.sql_parser.enable_ident_normalization)?;
    for reference in references {
        let later = reference.clone().resolve(CATALOG, DEFAULT_SCHEMA);
        let now = reference.resolve(&options.catalog.default_catalog, &options.catalog.default_schema);
        if now != later {
            return Err(Error::unsupported(format!(
                "write {now} with its schema: a view does not keep the session's default schema"
            )));
        }
        if TableReference::from(later) == name.reference() {
            return Err(Error::invalid("it refers to itself"));
        }
    }
    Ok(())
}

/// Refuses a view that has other columns when it is read than in the session that makes it.
pub(super) fn check_columns(now: &DFSchema, later: &DFSchema) -> Result<()> {
    let columns = |schema: &DFSchema| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    match columns(now) == columns(later) {
        true => Ok(()),
        false => Err(Error::unsupported(
            "its columns depend on settings of this session that a view does not keep: RESET them, or cast the columns",
        )),
    }
}

/// The session's settings on which the meaning of a text depends, as far as they are not the defaults.
pub(super) fn settings(defaults: &SessionState, session: &SessionState) -> HashMap<String, String> {
    let counts = |key: &str| key.starts_with(PARSER_SETTINGS) || key == TIME_ZONE;
    let known = |state: &SessionState| -> HashMap<String, Option<String>> {
        let entries = state.config_options().entries().into_iter();
        entries.filter(|entry| counts(&entry.key)).map(|entry| (entry.key, entry.value)).collect()
    };
    let defaults = known(defaults);
    let others = known(session).into_iter().filter(|(key, value)| defaults.get(key) != Some(value));
    others.filter_map(|(key, value)| Some((key, value?))).collect()
}

/// A session in which the view's text means what it did when the view was made.
///
/// # Errors
/// A setting of the view is unknown to this version.
pub(super) fn session(defaults: &SessionState, view: &View) -> Result<SessionState> {
    if view.settings.is_empty() {
        return Ok(defaults.clone());
    }
    let mut config = defaults.config().clone();
    let options: &mut ConfigOptions = config.options_mut();
    for (key, value) in &view.settings {
        options.set(key, value).map_err(|error| {
            let message = format!("its setting {key} = {value:?} cannot be used by this version");
            Error::new(ErrorCode::Unsupported, message).with_source(error)
        })?;
    }
    // Building it configures the functions.
    Ok(SessionStateBuilder::new_from_existing(defaults.clone()).with_config(config).build())
}
