//! The client: a session with one of several servers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::sql::{
    Any, CommandGetTables, CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo};
use futures::TryStreamExt;
use parking_lot::Mutex;
use prost::Message;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

use crate::address::Address;
use crate::connection::{self, ConnectOptions, Flight};
use crate::error::{ClientError, Result};
use crate::patience::Patience;
use crate::query::QueryStream;
use crate::tables::{self, TableInfo};

/// Most connections to servers that endpoints named; beyond it, the oldest is closed.
const MAX_PEERS: usize = 16;

/// A server that is connected.
#[derive(Clone)]
struct Server {
    address: Address,
    flight: Flight,
}

/// A session with a Flight SQL server. Clones share it, and may be used at the same time.
///
/// When the server is lost, the session goes on at another one of those that [`Client::connect`] was given: queries are
/// submitted again, and results read on from where they broke off.
#[derive(Clone)]
pub struct Client {
    /// The server in use; another one after it was lost.
    server: Arc<Mutex<Server>>,
    /// All servers of the cluster, as far as they were named.
    addresses: Arc<[Address]>,
    /// The server's session: its `authorization` header, to be sent back with every call.
    token: Option<AsciiMetadataValue>,
    options: ConnectOptions,
    /// Connections to other servers, kept because every query may name them again.
    peers: Arc<Mutex<Vec<(Address, Flight)>>>,
}

impl Client {
    /// Connects to the first server of `url` that answers, and opens a session there.
    ///
    /// `url` is one or several addresses, separated by commas, each `host:port`, `grpc://host:port` or
    /// `http://host:port`, with `user:password@` before the host if the server asks who you are. Port 50050 may be
    /// left out.
    ///
    /// # Errors
    /// [`ClientError::Address`] if `url` cannot be read, [`ClientError::Connect`] if no server answers, and the server's
    /// own error if it refuses the session.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, ConnectOptions::default()).await
    }

    /// As [`Client::connect`], with options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(url: &str, options: ConnectOptions) -> Result<Self> {
        let mut attempts = Vec::new();
        let addresses: Arc<[Address]> = Address::parse_list(url)?.into();
        for address in addresses.iter() {
            match Self::open_session(address, &addresses, options).await {
                Ok(client) => return Ok(client),
                Err(ClientError::Connect { attempts: attempt }) => attempts.push(attempt),
                Err(error) if error.is_unavailable() => attempts.push(format!("{address}: {error}")),
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::Connect { attempts: attempts.join("; ") })
    }

    async fn open_session(address: &Address, addresses: &Arc<[Address]>, options: ConnectOptions) -> Result<Self> {
        let mut flight = connection::open(address, options).await?;
        let token = connection::handshake(&mut flight, address, options).await?;
        let server = Arc::new(Mutex::new(Server { address: address.clone(), flight }));
        Ok(Self { server, addresses: Arc::clone(addresses), token, options, peers: Arc::default() })
    }

    /// The server in use, as `http://host:port`.
    pub fn url(&self) -> String {
        self.server.lock().address.to_string()
    }

    /// Submits any statement. Statements without a result, as DDL and SET, give a stream without rows; they too are
    /// done only when the stream has ended.
    ///
    /// # Errors
    /// What the server says of the statement before it runs. Errors while it runs come from the stream.
    pub async fn query(&self, sql: &str) -> Result<QueryStream> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let repeatable = is_repeatable(sql);
        QueryStream::open(self.clone(), self.flight_info(command.as_any(), repeatable).await?)
    }

    /// Submits a statement and collects its whole result in memory.
    ///
    /// # Errors
    /// As [`Client::query`] and its stream.
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.query(sql).await?.collect_all().await
    }

    /// Runs a statement as an update, and returns the number of rows it changed; -1 if the server cannot say.
    ///
    /// # Errors
    /// What the server says of the statement.
    pub async fn execute_update(&self, sql: &str) -> Result<i64> {
        let command = CommandStatementUpdate { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let data = FlightData::new().with_descriptor(descriptor);
        let request = self.request(futures::stream::iter([data]));
        let mut answers = self.flight().do_put(request).await?.into_inner();
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| ClientError::Protocol("no answer to an update".to_owned()))?;
        Ok(DoPutUpdateResult::decode(answer.app_metadata)?.record_count)
    }

    /// All tables and views that the session may see.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tables(&self) -> Result<Vec<TableInfo>> {
        let info = self.flight_info(CommandGetTables::default().as_any(), true).await?;
        let batches: Vec<RecordBatch> = QueryStream::open(self.clone(), info)?.try_collect().await?;
        batches.iter().try_fold(Vec::new(), |mut all, batch| {
            all.extend(tables::from_batch(batch)?);
            Ok(all)
        })
    }

    /// Asks where the answer to a command is; of other servers, too, if it may be asked twice and the one in use is lost.
    async fn flight_info(&self, command: Any, repeatable: bool) -> Result<FlightInfo> {
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        let mut patience = Patience::new(self.options.resume_timeout);
        // A server that cannot answer now, as one that is cut off from its store, says so: others may be able to.
        let mut others = self.addresses.len() - 1;
        loop {
            match self.flight().get_flight_info(self.request(descriptor.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => {
                    let error = ClientError::from(status);
                    let elsewhere = error.is_unavailable() && others > 0;
                    if !repeatable || !(error.may_resume() || elsewhere) {
                        return Err(error);
                    }
                    others = others.saturating_sub(usize::from(!error.may_resume()));
                    patience.wait_after(error).await?;
                    self.fail_over().await;
                }
            }
        }
    }

    /// Goes on to the next server that can be reached, if there is one; else stays.
    async fn fail_over(&self) {
        let current = self.server.lock().address.clone();
        let at = self.addresses.iter().position(|address| *address == current).unwrap_or_default();
        for step in 1..=self.addresses.len() {
            let Some(address) = self.addresses.get((at + step) % self.addresses.len()) else { return };
            if let Ok(flight) = connection::open(address, self.options).await {
                *self.server.lock() = Server { address: address.clone(), flight };
                return;
            }
        }
    }

    /// How long a lost server is made up for.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.options.resume_timeout)
    }

    /// All servers that were named, the one in use first.
    pub(crate) fn locations(&self) -> Vec<String> {
        let current = self.url();
        let others = self.addresses.iter().map(ToString::to_string).filter(|address| *address != current);
        std::iter::once(current.clone()).chain(others).collect()
    }

    /// Runs an action that answers once at most, and returns the answer's body.
    pub(crate) async fn action(&self, kind: &str, body: Vec<u8>) -> Result<Option<bytes::Bytes>> {
        let request = self.request(Action::new(kind, body));
        let mut answers = self.flight().do_action(request).await?.into_inner();
        Ok(answers.message().await?.map(|answer| answer.body))
    }

    /// The connection to the server of this session.
    pub(crate) fn flight(&self) -> Flight {
        self.server.lock().flight.clone()
    }

    /// A connection to the server at `location`, which an endpoint named.
    pub(crate) async fn flight_to(&self, location: &str) -> Result<Flight> {
        let address = Address::parse(location)?;
        let current = self.server.lock().clone();
        if address.is_same_server(&current.address) {
            return Ok(current.flight);
        }
        let known =
            self.peers.lock().iter().find(|(peer, _)| peer.is_same_server(&address)).map(|(_, flight)| flight.clone());
        if let Some(flight) = known {
            return Ok(flight);
        }
        let flight = connection::open(&address, self.options).await?;
        let mut peers = self.peers.lock();
        if peers.len() >= MAX_PEERS {
            peers.remove(0);
        }
        peers.push((address, flight.clone()));
        Ok(flight)
    }

    /// A request within the session.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

/// True if a statement can be submitted twice without harm: it only reads.
fn is_repeatable(sql: &str) -> bool {
    const READING: [&str; 9] = ["select", "with", "values", "table", "from", "show", "describe", "desc", "explain"];
    let start = without_comments(sql);
    let word = start.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    READING.iter().any(|reading| word.eq_ignore_ascii_case(reading))
}

/// The text from its first word on: white space, brackets and comments before it say nothing.
fn without_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_block(comment);
        } else {
            return rest;
        }
    }
}

/// What stands behind a block comment, whose beginning is taken off; comments may be nested.
fn after_block(text: &str) -> &str {
    let (mut rest, mut open) = (text, 1);
    while open > 0 {
        let Some(at) = rest.find(['*', '/']) else { return "" };
        (rest, open) = match rest.get(at..at + 2) {
            Some("*/") => (&rest[at + 2..], open - 1),
            Some("/*") => (&rest[at + 2..], open + 1),
            _ => (&rest[at + 1..], open),
        };
    }
    rest
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_repeatable;

    #[test]
    fn given_statements_then_only_those_that_read_are_submitted_twice() {
        for sql in ["SELECT 1", " (select 1)", "with a as (select 1) select * from a", "EXPLAIN ANALYZE SELECT 1"] {
            assert!(is_repeatable(sql), "{sql}");
        }
        for sql in ["-- q1\nSELECT 1", "/* a /* b */ c **/ ( -- d\n select 1)", "/**/TABLE t"] {
            assert!(is_repeatable(sql), "{sql}");
        }
        for sql in ["CREATE VIEW a AS SELECT 1", "DROP TABLE selected", "SET a = 1", "", "-- select", "/* select"] {
            assert!(!is_repeatable(sql), "{sql}");
        }
    }
}
