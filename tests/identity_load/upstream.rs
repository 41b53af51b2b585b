//! Upstreams that say which request they saw and as whose, and that are killed all the time.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::http1::{Head, Wire};
use crate::ledger::{Count, Ledger};
use crate::people::{Dice, line};

/// Of so many requests one goes wrong, when something is made to go wrong.
const WRONG: u64 = 50;

/// What an upstream is made to do wrong, to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It answers with the identity of the request before.
    Identity,
    /// It answers with the nonce of the request before.
    Nonce,
    /// It sends the answer to the request before.
    Answer,
    /// It takes the body for that of another request.
    Body,
    /// It sees a request twice.
    Twice,
}

/// What all upstreams have in common.
pub(crate) struct Upstreams {
    ledger: Arc<Ledger>,
    posts: Mutex<HashSet<String>>,
    fault: AtomicU8,
    before: Mutex<Echo>,
    pub(crate) addresses: [SocketAddr; 4],
}

/// What is said of a request.
#[derive(Clone, Default)]
struct Echo {
    nonce: String,
    id: String,
    name: String,
    lines: usize,
}

impl Echo {
    fn body(&self) -> String {
        line(&self.nonce, &self.id, &self.name).repeat(self.lines)
    }
}

/// A request as it was seen.
struct Seen<'a> {
    method: &'a str,
    path: &'a str,
    nonces: Vec<&'a str>,
    ids: Vec<&'a str>,
    names: Vec<&'a str>,
    authorized: bool,
    body: &'a [u8],
}

impl Upstreams {
    /// Two upstreams of HTTP/1.1 and two of HTTP/2. They run until they are told to stop.
    pub(crate) async fn start(ledger: &Arc<Ledger>, stop: &Arc<AtomicBool>) -> (Arc<Self>, JoinSet<()>) {
        let mut listeners = Vec::new();
        for _ in 0..4 {
            listeners.push(listen((Ipv4Addr::LOCALHOST, 0).into()).await);
        }
        let addresses = std::array::from_fn(|place| listeners[place].local_addr().unwrap());
        let shared = Arc::new(Self {
            ledger: Arc::clone(ledger),
            posts: Mutex::default(),
            fault: AtomicU8::new(Fault::None as u8),
            before: Mutex::default(),
            addresses,
        });
        let mut tasks = JoinSet::new();
        for (place, listener) in listeners.into_iter().enumerate() {
            tasks.spawn(live(Arc::clone(&shared), listener, place >= 2, Arc::clone(stop)));
        }
        (shared, tasks)
    }

    /// The targets, as the configuration names them.
    pub(crate) fn targets(&self) -> [String; 4] {
        std::array::from_fn(|place| {
            format!("{}://{}", if place < 2 { "http" } else { "h2c" }, self.addresses[place])
        })
    }

    pub(crate) fn make(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    fn goes_wrong(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8 && Dice::new().one_in(WRONG)
    }

    /// Notes a request whose head has arrived. One with POST is seen once.
    fn arrived(&self, method: &str, nonce: &str) {
        if method != "POST" {
            return;
        }
        self.ledger.add(Count::Posts);
        let known = !self.posts.lock().unwrap().insert(nonce.to_owned());
        if known || self.goes_wrong(Fault::Twice) {
            self.ledger.fault(Count::Twice, || format!("POST {nonce} arrived twice"));
        }
    }

    /// What is to be answered to a request that has arrived whole.
    fn echo(&self, seen: &Seen<'_>) -> Echo {
        let one = |values: &[&str]| match values {
            [one] => Some((*one).to_owned()),
            _ => None,
        };
        let nonce = one(&seen.nonces).unwrap_or_default();
        let lines = seen.path.rsplit('/').next().and_then(|lines| lines.parse().ok()).unwrap_or(0);
        let mut pieces = seen.body.split_inclusive(|byte| *byte == b'\n');
        let of_another =
            seen.method == "POST" && pieces.any(|piece| piece.trim_ascii_end() != nonce.as_bytes());
        let short = seen.method == "POST" && seen.body.len() != (nonce.len() + 1) * lines * 4;
        let (Some(id), Some(name)) = (one(&seen.ids), one(&seen.names)) else {
            self.ledger.fault(Count::Wrong, || format!("{nonce} arrived as {:?} {:?}", seen.ids, seen.names));
            return Echo::default();
        };
        if seen.authorized || of_another || short || self.goes_wrong(Fault::Body) {
            self.ledger.fault(Count::Wrong, || {
                format!(
                    "{nonce} arrived with a body of {} bytes, Authorization: {}",
                    seen.body.len(),
                    seen.authorized
                )
            });
        }
        let mut echo = Echo { nonce, id, name, lines };
        let before = std::mem::replace(&mut *self.before.lock().unwrap(), echo.clone());
        if self.goes_wrong(Fault::Identity) {
            (echo.id, echo.name) = (before.id, before.name);
        } else if self.goes_wrong(Fault::Nonce) {
            echo.nonce = before.nonce;
        } else if self.goes_wrong(Fault::Answer) {
            echo = before;
        }
        echo
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        match socket.bind(address) {
            Ok(()) => return socket.listen(1024).unwrap(),
            // The port of a killed upstream was lent to a connection.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One upstream's lives: each ends after one to three seconds, with all of its connections, wherever they are.
async fn live(shared: Arc<Upstreams>, mut listener: TcpListener, http2: bool, stop: Arc<AtomicBool>) {
    let address = listener.local_addr().unwrap();
    let mut dice = Dice::new();
    while !stop.load(Ordering::Relaxed) {
        let mut connections = JoinSet::new();
        let life = Duration::from_millis(1000 + u64::try_from(dice.below(2000)).unwrap());
        let _over = tokio::time::timeout(life, async {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _nodelay = stream.set_nodelay(true).is_ok();
                    if http2 { serve_http2(shared, stream).await } else { serve_http1(shared, stream).await }
                });
                while connections.try_join_next().is_some() {}
            }
        })
        .await
        .is_err();
        drop(listener);
        connections.shutdown().await;
        shared.ledger.add(Count::Killed);
        tokio::time::sleep(Duration::from_millis(10 + u64::try_from(dice.below(100)).unwrap())).await;
        listener = listen(address).await;
    }
}

async fn serve_http1(shared: Arc<Upstreams>, stream: TcpStream) {
    let mut wire = Wire::new(stream);
    while let Ok(head) = wire.head(true).await {
        let nonce = head.field("x-nonce").unwrap_or_default().to_owned();
        shared.arrived(&head.method, &nonce);
        let Ok(body) = wire.body(&head).await else { return };
        let echo = shared.echo(&Seen {
            method: &head.method,
            path: &head.path,
            nonces: head.all("x-nonce"),
            ids: head.all("x-user-id"),
            names: head.all("x-user-name"),
            authorized: head.field("authorization").is_some(),
            body: &body,
        });
        if let Some(key) = head.field("sec-websocket-key") {
            return serve_websocket(wire, &head, key, &echo).await;
        }
        let text = echo.body();
        // The largest have a length, so that they may pass without being copied.
        let framing = if (201..=400).contains(&echo.lines) {
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n", text.len())
        } else {
            format!("content-length: {}\r\n\r\n{text}", text.len())
        };
        let answer = format!("HTTP/1.1 200 OK\r\nx-seen-nonce: {}\r\n{framing}", echo.nonce);
        // In two pieces, so that a kill may come in between.
        let (first, second) = answer.split_at(answer.len() - text.len() / 2 - 1);
        if wire.stream.write_all(first.as_bytes()).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
        if wire.stream.write_all(second.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve_websocket(mut wire: Wire<TcpStream>, _head: &Head, key: &str, echo: &Echo) {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\nx-seen-nonce: {}\r\n\r\n",
        derive_accept_key(key.as_bytes()),
        echo.nonce
    );
    if wire.stream.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    let mut socket = WebSocketStream::from_partially_read(wire.stream, wire.ahead, Role::Server, None).await;
    while let Some(Ok(Message::Text(number))) = socket.next().await {
        let said = format!("{number} {}", line(&echo.nonce, &echo.id, &echo.name));
        if socket.send(Message::text(said)).await.is_err() {
            return;
        }
    }
}

async fn serve_http2(shared: Arc<Upstreams>, stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut streams = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        streams.spawn(serve_stream(Arc::clone(&shared), request, respond));
        while streams.try_join_next().is_some() {}
    }
}

async fn serve_stream(
    shared: Arc<Upstreams>,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (head, mut stream) = request.into_parts();
    let nonces = values(&head.headers, "x-nonce");
    shared.arrived(head.method.as_str(), nonces.first().copied().unwrap_or_default());
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let Ok(data) = data else { return };
        body.extend_from_slice(&data);
        let _released = stream.flow_control().release_capacity(data.len()).is_ok();
    }
    let echo = shared.echo(&Seen {
        method: head.method.as_str(),
        path: head.uri.path(),
        nonces,
        ids: values(&head.headers, "x-user-id"),
        names: values(&head.headers, "x-user-name"),
        authorized: head.headers.contains_key("authorization"),
        body: &body,
    });
    let mut text = Bytes::from(echo.body());
    let response = Response::builder().header("x-seen-nonce", &echo.nonce).body(()).unwrap();
    let Ok(mut answer) = respond.send_response(response, false) else { return };
    let rest = text.split_off(text.len() / 2);
    if answer.send_data(text, false).is_ok() {
        tokio::task::yield_now().await;
        let _reset_before = answer.send_data(rest, true).is_err();
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}
