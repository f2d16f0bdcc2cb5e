//! The stream of events and its consumer: made as the files of `nats/` say, and made to be so again when they change.
//!
//! The files are what JetStream's API takes, so that `nats stream add --config` takes them too.

mod client;

use serde_json::{Value, json};

pub use client::{Client, Message};

use crate::files::{CONSUMER, STREAM};
use crate::{Error, Result};

/// JetStream's code for a stream that is not there.
const STREAM_NOT_FOUND: i64 = 10059;

/// What was found and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was not there.
    Created,
    /// It was there, and is as the file says now.
    Updated,
}

/// Makes the stream and the consumer, with so many copies of what they keep.
///
/// # Errors
/// If the server cannot be reached, or refuses: what a stream keeps where (`storage`, `retention`) cannot be changed.
pub async fn setup(urls: &str, replicas: u32) -> Result<Made> {
    let mut client = Client::connect(urls).await?;
    let mut stream = settings(STREAM)?;
    stream["num_replicas"] = replicas.into();
    let name = text(&stream, "name");
    let made = match ask(&mut client, &format!("STREAM.INFO.{name}"), &json!({})).await? {
        Some(_) => Made::Updated,
        None => Made::Created,
    };
    let verb = if made == Made::Created { "CREATE" } else { "UPDATE" };
    tell(&mut client, &format!("STREAM.{verb}.{name}"), &stream).await?;
    let consumer = settings(CONSUMER)?;
    let durable = text(&consumer, "durable_name");
    let request = json!({"stream_name": name, "config": consumer});
    tell(&mut client, &format!("CONSUMER.DURABLE.CREATE.{name}.{durable}"), &request).await?;
    Ok(made)
}

/// Asks JetStream's API; `None` if it knows no such stream.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub async fn ask(client: &mut Client, what: &str, request: &Value) -> Result<Option<Value>> {
    let answer = client.request(&format!("$JS.API.{what}"), None, request.to_string().as_bytes()).await?;
    let refused = |why: String| Error::Refused { server: client.server().to_owned(), what: what.to_owned(), why };
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| refused(error.to_string()))?;
    match answer.get("error") {
        None => Ok(Some(answer)),
        Some(error) if error["err_code"] == STREAM_NOT_FOUND => Ok(None),
        Some(error) => Err(refused(error["description"].as_str().unwrap_or_default().to_owned())),
    }
}

async fn tell(client: &mut Client, what: &str, request: &Value) -> Result<()> {
    match ask(client, what, request).await? {
        Some(_) => Ok(()),
        None => Err(Error::Refused {
            server: client.server().to_owned(),
            what: what.to_owned(),
            why: "the stream is not there any more".to_owned(),
        }),
    }
}

fn settings(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::Invalid(format!("deploy/nats: {error}")))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
