//! The whole gateway in memory, and what must hold of everything that its upstream sees.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tollgate::base::path::normalise;
use tollgate::base::user::User;
use tollgate::config::{self, Environment};
use tollgate::rehearsal::{Client, Outcome, Rehearsal, Seen, SeenRequest};

use super::headers::{OWNED, canonical};
use super::readings::{collapsed, decoded};

/// Where an input wants to send the one sound token.
pub(crate) const PLACEHOLDER: &[u8] = b"@TOK@";

/// The user of the token.
const ALICE: &str = "alice";

const CONFIGURATION: &str = r#"
    [server]
    trusted_proxies = ["192.0.2.0/24"]
    [upstreams.api]
    targets = ["http://127.0.0.1:9000"]
    retries = 0
    [[routes]]
    path = "/public"
    auth = "public"
    upstream = "api"
    [[routes]]
    path = "/optional"
    auth = "optional"
    upstream = "api"
    [[routes]]
    path = "/"
    auth = "required"
    upstream = "api"
"#;

/// How long a stack is used. Its token lives for an hour.
const LIFETIME: Duration = Duration::from_mins(20);

thread_local! {
    static STACK: RefCell<Option<Stack>> = const { RefCell::new(None) };
}

/// Hands over the gateway of this thread.
pub(crate) fn with_stack(body: impl FnOnce(&Stack)) {
    STACK.with_borrow_mut(|stack| {
        let is_old = |stack: &Stack| stack.made.elapsed() > LIFETIME;
        drop(stack.take_if(|stack| is_old(stack)));
        body(stack.get_or_insert_with(Stack::new));
    });
}

/// A gateway, and a token that passes there.
pub(crate) struct Stack {
    rehearsal: Rehearsal,
    token: String,
    made: Instant,
}

/// Whether the client is a proxy that is believed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Anybody,
    TrustedProxy,
}

impl Stack {
    fn new() -> Self {
        let config =
            config::parse(CONFIGURATION, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
        let rehearsal = Rehearsal::new(config).unwrap();
        let alice = User { id: ALICE.to_owned(), name: ALICE.to_owned(), email: None, groups: Vec::new() };
        let token = rehearsal.token(&alice).unwrap();
        let stack = Self { rehearsal, token, made: Instant::now() };
        // A token that is seen for the first time is looked up on another thread.
        stack.check_sound_request(Duration::from_secs(5));
        stack
    }

    /// The sound token in the place of each [`PLACEHOLDER`], and whether there was one.
    pub(crate) fn with_token(&self, text: &[u8]) -> (Vec<u8>, bool) {
        let mut filled = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.windows(PLACEHOLDER.len()).position(|window| window == PLACEHOLDER) {
            filled.extend_from_slice(&rest[..at]);
            filled.extend_from_slice(self.token.as_bytes());
            rest = &rest[at + PLACEHOLDER.len()..];
        }
        filled.extend_from_slice(rest);
        (filled, rest.len() != text.len())
    }

    /// Sends bytes on a connection of their own and checks what came of it.
    pub(crate) fn send(&self, from: From, bytes: &[u8], has_token: bool) -> Outcome {
        let address = match from {
            From::Anybody => "203.0.113.7:4711",
            From::TrustedProxy => "192.0.2.7:4711",
        };
        let client = Client { address: address.parse().unwrap(), patience: Duration::ZERO };
        let outcome = self.rehearsal.send(client, bytes);
        for seen in &outcome.seen {
            match seen {
                Seen::Request(request) => check_request(request, has_token),
                Seen::Incomplete(_) => {}
                Seen::Malformed(bytes) => panic!("the upstream got {}", String::from_utf8_lossy(bytes)),
            }
        }
        assert!(
            !contains(&outcome.answer, self.token.as_bytes()),
            "the answer tells the token: {}",
            String::from_utf8_lossy(&outcome.answer)
        );
        outcome
    }

    /// Somebody else is still served, properly: nothing of the last input is left over.
    pub(crate) fn check_sound_request(&self, patience: Duration) {
        let request = format!(
            "GET /sound HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        );
        let client = Client { address: "203.0.113.9:4711".parse().unwrap(), patience };
        let outcome = self.rehearsal.send(client, request.as_bytes());
        let answer = String::from_utf8_lossy(&outcome.answer);
        assert!(answer.starts_with("HTTP/1.1 200 "), "a sound request is answered by {answer:?}");
        let [Seen::Request(seen)] = &outcome.seen[..] else { panic!("{:?}", outcome.seen) };
        assert_eq!(seen.target, "/sound");
        assert_eq!(values(seen, "x-user-id"), [ALICE.as_bytes()]);
    }
}

pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn values<'a>(request: &'a SeenRequest, name: &str) -> Vec<&'a [u8]> {
    let fields = request.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| field.value.as_ref()).collect()
}

/// What no request that reaches an upstream may lack, or have.
fn check_request(request: &SeenRequest, has_token: bool) {
    let is_open = is_in(request, b"/public");
    match &values(request, "x-user-id")[..] {
        [id] => {
            assert!(*id == ALICE.as_bytes() && has_token, "nobody else has a token: {request:?}");
            assert!(!is_open, "on an open route nobody is known: {request:?}");
        }
        [] => {
            assert!(is_open || is_in(request, b"/optional"), "nobody has shown a token: {request:?}");
        }
        _ => panic!("several identities: {request:?}"),
    }
    assert!(!matches!(&request.method[..], "CONNECT" | "TRACE"), "{request:?}");
    let path = request.target.split('?').next().unwrap();
    assert_eq!(normalise(path).as_deref(), Ok(path), "{request:?}");
    assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic()) && !request.target.contains('#'));
    assert!(request.trailers.is_empty(), "trailers of a request are dropped: {request:?}");
    check_fields(request);
}

/// Whether the path is under this prefix in the boldest reading.
fn is_in(request: &SeenRequest, prefix: &[u8]) -> bool {
    let path = request.target.split('?').next().unwrap();
    let read = collapsed(&decoded(&decoded(path.as_bytes())));
    read.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The fields that the gateway makes anew. Each stands in its own spelling, once.
const MADE_ANEW: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "x-user-id",
    "x-user-name",
    "x-request-id",
];

fn check_fields(request: &SeenRequest) {
    for field in &request.fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        assert!(HeaderValue::from_bytes(&field.value).is_ok(), "{request:?}");
        let alias = canonical(&name);
        if MADE_ANEW.contains(&name.as_str()) {
            assert_eq!(values(request, name.as_str()).len(), 1, "{name} stands once: {request:?}");
        } else {
            assert!(!OWNED.contains(&alias.as_str()), "{name} gets through: {request:?}");
        }
    }
    assert_eq!(values(request, "host").len(), 1, "{request:?}");
    assert_eq!(values(request, "x-request-id").len(), 1, "{request:?}");
    let (lengths, codings) = (values(request, "content-length"), values(request, "transfer-encoding"));
    assert!(lengths.is_empty() || codings.is_empty(), "two framings: {request:?}");
    assert!(codings.iter().all(|coding| *coding == b"chunked"), "{request:?}");
    let is_upgrade = !values(request, "upgrade").is_empty();
    for value in values(request, "connection") {
        let allowed: &[&[u8]] = if is_upgrade { &[b"upgrade"] } else { &[b"keep-alive", b"close"] };
        assert!(allowed.iter().any(|plain| plain.eq_ignore_ascii_case(value)), "{request:?}");
    }
    assert!(values(request, "te").iter().all(|value| *value == b"trailers"), "{request:?}");
    assert!(values(request, "upgrade").iter().all(|value| *value == b"websocket"), "{request:?}");
}
