//! Taking in clients: as many as there may be, in total and of each network.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;

use super::Worker;
use crate::connection::{self, Purpose};
use crate::net::crowd::{Crowded, Place};
use crate::net::peer::{self, Trust};
use crate::net::transport::Transport;

/// How long accepting rests after it failed, usually because there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts clients for ever.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, purpose: Purpose) {
    let mut complaint = Complaint { worker: Rc::clone(&worker), last_ms: None };
    loop {
        if worker.connections.load(Ordering::Acquire) >= worker.server.limits.max_connections.get() {
            // The kernel keeps who comes now; a place becomes free when somebody leaves.
            complaint.make(|| tracing::warn!("as many clients are connected as may be; others wait"));
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, address)) => {
                let Ok(place) = place_for(&worker, address.ip()) else {
                    worker.turned_away.note(address.ip());
                    continue;
                };
                // Another thread may have taken the last place meanwhile.
                let counted = loop {
                    match Counted::enter(&worker) {
                        Some(counted) => break counted,
                        None => tokio::time::sleep(ACCEPT_PAUSE).await,
                    }
                };
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move {
                    connection::serve(worker, Transport::tcp(stream), address, purpose).await;
                    drop((counted, place));
                });
            }
            Err(error) => {
                complaint.make(|| tracing::warn!(%error, "cannot accept connections"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place among the connections of the client's network. A trusted proxy speaks for many clients and needs none; whom it
/// introduces is counted when that is known.
fn place_for(worker: &Worker, address: IpAddr) -> Result<Option<Place>, Crowded> {
    match peer::trust(address, &worker.server.trusted_proxies) {
        Trust::Trusted => Ok(None),
        Trust::Untrusted => worker.crowd.enter(address),
    }
}

/// Says what keeps clients waiting, at most once a second.
struct Complaint {
    worker: Rc<Worker>,
    last_ms: Option<u64>,
}

impl Complaint {
    fn make(&mut self, tell: impl FnOnce()) {
        let now_ms = self.worker.clock.now_ms();
        if self.last_ms.is_none_or(|last_ms| now_ms >= last_ms + 1000) {
            self.last_ms = Some(now_ms);
            tell();
        }
    }
}

/// Counts a client connection as long as it lives.
struct Counted(Rc<Worker>);

impl Counted {
    /// Takes one of the places that there are for the whole process.
    fn enter(worker: &Rc<Worker>) -> Option<Self> {
        let most = worker.server.limits.max_connections.get();
        let more = |open: usize| (open < most).then_some(open + 1);
        worker.connections.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        worker.own_connections.set(worker.own_connections.get() + 1);
        Some(Self(Rc::clone(worker)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.own_connections.set(self.0.own_connections.get().saturating_sub(1));
    }
}
