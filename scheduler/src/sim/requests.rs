//! Requests at schedulers, of clients and of other schedulers, and their answers on the way back.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use springald_core::error::Error;
use springald_core::ids::JobId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::world::{Place, World};
use crate::engine::Resume;

/// A server that says nothing for so long is asked whether it is there, and given up.
const SILENCE: u64 = 7_000_000;

/// A row and the number of its versions, as they travel.
pub(super) type Row = (u64, u64);

/// A request at a scheduler.
pub(super) struct Request {
    pub(super) scheduler: u32,
    origin: Origin,
    abort: Option<AbortHandle>,
    /// When the last part of the answer that is on its way arrives.
    last: u64,
    /// Part of the answer did not arrive: nothing more does.
    broken: bool,
}

/// Who asks.
#[derive(Clone)]
pub(super) enum Origin {
    /// Who does not wait for the answer.
    Nobody,
    Client(usize),
    Scheduler(u32, mpsc::UnboundedSender<Heard>),
}

/// Part of an answer.
#[derive(Debug)]
pub(super) enum Heard {
    Submitted(JobId),
    Done,
    Opened(String),
    Rows(Vec<Row>),
    Failed(Error),
    /// The scheduler, or the way to it, is gone.
    Lost,
}

impl Heard {
    pub(super) fn is_last(&self) -> bool {
        !matches!(self, Heard::Opened(_) | Heard::Rows(_))
    }
}

pub(super) fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![field("row"), field("versions")]))
}

pub(super) fn batch_of(rows: &[Row]) -> RecordBatch {
    let column = |values: Vec<u64>| Arc::new(UInt64Array::from(values)) as ArrayRef;
    let columns = vec![column(rows.iter().map(|row| row.0).collect()), column(rows.iter().map(|row| row.1).collect())];
    RecordBatch::try_new(schema(), columns).expect("the schema is that of the columns")
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let column = |at| batch.column(at).as_any().downcast_ref::<UInt64Array>().expect("numbers").values();
    column(0).iter().copied().zip(column(1).iter().copied()).collect()
}

impl World {
    /// A new request is on its way to a scheduler, which does `work` with it. Gives its number.
    pub(super) fn request(
        &mut self,
        scheduler: u32,
        origin: Origin,
        work: impl FnOnce(&mut World, u64) -> Option<AbortHandle> + Send + 'static,
    ) -> u64 {
        let number = self.agenda.number();
        self.request_as(number, scheduler, origin, work);
        number
    }

    /// A request is on its way to a scheduler, which does `work` with it.
    pub(super) fn request_as(
        &mut self,
        number: u64,
        scheduler: u32,
        origin: Origin,
        work: impl FnOnce(&mut World, u64) -> Option<AbortHandle> + Send + 'static,
    ) {
        let latency = self.latency();
        let from = match &origin {
            Origin::Scheduler(from, _) => Some(Place::Scheduler(*from)),
            Origin::Client(_) | Origin::Nobody => None,
        };
        self.requests.insert(number, Request { scheduler, origin, abort: None, last: 0, broken: false });
        self.agenda.after(latency, move |world| {
            let cut = from.is_some_and(|from| world.is_cut(from, Place::Scheduler(scheduler)));
            let ready = world.schedulers.get(&scheduler).is_some_and(|process| process.core.is_some());
            if cut {
                return world.agenda.after(SILENCE, move |world| world.heard(number, Heard::Lost));
            }
            if !ready {
                return world.reply(number, Heard::Lost);
            }
            if world.requests.contains_key(&number) {
                let abort = work(world, number);
                world.requests.get_mut(&number).into_iter().for_each(|request| request.abort = abort.clone());
                world.run(scheduler);
            }
        });
    }

    /// A scheduler answers.
    pub(super) fn reply(&mut self, number: u64, heard: Heard) {
        let latency = self.latency();
        let Some(request) = self.requests.get_mut(&number) else { return };
        request.last = (self.agenda.now() + latency).max(request.last + 1);
        self.agenda.at(request.last, move |world| world.heard(number, heard));
    }

    /// Part of an answer arrives, unless the link is cut: then nothing more does.
    fn heard(&mut self, number: u64, heard: Heard) {
        let Some(request) = self.requests.get(&number) else { return };
        let (origin, scheduler, broken) = (request.origin.clone(), request.scheduler, request.broken);
        let cut = match origin {
            Origin::Scheduler(from, _) => self.is_cut(Place::Scheduler(scheduler), Place::Scheduler(from)),
            Origin::Client(_) | Origin::Nobody => false,
        };
        if (cut || broken) && !matches!(heard, Heard::Lost) {
            if !broken {
                self.requests.get_mut(&number).into_iter().for_each(|request| request.broken = true);
                self.agenda.after(SILENCE, move |world| world.heard(number, Heard::Lost));
            }
            return;
        }
        if heard.is_last() {
            self.hang_up(number);
        }
        match origin {
            Origin::Nobody => {}
            Origin::Client(client) => self.client_hears(client, number, heard),
            Origin::Scheduler(from, sender) => {
                let _ = sender.send(heard);
                self.run(from);
            }
        }
    }

    /// Whoever asked does not wait any more.
    pub(super) fn hang_up(&mut self, number: u64) {
        if let Some(request) = self.requests.remove(&number)
            && let Some(abort) = request.abort
        {
            abort.abort();
            self.run(request.scheduler);
        }
    }

    /// A scheduler is gone with all requests.
    pub(super) fn requests_lost(&mut self, scheduler: u32, silent: bool) {
        let lost = self.requests.iter().filter(|(_, request)| request.scheduler == scheduler);
        let lost: Vec<u64> = lost.map(|(number, _)| *number).collect();
        for number in lost {
            if silent {
                self.agenda.after(SILENCE, move |world| world.heard(number, Heard::Lost));
            } else {
                self.reply(number, Heard::Lost);
            }
        }
        let own = self
            .requests
            .iter()
            .filter(|(_, request)| matches!(request.origin, Origin::Scheduler(from, _) if from == scheduler));
        let own: Vec<u64> = own.map(|(number, _)| *number).collect();
        own.into_iter().for_each(|number| self.hang_up(number));
    }

    /// A scheduler says nothing for so long: those who wait for it give up, if that is too long.
    pub(super) fn requests_silent(&mut self, scheduler: u32, time: u64) {
        if time < SILENCE {
            return;
        }
        let waiting = self.requests.iter().filter(|(_, request)| request.scheduler == scheduler);
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.agenda.after(SILENCE, move |world| world.heard(number, Heard::Lost));
        }
    }

    /// Has a scheduler stream a result.
    pub(super) fn stream_result(&mut self, number: u64, job: JobId, resume: Resume) -> Option<AbortHandle> {
        let scheduler = self.requests.get(&number)?.scheduler;
        let process = self.schedulers.get(&scheduler)?;
        let (engine, agenda) = (Arc::clone(&process.core.as_ref()?.engine), self.agenda.clone());
        Some(process.spawn(async move {
            let say = |heard| agenda.soon(move |world| world.reply(number, heard));
            let mut opened = match engine.results(&job, &resume).await {
                Ok(opened) => opened,
                Err(error) => return say(Heard::Failed(error)),
            };
            say(Heard::Opened(opened.version));
            while let Some(batch) = opened.stream.next().await {
                match batch {
                    Ok(batch) => say(Heard::Rows(rows_of(&batch))),
                    Err(error) => return say(Heard::Failed(error.into())),
                }
            }
            say(Heard::Done);
        }))
    }
}
