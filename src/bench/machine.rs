//! How busy the load generator and its machine are: figures are worth nothing when they are its own limits.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that this thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How many processors there are for this process.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Ticks of all processors so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    /// Those of the machine; `None` where the system does not tell.
    pub fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line is `cpu user nice system idle iowait irq softirq steal guest guest_nice`, guests being counted before.
    fn read(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> =
            fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        let idle = fields.get(3)? + fields.get(4)?;
        Some(Self { all: fields.iter().sum(), idle })
    }

    /// The share of the time since an earlier moment in which processors were busy.
    #[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
    pub fn busy_since(self, earlier: Self) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        let idle = self.idle.saturating_sub(earlier.idle).min(all);
        Some(1.0 - idle as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_known_by_its_ticks() {
        let ticks = |text: &str| Ticks::read(text).unwrap();
        let before = ticks("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n");
        let after = ticks("cpu  160 0 80 805 55 0 0 0 0 0\n");
        assert!((after.busy_since(before).unwrap() - 0.9).abs() < 1e-9);
        assert_eq!(before.busy_since(before), None);
        for text in ["", "cpu", "cpu  1 2", "intr 5"] {
            assert_eq!(Ticks::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_time_of_a_thread_goes_on() {
        let before = thread_time();
        let mut sum = 0_u64;
        while thread_time() == before {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(thread_time() > before && processors() > 0);
    }
}
