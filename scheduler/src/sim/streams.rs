//! The control streams between executors and schedulers: in order and without doubles each, as TCP gives them, but late,
//! held up while a link is cut, broken at one end before the other.

use std::collections::VecDeque;
use std::fmt;

use futures::StreamExt;
use springald_proto::control::executor_message::Message as Outgoing;
use springald_proto::control::{ExecutorMessage, Hello, SchedulerMessage};
use tokio::sync::mpsc;
use tonic::Status;

use super::world::{Place, World};

/// One control stream.
pub(super) struct Stream {
    pub(super) scheduler: u32,
    pub(super) executor: u32,
    up: Pipe<Up>,
    down: Pipe<Down>,
    /// Into the scheduler's code, once it has taken the stream, and until it is closed.
    to_scheduler: Option<mpsc::UnboundedSender<Result<ExecutorMessage, Status>>>,
}

/// One direction.
struct Pipe<T> {
    /// When the last message that is on its way arrives.
    last: u64,
    /// What arrived while the link was cut.
    held: VecDeque<T>,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { last: 0, held: VecDeque::new() }
    }
}

/// From the executor.
enum Up {
    Message(Box<ExecutorMessage>),
    Closed,
}

/// From the scheduler.
pub(super) enum Down {
    Opened,
    Message(Box<SchedulerMessage>),
    Closed,
}

impl fmt::Debug for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Down::Opened => write!(f, "opened"),
            Down::Message(message) => write!(f, "{:?}", message.message),
            Down::Closed => write!(f, "closed"),
        }
    }
}

/// An end of a stream whose peer is silent finds out within these times.
const NOTICED: (u64, u64) = (3_000_000, 30_000_000);

impl World {
    /// An executor connects to a scheduler.
    pub(super) fn open_stream(&mut self, executor: u32, scheduler: u32, hello: Hello) -> u64 {
        let number = self.agenda.number();
        let (up, down) = (Pipe::default(), Pipe::default());
        self.streams.insert(number, Stream { scheduler, executor, up, down, to_scheduler: None });
        self.say_on(number, Outgoing::Hello(hello));
        // Should it not be answered.
        if self.gone_machines.contains(&Place::Scheduler(scheduler)) {
            self.executor_end_breaks(number);
        }
        number
    }

    /// An executor sends a message.
    pub(super) fn say_on(&mut self, stream: u64, message: Outgoing) {
        self.send_up(stream, Up::Message(Box::new(ExecutorMessage { message: Some(message) })));
    }

    /// An executor closes a stream.
    pub(super) fn close_stream(&mut self, stream: u64) {
        self.send_up(stream, Up::Closed);
    }

    fn send_up(&mut self, number: u64, message: Up) {
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.up.last = (self.agenda.now() + latency).max(stream.up.last + 1);
        self.agenda.at(stream.up.last, move |world| world.arrives_up(number, message));
    }

    /// The scheduler's side sends something.
    fn send_down(&mut self, number: u64, message: Down) {
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.down.last = (self.agenda.now() + latency).max(stream.down.last + 1);
        self.agenda.at(stream.down.last, move |world| world.arrives_down(number, message));
    }

    fn arrives_up(&mut self, number: u64, message: Up) {
        let Some((scheduler, executor)) = self.ends(number) else { return };
        let cut = self.is_cut(executor, scheduler);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if cut || !stream.up.held.is_empty() {
            return stream.up.held.push_back(message);
        }
        self.reaches_scheduler(number, message);
    }

    fn arrives_down(&mut self, number: u64, message: Down) {
        let Some((scheduler, executor)) = self.ends(number) else { return };
        let cut = self.is_cut(scheduler, executor);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if cut || !stream.down.held.is_empty() {
            return stream.down.held.push_back(message);
        }
        let executor = stream.executor;
        self.at_executor(executor, move |world| world.executor_hears(executor, number, message));
    }

    fn ends(&self, number: u64) -> Option<(Place, Place)> {
        let stream = self.streams.get(&number)?;
        Some((Place::Scheduler(stream.scheduler), Place::Executor(stream.executor)))
    }

    /// A link is there again: what was held up arrives.
    pub(super) fn flush_streams(&mut self) {
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            let Some((scheduler, executor)) = self.ends(number) else { continue };
            if !self.is_cut(executor, scheduler) {
                self.flush_up(number);
            }
            if !self.is_cut(scheduler, executor) {
                self.flush_down(number);
            }
        }
    }

    fn flush_up(&mut self, number: u64) {
        while let Some(message) = self.streams.get_mut(&number).and_then(|stream| stream.up.held.pop_front()) {
            self.reaches_scheduler(number, message);
        }
    }

    fn flush_down(&mut self, number: u64) {
        while let Some(message) = self.streams.get_mut(&number).and_then(|stream| stream.down.held.pop_front()) {
            let Some(executor) = self.streams.get(&number).map(|stream| stream.executor) else { break };
            self.at_executor(executor, move |world| world.executor_hears(executor, number, message));
        }
    }

    fn reaches_scheduler(&mut self, number: u64, message: Up) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let scheduler = stream.scheduler;
        let started = self.schedulers.get(&scheduler).is_some_and(|process| process.core.is_some());
        if !started {
            if matches!(message, Up::Closed) {
                self.streams.remove(&number);
            } else if !self.gone_machines.contains(&Place::Scheduler(scheduler)) {
                self.send_down(number, Down::Closed);
            }
            return;
        }
        match message {
            Up::Closed => {
                stream.to_scheduler = None;
                self.streams.remove(&number);
            }
            Up::Message(message) => match &stream.to_scheduler {
                Some(to_scheduler) => drop(to_scheduler.send(Ok(*message))),
                None if matches!(message.message, Some(Outgoing::Hello(_))) => self.accept(number, *message),
                None => {}
            },
        }
        self.run(scheduler);
    }

    /// The scheduler's code takes a stream.
    fn accept(&mut self, number: u64, hello: ExecutorMessage) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Some(process) = self.schedulers.get(&stream.scheduler) else { return };
        let Some(core) = process.core.clone() else { return };
        let (to_scheduler, mut inbox) = mpsc::unbounded_channel();
        let _ = to_scheduler.send(Ok(hello));
        stream.to_scheduler = Some(to_scheduler);
        let agenda = self.agenda.clone();
        process.spawn(async move {
            let messages = futures::stream::poll_fn(move |context| inbox.poll_recv(context));
            let Ok(answer) = core.control.accept(messages).await else {
                return agenda.soon(move |world| world.scheduler_closes(number));
            };
            drop(core);
            agenda.soon(move |world| world.send_down(number, Down::Opened));
            let mut answers = answer.into_inner();
            while let Some(Ok(message)) = answers.next().await {
                agenda.soon(move |world| world.send_down(number, Down::Message(Box::new(message))));
            }
            agenda.soon(move |world| world.scheduler_closes(number));
        });
    }

    fn scheduler_closes(&mut self, number: u64) {
        self.send_down(number, Down::Closed);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.to_scheduler = None;
            let scheduler = stream.scheduler;
            self.run(scheduler);
        }
    }

    /// A scheduler's process has ended.
    pub(super) fn scheduler_died(&mut self, scheduler: u32, silent: bool) {
        for number in self.streams_of(Place::Scheduler(scheduler)) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.to_scheduler = None;
            }
            if silent {
                self.executor_end_breaks(number);
            } else {
                self.send_down(number, Down::Closed);
            }
        }
    }

    /// An executor's process has ended.
    pub(super) fn executor_died(&mut self, executor: u32, silent: bool) {
        for number in self.streams_of(Place::Executor(executor)) {
            if silent {
                self.scheduler_end_breaks(number);
            } else {
                self.send_up(number, Up::Closed);
            }
        }
    }

    fn streams_of(&self, place: Place) -> Vec<u64> {
        let of = |stream: &Stream| match place {
            Place::Scheduler(number) => stream.scheduler == number,
            Place::Executor(number) => stream.executor == number,
            Place::Store => false,
        };
        self.streams.iter().filter(|(_, stream)| of(stream)).map(|(number, _)| *number).collect()
    }

    /// The executor's end finds out after a while that it hears nothing.
    fn executor_end_breaks(&mut self, number: u64) {
        let delay = self.agenda.chance(|chance| chance.number(NOTICED.0, NOTICED.1));
        self.agenda.after(delay, move |world| world.break_stream(number, true));
    }

    fn scheduler_end_breaks(&mut self, number: u64) {
        let delay = self.agenda.chance(|chance| chance.number(NOTICED.0, NOTICED.1));
        self.agenda.after(delay, move |world| world.break_stream(number, false));
    }

    /// Nothing is heard from a place for so long: who is connected to it may give it up.
    pub(super) fn silence(&mut self, of: Place, to: Option<Place>, time: u64) {
        for number in self.streams_of(of) {
            let Some((scheduler, executor)) = self.ends(number) else { continue };
            let other = if of == scheduler { executor } else { scheduler };
            if to.is_some_and(|to| to != other) {
                continue;
            }
            let noticed = self.agenda.chance(|chance| chance.number(NOTICED.0, NOTICED.1));
            if noticed < time {
                self.agenda.after(noticed, move |world| world.break_stream(number, of == scheduler));
            }
        }
    }

    /// One end of a stream gives it up; the other one hears of it if the link is there.
    pub(super) fn break_stream(&mut self, number: u64, at_executor: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        tracing::info!(target: "sim", "the stream of executor-{} to scheduler-{} breaks", stream.executor, stream.scheduler);
        self.history.stream_given_up = true;
        let (executor, scheduler) = (stream.executor, stream.scheduler);
        if at_executor {
            self.at_executor(executor, move |world| world.executor_hears(executor, number, Down::Closed));
        } else {
            if stream.to_scheduler.take().is_some() {
                self.run(scheduler);
            }
            self.send_down(number, Down::Closed);
        }
    }
}
