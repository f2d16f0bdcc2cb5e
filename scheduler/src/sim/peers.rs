//! How schedulers reach executors and each other for results.

use std::sync::{Arc, Weak};

use arrow_flight::Ticket;
use arrow_flight::sql::{Any, TicketStatementQuery};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::ids::JobId;
use tokio::sync::{mpsc, oneshot};

use super::agenda::Agenda;
use super::process::number_of;
use super::requests::{Heard, Origin, Row, batch_of, schema};
use super::world::{Place, World};
use crate::dispatch::ResultPart;
use crate::engine::Resume;
use crate::engine::peers::{PartStream, Peers, Refusal};

/// The network as one scheduler sees it.
pub(super) struct SimPeers {
    agenda: Arc<Agenda>,
    scheduler: u32,
}

impl SimPeers {
    pub(super) fn new(agenda: &Arc<Agenda>, scheduler: u32) -> Self {
        Self { agenda: Arc::clone(agenda), scheduler }
    }
}

/// An answer that a scheduler's code waits for.
struct Reply<T> {
    scheduler: u32,
    sender: oneshot::Sender<Result<T>>,
}

fn gone(address: &str) -> Error {
    Error::unavailable(format!("{address} does not answer"))
}

#[async_trait]
impl Peers for SimPeers {
    async fn open(&self, job: &JobId, part: &ResultPart) -> Result<PartStream> {
        let Some(holder) = number_of(&part.address) else {
            return Err(Error::unavailable(format!("executor {} is gone", part.executor)));
        };
        let (job, part, scheduler) = (job.clone(), part.clone(), self.scheduler);
        let rows =
            ask(&self.agenda, scheduler, move |world, reply| world.open_part(holder, (job, part), reply)).await?;
        // The second half is on its way when its executor may be lost.
        let (first, second) = rows.split_at(rows.len() / 2);
        let (first, second, agenda) = (batch_of(first), batch_of(second), Arc::clone(&self.agenda));
        let rest = stream::once(async move {
            ask(&agenda, scheduler, move |world, reply| world.read_on(holder, reply)).await?;
            Ok(second)
        });
        Ok(PartStream::new(schema(), stream::iter([Ok(first)]).chain(rest).boxed()))
    }

    async fn redeem(&self, address: &str, ticket: Ticket, resume: &Resume) -> Result<(String, PartStream), Refusal> {
        let other = number_of(address).ok_or(Refusal::Lost)?;
        let (sender, mut heard) = mpsc::unbounded_channel();
        let (number, from, resume) = (self.agenda.number(), self.scheduler, resume.clone());
        let origin = Origin::Scheduler(from, sender);
        let connection = Connection { agenda: Arc::downgrade(&self.agenda), number };
        self.agenda.soon(move |world| world.redeem(number, other, origin, ticket, resume));
        match heard.recv().await {
            Some(Heard::Opened(version)) => {
                let rows = stream::unfold(Some((heard, connection)), |open| async move {
                    let (mut heard, connection) = open?;
                    match heard.recv().await {
                        Some(Heard::Rows(rows)) => Some((Ok(batch_of(&rows)), Some((heard, connection)))),
                        Some(Heard::Failed(error)) => Some((Err(error), None)),
                        Some(Heard::Lost) | None => Some((Err(Error::unavailable("the connection broke")), None)),
                        Some(_) => None,
                    }
                });
                Ok((version, PartStream::new(schema(), rows.boxed())))
            }
            Some(Heard::Failed(error)) => Err(Refusal::Said(error)),
            _ => Err(Refusal::Lost),
        }
    }

    async fn received(&self, address: &str, ticket: Ticket) -> Result<()> {
        let other = number_of(address).ok_or_else(|| gone(address))?;
        let (sender, mut heard) = mpsc::unbounded_channel();
        let origin = Origin::Scheduler(self.scheduler, sender);
        let number = self.agenda.number();
        let _connection = Connection { agenda: Arc::downgrade(&self.agenda), number };
        self.agenda.soon(move |world| world.received(number, other, origin, ticket));
        match heard.recv().await {
            Some(Heard::Done) => Ok(()),
            _ => Err(gone(address)),
        }
    }
}

/// A request of a scheduler's code: when that lets go of it, the other side hears.
struct Connection {
    agenda: Weak<Agenda>,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let number = self.number;
        if let Some(agenda) = self.agenda.upgrade() {
            agenda.soon(move |world| world.hang_up(number));
        }
    }
}

/// Asks the world something, and waits for the answer.
async fn ask<T: Send + 'static>(
    agenda: &Arc<Agenda>,
    scheduler: u32,
    question: impl FnOnce(&mut World, Reply<T>) + Send + 'static,
) -> Result<T> {
    let (sender, answer) = oneshot::channel();
    agenda.soon(move |world| question(world, Reply { scheduler, sender }));
    answer.await.unwrap_or_else(|_| Err(Error::unavailable("the question was lost")))
}

/// The job that a ticket is for, as a scheduler finds out.
fn job_of(world: &World, scheduler: u32, ticket: &Ticket) -> Option<JobId> {
    let any = Any::decode(ticket.ticket.as_ref()).ok()?;
    let handle = any.unpack::<TicketStatementQuery>().ok()??.statement_handle;
    let engine = &world.schedulers.get(&scheduler)?.core.as_ref()?.engine;
    engine.tickets().job_of(&handle).ok()
}

impl World {
    fn give<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T>) {
        let latency = self.latency();
        self.agenda.after(latency, move |world| {
            let _ = reply.sender.send(answer);
            world.run(reply.scheduler);
        });
    }

    /// A scheduler asks an executor for a part of a result.
    fn open_part(&mut self, holder: u32, (job, part): (JobId, ResultPart), reply: Reply<Vec<Row>>) {
        self.at_holder(holder, reply, move |world| {
            let machine = world.executors.get(&holder);
            let output = machine.and_then(|machine| machine.executor.outputs.get(&(job, part.task)));
            let Some(output) = output.filter(|output| output.finished) else {
                return Err(Error::not_found("the piece is not here (any more)"));
            };
            let written = output.written.clone();
            let number = world.versions.len() as u64;
            world.versions.push(written.versions);
            let pieces = part.partitions.iter().filter_map(|partition| written.pieces.get(partition));
            Ok(pieces.flatten().map(|row| (*row, number)).collect())
        });
    }

    fn read_on(&mut self, holder: u32, reply: Reply<()>) {
        self.at_holder(holder, reply, |_| Ok(()));
    }

    /// Answers at an executor, as soon as that can be reached; else that it cannot.
    fn at_holder<T: Send + 'static>(
        &mut self,
        holder: u32,
        reply: Reply<T>,
        answer: impl FnOnce(&mut World) -> Result<T> + Send + 'static,
    ) {
        let ends = (Place::Scheduler(reply.scheduler), Place::Executor(holder));
        let reply = Arc::new(parking_lot::Mutex::new(Some(reply)));
        let otherwise = Arc::clone(&reply);
        let patience = self.agenda.chance(|chance| chance.number(2_000_000, 7_000_000));
        let reached = move |world: &mut World| {
            let answer = answer(world);
            if let Some(reply) = reply.lock().take() {
                world.give(reply, answer);
            }
        };
        let given_up = move |world: &mut World| {
            if let Some(reply) = otherwise.lock().take() {
                world.give(reply, Err(gone(&format!("executor-{holder}"))));
            }
        };
        self.when_reached(ends, patience, reached, given_up);
    }

    fn redeem(&mut self, number: u64, scheduler: u32, origin: Origin, ticket: Ticket, resume: Resume) {
        self.request_as(number, scheduler, origin, move |world, number| match job_of(world, scheduler, &ticket) {
            Some(job) => world.stream_result(number, job, resume),
            None => {
                world.violated(format!("scheduler-{scheduler} does not take a ticket of another scheduler"));
                None
            }
        });
    }

    fn received(&mut self, number: u64, scheduler: u32, origin: Origin, ticket: Ticket) {
        self.request_as(number, scheduler, origin, move |world, number| {
            let job = job_of(world, scheduler, &ticket)?;
            let process = world.schedulers.get(&scheduler)?;
            let (engine, agenda) = (Arc::clone(&process.core.as_ref()?.engine), world.agenda.clone());
            Some(process.spawn(async move {
                let heard = match engine.received(&job).await {
                    Ok(()) => Heard::Done,
                    Err(error) => Heard::Failed(error),
                };
                agenda.soon(move |world| world.reply(number, heard));
            }))
        });
    }
}
