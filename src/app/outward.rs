//! What the gateway tells of itself while it runs: the admin listener, and spans for a collector.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::StartError;
use crate::admin::{self, Admin};
use crate::config::Otlp;
use crate::reload::Reloader;
use crate::snapshot::Snapshot;
use crate::telemetry::trace::{SpanSink, export};
use crate::worker::Handed;

/// How long the end waits for the last spans to be exported.
const SPAN_FLUSH: Duration = Duration::from_millis(500);

/// Tells what is served by at the time when it is asked.
pub(super) fn current(snapshots: &watch::Receiver<Handed>) -> Box<dyn Fn() -> Arc<Snapshot> + Send + Sync> {
    let snapshots = snapshots.clone();
    Box::new(move || Arc::clone(&snapshots.borrow().snapshot))
}

/// Serves the admin listener, when there is one: its address, and what accepts on it.
pub(super) fn serve_admin(
    control: &Runtime,
    reloader: &Reloader,
    told: admin::Parts,
    admin: Option<(TcpListener, SocketAddr)>,
) -> Result<Option<(SocketAddr, AbortHandle)>, StartError> {
    let Some((listener, address)) = admin else { return Ok(None) };
    let _entered = control.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?;
    let task = reloader.run_beside(Admin::new(told).serve(listener));
    Ok(Some((address, task)))
}

/// Exports the spans that the sink takes, from the runtime that this is called in.
pub(super) fn export_spans(settings: Otlp) -> SpanSink {
    let (spans, queue) = SpanSink::new(settings.sample_millionths);
    tokio::spawn(export::run(queue, settings));
    spans
}

/// Has the last spans exported, for which the end does not wait long.
pub(super) fn flush_spans(snapshot: &Snapshot) {
    if let Some(spans) = &snapshot.spans {
        // The other end is dropped when it is done; it never sends.
        let _flushed = spans.flush().recv_timeout(SPAN_FLUSH);
    }
}
