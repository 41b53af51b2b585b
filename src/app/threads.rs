//! The data-plane threads.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::StartError;
use crate::connection::Purpose;
use crate::net::crowd::Crowd;
use crate::worker::{self, Handed, Pulse, Stopping};

/// What all threads share.
pub(super) struct Shared {
    pub(super) snapshots: watch::Receiver<Handed>,
    pub(super) control: Handle,
    /// Client connections of the whole process.
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) crowd: Arc<Crowd>,
    pub(super) stop: watch::Receiver<Stopping>,
}

/// The name of a data-plane thread, as the system and the log have it.
pub(super) fn thread_name(number: usize) -> String {
    format!("worker-{number}")
}

/// Starts one thread per worker and waits until all serve.
pub(super) fn spawn_workers(
    shared: &Shared,
    listeners: Vec<Vec<(TcpListener, Purpose)>>,
    pulses: &[Arc<Pulse>],
) -> Result<Vec<JoinHandle<io::Result<()>>>, StartError> {
    let (serving, served) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    let seats = worker::seats(listeners.len());
    for (number, ((listeners, pulse), seat)) in listeners.into_iter().zip(pulses).zip(seats).enumerate() {
        let parts = worker::Parts {
            snapshots: shared.snapshots.clone(),
            listeners,
            control: shared.control.clone(),
            connections: Arc::clone(&shared.connections),
            crowd: Arc::clone(&shared.crowd),
            seat,
            stopping: shared.stop.clone(),
            pulse: Arc::clone(pulse),
        };
        let serving = serving.clone();
        let work = move || worker::run(parts, move || serving.send(()).unwrap_or_default());
        let thread = std::thread::Builder::new().name(thread_name(number)).spawn(work);
        threads.push(thread.map_err(StartError::System)?);
    }
    drop(serving);
    // A thread that cannot begin drops its end without a word.
    if served.iter().count() < threads.len() {
        return Err(StartError::System(io::Error::other("a data-plane thread could not begin")));
    }
    Ok(threads)
}
