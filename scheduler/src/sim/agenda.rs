//! What will happen, and when: the virtual time, everything that is due, and chance.
//!
//! Time stands still while something happens, and jumps to whatever is due next. Of what is due at the same time, what
//! was put down first happens first.

use std::cell::RefCell;
use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::chance::Chance;
use super::world::World;

/// Something that happens to the world.
pub(super) type Happening = Box<dyn FnOnce(&mut World) + Send>;

/// The epoch of simulations, in microseconds since that of Unix: all of them begin at the same time.
const EPOCH: i64 = 1_700_000_000_000_000;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Agenda>>> = const { RefCell::new(None) };
}

/// The agenda of the simulation that runs on this thread.
pub(crate) fn current() -> Option<Arc<Agenda>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Time, and what is due.
pub(crate) struct Agenda {
    start: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Microseconds since the start.
    now: u64,
    /// The next number: of what is put down, and of whatever else needs one.
    next: u64,
    due: BinaryHeap<Due>,
    chance: Chance,
    /// The scheduler whose code runs.
    running: Option<u32>,
}

/// Something that is due.
struct Due {
    at: u64,
    number: u64,
    what: What,
}

pub(super) enum What {
    Happening(Happening),
    /// Code of a scheduler has waited for this time.
    Alarm(Arc<Alarm>),
}

/// Wakes code that waits.
pub(super) struct Alarm {
    pub(super) scheduler: u32,
    waker: Mutex<Option<Waker>>,
    given_up: AtomicBool,
}

impl Alarm {
    /// Wakes who waits; false if nobody does any more.
    pub(super) fn ring(&self) -> bool {
        if self.given_up.load(Ordering::Relaxed) {
            return false;
        }
        self.waker.lock().take().into_iter().for_each(Waker::wake);
        true
    }
}

// === impl Agenda ===

impl Agenda {
    /// A new agenda, which is that of this thread until it is [let go](Self::let_go).
    pub(super) fn begin(seed: u64) -> Arc<Self> {
        let inner = Inner { now: 0, next: 0, due: BinaryHeap::new(), chance: Chance::new(seed), running: None };
        let agenda = Arc::new(Self { start: Instant::now(), inner: Mutex::new(inner) });
        CURRENT.set(Some(Arc::clone(&agenda)));
        agenda
    }

    /// Time is the machine's again.
    pub(super) fn let_go() {
        CURRENT.set(None);
    }

    /// Microseconds since the start.
    pub(super) fn now(&self) -> u64 {
        self.inner.lock().now
    }

    pub(crate) fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now())
    }

    pub(crate) fn micros_since_epoch(&self) -> i64 {
        EPOCH + self.now().cast_signed()
    }

    /// A number that was not given out before.
    pub(super) fn number(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.next += 1;
        inner.next
    }

    /// Asks chance.
    pub(super) fn chance<T>(&self, ask: impl FnOnce(&mut Chance) -> T) -> T {
        ask(&mut self.inner.lock().chance)
    }

    /// Puts something down that happens at that time, or now if it has passed.
    pub(super) fn at(&self, at: u64, happening: impl FnOnce(&mut World) + Send + 'static) {
        self.put(at, What::Happening(Box::new(happening)));
    }

    /// Puts something down that happens after so many microseconds.
    pub(super) fn after(&self, micros: u64, happening: impl FnOnce(&mut World) + Send + 'static) {
        self.at(self.now() + micros, happening);
    }

    /// Puts something down that happens next.
    pub(super) fn soon(&self, happening: impl FnOnce(&mut World) + Send + 'static) {
        self.after(0, happening);
    }

    fn put(&self, at: u64, what: What) {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let due = Due { at: at.max(inner.now), number: inner.next, what };
        inner.due.push(due);
    }

    /// What is due next; the time is then. `None` if nothing ever happens again.
    pub(super) fn next(&self) -> Option<What> {
        let mut inner = self.inner.lock();
        let due = inner.due.pop()?;
        inner.now = due.at;
        Some(due.what)
    }

    /// Notes whose code runs, from now on.
    pub(super) fn runs(&self, scheduler: Option<u32>) {
        self.inner.lock().running = scheduler;
    }

    /// Whose code runs.
    pub(super) fn running(&self) -> Option<u32> {
        self.inner.lock().running
    }

    /// Forgets all that is due.
    pub(super) fn clear(&self) {
        let due = std::mem::take(&mut self.inner.lock().due);
        drop(due);
    }

    pub(crate) fn sleep(self: &Arc<Self>, time: Duration) -> Sleep {
        let micros = u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        Sleep { at: self.now() + micros, agenda: Arc::clone(self), alarm: None }
    }
}

/// Waits for a time.
pub(crate) struct Sleep {
    agenda: Arc<Agenda>,
    at: u64,
    alarm: Option<Arc<Alarm>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.agenda.now() >= self.at {
            return Poll::Ready(());
        }
        let waker = Some(context.waker().clone());
        if let Some(alarm) = &self.alarm {
            *alarm.waker.lock() = waker;
            return Poll::Pending;
        }
        let scheduler = self.agenda.running().expect("only schedulers wait");
        let alarm = Arc::new(Alarm { scheduler, waker: Mutex::new(waker), given_up: AtomicBool::new(false) });
        self.agenda.put(self.at, What::Alarm(Arc::clone(&alarm)));
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.alarm.iter().for_each(|alarm| alarm.given_up.store(true, Ordering::Relaxed));
    }
}

// === impl Due: the next one is the greatest ===

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Order {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}
