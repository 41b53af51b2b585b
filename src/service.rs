//! What a service manager such as systemd gives and is told: sockets that it has bound, and how far the gateway has come.
//! Without one, nothing is given and nobody is told.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The listening sockets that were passed to this process (`LISTEN_FDS`, `sd_listen_fds(3)`). Only the first call gets them. To
/// be called before there are threads.
///
/// # Errors
///
/// When one of them is no listening socket of TCP.
pub fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let taken = (0..passed.len()).filter_map(|place| passed.take_tcp_listener(place).transpose());
    taken.collect()
}

/// Says that the gateway serves, and that this is the process that does.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id()), NotifyState::Status("serving")]);
}

/// Says that the configuration is being read again. [`reloaded`] has to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
}

/// Says what came of reading it.
pub fn reloaded(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that requests in flight are the last ones.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
}

/// Says that the gateway is alive, to a service manager that would restart it otherwise (`WatchdogSec`).
pub fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
