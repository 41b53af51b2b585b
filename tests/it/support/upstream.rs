//! An upstream that records what it sees to the byte and answers what it is told to.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, SockRef, Socket, Type};

use super::wire::{Cut, Fields, Framing, Head, Wire, request_framing};
use super::{DEADLINE, eventually};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether its body was read to the end.
    pub(crate) whole: bool,
}

impl Recorded {
    pub(crate) fn method(&self) -> &str {
        self.head.line.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The only value of a field; `""` when it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head.fields.one(name).unwrap_or_default()
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request is read.
    Next,
    /// It is closed.
    Close,
    /// It is broken with a reset.
    Reset,
}

/// A connection on which a request's head has just arrived.
pub(crate) struct Talk {
    pub(crate) wire: Wire,
    pub(crate) head: Head,
    /// Which request of this upstream, counted from 0.
    pub(crate) number: usize,
    framing: Framing,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    faults: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    open: AtomicUsize,
    closing: AtomicBool,
}

/// A running upstream.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&mut Talk) -> Then + Send + Sync;

impl Upstream {
    /// One that answers every request with the identity it was told.
    pub(crate) fn echo() -> Self {
        Self::start(Talk::echo)
    }

    /// One that sends these bytes for every request that it has read.
    pub(crate) fn says(answer: impl AsRef<[u8]>, then: Then) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(move |talk| {
            talk.read_body();
            talk.send(&answer);
            then
        })
    }

    /// One that does what the script does with every request.
    pub(crate) fn start(script: impl Fn(&mut Talk) -> Then + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// With small buffers, so that the other side's not reading is felt soon, and the other way round.
    pub(crate) fn start_small(script: impl Fn(&mut Talk) -> Then + Send + Sync + 'static) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(16).unwrap();
        Self::listen(socket.into(), script)
    }

    /// At an address where nobody listens.
    pub(crate) fn listen(
        listener: TcpListener,
        script: impl Fn(&mut Talk) -> Then + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script: Arc<Script> = Arc::new(script);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.closing.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let (shared, script) = (Arc::clone(&accepting), Arc::clone(&script));
                let connection = {
                    let mut connections = shared.connections.lock().unwrap();
                    connections.push(stream.try_clone().unwrap());
                    connections.len() - 1
                };
                shared.open.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    serve(stream, connection, &shared, &*script);
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, shared }
    }

    /// The target of this upstream.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Recorded {
        self.shared.requests.lock().unwrap().last().cloned().expect("a request arrived")
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// Connections that were ever made to it.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Waits until so many requests have arrived.
    pub(crate) fn wait_for(&self, count: usize) {
        eventually("requests at the upstream", DEADLINE, || self.count() >= count);
    }

    /// Waits until every connection to it has ended.
    pub(crate) fn wait_until_left(&self) {
        eventually("the upstream is left", DEADLINE, || self.shared.open.load(Ordering::Acquire) == 0);
    }

    /// Closes every connection that is open, as a restart would.
    pub(crate) fn hang_up(&self) {
        for stream in self.shared.connections.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.hang_up();
        let _ = TcpStream::connect(self.address);
        let faults = self.shared.faults.lock().unwrap();
        if !std::thread::panicking() {
            assert!(faults.is_empty(), "the gateway sent what is not HTTP: {faults:?}");
        }
    }
}

impl Talk {
    /// Reads the request's body to its end, or as far as it comes.
    pub(crate) fn read_body(&mut self) -> bool {
        let mut body = Vec::new();
        let outcome = self.wire.body(self.framing, &mut body);
        self.framing = Framing::None;
        let mut requests = self.shared.requests.lock().unwrap();
        let recorded = &mut requests[self.number];
        recorded.body.append(&mut body);
        match outcome {
            Ok(trailers) => {
                recorded.trailers = trailers;
                recorded.whole = true;
                true
            }
            Err(Cut::Fault(fault)) => {
                self.shared.faults.lock().unwrap().push(fault);
                false
            }
            Err(_) => false,
        }
    }

    /// What has been read of the request's body.
    pub(crate) fn last_body(&self) -> Vec<u8> {
        self.shared.requests.lock().unwrap()[self.number].body.clone()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that has gone away is seen by the test at its other end.
        let _ = self.try_send(bytes);
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    /// Answers 200 with a body.
    pub(crate) fn ok(&mut self, body: &str) -> Then {
        self.read_body();
        self.send(ok(body));
        Then::Next
    }

    /// Answers 200 with the identity headers as JSON.
    pub(crate) fn echo(&mut self) -> Then {
        self.read_body();
        let field = |name: &str| self.head.fields.one(name).map(str::to_owned);
        let body = json!({
            "line": self.head.line, "id": field("x-user-id"), "name": field("x-user-name"),
            "email": field("x-user-email"), "groups": field("x-user-groups"),
        });
        let body = body.to_string();
        if self.head.line.starts_with("HEAD ") {
            self.send(ok(&body).split_inclusive("\r\n\r\n").next().unwrap_or_default());
        } else {
            self.send(ok(&body));
        }
        Then::Next
    }

    /// Sends bytes as long as the other side takes any within `patience`; says how many it took.
    pub(crate) fn send_until_blocked(&mut self, piece: &[u8], most: usize, patience: Duration) -> usize {
        self.wire.stream.set_write_timeout(Some(patience)).unwrap();
        let mut sent = 0;
        while sent < most {
            match self.wire.stream.write(&piece[..piece.len().min(most - sent)]) {
                Ok(taken) => sent += taken,
                Err(_) => break,
            }
        }
        self.wire.stream.set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }
}

/// The bytes of a plain answer.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn serve(stream: TcpStream, connection: usize, shared: &Arc<Shared>, script: &Script) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut wire = Wire::new(stream);
    loop {
        let head = match wire.head() {
            Ok(head) => head,
            Err(Cut::Fault(fault)) => return shared.faults.lock().unwrap().push(fault),
            Err(_) => return,
        };
        let framing = match request_framing(&head.fields) {
            Ok(framing) => framing,
            Err(cut) => return shared.faults.lock().unwrap().push(format!("{cut:?} in {head:?}")),
        };
        let parts: Vec<&str> = head.line.split(' ').collect();
        if parts.len() != 3 || parts[2] != "HTTP/1.1" || !parts[1].starts_with('/') {
            return shared.faults.lock().unwrap().push(format!("the request line {:?}", head.line));
        }
        let number = {
            let mut requests = shared.requests.lock().unwrap();
            let whole = framing == Framing::None;
            requests.push(Recorded { head: head.clone(), whole, ..Recorded::default() });
            requests.len() - 1
        };
        let mut talk = Talk { wire, head, number, framing, shared: Arc::clone(shared) };
        let then = script(&mut talk);
        if then == Then::Next && talk.framing != Framing::None {
            talk.read_body();
        }
        wire = talk.wire;
        match then {
            Then::Next => {}
            Then::Close => {
                let _ = wire.stream.shutdown(Shutdown::Both);
                return;
            }
            Then::Reset => {
                // The test keeps a second handle, so the linger has to be set on the connection itself.
                SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
                shared.connections.lock().unwrap()[connection] = detached();
                return;
            }
        }
    }
}

/// A socket in place of one that has to be closed for good.
fn detached() -> TcpStream {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().into()
}
