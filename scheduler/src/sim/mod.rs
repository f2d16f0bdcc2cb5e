//! The simulation: several schedulers as they are (dispatch, journal, takeover, sweep, membership, engine, control), in a
//! world that is made up: store, network, executors, clients, clock.
//!
//! ```text
//!   seed ──▶ plan: who is there, what goes wrong and when
//!   agenda: what is due next ──▶ World ──▶ a message, an answer of the store, an alarm ──▶ the schedulers' code runs
//!             ▲                                                                            until it has nothing to do
//!             └────────── what it sends, asks, waits for ◀───────────────────────────────────┘
//!   in the end: every answer is the right one, and nothing is left
//! ```
//!
//! All of it is one thread and one queue, so that a seed always gives the same run. `make sim SEED=…` prints one.

pub(crate) mod agenda;
mod chance;
mod checks;
mod clients;
mod connection;
mod executor;
mod faults;
mod kv;
mod machine;
mod peers;
mod process;
mod requests;
mod store;
mod streams;
mod tasks;
mod tests;
mod trace;
mod work;
mod world;

use world::World;

/// Runs a simulation. Fails with what was not as it must be.
fn simulate(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    world.begin();
    world.go_on(|world| world.settled);
    match world.violation.take() {
        Some(violation) => Err(violation),
        None => world.repeated(),
    }
}
