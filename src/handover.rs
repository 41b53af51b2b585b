//! Handing the listening sockets over to another process of the same user, so that a new program takes the place of the old
//! one without a moment in which nobody listens.
//!
//! The sockets themselves are passed (unix(7), `SCM_RIGHTS`), not their addresses. Whoever has connected and was not accepted
//! yet stays in their queues, from which both processes accept until the old one has heard that the new one serves.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};
use tokio::sync::Notify;

/// Bytes of a message. Each has one name, and one socket or none.
const RECORD_BYTES: usize = 128;
/// The first word, with the version of this protocol.
const HELLO: &str = "tollgate take-over 1";
/// Behind the last socket.
const END: &str = "end";
/// The new process serves.
const SERVING: &str = "serving";
/// The old one drains.
const DRAINING: &str = "draining";
/// Most sockets that are taken.
const MAX_SOCKETS: usize = 16 * 1024;

/// For each message but the one that says that the new process serves.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the old process waits for the new one to serve. It serves itself meanwhile.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// Listening sockets and what they are for, in words that both processes know: `listen 127.0.0.1:8080`.
pub type Named = (String, TcpListener);

/// Where the process with this store is asked for its sockets.
pub fn place(store: &Path) -> PathBuf {
    store.with_extension("takeover")
}

/// The sockets that may be handed over, until the gateway stops.
#[derive(Debug, Default)]
pub struct Offered(Mutex<Vec<Named>>);

impl Offered {
    /// These sockets.
    pub fn new(sockets: Vec<Named>) -> Self {
        Self(Mutex::new(sockets))
    }

    /// Hands nothing over from here on, and keeps no socket open.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn copies(&self) -> io::Result<Vec<Named>> {
        let sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.iter().map(|(name, socket)| Ok((name.clone(), socket.try_clone()?))).collect()
    }
}

/// Takes the place of whoever was asked there before. Only this user may connect.
///
/// # Errors
///
/// When there is no socket to be made there.
pub fn listen(place: &Path) -> io::Result<UnixListener> {
    let beside = place.with_extension("takeover.new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, place)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Hands the sockets to whoever asks, until somebody serves with them; tells that, and then hands over nothing more.
pub async fn offer(listener: UnixListener, offered: Arc<Offered>, succeeded: Arc<Notify>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
        return std::future::pending().await;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let offered = Arc::clone(&offered);
        let conversation = tokio::task::spawn_blocking(move || {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            hand_over(&stream, &offered)
        });
        match conversation.await {
            Ok(Ok(())) => {
                tracing::info!("another process has taken over");
                succeeded.notify_one();
                return std::future::pending().await;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the sockets were not taken over"),
            Err(error) => tracing::error!(%error, "the sockets were not taken over"),
        }
    }
}

/// Returns when the other side serves.
fn hand_over(stream: &UnixStream, offered: &Offered) -> io::Result<()> {
    let peer = socket_peercred(stream)?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user has asked for them"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    expect(stream, HELLO)?;
    for (name, socket) in offered.copies()? {
        send(stream, &name, Some(socket.as_fd()))?;
    }
    send(stream, END, None)?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    expect(stream, SERVING)?;
    send(stream, DRAINING, None)
}

/// A process that serves and waits to be relieved.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// Asks the process there for its sockets. `None` when there is none.
///
/// # Errors
///
/// When there is one that does not hand them over.
pub fn take(place: &Path) -> io::Result<Option<(Predecessor, Vec<Named>)>> {
    let stream = match UnixStream::connect(place) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send(&stream, HELLO, None)?;
    let mut sockets = Vec::new();
    while sockets.len() < MAX_SOCKETS {
        match receive(&stream)? {
            (name, Some(socket)) => sockets.push((name, TcpListener::from(socket))),
            (word, None) if word == END => return Ok(Some((Predecessor(stream), sockets))),
            (word, None) => return Err(unexpected(&word)),
        }
    }
    Err(unexpected("too many sockets"))
}

impl Predecessor {
    /// Says that this process serves, so that the other one drains.
    ///
    /// # Errors
    ///
    /// When the other one does not hear of it; it goes on serving then.
    pub fn relieve(self) -> io::Result<()> {
        send(&self.0, SERVING, None)?;
        expect(&self.0, DRAINING)
    }
}

fn unexpected(word: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other process says {word:?}"))
}

fn expect(stream: &UnixStream, word: &str) -> io::Result<()> {
    match receive(stream)? {
        (said, None) if said == word => Ok(()),
        (said, _) => Err(unexpected(&said)),
    }
}

fn send(mut stream: &UnixStream, word: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut record = [b'\n'; RECORD_BYTES];
    let place = record.get_mut(..word.len()).ok_or_else(|| unexpected(word))?;
    place.copy_from_slice(word.as_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(&record)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.write_all(record.get(sent..).unwrap_or_default())
}

fn receive(mut stream: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    let mut record = [0; RECORD_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut record)], &mut ancillary, flags)?.bytes;
    let socket = ancillary.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut sockets) = message else { return None };
        sockets.next()
    });
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(record.get_mut(received..).unwrap_or_default())?;
    let word = record.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((String::from_utf8_lossy(word).into_owned(), socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    /// A process with one socket, and what becomes of it.
    fn offering(scratch: &Scratch) -> (TcpListener, PathBuf, std::thread::JoinHandle<io::Result<()>>) {
        let place = place(&scratch.path("tollgate.db"));
        let listener = listen(&place).unwrap();
        listener.set_nonblocking(false).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let offered = Offered::new(vec![("listen here".to_owned(), socket.try_clone().unwrap())]);
        let serving = std::thread::spawn(move || hand_over(&listener.accept()?.0, &offered));
        (socket, place, serving)
    }

    #[test]
    fn who_waits_in_the_queue_is_accepted_by_the_other_process() {
        let scratch = Scratch::new();
        let (socket, place, serving) = offering(&scratch);
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
        let address = socket.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (predecessor, sockets) = take(&place).unwrap().unwrap();
        assert_eq!(sockets.len(), 1);
        let (name, taken) = &sockets[0];
        assert_eq!((name.as_str(), taken.local_addr().unwrap()), ("listen here", address));
        drop(socket);
        predecessor.relieve().unwrap();
        serving.join().unwrap().unwrap();
        let (mut accepted, _) = taken.accept().unwrap();
        accepted.write_all(b"hello").unwrap();
        drop(accepted);
        let mut read = String::new();
        client.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    }

    #[test]
    fn who_takes_the_sockets_and_does_not_serve_changes_nothing() {
        let scratch = Scratch::new();
        let (_socket, place, serving) = offering(&scratch);
        let taken = take(&place).unwrap().unwrap();
        drop(taken);
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn where_nobody_is_there_is_nothing_to_take() {
        let scratch = Scratch::new();
        let place = place(&scratch.path("tollgate.db"));
        assert!(take(&place).unwrap().is_none());
        // A process that was killed leaves its place behind.
        drop(listen(&place).unwrap());
        assert!(take(&place).unwrap().is_none());
        drop(listen(&place).unwrap());
    }
}
