//! What the operating system is told and asked about a thread: how it is scheduled, and what it got of a processor.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
type Id = rustix::thread::Pid;
#[cfg(not(target_os = "linux"))]
type Id = std::thread::ThreadId;

/// A thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread(Id);

impl Thread {
    /// The one that asks.
    #[cfg(target_os = "linux")]
    pub(super) fn this() -> Self {
        Self(rustix::thread::gettid())
    }

    /// The one that asks.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn this() -> Self {
        Self(std::thread::current().id())
    }

    /// The time for which it has had a processor since it began; `None` when the kernel does not tell.
    #[cfg(target_os = "linux")]
    pub(super) fn processor(self) -> Option<Duration> {
        let path = format!("/proc/self/task/{}/schedstat", self.0.as_raw_nonzero());
        let text = std::fs::read_to_string(path).ok()?;
        let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
        // A thread that has begun anything has had some; a kernel that keeps no account says zero.
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }

    /// The time for which it has had a processor since it began; `None` when the kernel does not tell.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn processor(self) -> Option<Duration> {
        None
    }
}

/// Now, on the monotonic clock.
pub(super) fn now() -> Duration {
    clock(ClockId::Monotonic)
}

/// The time for which the thread that asks has had a processor since it began.
pub(super) fn own_processor() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

/// Lets the thread that asks run only when no other wants to. On Linux a scheduling class belongs to a thread.
#[cfg(target_os = "linux")]
pub(super) fn run_when_idle() {
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

/// Lets the thread that asks have a small share. On Linux a priority belongs to a thread.
#[cfg(target_os = "linux")]
pub(super) fn lower_priority() {
    const NICE: i32 = 10;
    let this = Some(rustix::thread::gettid());
    // A process that was started with a lower priority still keeps it.
    let usual = rustix::process::getpriority_process(this).unwrap_or(0);
    if let Err(error) = rustix::process::setpriority_process(this, usual.max(NICE)) {
        tracing::warn!(%error, "password hashes run at the usual priority");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run_when_idle() {}

#[cfg(not(target_os = "linux"))]
pub(super) fn lower_priority() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::thread;

    use super::*;

    /// Whether the thread that runs this is in the class for idle work, and its priority.
    fn scheduling() -> (bool, i32) {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        (thread_schedule_policy().unwrap() == idle, nice)
    }

    /// The scheduling of a thread after it has changed it.
    fn scheduled(change: fn()) -> (bool, i32) {
        let changed = thread::spawn(move || {
            change();
            scheduling()
        });
        changed.join().unwrap()
    }

    #[test]
    fn a_thread_changes_its_own_scheduling_only() {
        let here = scheduling();
        assert!(scheduled(run_when_idle).0);
        assert_eq!(scheduled(lower_priority), (here.0, here.1.max(10)));
        assert_eq!(scheduling(), here);
    }

    #[test]
    fn the_kernel_tells_what_another_thread_got() {
        let thread = Thread::this();
        let before = own_processor();
        while own_processor() < before + Duration::from_millis(30) {}
        let told = thread::spawn(move || thread.processor()).join().unwrap();
        // The account of a thread that runs may be one tick of the kernel late.
        assert!(told.unwrap() > before + Duration::from_millis(15), "{told:?} of {:?}", own_processor());
        assert!(told.unwrap() <= own_processor());
        let ended = thread::spawn(Thread::this).join().unwrap();
        assert!(ended != thread);
    }
}
