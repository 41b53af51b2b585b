//! Taking in another configuration: between two requests, and without a word on their path.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Generation, Worker};
use crate::base::ids::RandomnessUnavailable;
use crate::net::tls::TlsServer;
use crate::snapshot::Snapshot;

/// A snapshot on its way to all threads.
#[derive(Clone)]
pub struct Handed {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Who wants to know how many threads have taken it.
    pub taken: mpsc::UnboundedSender<()>,
}

/// Takes in every snapshot that comes, for ever.
pub(super) async fn renew(worker: Rc<Worker>, mut snapshots: watch::Receiver<Handed>) {
    while snapshots.changed().await.is_ok() {
        let Handed { snapshot, taken } = snapshots.borrow_and_update().clone();
        match worker.take_in(&snapshot) {
            // Whoever has waited long enough hears nothing of it.
            Ok(()) => taken.send(()).unwrap_or_default(),
            Err(error) => tracing::error!(%error, "a data-plane thread keeps the configuration before"),
        }
    }
    // Who could send another one is gone, which is the end of the gateway.
    std::future::pending::<()>().await;
}

impl Worker {
    /// Lets every request that begins from here on work by another snapshot.
    fn take_in(&self, snapshot: &Snapshot) -> Result<(), RandomnessUnavailable> {
        let before = self.generation();
        let next = Generation::new(snapshot, &self.thread, Some(&before))?;
        let trusted = |generation: &Generation| {
            let tls = generation.tls.as_ref().and_then(TlsServer::client_auth);
            (generation.server.trusted_proxies.clone(), tls.cloned())
        };
        let is_other_trust = trusted(&before) != trusted(&next);
        self.thread.access.set_format(snapshot.config.log.format);
        self.generation.replace(Rc::new(next));
        if is_other_trust {
            // Connections that began with another trust end, each after the answer that it waits for.
            self.trust.set(self.trust.get() + 1);
            self.watchlist.wake_all();
        }
        Ok(())
    }
}
