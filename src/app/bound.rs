//! The sockets of a gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::SockRef;

use super::{Inherited, StartError};
use crate::config::Config;
use crate::connection::Purpose;
use crate::handover::Named;
use crate::net::listener;

/// Every socket, bound before anything serves.
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
    /// Where requests are sent to HTTPS.
    pub(super) redirect: Option<SocketAddr>,
    /// Per worker, listeners for each address.
    pub(super) workers: Vec<Vec<(TcpListener, Purpose)>>,
    /// The same sockets, for whoever takes over.
    pub(super) offered: Vec<Named>,
}

impl Bound {
    /// Takes those that are there already, and binds the others.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`], [`StartError::Inherited`] and [`StartError::System`]; nothing stays bound then.
    pub(super) fn bind(config: &Config, inherited: Inherited) -> Result<Self, StartError> {
        let count = config.server.workers.get();
        let workers = (0..count).map(|_| Vec::new()).collect();
        let (addresses, offered) = (Vec::new(), Vec::new());
        let mut bound = Self { addresses, admin: None, redirect: None, workers, offered };
        let mut inherited = inherited;
        for address in &config.server.listen {
            let listening = bound.listen(&mut inherited, "listen", *address, Purpose::Serve)?;
            bound.addresses.extend(listening);
        }
        if let Some(address) = config.server.http_redirect {
            bound.redirect = bound.listen(&mut inherited, "redirect", address, Purpose::Redirect)?;
        }
        if let Some(address) = config.server.admin {
            let name = format!("admin {address}");
            let listener = match inherited.take(&name, address).map_err(StartError::System)?.pop() {
                Some(listener) => listener,
                None => listener::bind_alone(address).map_err(StartError::Bind)?,
            };
            let address = listener.local_addr().map_err(StartError::System)?;
            bound.offered.push((name, listener.try_clone().map_err(StartError::System)?));
            bound.admin = Some((listener, address));
        }
        inherited.finish()?;
        Ok(bound)
    }

    fn listen(
        &mut self,
        inherited: &mut Inherited,
        kind: &str,
        address: SocketAddr,
        purpose: Purpose,
    ) -> Result<Option<SocketAddr>, StartError> {
        let count = self.workers.len();
        let name = format!("{kind} {address}");
        let mut listeners = inherited.take(&name, address).map_err(StartError::System)?;
        if listeners.is_empty() {
            listeners = listener::bind(address, count).map_err(StartError::Bind)?;
        }
        let bound = listeners.first().map(TcpListener::local_addr).transpose();
        let copies = |listener: &TcpListener| listener.try_clone().map_err(StartError::System);
        for listener in &listeners {
            self.offered.push((name.clone(), copies(listener)?));
        }
        // A thread without a socket of its own accepts from that of another one, and one may have several.
        for number in listeners.len()..count {
            let another = listeners.get(number % listeners.len().max(1)).map(copies).transpose()?;
            listeners.extend(another);
        }
        for (number, listener) in listeners.into_iter().enumerate() {
            if let Some(worker) = self.workers.get_mut(number % count.max(1)) {
                worker.push((listener, purpose));
            }
        }
        bound.map_err(StartError::System)
    }
}

impl Inherited {
    /// Takes the sockets that are for this, by their name or by their address.
    fn take(&mut self, name: &str, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let mut taken: Vec<TcpListener> =
            self.handed_over.extract_if(.., |(other, _)| other == name).map(|(_, socket)| socket).collect();
        let is_passed = |socket: &mut TcpListener| socket.local_addr().is_ok_and(|own| own == address);
        taken.extend(self.passed.extract_if(.., is_passed));
        for socket in &taken {
            socket.set_nonblocking(true)?;
            SockRef::from(socket).set_tcp_nodelay(true)?;
        }
        Ok(taken)
    }

    /// Sees that a service manager has passed nothing that nobody would accept from. What another process has listened on and
    /// this one does not is closed.
    fn finish(self) -> Result<(), StartError> {
        match self.passed.first().map(TcpListener::local_addr) {
            Some(Ok(address)) => Err(StartError::Inherited(address)),
            Some(Err(error)) => Err(StartError::System(error)),
            None => Ok(()),
        }
    }
}
