//! How much is read at once of a body, and so how far it is read ahead of whoever gets it: little of a small one, more of one
//! that keeps coming.

use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are read at once, to begin with.
const MIN_READ_BYTES: usize = 8 * 1024;

/// Bytes that are read at once, at most.
const MAX_READ_BYTES: usize = 64 * 1024;

/// How many bytes of a connection are read at once, by how many came the last time.
#[derive(Clone, Copy, Debug)]
pub struct ReadSize(usize);

impl Default for ReadSize {
    fn default() -> Self {
        Self(MIN_READ_BYTES)
    }
}

impl ReadSize {
    /// Reads once, behind what was read before, and says how much came.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        into.reserve(self.0);
        let before = into.len();
        let bytes = ready!(pin!(from.read_buf(into)).poll(cx))?;
        if before + bytes >= self.0 {
            self.0 = (self.0 * 2).min(MAX_READ_BYTES);
        } else if bytes < self.0 / 4 {
            self.0 = (self.0 / 2).max(MIN_READ_BYTES);
        }
        Poll::Ready(Ok(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What is read at once of so many bytes that wait.
    fn read(size: &mut ReadSize, waiting: usize) -> usize {
        let data = vec![b'x'; waiting];
        let mut into = BytesMut::new();
        let mut cx = Context::from_waker(Waker::noop());
        match size.poll_read(&mut cx, &mut data.as_slice(), &mut into) {
            Poll::Ready(Ok(bytes)) => {
                assert_eq!(into.len(), bytes);
                bytes
            }
            other @ (Poll::Ready(Err(_)) | Poll::Pending) => panic!("{other:?}"),
        }
    }

    #[test]
    fn more_is_read_of_what_keeps_coming_and_less_again_of_what_does_not() {
        let mut size = ReadSize::default();
        let many = 1024 * 1024;
        let read_of_many: Vec<_> = (0..5).map(|_| read(&mut size, many)).collect();
        assert_eq!(read_of_many, [8, 16, 32, 64, 64].map(|kib| kib * 1024));
        for _ in 0..3 {
            assert_eq!(read(&mut size, 100), 100);
        }
        assert_eq!(read(&mut size, many), MIN_READ_BYTES);
    }
}
