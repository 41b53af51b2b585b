//! Taking in clients: as many as there may be, in total and of each network.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::select;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::balance::{Arrived, Seated};
use super::{Stopping, Worker};
use crate::connection::{self, Purpose};
use crate::net::crowd::{Crowded, Place};
use crate::net::peer::{self, Trust};
use crate::net::transport::Transport;

/// How long accepting rests after it failed, usually because there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts clients until the gateway stops. Who has connected by then is taken in as well, since the kernel would break
/// those connections off.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    purpose: Purpose,
    mut stopping: watch::Receiver<Stopping>,
) {
    {
        let told = stopping.clone();
        let accepting = pin!(accept_for_ever(&worker, &listener, purpose, &told));
        let stopped = pin!(super::wait_for(&mut stopping, Stopping::Draining));
        // Which of the two comes first costs nothing to find out but when somebody connects.
        select(stopped, accepting).await;
    }
    // The runtime may not know of them yet, so the socket itself is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, address)) = listener.accept() {
        let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        let Ok(stream) = taken else { continue };
        let Ok(place) = place_for(&worker, address.ip()) else { continue };
        let Some(counted) = Counted::enter(&worker) else { return };
        // Another thread may have ended, so nothing is handed on any more.
        let client = Client { _counted: counted, seated: worker.seat.own(), _place: place, address, purpose };
        serve(&worker, client, stream);
    }
}

/// Serves the clients that other threads hand this one, as long as there are other threads.
pub(super) async fn take_over(worker: Rc<Worker>, mut arriving: mpsc::UnboundedReceiver<Arrived>) {
    while let Some(arrived) = arriving.recv().await {
        let Arrived { stream, client } = arrived;
        match TcpStream::from_std(stream) {
            Ok(stream) => serve(&worker, client, stream),
            Err(error) => tracing::warn!(%error, "a connection could not be handed on"),
        }
    }
}

async fn accept_for_ever(
    worker: &Rc<Worker>,
    listener: &TcpListener,
    purpose: Purpose,
    stopping: &watch::Receiver<Stopping>,
) {
    loop {
        if worker.connections.load(Ordering::Acquire) >= max_connections(worker) {
            // The kernel keeps who comes now; a place becomes free when somebody leaves.
            if is_to_be_told(worker.thread.clock.now_ms()) {
                tracing::warn!("as many clients are connected as may be; others wait");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, address)) => {
                let Ok(place) = place_for(worker, address.ip()) else {
                    worker.turned_away.note(address.ip());
                    continue;
                };
                // Another thread may have taken the last place meanwhile.
                let counted = loop {
                    match Counted::enter(worker) {
                        Some(counted) => break counted,
                        None => tokio::time::sleep(ACCEPT_PAUSE).await,
                    }
                };
                let client =
                    Client { _counted: counted, seated: worker.seat.next(), _place: place, address, purpose };
                serve_or_hand_on(worker, client, stream, stopping);
            }
            Err(error) => {
                if is_to_be_told(worker.thread.clock.now_ms()) {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a client here, or has the thread do so that its place is with.
fn serve_or_hand_on(
    worker: &Rc<Worker>,
    client: Client,
    stream: TcpStream,
    stopping: &watch::Receiver<Stopping>,
) {
    // Looked at after the place was taken, for which a thread that stops waits: so nobody is handed to one that has ended.
    if worker.seat.is_own(&client.seated) || *stopping.borrow() != Stopping::No {
        return serve(worker, client, stream);
    }
    // It is told to the runtime of the other thread, and no more to this one's.
    match stream.into_std() {
        Ok(stream) => {
            if (Arrived { stream, client }).hand_on().is_err() {
                tracing::warn!("a connection was handed to a thread that has ended");
            }
        }
        Err(error) => tracing::warn!(%error, "a connection could not be handed on"),
    }
}

/// Serves a client on a task of its own.
fn serve(worker: &Rc<Worker>, client: Client, stream: TcpStream) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        connection::serve(worker, Transport::tcp(stream), client.address, client.purpose).await;
        drop(client);
    });
}

fn max_connections(worker: &Worker) -> usize {
    worker.generation().server.limits.max_connections.get()
}

/// A place among the connections of the client's network. A trusted proxy speaks for many clients and needs none; whom it
/// introduces is counted when that is known.
fn place_for(worker: &Worker, address: IpAddr) -> Result<Option<Place>, Crowded> {
    match peer::trust(address, &worker.generation().server.trusted_proxies) {
        Trust::Trusted => Ok(None),
        Trust::Untrusted => worker.crowd.enter(address),
    }
}

/// Whether somebody may say now what keeps clients waiting. Descriptors and places are the process's, so one thread tells for
/// all, once a second.
fn is_to_be_told(now_ms: u64) -> bool {
    static TOLD_MS: AtomicU64 = AtomicU64::new(0);
    let again = |told_ms: u64| (now_ms >= told_ms.saturating_add(1000) || told_ms == 0).then_some(now_ms);
    TOLD_MS.fetch_update(Ordering::AcqRel, Ordering::Acquire, again).is_ok()
}

/// A client who has connected, and what its connection counts for until it is dropped.
pub(super) struct Client {
    _counted: Counted,
    pub(super) seated: Seated,
    _place: Option<Place>,
    address: SocketAddr,
    purpose: Purpose,
}

/// One of the places that there are for the whole process.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn enter(worker: &Worker) -> Option<Self> {
        let most = max_connections(worker);
        let more = |open: usize| (open < most).then_some(open + 1);
        worker.connections.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(&worker.connections)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
