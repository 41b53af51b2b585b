//! How the operating system schedules the threads beside the data plane.

use std::io;

use super::StartError;

/// Lets the thread that asks take no processor from another one when it is woken: it waits until one is free, or until its
/// turn comes. Its share stays the same. For the control plane, whose work for one request is not worth interrupting others
/// for. On Linux that is the class for batch work (`SCHED_BATCH`), which belongs to a thread and needs no privilege.
#[cfg(target_os = "linux")]
pub(super) fn give_way() {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

    let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap_or(0);
    let outcome = priority_of(nice).and_then(|priority| {
        let this = thread_priority::thread_native_id();
        let priority = ThreadPriority::Crossplatform(priority);
        thread_priority::set_thread_priority_and_policy(this, priority, batch).ok()
    });
    if thread_priority::thread_schedule_policy().ok() != Some(batch) {
        tracing::debug!(?outcome, "the control plane interrupts requests when it is woken");
    }
}

/// Works on a thread that gives way, and so do the threads that are started meanwhile, such as those of the store: a thread
/// is scheduled as the one that started it.
///
/// # Errors
///
/// [`StartError::System`] when there is no thread, or the work panicked.
pub(super) fn giving_way<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, StartError> {
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("opening".to_owned());
        let working = thread.spawn_scoped(scope, || {
            give_way();
            work()
        })?;
        working.join().map_err(|_| io::Error::other("opening the gateway failed"))
    });
    outcome.map_err(StartError::System)
}

/// A nice value as the library has it, which sets one together with a class: 0 for 19, and up to 99 for less.
#[cfg(target_os = "linux")]
fn priority_of(nice: i32) -> Option<thread_priority::ThreadPriorityValue> {
    // The library rounds down to one of the 40 nice values, so this has to lie above the wanted one.
    let below_most = nice.saturating_add(20).saturating_mul(99) / 39 + 1;
    u8::try_from(99 - below_most.min(99)).ok()?.try_into().ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn give_way() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    use rustix::process::{getpriority_process, setpriority_process};
    use rustix::thread::gettid;
    use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

    fn nice() -> i32 {
        getpriority_process(Some(gettid())).unwrap()
    }

    #[test]
    fn a_thread_that_gives_way_keeps_its_share() {
        let before = (thread_schedule_policy().unwrap(), nice());
        // A thread may always have less.
        for lower in before.1..20 {
            let changed = std::thread::spawn(move || {
                setpriority_process(Some(gettid()), lower).unwrap();
                give_way();
                (thread_schedule_policy().unwrap(), nice())
            });
            let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
            assert_eq!(changed.join().unwrap(), (batch, lower));
        }
        assert_eq!((thread_schedule_policy().unwrap(), nice()), before);
    }

    #[test]
    fn what_is_started_meanwhile_gives_way_too() {
        let policy = giving_way(|| std::thread::spawn(|| thread_schedule_policy().unwrap()).join().unwrap());
        assert_eq!(policy.unwrap(), ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch));
        assert!(matches!(giving_way(|| panic!("on purpose")), Err::<(), _>(StartError::System(_))));
    }
}
