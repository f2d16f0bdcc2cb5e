//! Flight SQL: the door for clients.
//!
//! ```text
//! GetFlightInfo(sql) ─▶ Engine::submit ─▶ FlightInfo(schema, ticket = job id)
//! DoGet(ticket)      ─▶ Engine::results ─▶ slices ─▶ wire layouts ─▶ messages under clients' limits
//! DoPut(update)      ─▶ submit, and wait for the end
//! ```
//!
//! Nothing is kept here between requests: tickets and prepared statements carry all they need, and sessions are in
//! the store. So every scheduler answers every request. Whether a client is let in is not asked yet; handshakes accept
//! anybody, and the log says so.

mod actions;
mod caller;
mod calls;
mod encode;
mod handles;
mod info;
mod metadata;
mod parameters;
mod requests;
mod service;
#[cfg(test)]
pub(crate) mod tests;
mod unshared;
mod wire;

pub use calls::CountedCalls;
pub use service::FlightSql;
