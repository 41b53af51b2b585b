//! A client that speaks HTTP/2, with a library and, where that is too well behaved, in frames made by hand.

use std::future::{Future, poll_fn};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::runtime::Runtime;

use super::DEADLINE;
use super::check::Ledger;
use super::client::Response;
use super::gateway::Gateway;
use super::wire::{Fields, Head};

/// One connection to a gateway.
pub(crate) struct Http2Client {
    runtime: Runtime,
    scheme: &'static str,
    pub(crate) send: SendRequest<Bytes>,
    ledger: Arc<Ledger>,
}

impl Http2Client {
    /// In the clear, with prior knowledge.
    pub(crate) fn connect(gateway: &Gateway) -> Self {
        Self::over(TcpStream::connect(gateway.address).unwrap(), gateway, "http")
    }

    pub(crate) fn over(stream: TcpStream, gateway: &Gateway, scheme: &'static str) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut builder = h2::client::Builder::new();
            // So that a stream that is not read leaves room for the others.
            builder.initial_connection_window_size(16 * 1024 * 1024);
            let (send, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            send
        });
        Self { runtime, scheme, send, ledger: Arc::clone(&gateway.ledger) }
    }

    /// Waits for something that must not take long.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, what).await.expect("it ends in time") })
    }

    /// A request to the usual host.
    pub(crate) fn request(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let uri = format!("{}://gw.test{target}", self.scheme);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    /// Begins a stream. It has ended at the client's side when `end` is set.
    pub(crate) fn begin(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone();
        self.run(async move {
            poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
            send.send_request(request, end).unwrap()
        })
    }

    /// Sends a request without a body, and reads the answer.
    pub(crate) fn call(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let request = self.request(method, target, fields);
        self.ask(request, None)
    }

    pub(crate) fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        self.call("GET", target, fields)
    }

    /// A GET with a Bearer token.
    pub(crate) fn get_as(&mut self, target: &str, token: &str) -> Response {
        self.ledger.keep_token_secret(token);
        self.get(target, &[("authorization", &format!("Bearer {token}"))])
    }

    /// Sends a request with a body of its own frames, and reads the answer.
    pub(crate) fn ask(&mut self, request: Request<()>, body: Option<&[u8]>) -> Response {
        let method = request.method().to_string();
        let (response, mut stream) = self.begin(request, body.is_none());
        if let Some(body) = body {
            // Whoever is refused by the head alone may have its answer, and the stream its end, by now.
            let _answered = stream.send_data(Bytes::copy_from_slice(body), true).is_err();
        }
        self.answer(&method, response).unwrap()
    }

    /// Reads an answer to its end.
    pub(crate) fn answer(&self, method: &str, response: ResponseFuture) -> Result<Response, h2::Error> {
        let response = self.run(read(response))?;
        self.ledger.check(method, &response);
        Ok(response)
    }
}

/// Reads an answer to its end.
async fn read(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let whole = read_body(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let fields = fields(&head.headers);
    let raw: Vec<u8> =
        fields.0.iter().flat_map(|(name, value)| format!("{name}: {value}\n").into_bytes()).collect();
    let status = head.status.as_u16();
    // As it would be in HTTP/1.1, so that the one checker reads it.
    let head = Head { line: format!("HTTP/1.1 {status} "), fields, raw };
    let trailers = self::fields(&trailers);
    Ok(Response { status, head, body: whole, trailers, interim: Vec::new(), cut: None })
}

/// Reads a body to its end.
pub(crate) async fn read_body(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        whole.extend_from_slice(&data);
        let _released = body.flow_control().release_capacity(data.len()).is_ok();
    }
    Ok(whole)
}

fn fields(headers: &HeaderMap) -> Fields {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Fields(headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
}

/// Kinds of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection of which every frame is made by hand.
pub(crate) struct Frames(pub(crate) TcpStream);

impl Frames {
    /// Sends the preface and empty settings.
    pub(crate) fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut frames = Self(stream);
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).unwrap();
    }

    pub(crate) fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.0.write_all(&bytes)
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.0.read_exact(&mut head) {
            let late = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            assert!(!late, "no frame came in time");
            return None;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; those of other kinds are passed over.
    pub(crate) fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

/// The block of a head, each field by its name and its value (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a longer one needs more bytes for its length");
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// The block of a GET of the usual host.
pub(crate) fn get_block(target: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", target), (":authority", "gw.test")])
}
