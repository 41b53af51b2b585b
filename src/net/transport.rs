//! What carries a client's bytes: TCP, or TLS over it, or memory in a rehearsal; with what was read to find out which protocol is spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::net::tls::TlsStream;

use super::deadline::{Overdue, Progress};
use super::splice::Pipe;

/// A client's connection.
#[derive(Debug)]
pub struct Transport {
    kind: Kind,
    /// What was read already and is read again first.
    ahead: Bytes,
}

#[derive(Debug)]
enum Kind {
    Tcp(Socket),
    Tls(Box<TlsStream<Transport>>),
    Memory(DuplexStream),
}

impl Transport {
    /// TCP in the clear.
    pub fn tcp(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(Socket { stream, progress: None }), ahead: Bytes::new() }
    }

    /// Lets the deadlines know what the socket takes, whatever is written through, and decide how it is closed.
    #[must_use]
    pub fn watched_by(mut self, progress: &Rc<Progress>) -> Self {
        match &mut self.kind {
            Kind::Tcp(socket) => socket.progress = Some(Rc::clone(progress)),
            Kind::Tls(_) | Kind::Memory(_) => {}
        }
        self
    }

    /// TLS over another connection, after its handshake.
    pub fn tls(stream: TlsStream<Self>) -> Self {
        Self { kind: Kind::Tls(Box::new(stream)), ahead: Bytes::new() }
    }

    /// Memory: the other end is in this process.
    pub fn memory(stream: DuplexStream) -> Self {
        Self { kind: Kind::Memory(stream), ahead: Bytes::new() }
    }

    /// Gives back what was read, so that it is read again.
    #[must_use]
    pub fn with_read_ahead(mut self, ahead: Bytes) -> Self {
        self.ahead = ahead;
        self
    }

    /// The socket, if what is written to the connection is what it sends.
    pub fn plain_socket(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Tcp(socket) => Some(&socket.stream),
            Kind::Tls(_) | Kind::Memory(_) => None,
        }
    }

    /// Writes everything that is in a pipe, where what is written to the connection is what its socket sends.
    ///
    /// # Errors
    ///
    /// Those of the socket, and [`io::ErrorKind::Unsupported`] without one.
    pub fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        let Kind::Tcp(socket) = &self.kind else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        while !pipe.is_empty() {
            ready!(socket.noted(pipe.poll_drain(cx, &socket.stream)))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes as much as the connection takes at once. What it does not take is lost.
    pub fn write_at_once(&mut self, bytes: &[u8]) {
        let mut context = Context::from_waker(Waker::noop());
        if Pin::new(&mut *self).poll_write(&mut context, bytes).is_ready() {
            let _sent = Pin::new(self).poll_flush(&mut context).is_ready();
        }
    }
}

/// A socket, and what is known of its connection.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    progress: Option<Rc<Progress>>,
}

impl Socket {
    /// Lets the deadlines know what became of writing. Here, because only a socket tells whether a client reads: TLS takes
    /// bytes that it cannot send yet. Whoever writes has something to write, so that none written is an error: it would be
    /// none again.
    fn noted(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(progress) = &self.progress {
            progress.written(&outcome);
        }
        match outcome {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(_) | Poll::Pending => outcome,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A client that does not read would leave what was written to it with the kernel for minutes more.
        if self.progress.as_ref().and_then(|progress| progress.overdue()) == Some(Overdue::Read)
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection is closed without being reset");
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let piece = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.get(..piece).unwrap_or_default());
            self.ahead.advance(piece);
            if self.ahead.is_empty() {
                // An empty end would keep the whole buffer for as long as the connection lives.
                self.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(&mut socket.stream).poll_read(cx, buffer),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Kind::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(socket) => {
                let outcome = Pin::new(&mut socket.stream).poll_write(cx, bytes);
                socket.noted(outcome)
            }
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Kind::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(socket) => {
                let outcome = Pin::new(&mut socket.stream).poll_write_vectored(cx, slices);
                socket.noted(outcome)
            }
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Kind::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(socket) => socket.stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            Kind::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(&mut socket.stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Kind::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(&mut socket.stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Kind::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
