//! The threads that hash passwords. They have a lower priority than those that serve requests.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that are started with the first job and end when this is dropped.
pub(super) struct Threads {
    count: NonZeroUsize,
    jobs: OnceLock<Sender<Job>>,
}

impl Threads {
    pub(super) fn new(count: NonZeroUsize) -> Self {
        Self { count, jobs: OnceLock::new() }
    }

    /// Runs a job, which goes on also when nobody waits for it any more. `None` when it panicked, or when the system
    /// gave no thread.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            // Who asked may have gone.
            let _ = tell.send(job());
        });
        self.jobs.get_or_init(|| start(self.count)).send(job).ok()?;
        told.await.ok()
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Without any thread the receiver is gone at once, and so every job fails.
fn start(count: NonZeroUsize) -> Sender<Job> {
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..count.get() {
        let receiver = Arc::clone(&receiver);
        let thread = std::thread::Builder::new().name(format!("hash-{number}"));
        if let Err(error) = thread.spawn(move || work(&receiver)) {
            tracing::error!(%error, "a thread for password hashes could not begin");
        }
    }
    sender
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    lower_priority();
    loop {
        // The lock is held while waiting: the others wait for the lock instead of the job.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Whoever waits for a job that panics is told by its channel; the thread is needed for the next one.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// On Linux a priority belongs to a thread. Hashing then takes what the threads that serve requests leave, and a small
/// share when they leave nothing.
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
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> Threads {
        Threads::new(NonZeroUsize::new(count).unwrap())
    }

    #[tokio::test]
    async fn jobs_run_on_named_threads_of_low_priority() {
        let threads = threads(1);
        let name = threads.run(|| std::thread::current().name().map(str::to_owned)).await;
        assert_eq!(name, Some(Some("hash-0".to_owned())));
        #[cfg(target_os = "linux")]
        {
            let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
            let here = nice();
            assert_eq!(threads.run(nice).await, Some(here.max(10)));
            assert_eq!(nice(), here, "only their own priority is lower");
        }
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let threads = threads(1);
        assert_eq!(threads.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(threads.run(|| 7).await, Some(7));
    }
}
