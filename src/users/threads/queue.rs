//! The jobs that wait and those that run, and which of the two kinds of threads takes the next one.
//!
//! While anything is to be done, one free thread of [`Lane::Share`] keeps watch over the threads of [`Lane::Leftover`]. It
//! takes their place when one does not begin a job, or gets no processor in the middle of one; that job then runs a
//! second time. Nothing wakes while there is nothing to do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::system::{Thread, now, own_processor};

/// What may run twice, also at the same time.
pub(super) type Job = Arc<dyn Fn() + Send + Sync>;

/// Tells the time for which a thread has had a processor since it began; `None` where that cannot be told.
pub(super) type Measure = fn(Thread) -> Option<Duration>;

/// Which threads take the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// They run when nobody else does.
    Leftover,
    /// They get a small share in any case.
    Share,
}

impl Lane {
    /// The lane of the next job, after one of this lane took so much time of a processor within so much time.
    fn after(self, processor: Duration, elapsed: Duration) -> Self {
        match self {
            Self::Leftover if elapsed >= STARVING_AFTER && processor * 8 < elapsed => Self::Share,
            Self::Share if processor * 2 > elapsed => Self::Leftover,
            Self::Leftover | Self::Share => self,
        }
    }
}

/// How long a job may take before it is asked whether its thread starves, and how often it is asked then.
const STARVING_AFTER: Duration = Duration::from_millis(100);

/// How long a free thread may take to begin a job. One that does not begin has no processor.
const BEGIN_WITHIN: Duration = Duration::from_millis(30);

/// The jobs of all threads.
pub(super) struct Queue {
    state: Mutex<State>,
    measure: Measure,
    /// Where the threads of [`Lane::Leftover`] wait.
    leftover: Condvar,
    /// Where the threads of [`Lane::Share`] wait.
    share: Condvar,
}

struct State {
    /// Those that no thread has begun, with the time of adding, on the monotonic clock.
    jobs: VecDeque<(Duration, Job)>,
    /// Those that threads of [`Lane::Leftover`] have begun.
    running: Vec<Running>,
    lane: Lane,
    closed: bool,
    /// Threads of [`Lane::Leftover`].
    leftovers: usize,
    /// Threads of [`Lane::Share`].
    shares: usize,
    /// Whether a thread of [`Lane::Share`] keeps watch.
    watched: bool,
}

/// What a thread of [`Lane::Leftover`] is at.
struct Running {
    thread: Thread,
    /// `None` since it has been given to the other lane too.
    job: Option<Job>,
    /// When the thread was last looked at, on the monotonic clock; the first time is its begin.
    seen: Duration,
    /// How much time of a processor it had had by then.
    processor: Duration,
}

impl Queue {
    pub(super) fn new(measure: Measure) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            running: Vec::new(),
            lane: Lane::Leftover,
            closed: false,
            leftovers: 0,
            shares: 0,
            watched: false,
        };
        Self { state: Mutex::new(state), measure, leftover: Condvar::new(), share: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self, lane: Lane) -> &Condvar {
        match lane {
            Lane::Leftover => &self.leftover,
            Lane::Share => &self.share,
        }
    }

    /// Counts a thread of a lane, before the first job.
    pub(super) fn join(&self, lane: Lane) {
        let mut state = self.lock();
        match lane {
            Lane::Leftover => state.leftovers += 1,
            Lane::Share => state.shares += 1,
        }
    }

    /// Adds a job; where there is no thread for it, it fails at once.
    pub(super) fn add(&self, job: Job) {
        let mut state = self.lock();
        if state.leftovers + state.shares > 0 {
            state.jobs.push_back((now(), job));
            match state.lane {
                Lane::Leftover => self.leftover.notify_all(),
                // Threads without a processor are not bothered.
                Lane::Share => {}
            }
            self.share.notify_all();
        }
    }

    /// Lets the threads end once no job waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.tell_all();
    }

    fn tell_all(&self) {
        self.leftover.notify_all();
        self.share.notify_all();
    }

    /// Waits for a job of a lane; `None` is the end.
    pub(super) fn next(&self, lane: Lane) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if lane == Lane::Share {
                state.watch(self.measure);
            }
            if state.lane == lane
                && let Some((_, job)) = state.jobs.pop_front()
            {
                match lane {
                    Lane::Leftover => state.running.push(Running::begin(Arc::clone(&job))),
                    // There may be more to take, and somebody else has to keep watch.
                    Lane::Share => self.share.notify_one(),
                }
                if state.closed {
                    self.tell_all();
                }
                return Some(job);
            }
            if state.closed && state.jobs.is_empty() {
                return None;
            }
            state = self.wait(lane, state);
        }
    }

    fn wait<'a>(&self, lane: Lane, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let watches = lane == Lane::Share && !state.watched;
        let Some(until_look) = state.until_look().filter(|_| watches) else {
            return self.waiting(lane).wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.watched = true;
        let waited = self.share.wait_timeout(state, until_look);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.watched = false;
        state
    }

    /// Notes how a job of a lane went; the thread that ran it says so.
    pub(super) fn ran(&self, lane: Lane, processor: Duration, elapsed: Duration) {
        let this = Thread::this();
        let next = lane.after(processor, elapsed);
        let mut state = self.lock();
        state.running.retain(|running| running.thread != this);
        // While a job runs twice, its memory is not in the budget any more. Those jobs are never more than once fit into
        // the budget together, because no thread that starves begins another one before they have ended.
        if state.lane == lane && next != lane && state.running.iter().all(|running| running.job.is_some()) {
            state.lane = next;
            self.waiting(next).notify_all();
        }
    }
}

impl State {
    /// How much longer a free thread of [`Lane::Leftover`] may take to begin the next job; `None` when none should.
    fn patience(&self, now: Duration) -> Option<Duration> {
        let (added, _) = self.jobs.front()?;
        let free = self.running.len() < self.leftovers.max(1);
        (self.lane == Lane::Leftover && free).then(|| BEGIN_WITHIN.saturating_sub(now.saturating_sub(*added)))
    }

    /// How long it is until a look is due; `None` when there is nothing to look at.
    fn until_look(&self) -> Option<Duration> {
        let now = now();
        let running = self.running.iter().filter(|running| running.job.is_some());
        let looks = running.map(|running| STARVING_AFTER.saturating_sub(now.saturating_sub(running.seen)));
        looks.chain(self.patience(now)).min()
    }

    /// Looks whether [`Lane::Leftover`] starves; then the other one takes over, with the jobs that do not get on.
    fn watch(&mut self, measure: Measure) {
        let now = now();
        if self.patience(now) == Some(Duration::ZERO) {
            self.lane = Lane::Share;
        }
        for running in &mut self.running {
            if running.starves(now, measure)
                && let Some(job) = running.job.take()
            {
                self.lane = Lane::Share;
                self.jobs.push_front((now, job));
            }
        }
    }
}

impl Running {
    /// A job that this thread begins.
    fn begin(job: Job) -> Self {
        Self { thread: Thread::this(), job: Some(job), seen: now(), processor: own_processor() }
    }

    /// Whether the thread has got next to nothing since the last look, which is long enough ago.
    fn starves(&mut self, now: Duration, measure: Measure) -> bool {
        let elapsed = now.saturating_sub(self.seen);
        if self.job.is_none() || elapsed < STARVING_AFTER {
            return false;
        }
        self.seen = now;
        let Some(processor) = measure(self.thread) else { return false };
        let got = processor.saturating_sub(self.processor);
        self.processor = processor;
        Lane::Leftover.after(got, elapsed) == Lane::Share
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn queue(measure: Measure) -> Arc<Queue> {
        let queue = Queue::new(measure);
        queue.join(Lane::Leftover);
        queue.join(Lane::Share);
        Arc::new(queue)
    }

    fn job() -> Job {
        Arc::new(|| ())
    }

    fn lane(queue: &Queue) -> Lane {
        queue.lock().lane
    }

    /// Lets a free thread of the other lane look at a job that goes on, until `looks` has counted three. Returns whether
    /// it was given the job.
    fn is_run_twice(measure: Measure, looks: &AtomicUsize) -> bool {
        let queue = queue(measure);
        queue.add(job());
        let _first = queue.next(Lane::Leftover).unwrap();
        let theirs = Arc::clone(&queue);
        let other = thread::spawn(move || theirs.next(Lane::Share).is_some());
        while looks.load(Ordering::Relaxed) < 3 && !other.is_finished() {
            thread::yield_now();
        }
        queue.ran(Lane::Leftover, Duration::from_secs(1), Duration::from_secs(1));
        queue.close();
        other.join().unwrap()
    }

    #[test]
    fn a_job_that_starves_in_the_middle_is_given_to_the_other_lane_once() {
        let queue = queue(|_| Some(Duration::ZERO));
        let job = job();
        queue.add(Arc::clone(&job));
        let began = now();
        assert!(Arc::ptr_eq(&queue.next(Lane::Leftover).unwrap(), &job));
        assert!(Arc::ptr_eq(&queue.next(Lane::Share).unwrap(), &job));
        assert!(now().saturating_sub(began) >= STARVING_AFTER, "one delay is not hunger");
        assert_eq!(lane(&queue), Lane::Share);
        assert_eq!(queue.lock().until_look(), None, "nobody looks at it any more");
        queue.close();
        assert!(queue.next(Lane::Share).is_none());
    }

    #[test]
    fn a_job_that_is_merely_long_is_not_run_twice() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let all_there_is = |_| {
            LOOKS.fetch_add(1, Ordering::Relaxed);
            Some(now())
        };
        assert!(!is_run_twice(all_there_is, &LOOKS));
    }

    #[test]
    fn a_job_is_not_run_twice_where_nobody_can_tell_whether_it_starves() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let unknown = |_| {
            LOOKS.fetch_add(1, Ordering::Relaxed);
            None
        };
        assert!(!is_run_twice(unknown, &LOOKS));
    }

    #[test]
    fn a_job_that_no_thread_begins_is_taken_by_the_other_lane() {
        let queue = queue(|_| None);
        queue.add(job());
        assert!(queue.next(Lane::Share).is_some());
        assert_eq!(lane(&queue), Lane::Share);
    }

    #[test]
    fn the_starving_lane_is_not_taken_again_before_its_jobs_have_ended() {
        let queue = queue(|_| Some(Duration::ZERO));
        queue.add(job());
        let _starving = queue.next(Lane::Leftover).unwrap();
        let theirs = Arc::clone(&queue);
        let second = move || {
            let _again = theirs.next(Lane::Share).unwrap();
            theirs.ran(Lane::Share, Duration::from_millis(20), Duration::from_millis(20));
        };
        thread::spawn(second).join().unwrap();
        assert_eq!(lane(&queue), Lane::Share);
        queue.ran(Lane::Leftover, Duration::from_millis(20), Duration::from_secs(11));
        queue.ran(Lane::Share, Duration::from_millis(20), Duration::from_millis(20));
        assert_eq!(lane(&queue), Lane::Leftover);
    }

    #[test]
    fn both_lanes_end_when_one_takes_the_last_job() {
        let queue = queue(|_| None);
        queue.add(job());
        assert!(queue.next(Lane::Share).is_some(), "which leaves the other lane");
        queue.add(job());
        queue.close();
        let theirs = Arc::clone(&queue);
        let other = thread::spawn(move || theirs.next(Lane::Leftover).is_none());
        assert!(queue.next(Lane::Share).is_some());
        assert!(queue.next(Lane::Share).is_none());
        assert!(other.join().unwrap());
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
}
