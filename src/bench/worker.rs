//! One thread of load: its connections, its share of the schedule, what it counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::dial::{Dialer, Protocol};
use super::exchange::Outgoing;
use super::fault::Fault;
use super::line::{Line, Lines, Shared};
use super::machine;
use super::pace::{Pace, Schedule};
use super::sessions::{Pass, Sessions};
use super::tally::{Outcome, Tally};
use super::tickets::{Next, Tickets};
use super::timer::Timer;
use super::timing::ServerTiming;

/// The stretches of time that are told apart while a run goes on.
pub const STRETCH: Duration = Duration::from_secs(1);

/// How long requests are waited for that were sent before the end.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long a connection in closed loop waits that could not be made.
const RECONNECT_WAIT: Duration = Duration::from_millis(100);

/// How often a thread looks whether it is to stop.
const STOP_WAIT: Duration = Duration::from_millis(50);

/// What a thread is to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Which one it is.
    pub thread: usize,
    /// Of how many.
    pub threads: usize,
    /// Connections of this thread.
    pub connections: usize,
    /// Requests at a time on each connection of HTTP/2.
    pub streams: usize,
    /// Where to.
    pub dialer: Dialer,
    /// What.
    pub outgoing: Arc<Outgoing>,
    /// Whose tokens; `None` sends none.
    pub sessions: Option<Arc<Sessions>>,
    /// How fast.
    pub pace: Pace,
    /// How long a request may take.
    pub timeout: Duration,
    /// When it begins.
    pub start: Instant,
    /// From when on it counts.
    pub counted: Instant,
    /// When it ends.
    pub end: Instant,
    /// Set by somebody who wants it to end now.
    pub stop: Arc<AtomicBool>,
}

/// What a thread says.
#[derive(Debug)]
pub enum Said {
    /// What happened in a stretch of time, counted from 0.
    Stretch(usize, Box<Tally>),
    /// What happened after the end, and how it went as a whole.
    Last(Box<Tally>, Effort),
    /// The system refused a runtime or a timer.
    Failed(io::Error),
}

/// What it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effort {
    /// How long it was counted.
    pub counted: Duration,
    /// Processor time of the thread in this time.
    pub processor: Duration,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    due: Instant,
    sent: Instant,
}

struct Thread {
    orders: Orders,
    lines: Lines,
    tally: RefCell<Tally>,
    tickets: Option<Tickets>,
    flights: Vec<Cell<Option<Flight>>>,
    turn: Cell<usize>,
    is_over: Cell<bool>,
    told: Cell<(u64, u64)>,
}

/// Does it, and says what came of it.
pub fn work(orders: Orders, said: &Sender<Said>) {
    let last = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| LocalSet::new().block_on(&runtime, run(orders, said)))
        .unwrap_or_else(Said::Failed);
    // Nobody listens any more when another thread has failed.
    let _unheard = said.send(last);
}

async fn run(orders: Orders, said: &Sender<Said>) -> io::Result<Said> {
    let thread = Rc::new(Thread::new(orders));
    let timer = Timer::new()?;
    timer.until(thread.orders.start).await?;
    let mut lanes = thread.lanes();
    let pacer = tokio::task::spawn_local(pacer(Rc::clone(&thread), Timer::new()?));
    timer.until(thread.orders.counted).await?;
    thread.begin();
    let (began, processor) = (Instant::now(), machine::thread_time());
    thread.stretches(&timer, said).await?;
    let effort =
        Effort { counted: began.elapsed(), processor: machine::thread_time().saturating_sub(processor) };
    thread.end();
    // What is not over then is counted as it stands.
    let _late = tokio::time::timeout(GRACE, async { while lanes.join_next().await.is_some() {} }).await;
    if pacer.is_finished() {
        pacer.await.unwrap_or(Ok(()))?;
    } else {
        pacer.abort();
    }
    lanes.abort_all();
    thread.count_the_rest(began + effort.counted);
    Ok(Said::Last(Box::new(thread.take()), effort))
}

/// Issues what is due, and is late only when the thread is.
async fn pacer(thread: Rc<Thread>, timer: Timer) -> io::Result<()> {
    let Some(tickets) = &thread.tickets else { return Ok(()) };
    loop {
        let now = Instant::now();
        let next = tickets.issue_until(now, |issue| {
            if issue.due >= thread.orders.counted {
                let mut tally = thread.tally.borrow_mut();
                tally.lateness.add(now - issue.due);
                tally.queued += u64::from(issue.is_queued);
            }
        });
        match next {
            Next::At(due) => timer.until(due).await?,
            Next::Never => return Ok(()),
        }
        if thread.is_over.get() {
            return Ok(());
        }
    }
}

impl Thread {
    fn new(orders: Orders) -> Self {
        let tickets = match orders.pace {
            Pace::Closed => None,
            Pace::Rate(rate) => {
                let Orders { start, end, thread, threads, .. } = orders;
                Some(Tickets::new(Schedule::new(start, end, rate, thread, threads)))
            }
        };
        let lines =
            Lines { dialer: orders.dialer.clone(), received: Rc::new(Cell::new(0)), opened: Cell::new(0) };
        let count = orders.connections * orders.streams;
        Self {
            lines,
            tally: RefCell::default(),
            tickets,
            flights: (0..count).map(|_| Cell::new(None)).collect(),
            // So that the threads begin with different users.
            turn: Cell::new(orders.thread),
            is_over: Cell::new(false),
            told: Cell::new((0, 0)),
            orders,
        }
    }

    fn lanes(self: &Rc<Self>) -> JoinSet<()> {
        let mut lanes = JoinSet::new();
        let mut number = 0;
        for _ in 0..self.orders.connections {
            let shared = Rc::new(Shared::default());
            for _ in 0..self.orders.streams {
                let line = match self.orders.dialer.protocol() {
                    Protocol::Http1 => Line::Own(None),
                    Protocol::Http2 => Line::Shared(Rc::clone(&shared)),
                };
                lanes.spawn_local(Rc::clone(self).lane(line, number));
                number += 1;
            }
        }
        lanes
    }

    async fn lane(self: Rc<Self>, mut line: Line, number: usize) {
        let flight = |flight| {
            if let Some(place) = self.flights.get(number) {
                place.set(flight);
            }
        };
        while let Some(due) = self.next().await {
            let sent = Instant::now();
            flight(Some(Flight { due, sent }));
            let pass = self.pass();
            let authorization = pass.as_ref().map(|(_, pass)| pass.authorization.clone());
            let exchange = line.exchange(&self.lines, &self.orders.outgoing, authorization);
            let end = match tokio::time::timeout(self.orders.timeout, exchange).await {
                Ok(Ok(answer)) => Ok((answer.head.status.as_u16(), ServerTiming::of(&answer.head.headers))),
                Ok(Err(failed)) => Err(failed.fault),
                Err(_) => Err(Fault::Timeout),
            };
            flight(None);
            self.count(due, sent, end);
            if let (Some(sessions), Some((session, pass)), Ok((401, _))) = (&self.orders.sessions, pass, end)
            {
                sessions.refused(session, &pass);
            }
            if self.tickets.is_none() && matches!(end, Err(Fault::Connect | Fault::Tls)) {
                tokio::time::sleep(RECONNECT_WAIT).await;
            }
        }
    }

    /// When the next request of a lane is due, as soon as it is; `None` when there is none any more.
    async fn next(&self) -> Option<Instant> {
        match &self.tickets {
            Some(tickets) => tickets.next().await,
            None => (!self.is_over.get()).then(Instant::now),
        }
    }

    /// Whose turn it is.
    fn pass(&self) -> Option<(usize, Arc<Pass>)> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(self.orders.threads));
        self.orders.sessions.as_ref()?.pass(turn)
    }

    fn count(&self, due: Instant, sent: Instant, end: Result<(u16, ServerTiming), Fault>) {
        if due < self.orders.counted {
            return;
        }
        let service = self.tickets.is_some().then(|| sent.elapsed());
        self.tally.borrow_mut().count(&Outcome { response: due.elapsed(), service, end });
    }

    /// What happened before does not count.
    fn begin(&self) {
        self.told.set((self.lines.received.get(), self.lines.opened.get()));
    }

    /// Tells of every stretch until the end.
    async fn stretches(&self, timer: &Timer, said: &Sender<Said>) -> io::Result<()> {
        let Orders { counted, end, .. } = self.orders;
        for number in 0.. {
            let factor = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
            let until = counted.checked_add(STRETCH * factor).unwrap_or(end).min(end);
            while Instant::now() < until && !self.orders.stop.load(Ordering::Relaxed) {
                timer.until(until.min(Instant::now() + STOP_WAIT)).await?;
            }
            let heard = said.send(Said::Stretch(number, Box::new(self.take())));
            if until == end || heard.is_err() || self.orders.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn take(&self) -> Tally {
        let mut tally = self.tally.take();
        let (received, opened) = self.told.replace((self.lines.received.get(), self.lines.opened.get()));
        tally.received = self.lines.received.get() - received;
        tally.connections = self.lines.opened.get() - opened;
        tally
    }

    fn end(&self) {
        self.is_over.set(true);
        if let Some(tickets) = &self.tickets {
            // What came due while the thread was late is due all the same.
            tickets.issue_until(Instant::now().min(self.orders.end), |_| {});
            tickets.close();
        }
    }

    /// Requests that nobody answered, and those that nobody could send. To leave them out would make a server that stands
    /// still look fast.
    fn count_the_rest(&self, end: Instant) {
        let now = Instant::now();
        let mut tally = self.tally.borrow_mut();
        for Flight { due, sent } in self.flights.iter().filter_map(Cell::take) {
            if due >= self.orders.counted {
                let service = self.tickets.is_some().then(|| now - sent);
                tally.count_unanswered(now - due, service);
            }
        }
        let unsent = || self.tickets.as_ref().and_then(Tickets::take);
        while let Some(due) = unsent() {
            if due >= self.orders.counted {
                tally.count_unsent(end.saturating_duration_since(due));
            }
        }
    }
}
