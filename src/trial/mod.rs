//! Requests that people think up, sent through a [`Rehearsal`]: what `tollgate explain` tells, and what `[[tests]]` are held
//! against. It is the data path itself that decides, and nothing here does.

mod why;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use serde_json::{Map, Value};

pub use self::why::NextBest;
use crate::base::clock::{Clock, EARLIEST_UNIX_MS};
use crate::base::field_list::FieldList;
use crate::base::user::{User, UserField};
use crate::config::{self, Config, LogFormat, TestCaller, TestRequest, UserSource};
use crate::http::incoming::Incoming;
use crate::identity::Firewall;
use crate::rehearsal::{Client, Keys, Rehearsal, RehearsalError, Seen, SeenRequest, Stage, Walk};

/// How long an answer may take that another thread works on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody (RFC 5737), unless somebody else is said.
pub const ANYBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1024);

/// A configuration that requests are tried out with.
pub struct Trial {
    config: Config,
    rehearsal: Rehearsal,
    log: Memory,
}

/// Who the users of a trial are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum People {
    /// Whoever a token says, so that nothing but the configuration is needed.
    AsTokensSay,
    /// Those of the configuration; with their store, where there is one.
    Configured {
        /// The store.
        store: Option<config::Store>,
        /// Whether a key was generated that tokens were signed with.
        has_generated_key: bool,
    },
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The status of the answer.
    pub status: Option<u16>,
    /// Everything that the log says of the request.
    pub record: Map<String, Value>,
    /// What the client is told, when it is refused.
    pub detail: Option<String>,
    /// What the upstream sees.
    pub seen: Option<SeenRequest>,
    /// How it came to the decision.
    pub walk: Walk,
    /// The route that it would take if there were not the one that it takes.
    pub next_best: Option<NextBest>,
}

impl Account {
    /// A text of the log.
    pub fn told(&self, field: &str) -> Option<&str> {
        self.record.get(field).and_then(Value::as_str)
    }
}

impl Trial {
    /// Puts a configuration on trial. Requests are not limited in number. It is not to be called inside a runtime.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`]
    pub fn new(config: &Config, people: People) -> Result<Self, RehearsalError> {
        let mut config = config.clone();
        config.log.access = true;
        config.log.format = LogFormat::Json;
        config.tokens.limits.clear();
        config.routes.iter_mut().for_each(|route| route.limits.clear());
        let (clock, keys, store) = match people {
            People::AsTokensSay => {
                config.tokens.keys.clear();
                config.tokens.claims = UserField::ALL.to_vec();
                config.users.source = UserSource::Store;
                (Clock::manual(EARLIEST_UNIX_MS).0, Keys::Own, None)
            }
            People::Configured { store, has_generated_key } => {
                (Clock::System, if has_generated_key { Keys::Configured } else { Keys::Own }, store)
            }
        };
        let firewall = Arc::new(Firewall::new(&config));
        let log = Memory::default();
        let stage = Stage { firewall, clock, keys, store, output: Box::new(log.clone()) };
        let rehearsal = Rehearsal::on(stage, config.clone())?;
        Ok(Self { config, rehearsal, log })
    }

    /// A token for somebody.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Token`]
    pub fn token(&self, caller: &TestCaller) -> Result<String, RehearsalError> {
        let mut groups = caller.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        let TestCaller { id, user, email, scopes, claims, .. } = caller;
        let user = User { id: id.clone(), name: user.clone(), email: email.clone(), groups };
        let mut more: Vec<(String, Value)> =
            claims.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        if !scopes.is_empty() && !claims.contains_key("scope") {
            more.push(("scope".to_owned(), scopes.join(" ").into()));
        }
        self.rehearsal.token_with(&user, more)
    }

    /// Sends a request, with a token or without, and tells what came of it.
    pub fn send(&self, request: &TestRequest, token: Option<&str>, client: SocketAddr) -> Account {
        let fields = fields(request, token);
        let mut walk = Walk::default();
        let mut built = Request::builder().method(request.method.as_str()).uri(&request.target);
        for (name, value) in &fields {
            built = built.header(name.as_str(), value.as_str());
        }
        // What cannot be built is refused by those who read its bytes.
        let asked = built.body(Incoming::Empty).ok();
        let headers =
            asked.as_ref().map(|asked| FieldList::from(asked.headers().clone())).unwrap_or_default();
        if let Some(asked) = asked {
            walk = self.rehearsal.walk(client, asked);
        }
        let client = Client { address: client, patience: PATIENCE };
        self.log.take();
        let mut outcome = self.rehearsal.send(client, &bytes(request, &fields));
        let record = self.log.take();
        let record =
            record.split(|byte| *byte == b'\n').next().and_then(|line| serde_json::from_slice(line).ok());
        let record: Map<String, Value> = record.unwrap_or_default();
        let status = status(&outcome.answer);
        let seen = match outcome.seen.pop() {
            Some(Seen::Request(request)) => Some(request),
            Some(Seen::Incomplete(_) | Seen::Malformed(_)) | None => None,
        };
        let next_best = why::next_best(&self.config, &walk, request, &headers);
        let detail = detail(&outcome.answer);
        Account { status, record, detail, seen, walk, next_best }
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trial")
    }
}

/// The header fields of a request, in order.
fn fields(request: &TestRequest, token: Option<&str>) -> Vec<(String, String)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = Vec::new();
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        fields.push(field("host", &request.host));
    }
    fields.extend(token.map(|token| field("authorization", &format!("Bearer {token}"))));
    fields.extend(request.headers.iter().cloned());
    fields
}

/// A request as a client sends it.
fn bytes(request: &TestRequest, fields: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in fields {
        text.extend([name.as_str(), ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The status in the first line of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let digits = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What a refusal says to the client.
fn detail(answer: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let body: Value = serde_json::from_slice(answer.get(at + 4..)?).ok()?;
    body.get("detail")?.as_str().map(str::to_owned)
}

/// A log that is read afterwards.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
