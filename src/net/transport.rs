//! What carries a client's bytes: TCP, or TLS over it, or memory in a rehearsal; with what was read to find out which protocol is spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::net::tls::TlsStream;

/// A client's connection.
#[derive(Debug)]
pub struct Transport {
    kind: Kind,
    /// What was read already and is read again first.
    ahead: Bytes,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Transport>>),
    Memory(DuplexStream),
}

impl Transport {
    /// TCP in the clear.
    pub fn tcp(stream: TcpStream) -> Self {
        Self { kind: Kind::Tcp(stream), ahead: Bytes::new() }
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

    /// Writes as much as the connection takes at once, and says how much that was.
    pub fn write_at_once(&mut self, bytes: &[u8]) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut *self).poll_write(&mut context, bytes) {
            Poll::Ready(Ok(written)) => {
                // What is not sent now is lost with the connection.
                let _sent = Pin::new(self).poll_flush(&mut context).is_ready();
                written
            }
            Poll::Ready(Err(_)) | Poll::Pending => 0,
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
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Kind::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
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
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Kind::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            Kind::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Kind::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Kind::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
