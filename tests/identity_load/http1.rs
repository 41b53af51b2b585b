//! Clients of HTTP/1.1, by hand: so that a request can be broken off anywhere.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::gateway::Gateway;
use crate::ledger::{Answer, Count, Ledger, Way};
use crate::people::{Dice, People, Ticket};

/// How long an answer may take. The gateway gives up sooner.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of so many turns of a client one is broken off.
pub(crate) const CUT: u64 = 20;
/// Requests on one connection, at most.
const TURNS: usize = 200;
/// Requests that are sent at once, at most.
const DEPTH: usize = 12;

/// A connection, in the clear or over TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Bytes of HTTP/1.1, read as far as they are asked for.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    /// What was read ahead.
    pub(crate) ahead: Vec<u8>,
}

/// A head: the status or the method, and its fields, with their names in small letters.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }
}

fn invalid(what: impl std::fmt::Debug) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what:?}"))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads a head, of a request or of an answer.
    pub(crate) async fn head(&mut self, request: bool) -> io::Result<Head> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = Head::default();
            let parsed = if request {
                let mut parser = httparse::Request::new(&mut fields);
                let parsed = parser.parse(&self.ahead).map_err(invalid)?;
                head.method = parser.method.unwrap_or_default().to_owned();
                head.path = parser.path.unwrap_or_default().to_owned();
                parsed
            } else {
                let mut parser = httparse::Response::new(&mut fields);
                let parsed = parser.parse(&self.ahead).map_err(invalid)?;
                head.status = parser.code.unwrap_or_default();
                parsed
            };
            if let httparse::Status::Complete(length) = parsed {
                let named = fields.iter().filter(|field| !field.name.is_empty());
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                head.fields = named.map(|field| (field.name.to_lowercase(), text(field.value))).collect();
                self.ahead.drain(..length);
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// Reads the body that the head announces.
    pub(crate) async fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        if head.field("transfer-encoding").is_none() {
            let length = head.field("content-length").unwrap_or("0").parse().map_err(invalid)?;
            return self.take(length).await;
        }
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&self.ahead).map_err(invalid)? {
                httparse::Status::Partial => self.fill().await?,
                httparse::Status::Complete((used, size)) => {
                    self.ahead.drain(..used);
                    let chunk = self.take(usize::try_from(size).map_err(invalid)?).await?;
                    body.extend_from_slice(&chunk);
                    if self.take(2).await? != b"\r\n" {
                        return Err(invalid("a chunk without its end"));
                    }
                    if size == 0 {
                        return Ok(body);
                    }
                }
            }
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.fill().await?;
        }
        Ok(self.ahead.drain(..length).collect())
    }
}

/// A client's connection.
pub(crate) struct Http1 {
    pub(crate) wire: Wire<Box<dyn Stream>>,
    pub(crate) tls: bool,
}

impl Http1 {
    pub(crate) async fn connect(gateway: &Gateway) -> io::Result<Self> {
        let stream = in_time(gateway.dial("http/1.1")).await?;
        Ok(Self { wire: Wire::new(stream), tls: gateway.tls() })
    }

    /// The bytes of a request. Every second one tries to be somebody else.
    pub(crate) fn request(ticket: &Ticket, post: bool) -> String {
        let (method, body) = if post { ("POST", ticket.body()) } else { ("GET", String::new()) };
        let forged = if ticket.nonce.ends_with(['0', '2', '4', '6', '8']) {
            "X-User-Id: 7\r\nx_user_name: root\r\n"
        } else {
            ""
        };
        let length = if post { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        format!(
            "{method} /echo/{} HTTP/1.1\r\nHost: gw.test\r\n{forged}Authorization: Bearer {}\r\nX-Nonce: {}\r\n{length}\r\n{body}",
            ticket.lines,
            ticket.session.access(),
            ticket.nonce,
        )
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(async {
            self.wire.stream.write_all(bytes).await?;
            self.wire.stream.flush().await
        })
        .await
    }

    /// Reads an answer to its end.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        in_time(async {
            let head = self.wire.head(false).await?;
            let body = if head.status == 101 { Vec::new() } else { self.wire.body(&head).await? };
            let nonce = head.field("x-seen-nonce").map(str::to_owned);
            Ok(Answer { status: head.status, nonce, body })
        })
        .await
    }

    /// Sends a JSON object to a token route, which has to answer 200 with another.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gw.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send((head + &body).as_bytes()).await.map_err(|error| format!("{path}: {error}"))?;
        let answer = self.answer().await.map_err(|error| format!("{path}: {error}"))?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => serde_json::from_str(&said).map_err(|error| format!("{path}: {error}")),
            other => Err(format!("{path}: {other} {said}")),
        }
    }
}

/// Waits, but not for ever.
pub(crate) async fn in_time<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Counts requests whose answer did not come.
pub(crate) fn lost(ledger: &Ledger, ticket: &Ticket, error: &io::Error) {
    if error.kind() == io::ErrorKind::TimedOut {
        ledger.fault(Count::Stuck, || format!("{}: no answer in time", ticket.describe()));
    } else if error.kind() == io::ErrorKind::InvalidData {
        ledger.fault(Count::Unexpected, || format!("{}: no HTTP: {error}", ticket.describe()));
    } else {
        ledger.add(Count::Broken);
    }
}

/// Sends requests as everybody, one after the other or some at once, until it is told to stop.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    people: Arc<People>,
    ledger: Arc<Ledger>,
    way: Way,
    stop: Arc<AtomicBool>,
) {
    let mut dice = Dice::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut http) = Http1::connect(&gateway).await else {
            ledger.fault(Count::Unexpected, || "a connection was refused".to_owned());
            return;
        };
        for _ in 0..TURNS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let depth = if way == Way::Pipelined { 2 + dice.below(DEPTH - 1) } else { 1 };
            let tickets: Vec<Ticket> =
                (0..depth).map(|_| people.ticket(&mut dice, gateway.tls(), way)).collect();
            if dice.one_in(CUT) {
                break_off(&mut http, &tickets, &ledger, &mut dice).await;
                break;
            }
            if !exchange(&mut http, &tickets, &ledger, &mut dice).await {
                break;
            }
        }
    }
}

/// Sends requests and judges the answers, which come in order. Says whether the connection goes on.
async fn exchange(http: &mut Http1, tickets: &[Ticket], ledger: &Ledger, dice: &mut Dice) -> bool {
    let bytes: String = tickets.iter().map(|ticket| Http1::request(ticket, dice.one_in(3))).collect();
    let sent = http.send(bytes.as_bytes()).await;
    for (place, ticket) in tickets.iter().enumerate() {
        ledger.add(Count::Sent);
        let answer = match &sent {
            Ok(()) => http.answer().await,
            Err(error) => Err(error.kind().into()),
        };
        match answer {
            Ok(answer) => ledger.judge(ticket, &answer),
            Err(error) => {
                tickets[place..].iter().for_each(|ticket| lost(ledger, ticket, &error));
                return false;
            }
        }
    }
    true
}

/// Breaks the connection in the middle of the last request's body, or of the first answer.
async fn break_off(http: &mut Http1, tickets: &[Ticket], ledger: &Ledger, dice: &mut Dice) {
    let bytes: String = tickets.iter().map(|ticket| Http1::request(ticket, true)).collect();
    ledger.add(Count::Cut);
    if dice.one_in(2) {
        let last = tickets.last().map_or(0, |ticket| ticket.body().len());
        let end = bytes.len() - 1 - dice.below(last - 1);
        let _gone = http.send(&bytes.as_bytes()[..end]).await.is_err();
        if dice.one_in(2) {
            tokio::task::yield_now().await;
        }
    } else if http.send(bytes.as_bytes()).await.is_ok() {
        let _gone = in_time(http.wire.fill()).await.is_err();
    }
}
