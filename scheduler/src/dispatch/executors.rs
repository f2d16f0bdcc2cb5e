//! The executors as dispatch sees them: their control streams, and how many of their slots are free.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use springald_core::ids::{ExecutorId, JobId, StageId};
use springald_proto::control::{Hello, Offer, SchedulerMessage, scheduler_message::Message};

use super::ToExecutor;
use crate::planner::ClusterShape;

/// An executor gives signs of life on its stream twice a second: one that says nothing for the time of a lease, less so
/// much, is stopped or cut off, and is lost. The store takes a moment longer to end its lease.
const SOONER_THAN_LEASE: Duration = Duration::from_millis(400);
/// However short a lease is, silence for less than that may be a busy machine.
const LEAST_SILENCE: Duration = Duration::from_secs(2);

/// One connected executor.
pub(super) struct Peer {
    /// Tells a reconnected executor's stream from its earlier one, whose messages may still arrive.
    pub(super) stream: u64,
    pub(super) hello: Hello,
    outbox: ToExecutor,
    /// Its last word on free slots.
    offer: Offer,
    /// Slots of everything launched on this stream.
    slots_launched: u64,
    /// Stages whose plan went over this stream.
    pub(super) knows: HashSet<(JobId, StageId)>,
    /// Jobs that it was asked about and has not told of yet: until then nobody knows what of them runs there.
    asked: BTreeSet<JobId>,
    /// The job with a task that waits for this executor to be idle: nothing else starts here.
    kept_for: Option<JobId>,
    /// The outbox was full or closed: the stream is given up.
    pub(super) broken: bool,
    /// Too much went wrong there of late.
    pub(super) aside: bool,
    /// When it last said something.
    pub(super) heard: Instant,
}

impl Peer {
    /// Free slots, less those of tasks that the executor had not seen yet when it last said.
    pub(super) fn free_slots(&self) -> u32 {
        let under_way = self.slots_launched.saturating_sub(self.offer.slots_received);
        self.offer.free_slots.saturating_sub(u32::try_from(under_way).unwrap_or(u32::MAX))
    }

    fn is_idle(&self) -> bool {
        self.free_slots() >= self.hello.slots
    }

    /// All slots, if nothing runs there.
    pub(super) fn idle_slots(&self) -> Option<u32> {
        self.is_idle().then(|| self.free_slots())
    }

    /// True if a task of this job may start there now.
    pub(super) fn is_open_to(&self, job: &JobId) -> bool {
        let kept_for_others = self.kept_for.as_ref().is_some_and(|kept| kept != job || !self.is_idle());
        !kept_for_others && !self.asked.contains(job)
    }

    /// Asks for all that is there of a job.
    pub(super) fn ask(&mut self, job: &JobId, question: Message) {
        self.asked.insert(job.clone());
        self.send(question);
    }

    /// The answer about a job has come.
    pub(super) fn has_told(&mut self, job: &JobId) {
        self.asked.remove(job);
    }

    /// True if the answer about a job is still to come.
    pub(super) fn is_asked(&self, job: &JobId) -> bool {
        self.asked.contains(job)
    }

    /// Takes the executor's word; true if it drains, or not any more, by that.
    pub(super) fn offered(&mut self, offer: Offer) -> bool {
        let changed = self.offer.draining != offer.draining;
        self.offer = offer;
        changed
    }

    /// True if the executor is about to leave.
    pub(super) fn drains(&self) -> bool {
        self.offer.draining
    }

    fn takes_tasks(&self) -> bool {
        !self.broken && !self.offer.draining
    }

    pub(super) fn launched(&mut self, slots: u32) {
        self.slots_launched += u64::from(slots);
    }

    /// Sends without waiting: an executor that does not drain its stream is given up, so that it cannot hold up others.
    pub(super) fn send(&mut self, message: Message) {
        if !self.broken && self.outbox.try_send(SchedulerMessage { message: Some(message) }).is_err() {
            self.broken = true;
        }
    }
}

/// All connected executors.
#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<ExecutorId, Peer>,
    /// Executors that hold a lease, connected or not.
    leased: BTreeSet<ExecutorId>,
}

impl Peers {
    /// Adds an executor, or gives one that reconnects its new stream.
    pub(super) fn connect(&mut self, id: ExecutorId, hello: Hello, stream: u64, outbox: ToExecutor, now: Instant) {
        let peer = Peer {
            stream,
            hello,
            outbox,
            offer: Offer::default(),
            slots_launched: 0,
            knows: HashSet::new(),
            asked: BTreeSet::new(),
            kept_for: None,
            broken: false,
            aside: false,
            heard: now,
        };
        self.peers.insert(id, peer);
    }

    /// The executor, if that is its live stream.
    pub(super) fn on_stream(&mut self, id: &ExecutorId, stream: u64) -> Option<&mut Peer> {
        self.peers.get_mut(id).filter(|peer| peer.stream == stream)
    }

    pub(super) fn get(&self, id: &ExecutorId) -> Option<&Peer> {
        self.peers.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ExecutorId) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &ExecutorId) -> Option<Peer> {
        self.peers.remove(id)
    }

    /// An executor's lease has ended, or it has one (again).
    pub(super) fn lease(&mut self, id: ExecutorId, held: bool) {
        if held {
            self.leased.insert(id);
        } else {
            self.leased.remove(&id);
        }
    }

    /// True if an executor lives, as the store says.
    pub(super) fn has_lease(&self, id: &ExecutorId) -> bool {
        self.leased.contains(id)
    }

    /// The ids of all that are connected.
    pub(super) fn ids(&self) -> impl Iterator<Item = ExecutorId> {
        self.peers.keys().cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn broadcast(&mut self, message: &Message) {
        for peer in self.peers.values_mut() {
            peer.send(message.clone());
        }
    }

    /// Asks all for what they have of a job.
    pub(super) fn ask_all(&mut self, job: &JobId, question: &Message) {
        for peer in self.peers.values_mut() {
            peer.ask(job, question.clone());
        }
    }

    /// Executors have dropped the plan of a stage that is finished or freed: should it run again, it is sent again.
    pub(super) fn forget_stage(&mut self, job: &JobId, stage: StageId) {
        for peer in self.peers.values_mut() {
            peer.knows.remove(&(job.clone(), stage));
        }
    }

    pub(super) fn forget_job(&mut self, job: &JobId) {
        for peer in self.peers.values_mut() {
            peer.knows.retain(|(known, _)| known != job);
            peer.asked.remove(job);
        }
    }

    /// Executors whose stream was given up.
    pub(super) fn broken(&self) -> Vec<(ExecutorId, u64)> {
        self.peers.iter().filter(|(_, peer)| peer.broken).map(|(id, peer)| (id.clone(), peer.stream)).collect()
    }

    /// Executors that do not speak for too long. The end of a lease does not tell: when the store was away, all of them end
    /// at once.
    pub(super) fn silent(&self, now: Instant, lease_ttl: Duration) -> Vec<(ExecutorId, u64)> {
        let longest = lease_ttl.saturating_sub(SOONER_THAN_LEASE).max(LEAST_SILENCE);
        let silent = |peer: &Peer| now.saturating_duration_since(peer.heard) >= longest;
        self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(id, peer)| (id.clone(), peer.stream)).collect()
    }

    /// Executors that are about to leave.
    pub(super) fn draining(&self) -> Vec<ExecutorId> {
        self.peers.iter().filter(|(_, peer)| peer.offer.draining).map(|(id, _)| id.clone()).collect()
    }

    /// Executors that take tasks and outputs: those put aside only if there are no others.
    pub(super) fn takers(&self) -> impl Iterator<Item = ExecutorId> {
        self.open().map(|(id, _)| id.clone())
    }

    fn open(&self) -> impl Iterator<Item = (&ExecutorId, &Peer)> {
        let choice = self.peers.values().any(|peer| peer.takes_tasks() && !peer.aside);
        self.peers.iter().filter(move |(_, peer)| peer.takes_tasks() && !(peer.aside && choice))
    }

    /// Puts executors aside, and takes them back.
    pub(super) fn put_aside(&mut self, aside: impl Fn(&ExecutorId) -> bool) {
        self.peers.iter_mut().for_each(|(id, peer)| peer.aside = aside(id));
    }

    /// Keeps an executor for a job with a task that wants one to itself, if none is kept for it already: that with
    /// least to finish. At most half of the executors are kept at a time, or the only one.
    pub(super) fn keep_for(&mut self, job: &JobId) {
        let kept = self.open().filter(|(_, peer)| peer.kept_for.is_some()).count();
        let is_kept = self.open().any(|(_, peer)| peer.kept_for.as_ref() == Some(job));
        if is_kept || (kept > 0 && (kept + 1) * 2 > self.open().count()) {
            return;
        }
        let free = self.open().filter(|(_, peer)| peer.kept_for.is_none() && !peer.asked.contains(job));
        let chosen = free.min_by_key(|(_, peer)| peer.hello.slots.saturating_sub(peer.free_slots()));
        let chosen = chosen.map(|(id, _)| id.clone());
        if let Some(peer) = chosen.and_then(|id| self.peers.get_mut(&id)) {
            peer.kept_for = Some(job.clone());
        }
    }

    /// Executors that cannot take tasks, or are kept for a job that does not want one any more, are not kept.
    pub(super) fn let_go(&mut self, wants: impl Fn(&JobId) -> bool) {
        if self.peers.values().all(|peer| peer.kept_for.is_none()) {
            return;
        }
        let open: BTreeSet<ExecutorId> = self.takers().collect();
        for (id, peer) in &mut self.peers {
            peer.kept_for = peer.kept_for.take().filter(|job| open.contains(id) && wants(job));
        }
    }

    /// Executors with free slots, the one with most first.
    pub(super) fn with_room(&self) -> Vec<(ExecutorId, u32)> {
        let free = self.open().map(|(id, peer)| (id.clone(), peer.free_slots()));
        let mut room: Vec<(ExecutorId, u32)> = free.filter(|(_, free)| *free > 0).collect();
        room.sort_by_key(|(_, free)| std::cmp::Reverse(*free));
        room
    }

    pub(super) fn shape(&self) -> ClusterShape {
        let slots = self.peers.values().filter(|peer| peer.takes_tasks()).map(|peer| peer.hello.slots);
        ClusterShape {
            executors: slots.clone().count() as u32,
            total_slots: slots.clone().sum(),
            largest_slots: slots.max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn given_an_executor_without_a_word_for_the_time_of_a_lease_then_it_is_lost() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        let id: ExecutorId = "e".parse().expect("valid");
        peers.connect(id.clone(), Hello::default(), 7, mpsc::channel(1).0, start);
        let ttl = Duration::from_secs(3);
        let late = start + ttl - SOONER_THAN_LEASE;
        peers.lease(id.clone(), false);
        assert!(peers.silent(late - Duration::from_millis(1), ttl).is_empty(), "the end of its lease does not tell");
        assert_eq!(peers.silent(late, ttl), [(id.clone(), 7)]);
        assert!(
            peers.silent(start + LEAST_SILENCE / 2, Duration::from_secs(1)).is_empty(),
            "a lease may be very short"
        );
        peers.get_mut(&id).expect("connected").heard = late;
        assert!(peers.silent(late, ttl).is_empty(), "it has spoken again");
    }
}
