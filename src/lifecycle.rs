//! The life of a gateway that runs: it waits for signals, drains at the first and stops at the second.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::app::{Gateway, Seen};
use crate::service;

/// How often is looked whether all parts still run.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often is looked whether the data plane has finished draining.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a gateway came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signal asked for it, and what was in flight is finished.
    Drained,
    /// A second signal, or the end of `drain_timeout`, cut off what was in flight.
    CutOff,
    /// A part of the gateway has ended although nobody asked for it.
    Failed,
}

/// The handlers of the signals that a gateway obeys. From [`Signals::install`] on none of them kills the process, so
/// one that comes while the gateway starts is obeyed as soon as it has started.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    streams: Streams,
}

#[derive(Debug)]
struct Streams {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Tells of a file that has reached its limit. It ends a process unless somebody listens; that the file cannot be
    /// written is told to whoever writes it as well.
    _file_size: Signal,
}

impl Signals {
    /// Installs the handlers of TERM, INT, HUP and XFSZ.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn install() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let streams = Streams {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        };
        drop(entered);
        Ok(Self { runtime, streams })
    }

    /// Waits until the gateway is to end, drains it, and stops it.
    pub fn attend(mut self, gateway: Gateway) -> Ending {
        let Self { runtime, streams } = &mut self;
        let ending = runtime.block_on(async {
            match streams.wait(&gateway).await {
                Asked::ToStop => {
                    service::stopping();
                    gateway.drain();
                    streams.drain(&gateway).await
                }
                Asked::ToLeave => {
                    gateway.leave();
                    streams.drain(&gateway).await
                }
                Asked::Nothing => Ending::Failed,
            }
        });
        gateway.stop();
        ending
    }
}

/// What ended the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ToStop,
    /// Another process has taken over.
    ToLeave,
    /// The gateway, or a part of it, has ended by itself.
    Nothing,
}

impl Streams {
    async fn wait(&mut self, gateway: &Gateway) -> Asked {
        let Self { terminate, interrupt, hangup, _file_size: _ } = self;
        let (mut looks, mut stalls) = (ticks(LOOK_EVERY), gateway.stalls());
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => return Asked::ToStop,
                Some(()) = interrupt.recv() => return Asked::ToStop,
                Some(()) = hangup.recv() => gateway.reloader().ask(),
                () = gateway.succeeded() => return Asked::ToLeave,
                _ = looks.tick() => if gateway.has_failed() {
                    return Asked::Nothing;
                } else if stalls.look(Instant::now()) == Seen::AllGoRound {
                    service::alive();
                },
            }
        }
    }

    async fn drain(&mut self, gateway: &Gateway) -> Ending {
        let Self { terminate, interrupt, hangup, _file_size: _ } = self;
        let mut looks = ticks(DRAIN_LOOK_EVERY);
        let mut overdue = pin!(tokio::time::sleep(gateway.drain_timeout()));
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => return second_signal(),
                Some(()) = interrupt.recv() => return second_signal(),
                Some(()) = hangup.recv() => ignore_hangup(),
                () = &mut overdue => {
                    tracing::warn!("drain_timeout is over, what is in flight is cut off");
                    return Ending::CutOff;
                }
                _ = looks.tick() => if gateway.has_ended() {
                    return Ending::Drained;
                },
            }
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn second_signal() -> Ending {
    tracing::warn!("a second signal, what is in flight is cut off");
    Ending::CutOff
}

fn ignore_hangup() {
    tracing::warn!("the gateway is stopping, the configuration is not read again");
}
