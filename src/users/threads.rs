//! The threads that hash passwords. They take what the threads that serve requests leave, and a small share when those
//! leave nothing.
//!
//! There are two lanes. The threads of the usual one have the scheduling class for idle work (`SCHED_IDLE` on Linux), so
//! that whoever serves a request takes the processor from them at once, and not only at the end of a slice of time. On a
//! machine without a free moment such a thread would not get on, though; then the jobs go to threads of the usual class
//! with a lower priority, which always get a share. A thread cannot change over, because leaving the idle class takes a
//! privilege. Hence a job that has been begun and does not get on is run a second time, and the first result counts.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::oneshot;

mod queue;
mod system;

use queue::{Job, Lane, Measure, Queue};
use system::{Thread, now, own_processor};

/// Threads that are started with the first job and end when this is dropped.
pub(super) struct Threads {
    count: NonZeroUsize,
    measure: Measure,
    queue: OnceLock<Arc<Queue>>,
}

impl Threads {
    pub(super) fn new(count: NonZeroUsize) -> Self {
        Self::with_measure(count, Thread::processor)
    }

    fn with_measure(count: NonZeroUsize, measure: Measure) -> Self {
        Self { count, measure, queue: OnceLock::new() }
    }

    /// Threads of which nobody can tell what they get of a processor, so that no job is run twice: one that waits looks
    /// like one that starves.
    #[cfg(test)]
    pub(super) fn unmeasured(count: NonZeroUsize) -> Self {
        Self::with_measure(count, |_| None)
    }

    /// Runs a job, which goes on also when nobody waits for it any more. `None` when it panicked, or when the system
    /// gave no thread.
    ///
    /// A job may be run twice. What is `held` for it is dropped before the result is told, when the first run has ended;
    /// the other one may take longer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        held: impl Send + 'static,
        job: impl Fn() -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.queue.get_or_init(|| start(self.count, self.measure)).add(repeatable(held, tell, job));
        told.await.ok().flatten()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.get() {
            queue.close();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A job of which only the first result is told; `None` when it panics, because the thread is needed for the next one.
fn repeatable<T: Send + 'static>(
    held: impl Send + 'static,
    tell: oneshot::Sender<Option<T>>,
    job: impl Fn() -> T + Send + Sync + 'static,
) -> Job {
    let first = Mutex::new(Some((held, tell)));
    Arc::new(move || {
        if lock(&first).is_none() {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(&job)).ok();
        if let Some((held, tell)) = lock(&first).take() {
            drop(held);
            // Who asked may have gone.
            let _ = tell.send(result);
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(count: NonZeroUsize, measure: Measure) -> Arc<Queue> {
    let queue = Arc::new(Queue::new(measure));
    for (lane, name) in [(Lane::Leftover, "hash"), (Lane::Share, "hash-share")] {
        for number in 0..count.get() {
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            let theirs = Arc::clone(&queue);
            match thread.spawn(move || work(&theirs, lane)) {
                Ok(_) => queue.join(lane),
                Err(error) => tracing::error!(%error, "a thread for password hashes could not begin"),
            }
        }
    }
    queue
}

fn work(queue: &Queue, lane: Lane) {
    match lane {
        Lane::Leftover => system::run_when_idle(),
        Lane::Share => system::lower_priority(),
    }
    while let Some(job) = queue.next(lane) {
        let (processor, began) = (own_processor(), now());
        job();
        queue.ran(lane, own_processor().saturating_sub(processor), now().saturating_sub(began));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn threads(measure: Measure) -> Threads {
        Threads::with_measure(NonZeroUsize::MIN, measure)
    }

    fn name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn jobs_go_to_the_other_lane_when_one_has_starved() {
        let threads = threads(|_| None);
        assert!(["hash-0", "hash-share-0"].contains(&threads.run((), name).await.unwrap().as_str()));
        let (processor, elapsed) = (Duration::from_millis(12), Duration::from_secs(4));
        threads.queue.get().unwrap().ran(Lane::Leftover, processor, elapsed);
        assert_eq!(threads.run((), name).await.unwrap(), "hash-share-0");
    }

    #[tokio::test]
    async fn the_result_of_a_job_that_does_not_get_on_comes_from_the_other_lane() {
        let threads = threads(|_| Some(Duration::ZERO));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let job = move || {
            let name = name();
            if name == "hash-0" {
                let _ = lock(&wait).recv();
            }
            name
        };
        assert_eq!(threads.run((), job).await.unwrap(), "hash-share-0");
        drop(go);
        assert_eq!(threads.run((), || 7).await, Some(7));
    }

    #[test]
    fn only_the_first_of_two_results_is_told_and_nothing_is_held_from_then_on() {
        let held = Arc::new(());
        let (tell, mut told) = oneshot::channel();
        let (go, wait) = mpsc::channel();
        let (start, started) = mpsc::channel();
        let wait = Mutex::new(wait);
        let job = repeatable(Arc::clone(&held), tell, move || {
            start.send(()).unwrap();
            lock(&wait).recv().unwrap()
        });
        let run = || {
            std::thread::spawn({
                let job = Arc::clone(&job);
                move || job()
            })
        };
        let both = [run(), run()];
        started.recv().unwrap();
        started.recv().unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        go.send(1).unwrap();
        while !both.iter().any(std::thread::JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&held), 1);
        go.send(2).unwrap();
        for run in both {
            run.join().unwrap();
        }
        assert_eq!(told.try_recv(), Ok(Some(1)));
        job();
        assert!(started.try_recv().is_err(), "what has a result is not run again");
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let threads = threads(|_| None);
        assert_eq!(threads.run((), || -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(threads.run((), || 7).await, Some(7));
    }

    #[tokio::test]
    async fn the_threads_end_when_they_are_dropped() {
        let threads = Threads::new(NonZeroUsize::new(3).unwrap());
        assert_eq!(threads.run((), || 7).await, Some(7));
        let queue = Arc::downgrade(threads.queue.get().unwrap());
        drop(threads);
        while queue.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
