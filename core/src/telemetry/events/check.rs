//! Holds a written line to the declarations.

use serde_json::Value;

use super::{ENVELOPE, Kind, LOG, SCHEMA_VERSION, field, find};

/// Fields that every line has.
const ALWAYS: [&str; 11] =
    ["v", "event_id", "sequence", "ts", "level", "service", "instance", "cluster", "event", "message", "target"];

/// Says what is wrong with a line of events; `Ok` for one that keeps the contract.
///
/// # Errors
/// Names the field or event.
pub fn check_line(line: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let object = value.as_object().ok_or("not an object")?;
    if let Some(missing) = ALWAYS.iter().find(|name| !object.contains_key(**name)) {
        return Err(format!("{missing} is missing"));
    }
    if value["v"] != SCHEMA_VERSION {
        return Err(format!("v is {}", value["v"]));
    }
    let (instance, sequence) = (text(&value, "instance"), value["sequence"].as_u64().unwrap_or_default());
    if sequence == 0 || text(&value, "event_id") != format!("{instance}-{sequence}") {
        return Err(format!("event_id {} is not instance and sequence", value["event_id"]));
    }
    check_time(text(&value, "ts"))?;
    if !["error", "warn", "info", "debug", "trace"].contains(&text(&value, "level")) {
        return Err(format!("level is {}", value["level"]));
    }
    let name = text(&value, "event");
    let event = find(name).ok_or_else(|| format!("event {name:?} is not declared"))?;
    for (key, content) in object {
        let declared = field(key).ok_or_else(|| format!("{name}: field {key:?} is not declared"))?;
        let of_envelope = ENVELOPE.iter().any(|field| field.name == key);
        if !of_envelope && !event.fields.contains(&key.as_str()) {
            return Err(format!("{name}: field {key:?} is not declared for this event"));
        }
        let fits = match declared.kind {
            Kind::Text => content.is_string(),
            Kind::Integer => content.is_i64() || content.is_u64(),
            Kind::Flag => content.is_boolean(),
            Kind::Json => content.is_object() || content.is_array(),
        };
        if !fits {
            return Err(format!("{name}: field {key:?} is {content}, not {}", declared.kind.name()));
        }
    }
    if name == LOG && text(&value, "target").starts_with("springald") {
        return Err(format!("an event of {} without a name: {}", value["target"], value["message"]));
    }
    Ok(value)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// RFC 3339 in UTC, with six digits of a second.
fn check_time(ts: &str) -> Result<(), String> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000000Z";
    let fits = ts.len() == SHAPE.len()
        && ts
            .bytes()
            .zip(SHAPE)
            .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape });
    if fits && chrono::DateTime::parse_from_rfc3339(ts).is_ok() { Ok(()) } else { Err(format!("ts is {ts:?}")) }
}
