//! The threads that hash passwords. They take what the threads that serve requests leave, and a small share when those
//! leave nothing.
//!
//! There are two lanes. The threads of the usual one have the scheduling class for idle work (`SCHED_IDLE` on Linux), so
//! that whoever serves a request takes the processor from them at once, and not only at the end of a slice of time. On a
//! machine without a free moment such a thread would not get on, though; then the jobs go to threads of the usual class
//! with a lower priority, which always get a share. A thread cannot change over, because leaving the idle class takes a
//! privilege.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started with the first job and end when this is dropped.
pub(super) struct Threads {
    count: NonZeroUsize,
    queue: OnceLock<Arc<Queue>>,
}

/// Which threads take the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// They run when nobody else does.
    Leftover,
    /// They get a small share in any case.
    Share,
}

impl Lane {
    /// The lane of the next job, after one of this lane took so much time of a processor within so much time.
    fn after(self, processor: Duration, elapsed: Duration) -> Self {
        match self {
            Self::Leftover if elapsed > STARVING_AFTER && processor * 8 < elapsed => Self::Share,
            Self::Share if processor * 2 > elapsed => Self::Leftover,
            Self::Leftover | Self::Share => self,
        }
    }
}

/// How long a job may take before it is asked whether its thread starves.
const STARVING_AFTER: Duration = Duration::from_millis(100);

/// How long a free thread may take to begin a job. One that does not begin has no processor.
const BEGIN_WITHIN: Duration = Duration::from_millis(30);

/// The jobs that no thread has begun.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// With the time of adding, on the monotonic clock.
    jobs: VecDeque<(Duration, Job)>,
    lane: Lane,
    closed: bool,
    threads: usize,
    /// Threads of [`Lane::Leftover`] that wait for a job, or were told of one and do not run yet.
    free: usize,
}

impl Threads {
    pub(super) fn new(count: NonZeroUsize) -> Self {
        Self { count, queue: OnceLock::new() }
    }

    /// Runs a job, which goes on also when nobody waits for it any more. `None` when it panicked, or when the system
    /// gave no thread.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            // Who asked may have gone.
            let _ = tell.send(job());
        });
        self.queue.get_or_init(|| start(self.count)).add(job);
        told.await.ok()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.get() {
            queue.lock().closed = true;
            queue.changed.notify_all();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; where there is no thread for it, it fails at once.
    fn add(&self, job: Job) {
        let mut state = self.lock();
        if state.threads > 0 {
            state.jobs.push_back((clock(ClockId::Monotonic), job));
            // Threads of both lanes may wait, and only one of the two takes it.
            self.changed.notify_all();
        }
    }

    /// Waits for a job of a lane; `None` is the end.
    fn next(&self, lane: Lane) -> Option<Job> {
        let mut state = self.lock();
        loop {
            let patience = state.patience();
            if lane == Lane::Share && patience == Some(Duration::ZERO) {
                state.lane = Lane::Share;
            }
            if state.lane == lane
                && let Some((_, job)) = state.jobs.pop_front()
            {
                return Some(job);
            }
            if state.closed && state.jobs.is_empty() {
                return None;
            }
            state = match (lane, patience) {
                (Lane::Leftover, _) => {
                    state.free += 1;
                    let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.free -= 1;
                    state
                }
                (Lane::Share, None) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                (Lane::Share, Some(patience)) => {
                    let waited = self.changed.wait_timeout(state, patience);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Notes how a job of a lane went.
    fn ran(&self, lane: Lane, processor: Duration, elapsed: Duration) {
        let next = lane.after(processor, elapsed);
        let mut state = self.lock();
        if state.lane == lane && next != lane {
            state.lane = next;
            self.changed.notify_all();
        }
    }
}

impl State {
    /// How much longer a free thread of [`Lane::Leftover`] may take to begin the next job; `None` when none should.
    fn patience(&self) -> Option<Duration> {
        let (added, _) = self.jobs.front()?;
        let waits = clock(ClockId::Monotonic).saturating_sub(*added);
        (self.lane == Lane::Leftover && self.free > 0).then(|| BEGIN_WITHIN.saturating_sub(waits))
    }
}

fn start(count: NonZeroUsize) -> Arc<Queue> {
    let state = State { jobs: VecDeque::new(), lane: Lane::Leftover, closed: false, threads: 0, free: 0 };
    let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
    for (lane, name) in [(Lane::Leftover, "hash"), (Lane::Share, "hash-share")] {
        for number in 0..count.get() {
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            let theirs = Arc::clone(&queue);
            match thread.spawn(move || work(&theirs, lane)) {
                Ok(_) => queue.lock().threads += 1,
                Err(error) => tracing::error!(%error, "a thread for password hashes could not begin"),
            }
        }
    }
    queue
}

fn work(queue: &Queue, lane: Lane) {
    match lane {
        Lane::Leftover => run_when_idle(),
        Lane::Share => lower_priority(),
    }
    while let Some(job) = queue.next(lane) {
        let began = (clock(ClockId::ThreadCPUTime), clock(ClockId::Monotonic));
        // Whoever waits for a job that panics is told by its channel; the thread is needed for the next one.
        let _ = catch_unwind(AssertUnwindSafe(job));
        let processor = clock(ClockId::ThreadCPUTime).saturating_sub(began.0);
        queue.ran(lane, processor, clock(ClockId::Monotonic).saturating_sub(began.1));
    }
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

/// On Linux a scheduling class belongs to a thread.
#[cfg(target_os = "linux")]
fn run_when_idle() {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let this = thread_priority::thread_native_id();
    let outcome = thread_priority::set_thread_priority_and_policy(this, ThreadPriority::Min, idle);
    // An error may also concern the priority within the class, which has no meaning there.
    if thread_priority::thread_schedule_policy().ok() != Some(idle) {
        tracing::warn!(?outcome, "password hashes cannot run in the class for idle work");
        lower_priority();
    }
}

/// On Linux a priority belongs to a thread.
#[cfg(target_os = "linux")]
fn lower_priority() {
    const NICE: i32 = 10;
    let this = Some(rustix::thread::gettid());
    // A process that was started with a lower priority still keeps it.
    let usual = rustix::process::getpriority_process(this).unwrap_or(0);
    if let Err(error) = rustix::process::setpriority_process(this, usual.max(NICE)) {
        tracing::warn!(%error, "password hashes run at the usual priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn run_when_idle() {}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> Threads {
        Threads::new(NonZeroUsize::new(count).unwrap())
    }

    /// The name and the scheduling of the thread that runs this.
    #[cfg(target_os = "linux")]
    fn thread() -> (Option<String>, bool, i32) {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        (std::thread::current().name().map(str::to_owned), thread_schedule_policy().unwrap() == idle, nice)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn jobs_run_when_nobody_else_does_or_at_a_low_priority_where_that_is_never() {
        let threads = threads(1);
        let here = thread();
        let (name, idle, _) = threads.run(thread).await.unwrap();
        assert_eq!((name.as_deref(), idle), (Some("hash-0"), true));
        threads.queue.get().unwrap().ran(Lane::Leftover, Duration::from_millis(12), Duration::from_secs(4));
        let (name, idle, nice) = threads.run(thread).await.unwrap();
        assert_eq!((name.as_deref(), idle, nice), (Some("hash-share-0"), false, here.2.max(10)));
        assert_eq!(thread(), here, "only their own scheduling is changed");
    }

    #[test]
    fn a_lane_is_left_when_it_starves_and_taken_again_when_there_is_room() {
        let ms = Duration::from_millis;
        assert_eq!(Lane::Leftover.after(ms(12), ms(13)), Lane::Leftover);
        assert_eq!(Lane::Leftover.after(ms(1), ms(90)), Lane::Leftover, "one delay is not hunger");
        assert_eq!(Lane::Leftover.after(ms(12), ms(110)), Lane::Share);
        assert_eq!(Lane::Share.after(ms(12), ms(110)), Lane::Share);
        assert_eq!(Lane::Share.after(ms(12), ms(15)), Lane::Leftover);
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let threads = threads(1);
        assert_eq!(threads.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(threads.run(|| 7).await, Some(7));
    }
}
