//! Bytes that go from one socket to another by the system alone, through a pipe, without being copied into this process
//! (splice(2)).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::base::bounds::{PIPE_BYTES, PIPES};

/// Empty pipes that a thread keeps for the next bodies, at most. Most bodies use one for as long as it takes to empty it.
const SPARE_PIPES: usize = 4;

/// The pipes of one thread. One is made when there is none to spare, and kept for the next body.
#[derive(Clone, Debug, Default)]
pub struct Pipes(Rc<Stock>);

#[derive(Debug, Default)]
struct Stock {
    spare: RefCell<Vec<Ends>>,
    lent: Cell<usize>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe, and how much is in it. Dropped when it is empty, it goes back to where it came from; otherwise it is closed, so
/// that nobody gets what is somebody else's.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held_bytes: usize,
    stock: Rc<Stock>,
}

impl Pipes {
    /// An empty pipe. There is none when as many as may be are in use, or when the system gives no more.
    pub fn take(&self) -> Option<Pipe> {
        let stock = &self.0;
        if stock.lent.get() >= PIPES {
            return None;
        }
        let spare = stock.spare.borrow_mut().pop();
        let ends = match spare.map_or_else(system::pipe, Ok) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "there is no pipe, so a body is copied");
                return None;
            }
        };
        stock.lent.set(stock.lent.get() + 1);
        Some(Pipe { ends: Some(ends), held_bytes: 0, stock: Rc::clone(stock) })
    }
}

impl Pipe {
    /// Moves what a socket has received into the pipe, which is empty: as much as there is, as fits, and no more than that.
    /// No bytes are the end of what the socket receives.
    ///
    /// # Errors
    ///
    /// Those of the socket, and that the system cannot move bytes so.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        at_most: u64,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        // A pipe that is full could not be told from a socket that has nothing.
        debug_assert_eq!(self.held_bytes, 0, "a pipe is filled when it is empty");
        let at_most = usize::try_from(at_most).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || system::splice(from, &ends.write, at_most));
            if let Some(moved) = unless_blocked(moved)? {
                self.held_bytes += moved;
                return Poll::Ready(Ok(moved));
            }
        }
    }

    /// Moves as much of what is in the pipe to a socket as that takes.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || system::splice(&ends.read, to, self.held_bytes));
            if let Some(moved) = unless_blocked(moved)? {
                self.held_bytes = self.held_bytes.saturating_sub(moved);
                return Poll::Ready(Ok(moved));
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.held_bytes == 0
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stock.lent.set(self.stock.lent.get().saturating_sub(1));
        let mut spare = self.stock.spare.borrow_mut();
        if let Some(ends) = self.ends.take()
            && self.held_bytes == 0
            && spare.len() < SPARE_PIPES
        {
            spare.push(ends);
        }
    }
}

/// What was moved, unless the socket was not ready after all.
fn unless_blocked(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with};

    use super::{AsFd, Ends, PIPE_BYTES, io};

    /// A pipe of the size that is wanted: a user who has too many gets tiny ones, by which copying is faster.
    pub(super) fn pipe() -> io::Result<Ends> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        Ok(Ends { read, write })
    }

    pub(super) fn splice(from: impl AsFd, to: impl AsFd, at_most: usize) -> io::Result<usize> {
        Ok(rustix::pipe::splice(from, None, to, None, at_most, SpliceFlags::NONBLOCK)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{AsFd, Ends, io};

    pub(super) fn pipe() -> io::Result<Ends> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn splice(_: impl AsFd, _: impl AsFd, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Without a budget, so that only sockets are waited for.
    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tokio::task::unconstrained(test))
    }

    /// Two ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn fill(pipe: &mut Pipe, from: &TcpStream, at_most: u64) -> io::Result<usize> {
        poll_fn(|cx| pipe.poll_fill(cx, from, at_most)).await
    }

    async fn drain(pipe: &mut Pipe, to: &TcpStream) {
        while !pipe.is_empty() {
            poll_fn(|cx| pipe.poll_drain(cx, to)).await.unwrap();
        }
    }

    #[test]
    fn bytes_go_from_socket_to_socket_as_they_are_and_no_more_of_them() {
        run(async {
            let (mut sender, from) = pair().await;
            let (to, mut receiver) = pair().await;
            let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
            let writing = async {
                sender.write_all(&sent).await.unwrap();
                sender.write_all(b"behind it").await.unwrap();
                drop(sender);
            };
            let pipes = Pipes::default();
            let moving = async {
                let mut left = sent.len();
                while left > 0 {
                    let mut pipe = pipes.take().unwrap();
                    let moved = fill(&mut pipe, &from, left as u64).await.unwrap();
                    assert!(moved > 0 && moved <= left.min(PIPE_BYTES), "{moved} of {left}");
                    left -= moved;
                    drain(&mut pipe, &to).await;
                }
                drop(to);
            };
            let mut came = Vec::new();
            let ((), (), read) = tokio::join!(writing, moving, receiver.read_to_end(&mut came));
            assert_eq!(read.unwrap(), sent.len());
            assert!(came == sent);
            // One pipe was enough, and what was not asked for is still there.
            assert_eq!((pipes.0.spare.borrow().len(), pipes.0.lent.get()), (1, 0));
            let mut behind = [0; 9];
            let mut from = from;
            from.read_exact(&mut behind).await.unwrap();
            assert_eq!(&behind, b"behind it");
            assert_eq!(fill(&mut pipes.take().unwrap(), &from, 1).await.unwrap(), 0, "the end");
        });
    }

    #[test]
    fn a_socket_that_is_not_ready_is_waited_for() {
        run(async {
            let (mut sender, from) = pair().await;
            let (to, mut receiver) = pair().await;
            let mut cx = Context::from_waker(Waker::noop());
            let mut pipe = Pipes::default().take().unwrap();
            assert!(pipe.poll_fill(&mut cx, &from, 9).is_pending() && pipe.is_empty());
            let piece = vec![b'x'; 64 * 1024];
            let mut moved = 0;
            // Until nothing more fits into the sockets of somebody who does not read.
            while pipe.is_empty() {
                sender.write_all(&piece).await.unwrap();
                let mut left = piece.len();
                while left > 0 && pipe.is_empty() {
                    let filled = fill(&mut pipe, &from, left as u64).await.unwrap();
                    left -= filled;
                    moved += filled;
                    while !pipe.is_empty() && pipe.poll_drain(&mut cx, &to).is_ready() {}
                }
            }
            let mut came = vec![0; moved];
            let (read, ()) = tokio::join!(receiver.read_exact(&mut came), drain(&mut pipe, &to));
            assert_eq!(read.unwrap(), moved);
        });
    }

    #[test]
    fn a_pipe_with_something_in_it_is_not_used_again() {
        run(async {
            let (mut sender, from) = pair().await;
            let (to, mut receiver) = pair().await;
            let pipes = Pipes::default();
            sender.write_all(b"somebody else's").await.unwrap();
            let mut pipe = pipes.take().unwrap();
            assert!(fill(&mut pipe, &from, 100).await.unwrap() > 0);
            drop(pipe);
            assert_eq!((pipes.0.spare.borrow().len(), pipes.0.lent.get()), (0, 0));
            sender.write_all(b"one's own").await.unwrap();
            let mut pipe = pipes.take().unwrap();
            fill(&mut pipe, &from, 100).await.unwrap();
            drain(&mut pipe, &to).await;
            drop(to);
            let mut came = String::new();
            receiver.read_to_string(&mut came).await.unwrap();
            assert_eq!(came, "one's own");
        });
    }

    #[test]
    fn there_are_so_many_pipes_and_no_more() {
        let pipes = Pipes::default();
        let mut lent: Vec<_> = (0..PIPES).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        lent.pop();
        assert!(pipes.take().is_some());
        drop(lent);
        assert_eq!((pipes.0.spare.borrow().len(), pipes.0.lent.get()), (SPARE_PIPES, 0));
    }
}
