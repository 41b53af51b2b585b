//! A client that sends exactly the bytes it is told to, and reads answers by the letter.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::check::Ledger;
use super::gateway::Gateway;
use super::wire::{Cut, Fields, Head, Wire, answer_framing};

/// One connection to a gateway.
pub(crate) struct Client {
    pub(crate) wire: Wire,
    ledger: Arc<Ledger>,
}

/// An answer.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Interim answers that came before it.
    pub(crate) interim: Vec<u16>,
    /// Why the body is not whole, when it is not.
    pub(crate) cut: Option<Cut>,
}

impl Client {
    pub(crate) fn connect(gateway: &Gateway) -> Self {
        Self::over(TcpStream::connect(gateway.address).unwrap(), gateway)
    }

    /// With a small receive buffer, so that not reading is felt soon.
    pub(crate) fn connect_small(gateway: &Gateway) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.connect(&gateway.address.into()).unwrap();
        Self::over(socket.into(), gateway)
    }

    pub(crate) fn over(stream: TcpStream, gateway: &Gateway) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { wire: Wire::new(stream), ledger: Arc::clone(&gateway.ledger) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gateway takes what is sent");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    /// Sends a request with raw header lines, each with its line end, and reads the answer.
    pub(crate) fn call(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> Response {
        self.send(request(method, target, fields, body));
        self.answer_to(method)
    }

    pub(crate) fn get(&mut self, target: &str, fields: &str) -> Response {
        self.call("GET", target, fields, b"")
    }

    /// A GET with a Bearer token.
    pub(crate) fn get_as(&mut self, target: &str, token: &str) -> Response {
        self.ledger.keep_token_secret(token);
        self.get(target, &format!("authorization: Bearer {token}\r\n"))
    }

    /// A POST of JSON.
    pub(crate) fn post_json(&mut self, target: &str, body: &Value) -> Response {
        self.call("POST", target, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// The next answer, to a method that has a body in its answer.
    pub(crate) fn answer(&mut self) -> Response {
        self.answer_to("GET")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Response {
        match self.try_answer_to(method) {
            Ok(response) => response,
            Err(cut) => panic!("no answer to {method}: {cut:?}"),
        }
    }

    /// The next answer, or why there is none.
    pub(crate) fn try_answer_to(&mut self, method: &str) -> Result<Response, Cut> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.wire.head()?;
            match status(&head) {
                status @ 100..200 if status != 101 => interim.push(status),
                _ => break head,
            }
        };
        let status = status(&head);
        let framing = answer_framing(method, status, &head.fields)?;
        let mut body = Vec::new();
        let (trailers, cut) = match self.wire.body(framing, &mut body) {
            Ok(trailers) => (trailers, None),
            Err(cut) => (Fields::default(), Some(cut)),
        };
        if let Some(Cut::Fault(fault)) = &cut {
            panic!("not HTTP: {fault}");
        }
        let response = Response { status, head, body, trailers, interim, cut };
        self.ledger.check(method, &response);
        Ok(response)
    }

    /// Reads one head without its body: an interim answer, or the beginning of a long one.
    pub(crate) fn head(&mut self) -> Head {
        self.wire.head().unwrap_or_else(|cut| panic!("no head: {cut:?}"))
    }

    /// The connection ends now, and nothing more comes on it.
    pub(crate) fn expect_end(&mut self) {
        assert!(self.wire.ahead.is_empty(), "more came: {:?}", String::from_utf8_lossy(&self.wire.ahead));
        match self.wire.fill() {
            Err(Cut::Closed | Cut::Reset) => {}
            Err(cut) => panic!("the connection stays open: {cut:?}"),
            Ok(()) => panic!("more came: {:?}", String::from_utf8_lossy(&self.wire.ahead)),
        }
    }
}

impl Response {
    pub(crate) fn request_id(&self) -> &str {
        self.head.fields.one("x-request-id").unwrap_or_else(|| panic!("no request id: {self:?}"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn is_json(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A value of the head; `""` when it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head.fields.one(name).unwrap_or_default()
    }

    /// It is a whole answer of this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert!(self.status == status && self.cut.is_none(), "not a whole {status}: {self:?}");
        self
    }

    /// It is a refusal of this status for this reason.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, reason: &str) -> Self {
        assert_eq!((self.status, self.json()["reason"].as_str()), (status, Some(reason)), "{self:?}");
        self
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        write!(f, "{} {:?} {body:?} cut: {:?}", self.head.line, self.head.fields.0, self.cut)
    }
}

/// The bytes of a request to the usual host.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut bytes =
        format!("{method} {target} HTTP/1.1\r\nhost: gw.test\r\n{fields}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn status(head: &Head) -> u16 {
    let status = head.line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status line: {:?}", head.line))
}
