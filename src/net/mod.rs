//! Connections below HTTP: listeners, deadlines, and who is on the other side.

pub mod crowd;
pub mod deadline;
pub mod frames;
pub mod listener;
pub mod peer;
pub mod proxy_protocol;
pub mod splice;
mod tick;
pub mod tls;
pub mod transport;
pub mod watchlist;
