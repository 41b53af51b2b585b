//! A client's connection in TLS: the library's records over a connection that does not block.
//!
//! What tokio-rustls does as well, with one difference: after a handshake of TLS 1.3 the session ticket waits for the first
//! answer, so that it costs no system call and no segment of its own.

use std::future::poll_fn;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::server::Accepted;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// How long a ticket waits for a first request. Clients send it right after their last message of the handshake, but where
/// many do so at once it is some time until it is read.
const TICKET_WAITS: Duration = Duration::from_millis(250);

/// A connection after its handshake. What is read and written is in the clear here.
#[derive(Debug)]
pub struct TlsStream<S> {
    io: S,
    session: ServerConnection,
    /// What the library has ready is a ticket, for which no flush is needed.
    ticket_waits: bool,
    /// This side has said that it ends.
    write_ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Answers a client's first message and completes the handshake. What the client has to know before it goes on has been
    /// sent then; a ticket may be left for [`Self::send_ticket`], or for the first answer.
    ///
    /// # Errors
    ///
    /// What the connection says, or the library, whose alert has been sent as far as the connection took it.
    pub(super) async fn handshake(
        accepted: Accepted,
        settings: Arc<ServerConfig>,
        mut io: S,
    ) -> io::Result<Self> {
        let session = match accepted.into_connection(settings) {
            Ok(session) => session,
            Err((error, mut alert)) => {
                poll_fn(|cx| {
                    // Whether the alert arrives or not, the connection ends with the error.
                    let _sent = alert.write_all(&mut Blocking { io: &mut io, cx });
                    Poll::Ready(())
                })
                .await;
                return Err(malformed(error));
            }
        };
        let mut stream = Self { io, session, ticket_waits: false, write_ended: false };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        stream.ticket_waits = stream.session.wants_write();
        Ok(stream)
    }

    /// What the handshake has settled.
    pub(super) fn session(&self) -> &ServerConnection {
        &self.session
    }

    /// Sends the session ticket that a handshake has left, unless a request comes meanwhile, with whose answer it goes.
    ///
    /// # Errors
    ///
    /// What the connection says, or the library.
    pub(super) async fn send_ticket(&mut self) -> io::Result<()> {
        if !self.ticket_waits {
            return Ok(());
        }
        let read = poll_fn(|cx| self.poll_plain(cx).map_ok(|_| ()));
        match timeout(TICKET_WAITS, read).await {
            Ok(read) => read,
            Err(_elapsed) => poll_fn(|cx| self.poll_send(cx)).await,
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Under TLS 1.2 the client waits for these bytes, also for the last ones.
            let is_handshaking = self.session.is_handshaking();
            if is_handshaking || self.session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
                ready!(self.poll_send(cx))?;
            }
            if !is_handshaking {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads records until something is in the clear, and gives a piece of it; an empty one is the end that the other side
    /// has announced. One that comes unannounced is an error (RFC 8446 section 6.1).
    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        loop {
            match self.session.reader().into_first_chunk() {
                // Asked for once more below, because what is returned from a loop is borrowed until its end.
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_receive(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            };
        }
        Poll::Ready(self.session.reader().into_first_chunk())
    }

    /// Reads from the connection once; 0 is its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let bytes = match self.session.read_tls(&mut Blocking { io: &mut self.io, cx }) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says what was wrong; the error counts, whether it arrives or not.
            let _sent = self.poll_send(cx).is_ready();
            return Poll::Ready(Err(malformed(error)));
        }
        Poll::Ready(Ok(bytes))
    }

    /// Writes everything that the library has ready.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ticket_waits = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut Blocking { io: &mut self.io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Makes records of bytes, as many as the library has room for, and writes them as far as the connection takes them.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        encrypt: impl Fn(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let bytes = encrypt(&mut self.session.writer())?;
            match (bytes, self.poll_send(cx)?) {
                (0, Poll::Pending) => return Poll::Pending,
                // There was no room, and now there is some.
                (0, Poll::Ready(())) => {}
                (_, Poll::Ready(()) | Poll::Pending) => return Poll::Ready(Ok(bytes)),
            }
        }
    }
}

fn malformed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let piece = ready!(this.poll_plain(cx))?;
        let bytes = piece.len().min(buffer.remaining());
        buffer.put_slice(piece.get(..bytes).unwrap_or_default());
        this.session.reader().consume(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_encrypt(cx, |writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_encrypt(cx, |writer| writer.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ticket_waits {
            ready!(this.poll_send(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_ended {
            this.session.send_close_notify();
            this.write_ended = true;
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The other side has gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            ended => Poll::Ready(ended),
        }
    }
}

/// A connection as the library wants it: what would wait is an error of the kind "would block".
struct Blocking<'a, 'b, S> {
    io: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: Unpin> Blocking<'_, '_, S> {
    fn now<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match poll(Pin::new(self.io), self.cx) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Blocking<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        self.now(|io, cx| io.poll_read(cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.now(|io, cx| io.poll_write(cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.now(|io, cx| io.poll_write_vectored(cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.now(AsyncWrite::poll_flush)
    }
}
