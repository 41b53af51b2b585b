//! The header sanitiser: whatever block of fields goes in, no alias of an owned field comes out.

use std::path::Path;
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Method, Uri, Version};
use tollgate::base::field_list::FieldList;
use tollgate::config::{self, Environment};
use tollgate::http::hop;
use tollgate::http::incoming::Incoming;
use tollgate::http::message::RequestHead;
use tollgate::identity::Firewall;
use tollgate::net::peer::Trust;
use tollgate::request::{BodyLength, intake};

/// What no upstream ever sees as the client wrote it. Kept apart from the list of the gateway, so that one that is lost
/// there is missed here.
pub(crate) const OWNED: &[&str] = &[
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "remote-user",
    "remote-groups",
    "remote-name",
    "remote-email",
    "x-webauth-user",
    "authorization",
    "proxy-authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "x-http-method-override",
];

/// What only a trusted proxy may say, and only in this spelling.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
];

/// The fields that this target adds: one that has to go and one that has to stay.
const FORGED: &str = "x_user.id";
const HARMLESS: &str = "x-harmless";

/// Takes the first byte as a choice and the rest as lines of fields.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, lines)) = data.split_first() else { return };
    let trust = if choice & 1 == 0 { Trust::Untrusted } else { Trust::Trusted };
    let version = if choice & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = if choice & 4 == 0 { Method::POST } else { Method::GET };
    let mut headers = block(lines);
    headers.append(HeaderName::from_static(FORGED), HeaderValue::from_static("admin"));
    headers.append(HeaderName::from_static(HARMLESS), HeaderValue::from_static("1"));
    check_clean(&headers, trust);
    check_response(headers.clone());
    check_intake(headers, method, version, trust);
}

/// Reads `name: value` line by line, without the lines that no parser would take.
fn block(lines: &[u8]) -> FieldList {
    let mut headers = FieldList::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}

/// A name as CGI and its relatives know it: letters, digits and dashes.
pub(crate) fn canonical(name: &HeaderName) -> String {
    let dashed: String = name
        .as_str()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    dashed.strip_prefix("http-").map_or_else(|| dashed.clone(), str::to_owned)
}

/// The names that `Connection` lists, read as boldly as can be.
fn listed(headers: &FieldList) -> Vec<String> {
    let values = headers.get_all("connection");
    let items = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.map(|item| String::from_utf8_lossy(item.trim_ascii()).to_ascii_lowercase()).collect()
}

/// A firewall that owns two headers besides, in which client certificates are told of.
static FIREWALL: LazyLock<Firewall> = LazyLock::new(|| {
    let text = r#"
        [[tls.certificates]]
        hosts = ["gw.test"]
        cert = "c.pem"
        key = "k.pem"
        [tls.client_auth]
        ca = "ca.pem"
        headers = { "X-Client-Subject" = "subject", "Http-Client-Serial" = "serial" }
        [upstreams.api]
        targets = ["http://127.0.0.1:9000"]
        [[routes]]
        path = "/"
        auth = "required"
        upstream = "api"
    "#;
    let config = config::parse(text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
    Firewall::new(&config)
});

fn check_clean(before: &FieldList, trust: Trust) {
    let firewall = &*FIREWALL;
    let mut after = before.clone();
    firewall.clean(&mut after, trust);
    let listed = listed(before);
    for name in after.keys() {
        let alias = canonical(name);
        assert!(!OWNED.contains(&alias.as_str()), "{name} gets through");
        assert!(!["x-client-subject", "client-serial"].contains(&alias.as_str()), "{name} gets through");
        assert!(!listed.contains(&name.as_str().to_owned()), "{name} belongs to the connection");
        let believed = trust == Trust::Trusted && FORWARDED.contains(&name.as_str());
        assert!(believed || !FORWARDED.contains(&alias.as_str()), "{name} gets through");
        // What stays is as it was.
        assert!(after.get_all(name).eq(before.get_all(name)), "{name} was changed");
    }
    assert_eq!(after.contains_key(HARMLESS), !listed.contains(&HARMLESS.to_owned()));
    let mut twice = after.clone();
    firewall.clean(&mut twice, trust);
    assert_eq!(twice, after, "cleaning twice is cleaning once");
}

fn check_response(mut headers: FieldList) {
    let listed = listed(&headers);
    let lengths = headers.get_all("content-length").count();
    hop::remove_from_response(&mut headers);
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(name), "{name} belongs to the connection");
    }
    assert_eq!(headers.get_all("content-length").count(), lengths, "a length is no option");
    // No field has the name of the option "close" (RFC 9110 section 9.6).
    for name in headers.keys().filter(|name| !["content-length", "close"].contains(&name.as_str())) {
        assert!(!listed.contains(&name.as_str().to_owned()), "{name} belongs to the connection");
    }
}

/// What is taken in has one framing and one host.
fn check_intake(headers: FieldList, method: Method, version: Version, trust: Trust) {
    let all =
        |name: &str| headers.get_all(name).map(|value| value.to_header_value().unwrap()).collect::<Vec<_>>();
    let (codings, lengths, hosts) = (all("transfer-encoding"), all("content-length"), all("host"));
    let uri = Uri::from_static("/");
    let head = Box::new(RequestHead { method, uri, version, headers, protocol: None });
    let Ok(exchange) = intake(head, Incoming::Empty, 100) else { return };
    match exchange.length() {
        BodyLength::None => assert!(codings.is_empty() && lengths.is_empty()),
        BodyLength::Exactly(length) => {
            assert!(codings.is_empty());
            assert_eq!(lengths, [length.to_string()], "one plain number");
        }
        BodyLength::Chunked => {
            assert!(lengths.is_empty() && version == Version::HTTP_11);
            assert!(matches!(&codings[..], [coding] if coding.as_bytes().eq_ignore_ascii_case(b"chunked")));
        }
    }
    let [host] = &hosts[..] else { panic!("there is one host, not {hosts:?}") };
    let asked = host.to_str().expect("a host is ASCII").to_ascii_lowercase();
    let name = exchange.host().name();
    assert!(asked.starts_with(name), "{asked} is read as {name}");
    assert!(!name.contains(['/', '@', ',', ' ', '?', '#', '\\']), "{name} is a name");
    assert!(exchange.headers().len() <= 100);
    check_clean(&exchange.into_pieces().headers, trust);
}
