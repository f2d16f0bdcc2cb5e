//! The exchange: the output of stages, kept where it was made until its readers are done.
//!
//! ```text
//!  task ──▶ Splitter ──▶ PieceWriter ──▶ ExchangeStore ──▶ memory, or past the budget SpillArea (disk)
//!                                           ▲      ▲
//!                   TaskInput (this process)┘      └ExchangeService (Flight) ◀── TaskInput of other executors,
//!                                                                                schedulers (results)
//! ```
//!
//! A *piece* is what one task attempt wrote for one output partition. Nothing here knows what a stage computes, or
//! when a piece is needed no longer: schedulers say so.

mod compact;
pub(crate) mod encode;
mod fetch;
mod gather;
mod handover;
pub(crate) mod input;
pub(crate) mod partition;
pub(crate) mod peers;
mod retained;
pub(crate) mod service;
mod size;
pub(crate) mod store;
pub(crate) mod ticket;
