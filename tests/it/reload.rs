//! The configuration is read again while the gateway serves: all of it counts from the next request on, or nothing does, and
//! what did not change is not touched.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tollgate::config::Text;
use tollgate::reload::{Mode, ReloadError};

use crate::support::http2_client::Http2Client;
use crate::support::upstream::ok;
use crate::support::{DEADLINE, Gateway, Latch, Setup, Then, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// The lines of a route to the upstream `api`.
fn route(path: &str, auth: &str) -> String {
    format!("[[routes]]\npath = \"{path}\"\nauth = \"{auth}\"\nupstream = \"api\"\n")
}

/// A gateway with one route, `/api`, that asks for a token.
fn guarded(upstream: &Upstream) -> Setup {
    Setup::new().upstream("api", upstream, "").section(&route("/api", "required")).clock(NOW_MS)
}

fn applied(gateway: &Gateway, text: &str) -> Vec<String> {
    gateway.reload(text, Mode::Apply).unwrap_or_else(|error| panic!("{error}"))
}

/// The status of a request with a token of this user.
fn status_for(gateway: &Gateway, target: &str, user: &str) -> u16 {
    gateway.client().get_as(target, &mint::access(user, NOW, 7200)).status
}

#[test]
fn an_open_connection_sees_the_next_configuration_with_its_next_request() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).workers(2).start();
    let mut clients: Vec<_> = (0..8).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/export", "").refused(404, "route_not_found");
        client.get("/api", "").refused(401, "credentials_missing");
    }
    let changes = applied(&gateway, &format!("{}{}", gateway.text, route("/export", "public")));
    assert_eq!(changes, ["1 route added: /export becomes PUBLIC"]);
    for client in &mut clients {
        client.get("/export", "").expect(200);
        client.get("/api", "").refused(401, "credentials_missing");
    }
    let changes = applied(&gateway, &gateway.text);
    assert_eq!(changes, ["1 route removed: /export"]);
    for client in &mut clients {
        client.get("/export", "").refused(404, "route_not_found");
    }
}

#[test]
fn a_request_in_flight_ends_in_the_configuration_it_began_in() {
    let latch = Arc::new(Latch::default());
    let held = Arc::clone(&latch);
    let upstream = Upstream::start(move |talk| {
        if talk.head.line.contains("/api/slow") {
            held.wait();
        }
        talk.ok("done")
    });
    let gateway = Setup::new().upstream("api", &upstream, "").section(&route("/api", "public")).start();
    let mut client = gateway.client();
    client.send("GET /api/slow HTTP/1.1\r\nhost: gw.test\r\n\r\nGET /api HTTP/1.1\r\nhost: gw.test\r\n\r\n");
    upstream.wait_for(1);
    let other = Upstream::echo();
    let text = gateway.text.replace(&upstream.url(), &other.url()).replace("\"public\"", "\"required\"");
    applied(&gateway, &text);
    gateway.client().get("/api", "").refused(401, "credentials_missing");
    latch.open();
    assert_eq!(client.answer().expect(200).text(), "done");
    client.answer().refused(401, "credentials_missing");
    assert_eq!((upstream.count(), other.count()), (1, 0), "what was public went where it was public");
    upstream.wait_until_left();
}

#[test]
fn http2_goes_on_over_a_reload() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    assert_eq!(client.get("/export", &[]).status, 404);
    applied(&gateway, &format!("{}{}", gateway.text, route("/export", "public")));
    assert_eq!(client.get("/export", &[]).status, 200);
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_is_told_of() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let reloads = gateway.running().reloader().reloads();
    let before = gateway.running().reloader().current();
    let token = mint::access("1", NOW, 7200);
    gateway.client().get_as("/api", &token).expect(200);
    let broken: [(String, &str); 5] = [
        (gateway.text.replace("auth = \"required\"", "auth = \"requird\""), "did you mean \"required\"?"),
        (gateway.text.replace("[[routes]]", "[[routes"), "gateway.toml:"),
        (String::new(), "there is no route"),
        (format!("{}{}", gateway.text, route("/api", "public")), "problem"),
        (gateway.text.replace("[[tokens.keys]]", "[[tokens.keys]]\nfile = \"nowhere.pem\""), "problem"),
    ];
    let count = broken.len() as u64;
    for (text, words) in broken {
        let error = gateway.reload(&text, Mode::Apply).unwrap_err();
        assert!(matches!(error, ReloadError::Config(_)), "{error}");
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
        assert!(!error.to_string().contains(mint::SECRET));
        gateway.client().get_as("/api", &token).expect(200);
        gateway.client().get("/api", "").refused(401, "credentials_missing");
    }
    assert!(Arc::ptr_eq(&before, &gateway.running().reloader().current()));
    assert_eq!((reloads.applied(), reloads.refused()), (0, count));
    applied(&gateway, &gateway.text);
    assert_eq!((reloads.applied(), reloads.refused(), reloads.applied_unix_ms()), (1, count, NOW_MS));
}

#[test]
fn files_that_cannot_be_used_refuse_the_whole_configuration() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    gateway.write("broken.pem", "no key");
    let more = route("/export", "public");
    let key = "[[tokens.keys]]\nkid = \"second\"\nalg = \"EdDSA\"\nfile = \"broken.pem\"\n";
    let text = format!("{}{more}", gateway.text.replace("[users]", &format!("{key}[users]")));
    assert!(matches!(gateway.reload(&text, Mode::Apply), Err(ReloadError::Keys(_))));
    let tls = "tls = { ca = \"broken.pem\" }\n[[routes]]";
    let text = gateway.text.replace("http://", "https://").replacen("[[routes]]", tls, 1);
    let text = text.replace("https://gw", "http://gw");
    assert!(matches!(gateway.reload(&format!("{text}{more}"), Mode::Apply), Err(ReloadError::Upstream(_))));
    gateway.client().get("/export", "").refused(404, "route_not_found");
}

#[test]
fn what_needs_a_restart_is_named_and_refused_with_everything_else() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let text =
        gateway.text.replace("workers = 1", "workers = 2").replace("data/tollgate.db", "data/other.db");
    let text = format!("{text}{}", route("/export", "public"));
    for mode in [Mode::Apply, Mode::DryRun] {
        let error = gateway.reload(&text, mode).unwrap_err();
        let words = "server.workers: needs a restart\nstore: needs a restart\nnothing was changed";
        assert!(error.to_string().starts_with(words), "{error}");
    }
    gateway.client().get("/export", "").refused(404, "route_not_found");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let text = gateway.text.replace("auth = \"required\"", "auth = \"public\"");
    let changes = gateway.reload(&text, Mode::DryRun).unwrap();
    assert_eq!(changes, ["route /api becomes PUBLIC (a token was required)"]);
    gateway.client().get("/api", "").refused(401, "credentials_missing");
    let reloads = gateway.running().reloader().reloads();
    assert_eq!((reloads.applied(), reloads.refused()), (0, 0));
    // One that would have to make a key makes none.
    let keys = gateway.text.find("[[tokens.keys]]").unwrap()..gateway.text.find("[users]").unwrap();
    let mut text = gateway.text.clone();
    text.replace_range(keys, "");
    let changes = gateway.reload(&text, Mode::DryRun).unwrap();
    assert_eq!(changes, ["a key is made, and what was signed before is refused"]);
    assert!(!gateway.path("data/keys").exists());
    assert_eq!(applied(&gateway, &gateway.text), Vec::<String>::new());
}

#[test]
fn connections_to_an_upstream_that_did_not_change_are_kept() {
    let (kept, changed) = (Upstream::echo(), Upstream::echo());
    let gateway = Setup::new()
        .upstream("api", &kept, "")
        .upstream("other", &changed, "retries = 1")
        .route("path = \"/kept\"\nauth = \"public\"\nupstream = \"api\"")
        .route("path = \"/changed\"\nauth = \"public\"\nupstream = \"other\"")
        .start();
    let mut client = gateway.client();
    let mut ask = |path: &str| client.get(path, "").expect(200);
    ask("/kept");
    ask("/changed");
    // An upstream comes whose place is in front of both.
    let first = format!("[upstreams.aaa]\ntargets = [\"{}\"]\n", changed.url());
    let text = format!("{first}{}", gateway.text.replace("retries = 1", "retries = 2"));
    assert_eq!(
        applied(&gateway, &text),
        [format!("upstream aaa is added: {}", changed.url()), "upstream other: settings change".to_owned()]
    );
    changed.wait_until_left();
    ask("/kept");
    ask("/changed");
    assert_eq!((kept.connections(), changed.connections()), (1, 2));
}

#[test]
fn what_is_remembered_of_tokens_is_kept_until_something_decides_otherwise() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).user("alice").start();
    let current = || gateway.running().reloader().current();
    let first = current();
    assert_eq!(status_for(&gateway, "/api", "1"), 200);
    let same = |text: &str| {
        applied(&gateway, text);
        Arc::ptr_eq(&first.authentication, &current().authentication)
    };
    assert!(same(&format!("{}{}", gateway.text, route("/export", "public"))));
    assert!(same(&gateway.text.replace("[tokens]\n", "[tokens]\nrealm = \"other\"\npath = \"/t\"\n")));
    for line in [
        "issuer = \"me\"",
        "audience = [\"me\"]",
        "leeway = \"1s\"",
        "access_lifetime = \"5m\"",
        "claims = [\"email\"]",
    ] {
        assert!(!same(&gateway.text.replace("[tokens]\n", &format!("[tokens]\n{line}\n"))), "{line}");
    }
    assert_eq!(status_for(&gateway, "/api", "1"), 200);
    applied(&gateway, &gateway.text.replace("[tokens]\n", "[tokens]\nissuer = \"me\"\n"));
    assert_eq!(status_for(&gateway, "/api", "1"), 401, "a token that passed before is looked at again");
}

#[test]
fn a_key_that_is_removed_refuses_what_it_signed_on_open_connections() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let token = mint::access("1", NOW, 7200);
    let mut client = gateway.client();
    client.get_as("/api", &token).expect(200);
    let other = "another-secret-that-is-long-enough-for-hmac";
    let text = gateway.text.replace(mint::SECRET, other);
    assert_eq!(applied(&gateway, &text), [format!("key {} is another key", mint::KID)]);
    client.get_as("/api", &token).refused(401, "token_invalid");
    let changes = applied(&gateway, &text.replace(&format!("\"{}\"", mint::KID), "\"new\""));
    let removed = format!("key {} is removed: what it signed is refused", mint::KID);
    assert_eq!(
        changes,
        ["key new (HS256) is added".to_owned(), removed, format!("key new signs (was {})", mint::KID)]
    );
    applied(&gateway, &gateway.text);
    client.get_as("/api", &token).expect(200);
}

#[test]
fn what_is_counted_by_a_limit_goes_on() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"\nlimit = \"most\"")
        .section("[limits.most]\nkey = \"ip\"\nrate = \"2/h\"")
        .clock(NOW_MS)
        .start();
    gateway.client().get("/", "").expect(200);
    applied(&gateway, &format!("{}[limits.first]\nkey = \"user\"\nrate = \"1/s\"\n", gateway.text));
    gateway.client().get("/", "").expect(200);
    gateway.client().get("/", "").refused(429, "rate_limited");
    let changes = applied(&gateway, &gateway.text.replace("2/h", "3/h"));
    assert_eq!(
        changes,
        ["limit first is removed", "limit most becomes 3/h (was 2/h), and counts from nothing"]
    );
    gateway.client().get("/", "").expect(200);
}

#[test]
fn a_stream_goes_on_over_a_reload_and_ends_with_its_token() {
    let upstream = Upstream::start(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        while talk.try_send("9\r\ndata: 1\n\n\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Then::Close
    });
    let gateway = guarded(&upstream).start();
    let token = mint::access("1", NOW, 7200);
    gateway.ledger.keep_token_secret(&token);
    let mut client = gateway.client();
    client.send(format!("GET /api HTTP/1.1\r\nhost: gw.test\r\nauthorization: Bearer {token}\r\n\r\n"));
    assert!(client.head().line.starts_with("HTTP/1.1 200"));
    applied(
        &gateway,
        &gateway.text.replace("/api\"", "/other\"").replace("[tokens]\n", "[tokens]\nissuer = \"me\"\n"),
    );
    for _ in 0..20 {
        client.wire.fill().unwrap();
    }
    gateway.set_clock(NOW_MS + 7_201_000);
    eventually("the stream ends", DEADLINE, || client.wire.fill().is_err());
}

#[test]
fn limits_of_the_server_hold_from_the_next_request_on() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .section(&route("/", "public"))
        .limits("max_body = \"10B\"")
        .start();
    let mut client = gateway.client();
    client.call("POST", "/", "", b"0123456789").expect(200);
    applied(&gateway, &gateway.text.replace("10B", "9B"));
    client.call("POST", "/", "", b"0123456789").refused(413, "body_too_large");
}

#[test]
fn a_proxy_that_is_believed_no_longer_is_not_believed_on_open_connections() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server("trusted_proxies = [\"127.0.0.1\"]").start();
    let mut client = gateway.client();
    client.get("/", "x-forwarded-for: 192.0.2.7\r\n").expect(200);
    let told = |upstream: &Upstream| {
        let fields = upstream.last().head.fields.0;
        let told =
            fields.iter().filter(|(name, _)| name == "x-forwarded-for").map(|(_, value)| value.clone());
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&upstream), ["192.0.2.7", "127.0.0.1"]);
    let changes = applied(&gateway, &gateway.text.replace("[\"127.0.0.1\"]", "[]"));
    assert_eq!(changes, ["server.trusted_proxies: 127.0.0.1/32 is no longer believed as a proxy"]);
    // The connection has ended, so that nothing that was found out at its beginning is believed any longer.
    client.expect_end();
    gateway.client().get("/", "x-forwarded-for: 192.0.2.7\r\n").expect(200);
    assert_eq!(told(&upstream), ["127.0.0.1"]);
}

#[test]
fn users_of_another_file_count_at_once() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream)
        .htpasswd("alice:$2y$04$5WL3ynkhE4ONl1cb8c7BLOENKU.9VnMZXEqNKzUuNQdTq0rD.A7vK\n")
        .start();
    assert_eq!(status_for(&gateway, "/api", "alice"), 200);
    assert_eq!(status_for(&gateway, "/api", "bob"), 401);
    gateway.write("other.htpasswd", "bob:$2y$04$5WL3ynkhE4ONl1cb8c7BLOENKU.9VnMZXEqNKzUuNQdTq0rD.A7vK\n");
    let changes = applied(&gateway, &gateway.text.replace("users.htpasswd", "other.htpasswd"));
    assert!(changes.len() == 1 && changes[0].contains("other.htpasswd (was "), "{changes:?}");
    assert_eq!(status_for(&gateway, "/api", "alice"), 401);
    assert_eq!(status_for(&gateway, "/api", "bob"), 200);
    gateway.write("other.htpasswd", "carol:$2y$04$5WL3ynkhE4ONl1cb8c7BLOENKU.9VnMZXEqNKzUuNQdTq0rD.A7vK\n");
    eventually("the other file is watched", DEADLINE, || status_for(&gateway, "/api", "carol") == 200);
}

#[test]
fn a_file_that_changes_is_read_without_being_asked() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).watched().start();
    let reloads = gateway.running().reloader().reloads();
    gateway.write("gateway.toml", "half of a fi");
    eventually("a broken file is refused", DEADLINE, || reloads.refused() == 1);
    gateway.client().get("/api", "").refused(401, "credentials_missing");
    gateway.write("gateway.toml.new", &format!("{}{}", gateway.text, route("/export", "public")));
    std::fs::rename(gateway.path("gateway.toml.new"), gateway.path("gateway.toml")).unwrap();
    eventually("a file that is renamed is read", DEADLINE, || reloads.applied() == 1);
    gateway.client().get("/export", "").expect(200);
    // What it says counts at once, also of the watching itself.
    gateway.write("gateway.toml", &gateway.text.replace("watch_config = true", "watch_config = false"));
    eventually("the last file that is read", DEADLINE, || reloads.applied() == 2);
    assert_eq!(reloads.refused(), 1, "a broken file is told of once");
}

/// Status and body of an answer of the admin listener to these lines of a request head.
fn ask_admin(gateway: &Gateway, line: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(gateway.running().admin_address().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{line} HTTP/1.1\r\n{fields}connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[test]
fn only_who_can_read_the_configuration_may_ask_for_a_reload() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    gateway.write("gateway.toml", &format!("{}{}", gateway.text, route("/export", "public")));
    let digest = Text::read(&gateway.path("gateway.toml")).unwrap().digest();
    let host = "host: 127.0.0.1\r\n";
    let shown = format!("{host}x-tollgate-config: {digest}\r\n");
    let other = format!("{host}x-tollgate-config: {}\r\n", digest.chars().rev().collect::<String>());
    for fields in [host.to_owned(), other, format!("{shown}origin: http://evil.example\r\n")] {
        let (status, body) = ask_admin(&gateway, "POST /reload", &fields);
        assert!(status == 403 && !body.contains("/export"), "{status} {body}");
    }
    assert_eq!(ask_admin(&gateway, "GET /reload", &shown).0, 405);
    let reloads = gateway.running().reloader().reloads();
    assert_eq!((reloads.applied(), reloads.refused()), (0, 0));
    let (status, body) = ask_admin(&gateway, "POST /reload?dry_run=true", &shown);
    let words = "1 route added: /export becomes PUBLIC\n";
    assert_eq!(
        (status, body),
        (200, format!("{words}a reload would change this; nothing was changed now\n"))
    );
    assert_eq!(reloads.applied(), 0);
    assert_eq!(ask_admin(&gateway, "POST /reload", &shown), (200, format!("{words}reloaded\n")));
    assert_eq!((reloads.applied(), reloads.digest()), (1, digest));
    gateway.client().get("/export", "").expect(200);
    assert_eq!(ask_admin(&gateway, "POST /reload", &shown).1, "reloaded: nothing has changed\n");
    gateway.write("gateway.toml", &gateway.text.replace("workers = 1", "workers = 2"));
    let digest = Text::read(&gateway.path("gateway.toml")).unwrap().digest();
    let (status, body) =
        ask_admin(&gateway, "POST /reload", &format!("{host}x-tollgate-config: {digest}\r\n"));
    assert!(status == 409 && body.starts_with("server.workers: needs a restart\n"), "{status} {body}");
}

#[test]
fn many_reloads_leave_nothing_behind() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        talk.send(ok("ok"));
        Then::Next
    });
    let gateway = guarded(&upstream).workers(2).start();
    let with = format!("{}{}", gateway.text, route("/export", "public"));
    let mut client = gateway.client();
    let open = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    applied(&gateway, &with);
    let threads = open();
    for number in 0..20 {
        let text = if number % 2 == 0 { &gateway.text } else { &with };
        applied(&gateway, text);
        let status = client.get("/export", "").status;
        assert_eq!(status, if number % 2 == 0 { 404 } else { 200 });
    }
    let reloads = gateway.running().reloader().reloads();
    assert_eq!((reloads.applied(), reloads.refused()), (21, 0));
    // Other tests of this process start and end threads, but not by the dozen.
    assert!(open() < threads + 200);
    assert_eq!(upstream.connections(), 1);
}
