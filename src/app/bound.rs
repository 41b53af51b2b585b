//! The sockets of a gateway.

use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::config::Config;
use crate::connection::Purpose;
use crate::net::listener;

/// Every socket, bound before anything serves.
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
    /// Where requests are sent to HTTPS.
    pub(super) redirect: Option<SocketAddr>,
    /// Per worker, one listener for each address.
    pub(super) workers: Vec<Vec<(TcpListener, Purpose)>>,
}

impl Bound {
    /// Binds them all.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`] and [`StartError::System`]; nothing stays bound then.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let count = config.server.workers.get();
        let mut workers: Vec<Vec<(TcpListener, Purpose)>> = (0..count).map(|_| Vec::new()).collect();
        let mut bind = |address: SocketAddr, purpose: Purpose| {
            let listeners = listener::bind(address, count).map_err(StartError::Bind)?;
            let bound = listeners.first().map(TcpListener::local_addr).transpose();
            for (worker, listener) in workers.iter_mut().zip(listeners) {
                worker.push((listener, purpose));
            }
            bound.map_err(StartError::System)
        };
        let mut addresses = Vec::new();
        for address in &config.server.listen {
            addresses.extend(bind(*address, Purpose::Serve)?);
        }
        let redirect = match config.server.http_redirect {
            Some(address) => bind(address, Purpose::Redirect)?,
            None => None,
        };
        let admin = match config.server.admin {
            Some(address) => {
                let listener = listener::bind_alone(address).map_err(StartError::Bind)?;
                let address = listener.local_addr().map_err(StartError::System)?;
                Some((listener, address))
            }
            None => None,
        };
        Ok(Self { addresses, admin, redirect, workers })
    }
}
