//! Waiting for a moment to within some tens of microseconds. The runtime's own timers count milliseconds, which is
//! longer than many answers take.

use std::io;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

/// A timer of one thread.
#[derive(Debug)]
pub struct Timer {
    #[cfg(target_os = "linux")]
    descriptor: AsyncFd<OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Timer {
    /// Within a runtime.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "sound for a descriptor that is owned and never replaced; its successor takes unsafe code"
        )]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Self { descriptor })
    }

    /// Waits until then.
    ///
    /// # Errors
    ///
    /// When the system refuses the timer.
    pub async fn until(&self, moment: Instant) -> io::Result<()> {
        let wait = moment.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: none, it_value: timespec(wait) };
        timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::empty(), &spec)?;
        // Setting it anew forgets that it has expired, so nothing has to be read.
        self.descriptor.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    /// Within a runtime.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits until then, to within milliseconds.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn until(&self, moment: Instant) -> io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_never_early_and_can_be_used_again() {
        let timer = Timer::new().unwrap();
        for wait in [Duration::from_micros(300), Duration::ZERO, Duration::from_micros(700)] {
            let moment = Instant::now() + wait;
            timer.until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
    }
}
