//! What the system tells of this process, where there is `/proc`.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Processor time that was used, in seconds.
pub(super) fn processor_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = std::time::Duration::try_from(used);
    seconds.map_or(0.0, |used| used.as_secs_f64())
}

/// Memory that is resident, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// File descriptors that are open.
pub(super) fn open_descriptors() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// File descriptors that may be open; `None` is no limit.
pub(super) fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
