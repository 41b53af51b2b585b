//! Listening sockets: one per data-plane thread and address, shared by `SO_REUSEPORT`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps waiting while a thread is busy.
const BACKLOG: i32 = 4096;

/// An address could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.source.kind();
        let why = if kind == io::ErrorKind::AddrInUse {
            "the port is taken by another process".to_owned()
        } else if kind == io::ErrorKind::PermissionDenied {
            "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)".to_owned()
        } else if kind == io::ErrorKind::AddrNotAvailable {
            "this machine has no such address".to_owned()
        } else {
            self.source.to_string()
        };
        write!(f, "cannot listen on {}: {why}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Binds `count` listeners to one address, among which the kernel spreads connections. Port 0 is chosen once for all.
///
/// # Errors
///
/// [`BindError`]; nothing stays bound then.
pub fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |source| BindError { address, source };
    // Without this, SO_REUSEPORT would let a second gateway of the same user take half of the connections.
    if address.port() != 0 {
        drop(bind_one(address, false).map_err(fail)?);
    }
    let first = bind_one(address, true).map_err(fail)?;
    let bound = first.local_addr().map_err(fail)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(bind_one(bound, true).map_err(fail)?);
    }
    Ok(listeners)
}

/// Binds one listener that shares its port with nobody: for the admin address.
///
/// # Errors
///
/// [`BindError`].
pub fn bind_alone(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_one(address, false).map_err(|source| BindError { address, source })
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Answers are written whole, so waiting for more to send would only delay them. Connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_address_share_the_port_with_each_other_and_with_nobody_else() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        let error = bind(address, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}: the port is taken by another process")
        );
        assert!(bind_alone(address).is_err());
    }

    #[test]
    fn connections_do_not_wait_for_more_to_send() {
        let listener = bind_alone("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }
}
