//! The run: everybody logs in, the URLs take turns, and what the threads say is put together.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::dial::{Dialer, DialerError};
use super::endpoint::Endpoint;
use super::exchange::Outgoing;
use super::fault::Failed;
use super::keeper::{self, LoginError, Routes};
use super::machine::{self, Ticks};
use super::pace::Pace;
use super::people::Person;
use super::plan::{Callers, Plan};
use super::report::{Measured, Report, Stretch, TokenCounts};
use super::sessions::Sessions;
use super::tally::Tally;
use super::tokens;
use super::worker::{self, Orders, STRETCH, Said};

/// Between the moment at which threads are made and the moment at which they begin together.
const ASSEMBLY: Duration = Duration::from_millis(20);

/// Threads begin to count a little late when the machine is busy; what is shorter by more than this was stopped.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Why there is no report.
#[derive(Debug)]
pub enum BenchError {
    /// A URL cannot be used.
    Dialer(DialerError),
    /// The first request to a URL got no answer.
    Unreachable(String, Failed),
    /// Somebody could not log in.
    Login(LoginError),
    /// The system refused threads, runtimes or timers.
    System(io::Error),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialer(error) => error.fmt(f),
            Self::Unreachable(url, failed) => write!(f, "{url} did not answer: {failed}"),
            Self::Login(error) => error.fmt(f),
            Self::System(error) => write!(f, "the operating system refused: {error}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dialer(error) => Some(error),
            Self::Login(error) => Some(error),
            Self::System(error) => Some(error),
            Self::Unreachable(..) => None,
        }
    }
}

/// What is told while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// So many sessions of so many have logged in.
    LoggedIn(usize, usize),
    /// A URL has its turn: its name, the round counted from 1, and of how many.
    Turn(&'a str, u32, u32),
    /// A stretch of time has passed: its number within the turn, counted from 1, and what happened in it.
    Passed(usize, Stretch),
}

/// One of the two URLs.
struct Side {
    dialer: Dialer,
    outgoing: Arc<Outgoing>,
    sessions: Option<Arc<Sessions>>,
}

/// Does what the plan says. Blocks until it is done, or for a little while after `stop` was set, which anybody may do.
///
/// # Errors
///
/// A [`BenchError`].
pub fn run(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Report, BenchError> {
    let mut sides = vec![Side::new(plan, &plan.url, &plan.fields)?];
    let mut measured = vec![Measured::new("gateway", &plan.url)];
    if let Some(direct) = &plan.direct {
        sides.push(Side::new(plan, direct, &plan.direct_fields)?);
        measured.push(Measured::new("direct", direct));
    }
    for side in &sides {
        side.probe(plan.timeout)?;
    }
    let callers = Company::assemble(plan, told)?;
    if let Some(side) = sides.first_mut() {
        side.sessions.clone_from(&callers.sessions);
    }
    let is_local = sides.iter().all(|side| side.dialer.is_local());
    let threads = plan.thread_count(is_local);
    for round in 1..=plan.rounds() {
        for (side, measured) in sides.iter().zip(&mut measured) {
            if !stop.load(Ordering::Relaxed) {
                told(Told::Turn(measured.name, round, plan.rounds()));
                turn(plan, side, threads, stop, measured, told)?;
            }
        }
    }
    let mut report = Report {
        settings: plan.settings(threads),
        pace: plan.pace,
        measured,
        tokens: callers.counts(),
        notes: Vec::new(),
    };
    report.judge(is_local);
    Ok(report)
}

impl Measured {
    fn new(name: &'static str, url: &Endpoint) -> Self {
        Self { name, url: url.to_string(), ..Self::default() }
    }
}

impl Side {
    fn new(plan: &Plan, url: &Endpoint, fields: &HeaderMap) -> Result<Self, BenchError> {
        let dialer = Dialer::new(url, &plan.trust, plan.protocol).map_err(BenchError::Dialer)?;
        let outgoing = Outgoing::new(plan.method.clone(), url.clone(), fields.clone(), plan.body.clone());
        Ok(Self { dialer, outgoing: Arc::new(outgoing), sessions: None })
    }

    /// A connection, before anybody logs in and thousands fail with one and the same fault.
    fn probe(&self, timeout: Duration) -> Result<(), BenchError> {
        let dialed = blocking(async {
            let received = std::rc::Rc::default();
            tokio::time::timeout(timeout, self.dialer.can_connect(&received)).await
        })?;
        let dialed = dialed.unwrap_or_else(|_| Err(Failed::timeout()));
        dialed.map_err(|failed| BenchError::Unreachable(self.dialer.endpoint().to_string(), failed))
    }
}

/// Runs something on this thread.
fn blocking<T>(future: impl Future<Output = T>) -> Result<T, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(LocalSet::new().block_on(&runtime.map_err(BenchError::System)?, future))
}

/// Everybody who calls, with the thread that keeps their tokens.
struct Company {
    sessions: Option<Arc<Sessions>>,
    keeper: Option<Keeper>,
}

struct Keeper {
    thread: thread::JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Company {
    fn assemble(plan: &Plan, told: &mut dyn FnMut(Told<'_>)) -> Result<Self, BenchError> {
        match &plan.callers {
            Callers::Nobody => Ok(Self { sessions: None, keeper: None }),
            Callers::Tokens(tokens) => {
                let passes = tokens.iter().filter_map(|token| tokens::bearer(token.expose()));
                Ok(Self { sessions: Some(Arc::new(Sessions::new(passes, None))), keeper: None })
            }
            Callers::Users { people, sessions, login, refresh } => {
                let dialer = |url| Dialer::new(url, &plan.trust, plan.protocol).map_err(BenchError::Dialer);
                let routes =
                    Routes { login: dialer(login)?, refresh: dialer(refresh)?, timeout: plan.timeout };
                Self::log_in(&routes, people, *sessions, told)
            }
        }
    }

    fn log_in(
        routes: &Routes,
        people: &[Arc<Person>],
        count: usize,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<Self, BenchError> {
        let deferrals = std::sync::atomic::AtomicU64::new(0);
        let told_of = |done| told(Told::LoggedIn(done, count));
        let kept = blocking(keeper::log_in(routes, people, count, &deferrals, told_of))?;
        let (kept, passes): (Vec<_>, Vec<_>) = kept.map_err(BenchError::Login)?.into_iter().unzip();
        let (sender, refused) = tokio::sync::mpsc::unbounded_channel();
        let sessions = Arc::new(Sessions::new(passes, Some(sender)));
        sessions.counts.logins.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        sessions.counts.deferrals.store(deferrals.into_inner(), Ordering::Relaxed);
        let (end, ended) = oneshot::channel();
        let (routes, shared) = (routes.clone(), Arc::clone(&sessions));
        let thread = thread::Builder::new().name("tokens".to_owned()).spawn(move || {
            // Without a runtime nothing is refreshed, which the counts show.
            let _ran = blocking(async {
                tokio::select! {
                    () = keeper::keep(routes, kept, shared, refused) => {}
                    _ = ended => {}
                }
            });
        });
        let keeper = Keeper { thread: thread.map_err(BenchError::System)?, end };
        Ok(Self { sessions: Some(sessions), keeper: Some(keeper) })
    }

    /// Ends the keeping of tokens.
    fn counts(self) -> Option<TokenCounts> {
        let Keeper { thread, end } = self.keeper?;
        // A keeper that has ended by itself has nobody to tell.
        let _gone = end.send(());
        let _panicked = thread.join();
        let sessions = self.sessions?;
        Some(TokenCounts::of(&sessions.counts, u64::try_from(sessions.len()).unwrap_or(u64::MAX)))
    }
}

/// One turn of one URL.
fn turn(
    plan: &Plan,
    side: &Side,
    threads: usize,
    stop: &Arc<AtomicBool>,
    measured: &mut Measured,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<(), BenchError> {
    let start = Instant::now() + ASSEMBLY;
    let counted = start + plan.warm_up;
    let (sender, said) = mpsc::channel();
    let mut workers = Vec::with_capacity(threads);
    for number in 0..threads {
        let orders = Orders {
            thread: number,
            threads,
            connections: share(plan.connections, number, threads),
            streams: plan.streams,
            dialer: side.dialer.clone(),
            outgoing: Arc::clone(&side.outgoing),
            sessions: side.sessions.clone(),
            pace: plan.pace,
            timeout: plan.timeout,
            start,
            counted,
            end: counted + plan.round_duration(),
            stop: Arc::clone(stop),
        };
        let sender = sender.clone();
        let builder = thread::Builder::new().name(format!("load-{number}"));
        workers.push(builder.spawn(move || worker::work(orders, &sender)).map_err(BenchError::System)?);
    }
    drop(sender);
    let ticks = Ticks::now();
    let outcome = collect(&said, threads, plan.round_duration(), measured, told);
    if let (Some(before), Some(now)) = (ticks, Ticks::now()) {
        let busy = now.busy_since(before);
        if busy > measured.machine {
            measured.machine = busy;
        }
    }
    drop(said);
    for worker in workers {
        // What it had to say it has said.
        let _panicked = worker.join();
    }
    outcome
}

/// Of so many, the share of one of so many.
fn share(count: usize, number: usize, of: usize) -> usize {
    count / of + usize::from(number < count % of)
}

/// Puts together what the threads say, until the last one has spoken.
fn collect(
    said: &mpsc::Receiver<Said>,
    threads: usize,
    duration: Duration,
    measured: &mut Measured,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<(), BenchError> {
    let mut open: Vec<(usize, Tally)> = Vec::new();
    let mut counted = Duration::ZERO;
    let first = measured.stretches.len();
    while let Ok(said) = said.recv() {
        match said {
            Said::Stretch(number, tally) => {
                if open.len() <= number {
                    open.resize_with(number + 1, Default::default);
                }
                let Some((heard, sum)) = open.get_mut(number) else { continue };
                sum.merge(&tally);
                *heard += 1;
                if *heard == threads {
                    let passed = STRETCH * u32::try_from(number).unwrap_or(u32::MAX);
                    let length = STRETCH.min(duration.saturating_sub(passed));
                    let stretch = Stretch::of(sum, length);
                    measured.stretches.push(stretch);
                    measured.total.merge(sum);
                    *sum = Tally::default();
                    told(Told::Passed(number + 1, stretch));
                }
            }
            Said::Last(tally, effort) => {
                measured.total.merge(&tally);
                measured.efforts.push(effort);
                counted = counted.max(effort.counted);
            }
            Said::Failed(error) => return Err(BenchError::System(error)),
        }
    }
    // Who was told to stop has a shorter last stretch than was planned.
    let whole: Duration = measured.stretches.iter().skip(first).map(|stretch| stretch.length).sum();
    if let Some(last) = measured.stretches.last_mut().filter(|_| counted + TOLERANCE < whole) {
        last.length = last.length.saturating_sub(whole.saturating_sub(counted));
    }
    // When threads are told to stop some have told of one stretch more than others.
    for (_, rest) in open.iter().filter(|(heard, _)| (1..threads).contains(heard)) {
        measured.total.merge(rest);
    }
    Ok(())
}

impl Stretch {
    fn of(tally: &Tally, length: Duration) -> Self {
        Self {
            length,
            answered: tally.answered(),
            failures: tally.failures(),
            median: tally.response.at(0.5),
            p99: tally.response.at(0.99),
        }
    }
}

impl Plan {
    fn thread_count(&self, is_local: bool) -> usize {
        let processors = machine::processors();
        // A server on this machine needs processors as well.
        let suitable = if is_local { processors.div_ceil(2) } else { processors };
        self.threads.unwrap_or(suitable).clamp(1, self.connections.max(1))
    }

    fn settings(&self, threads: usize) -> String {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let streams = if self.streams == 1 { String::new() } else { format!(" of {} streams", self.streams) };
        let pace = match self.pace {
            Pace::Rate(rate) => format!("open loop at {rate}"),
            Pace::Closed => "closed loop".to_owned(),
        };
        let connections = self.connections;
        format!(
            "{} for {}, {pace}, {connections} connection{}{streams}, {threads} thread{}, after {} of warm-up",
            self.protocol,
            super::figures::span(self.duration),
            plural(connections),
            plural(threads),
            super::figures::span(self.warm_up),
        )
    }
}
