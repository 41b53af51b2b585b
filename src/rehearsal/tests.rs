use std::path::Path;

use super::*;
use crate::config::{Environment, parse};

const CONFIG: &str = r#"
[upstreams.api]
targets = ["http://192.0.2.10:9000"]
[[routes]]
path = "/public"
auth = "public"
upstream = "api"
[[routes]]
path = "/"
auth = "required"
upstream = "api"
"#;

fn rehearsal() -> Rehearsal {
    Rehearsal::new(parse(CONFIG, "gateway.toml", Path::new(""), &Environment::default()).unwrap()).unwrap()
}

fn client() -> Client {
    Client { address: "192.0.2.1:4000".parse().unwrap(), patience: Duration::from_secs(5) }
}

fn status(answer: &[u8]) -> &str {
    std::str::from_utf8(answer.get(9..12).unwrap_or_default()).unwrap()
}

fn only_request(outcome: &Outcome) -> &SeenRequest {
    match outcome.seen.as_slice() {
        [Seen::Request(request)] => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_goes_through_and_is_answered() {
    let rehearsal = rehearsal();
    for _ in 0..2 {
        let outcome = rehearsal.send(
            client(),
            b"POST /public?x=1 HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        );
        assert_eq!(status(&outcome.answer), "200");
        let seen = only_request(&outcome);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/public?x=1"));
        assert_eq!(seen.body, b"abc");
        assert!(
            seen.fields.iter().any(|field| field.name == "x-forwarded-for" && field.value == b"192.0.2.1")
        );
    }
}

#[test]
fn who_a_token_names_is_told_and_nobody_passes_without_one() {
    let rehearsal = rehearsal();
    let user = User { id: "7".to_owned(), name: "eve".to_owned(), email: None, groups: vec!["a".to_owned()] };
    let token = rehearsal.token(&user).unwrap();
    let bytes = format!("GET /x HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let outcome = rehearsal.send(client(), bytes.as_bytes());
    assert_eq!(status(&outcome.answer), "200", "{}", String::from_utf8_lossy(&outcome.answer));
    let seen = only_request(&outcome);
    for (name, value) in [("x-user-id", "7"), ("x-user-name", "eve"), ("x-user-groups", "a")] {
        let found = seen.fields.iter().find(|field| field.name == name).unwrap();
        assert_eq!(found.value, value.as_bytes());
    }
    let outcome = rehearsal.send(client(), b"GET /x HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(status(&outcome.answer), "401");
    assert_eq!(outcome.seen, []);
}

#[test]
fn what_is_no_request_is_answered_as_ever() {
    let rehearsal = rehearsal();
    let outcome = rehearsal.send(client(), b"GET /public\r\n\r\n");
    assert_eq!((status(&outcome.answer), outcome.ended), ("400", Ended::ByGateway));
    let impatient = Client { patience: Duration::ZERO, ..client() };
    let unfinished = b"POST /public HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 5\r\n\r\nab";
    let outcome = rehearsal.send(impatient, unfinished);
    assert!(matches!(outcome.seen.as_slice(), [] | [Seen::Incomplete(_)]), "{outcome:?}");
    assert!(rehearsal.send(impatient, b"").answer.is_empty());
    let outcome = rehearsal.send(impatient, b"GET /public HTTP/1.1\r\nHost: gw.test\r\n\r\n");
    assert_eq!(status(&outcome.answer), "200");
}

#[test]
fn http2_is_spoken_as_well() {
    let rehearsal = rehearsal();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // :method GET, :scheme http, :path /public, :authority gw.test (RFC 7541 section 6).
    let head = b"\x82\x86\x44\x07/public\x41\x07gw.test";
    bytes.extend_from_slice(&[0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(head);
    let outcome = rehearsal.send(client(), &bytes);
    assert_eq!(only_request(&outcome).target, "/public");
    // A HEADERS frame of the stream that begins with the indexed field ":status 200".
    assert!(outcome.answer.windows(7).any(|window| window == [1, 5, 0, 0, 0, 1, 0x88]), "{outcome:?}");
}
