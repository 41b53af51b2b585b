//! Load tests: what they count, what they cannot be deceived in, and that tokens stay where they belong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Parser as _;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tollgate::base::secret::Secret;
use tollgate::bench::fault::Fault;
use tollgate::bench::{
    self, BenchError, Callers, Endpoint, Pace, Person, Plan, Protocol, Rate, Report, Told, Trust,
};
use tollgate::cli::arguments::{Arguments, Verb};
use tollgate::cli::error::{CommandError, Exit};

use crate::support::gateway::PASSWORD;
use crate::support::tls::Tls;
use crate::support::upstream::{Talk, ok};
use crate::support::{Scratch, Setup, Then, Upstream};

/// A short closed loop on two connections.
fn plan(url: &str) -> Plan {
    Plan {
        url: url.parse().unwrap(),
        direct: None,
        method: Method::GET,
        fields: HeaderMap::new(),
        direct_fields: HeaderMap::new(),
        body: Bytes::new(),
        protocol: Protocol::Http1,
        trust: Trust::System,
        callers: Callers::Nobody,
        pace: Pace::Closed,
        connections: 2,
        streams: 1,
        threads: Some(1),
        duration: Duration::from_millis(200),
        warm_up: Duration::ZERO,
        timeout: Duration::from_secs(10),
        rounds: 2.try_into().unwrap(),
    }
}

fn rate(text: &str) -> Pace {
    Pace::Rate(Rate::parse(text).unwrap())
}

fn users(url: &Endpoint, names: &[&str], sessions: usize) -> Callers {
    let person = |name: &&str| Arc::new(Person { name: (*name).to_owned(), password: Secret::new(PASSWORD) });
    let login = url.at(PathAndQuery::from_static("/api/token/"));
    Callers::Users {
        people: names.iter().map(person).collect(),
        sessions,
        refresh: login.below("refresh/"),
        login,
    }
}

fn try_run(plan: &Plan) -> Result<Report, BenchError> {
    bench::run(plan, &Arc::new(AtomicBool::new(false)), &mut |_| {})
}

fn run(plan: &Plan) -> Report {
    try_run(plan).unwrap_or_else(|error| panic!("{error}"))
}

/// A server that stands still for `stall` when it has answered some requests: everybody waits until it is over.
fn stalling(stall: Duration) -> Upstream {
    let until = Mutex::new(None);
    Upstream::start(move |talk| {
        let until = if talk.number >= 40 {
            *until.lock().unwrap().get_or_insert_with(|| Instant::now() + stall)
        } else {
            Instant::now()
        };
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        talk.ok("x")
    })
}

#[test]
fn a_server_that_stalls_cannot_hide_it_at_a_fixed_rate() {
    let stall = Duration::from_millis(400);
    let open = Plan { pace: rate("200/s"), duration: Duration::from_secs(1), ..plan(&stalling(stall).url()) };
    let upstream = stalling(stall);
    let report = run(&Plan { url: upstream.url().parse().unwrap(), ..open });
    let total = &report.measured[0].total;
    // All that was due is there, although for two fifths of the time nothing could be sent.
    assert_eq!((total.requests(), total.response.count(), total.failures()), (200, 200, 0));
    assert!(total.queued >= 50, "{}", total.queued);
    // Four of ten came due in the stall, and a tenth waited for three quarters of it.
    assert!(total.response.at(0.9) >= stall * 5 / 8, "{:?}", total.response.at(0.9));
    // By itself each answer but the two that met the stall was quick, which is how the fault looks right.
    assert!(total.service.at(0.9) < stall / 2, "{:?}", total.service.at(0.9));
    assert!(total.response.longest() >= stall);
}

#[test]
fn a_closed_loop_says_that_it_does_not_see_all_of_a_stall() {
    let upstream = stalling(Duration::from_millis(150));
    let report = run(&Plan { duration: Duration::from_millis(300), ..plan(&upstream.url()) });
    let total = &report.measured[0].total;
    assert!(
        total.response.at(0.9) < Duration::from_millis(100)
            && total.response.longest() >= Duration::from_millis(150)
    );
    assert!(total.service.is_empty() && report.time_name().starts_with("service time"));
    assert!(report.notes.iter().any(|note| note.starts_with("closed loop")), "{:?}", report.notes);
}

#[test]
fn what_is_never_answered_counts_with_the_time_that_was_waited() {
    let latch = Arc::new(crate::support::Latch::default());
    let wait = Arc::clone(&latch);
    let upstream = Upstream::start(move |_| {
        wait.wait();
        Then::Close
    });
    let report = run(&Plan {
        pace: rate("100/s"),
        connections: 1,
        duration: Duration::from_millis(300),
        timeout: Duration::from_millis(200),
        ..plan(&upstream.url())
    });
    latch.open();
    let total = &report.measured[0].total;
    assert_eq!((total.requests(), total.answered(), total.response.count()), (30, 0, 30));
    assert_eq!(total.faults[&Fault::Timeout] + total.unsent, 30);
    assert!(total.unsent >= 25 && total.response.longest() >= Duration::from_millis(200), "{total:?}");
}

#[test]
fn connections_that_are_closed_are_made_again() {
    let upstream =
        Upstream::says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx", Then::Close);
    let report = run(&Plan { pace: rate("100/s"), ..plan(&upstream.url()) });
    let total = &report.measured[0].total;
    assert_eq!((total.statuses[&200], total.failures(), total.connections), (20, 0, 20));
    // One that is broken off is no answer, and is counted as what it is.
    let upstream = Upstream::says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", Then::Close);
    let total = run(&Plan { pace: rate("100/s"), ..plan(&upstream.url()) }).measured.remove(0).total;
    assert_eq!((total.faults[&Fault::Closed], total.failures()), (20, 20));
    let upstream = Upstream::says("SSH-2.0-x\r\n\r\n", Then::Close);
    let total = run(&Plan { pace: rate("100/s"), ..plan(&upstream.url()) }).measured.remove(0).total;
    assert_eq!(total.faults[&Fault::Protocol], 20);
}

#[test]
fn bodies_and_headers_go_out_and_bytes_are_counted() {
    let upstream = Upstream::start(|talk| talk.ok(&"x".repeat(10_000)));
    let mut fields = HeaderMap::new();
    fields.insert("x-a", "1".parse().unwrap());
    fields.insert("host", "other.test".parse().unwrap());
    let body = Bytes::from_static(b"hello");
    let report = run(&Plan { fields, body, method: Method::PUT, ..plan(&(upstream.url() + "/a?b=c")) });
    let (total, last) = (&report.measured[0].total, upstream.requests().swap_remove(0));
    assert!(total.received > total.answered() * 10_000 && total.failures() == 0);
    assert_eq!((last.method(), last.target(), &*last.body), ("PUT", "/a?b=c", &b"hello"[..]));
    assert_eq!((last.field("x-a"), last.field("host")), ("1", "other.test"));
}

#[test]
fn time_in_the_gateway_is_told_apart_from_time_upstream() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nserver-timing: gateway;dur=0.25, upstream;dur=3\r\ncontent-length: 0\r\n\r\n",
        Then::Next,
    );
    let report = run(&plan(&upstream.url()));
    let total = &report.measured[0].total;
    assert_eq!(
        (total.gateway.at(0.5), total.upstream.count()),
        (Duration::from_micros(250), total.answered())
    );
    assert!(bench::text::render(&report).contains("in the gateway"));
    let silent = Upstream::echo();
    let text = bench::text::render(&run(&plan(&silent.url())));
    assert!(text.contains("not available"), "{text}");
}

/// Token routes and an API in one, whose refresh tokens pass once.
#[derive(Default)]
struct Rotating {
    /// How long access tokens are good, in seconds.
    lifetime: f64,
    issued: AtomicU64,
    logins: AtomicU64,
    misused: AtomicU64,
    /// Answers 401 to this many requests.
    refusals: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

impl Rotating {
    fn answer(&self, talk: &mut Talk) -> Then {
        talk.read_body();
        let line = talk.head.line.clone();
        if line.starts_with("POST /api/token/refresh/") {
            let expected = self.issued.load(Ordering::SeqCst);
            let body = String::from_utf8(talk.last_body()).unwrap();
            let given: Value = serde_json::from_str(&body).unwrap();
            self.misused.fetch_add(u64::from(given["refresh"] != format!("r{expected}")), Ordering::SeqCst);
            talk.send(ok(&self.tokens()));
        } else if line.starts_with("POST /api/token/") {
            self.logins.fetch_add(1, Ordering::SeqCst);
            talk.send(ok(&self.tokens()));
        } else {
            let token = talk.head.fields.one("authorization").unwrap_or_default().to_owned();
            let mut seen = self.seen.lock().unwrap();
            if seen.last() != Some(&token) {
                seen.push(token);
            }
            let refuse = |left: usize| left.checked_sub(1);
            if seen.len() == 1
                && self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok()
            {
                talk.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
            } else {
                talk.send(ok("x"));
            }
        }
        Then::Next
    }

    fn tokens(&self) -> String {
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        // Nobody's clock is like this one.
        let claims = json!({ "iat": 1000, "exp": 1000.0 + self.lifetime, "n": number });
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        json!({ "access": format!("e30.{claims}.c2ln"), "refresh": format!("r{number}") }).to_string()
    }
}

fn rotating(lifetime: f64, refusals: usize) -> (Arc<Rotating>, Upstream) {
    let state = Arc::new(Rotating { lifetime, refusals: AtomicUsize::new(refusals), ..Rotating::default() });
    let shared = Arc::clone(&state);
    let upstream = Upstream::start(move |talk| shared.answer(talk));
    (state, upstream)
}

#[test]
fn tokens_are_refreshed_before_they_expire_while_the_load_goes_on() {
    let (state, upstream) = rotating(0.3, 0);
    let mut plan =
        Plan { duration: Duration::from_millis(900), pace: rate("200/s"), ..plan(&upstream.url()) };
    plan.callers = users(&plan.url, &["alice"], 1);
    let report = run(&plan);
    let (total, counts) = (&report.measured[0].total, report.tokens.unwrap());
    assert_eq!((total.statuses[&200], total.failures()), (180, 0));
    assert_eq!((counts.logins, counts.failures, state.logins.load(Ordering::SeqCst)), (1, 0, 1));
    assert!(counts.refreshes >= 2 && counts.rotations == counts.refreshes, "{counts:?}");
    // Each refresh used the token of the one before, and requests went on with what it brought.
    assert_eq!(state.misused.load(Ordering::SeqCst), 0);
    assert!(state.seen.lock().unwrap().len() >= 3);
}

#[test]
fn a_refused_token_is_counted_and_refreshed_once() {
    let (state, upstream) = rotating(60.0, 6);
    let mut plan = Plan { connections: 4, ..plan(&upstream.url()) };
    plan.callers = users(&plan.url, &["alice"], 1);
    let report = run(&plan);
    let (total, counts) = (&report.measured[0].total, report.tokens.unwrap());
    let refused = total.statuses[&401];
    assert!((1..=6).contains(&refused), "{refused}");
    assert!(total.statuses[&200] > refused && counts.refreshes == 1 && counts.logins == 1, "{counts:?}");
    assert_eq!(state.misused.load(Ordering::SeqCst), 0);
    assert!(bench::text::render(&report).contains(&format!("{refused} answers 401")));
}

#[test]
fn a_login_that_is_put_off_is_tried_again_and_one_that_is_refused_is_not() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |talk| {
        talk.read_body();
        if talk.head.line.starts_with("POST") && count.fetch_add(1, Ordering::SeqCst) < 2 {
            talk.send("HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
        } else {
            talk.send(ok("{\"access\":\"a.b.c\"}"));
        }
        Then::Next
    });
    let mut wanted = plan(&upstream.url());
    wanted.callers = users(&wanted.url, &["alice"], 3);
    let counts = run(&wanted).tokens.unwrap();
    assert_eq!((counts.sessions, counts.logins, counts.deferrals), (3, 3, 2));

    let refusing = Upstream::says("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno", Then::Next);
    let mut wanted = plan(&refusing.url());
    wanted.callers = users(&wanted.url, &["alice"], 1);
    let error = try_run(&wanted).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("alice") && text.contains("401") && !text.contains(PASSWORD), "{text}");
    assert_eq!(refusing.count(), 1);
}

#[test]
fn many_users_call_through_the_gateway_and_nobody_past_it_with_a_token() {
    let upstream = Upstream::echo();
    let names: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let setup = names.iter().fold(Setup::guarded(&upstream), |setup, name| setup.user(name));
    let gateway = setup.start();
    let mut plan = plan(&format!("http://{}/things", gateway.address));
    plan.direct = Some(format!("{}/direct", upstream.url()).parse().unwrap());
    plan.callers = users(&plan.url, &names, 40);
    (plan.threads, plan.connections) = (Some(2), 5);
    let mut turns = Vec::new();
    let told = &mut |told: Told<'_>| {
        if let Told::Turn(name, round, _) = told {
            turns.push(format!("{name} {round}"));
        }
    };
    let report = bench::run(&plan, &Arc::new(AtomicBool::new(false)), told).unwrap();
    assert_eq!(turns, ["gateway 1", "direct 1", "gateway 2", "direct 2"]);
    for measured in &report.measured {
        assert!(measured.total.failures() == 0 && measured.total.answered() > 100, "{measured:?}");
    }
    let counts = report.tokens.unwrap();
    assert_eq!((counts.sessions, counts.logins, counts.failures), (40, 40, 0));
    let requests = upstream.requests();
    let called = |name: &&&str| requests.iter().any(|request| request.field("x-user-name") == **name);
    assert_eq!(names.iter().filter(called).count(), 20);
    assert!(requests.iter().all(|request| request.field("authorization").is_empty()));
    assert!(
        requests
            .iter()
            .filter(|request| request.target() == "/direct")
            .all(|r| r.field("x-user-id").is_empty())
    );
    let text = bench::text::render(&report);
    assert!(
        text.contains("gateway adds")
            && text.contains("without --rate the two were asked at different rates")
    );
}

#[test]
fn tls_and_http2_are_spoken_and_certificates_verified() {
    let upstream = Upstream::echo();
    let tls = Tls::new();
    let setup = Setup::guarded(&upstream).user("alice");
    let pair = tls.authority.sign_all(&["127.0.0.1"], false);
    for (name, content) in [("cert.pem", &pair.cert), ("key.pem", &pair.key)] {
        std::fs::write(setup.place().join(name), content).unwrap();
    }
    let gateway = setup
        .section(
            "[tls]\n[[tls.certificates]]\nhosts = [\"127.0.0.1\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"",
        )
        .start();
    let scratch = Scratch::new();
    let authorities = scratch.path().join("ca.pem");
    std::fs::write(&authorities, tls.authority.pem()).unwrap();
    let url = format!("https://{}/x", gateway.address);
    for (protocol, streams) in [(Protocol::Http1, 1), (Protocol::Http2, 4)] {
        let mut plan = Plan { protocol, streams, pace: rate("200/s"), ..plan(&url) };
        plan.trust = Trust::Authorities(authorities.clone());
        plan.callers = users(&plan.url, &["alice"], 1);
        let total = run(&plan).measured.remove(0).total;
        assert_eq!((total.statuses[&200], total.failures()), (40, 0), "{protocol}");
        assert!(total.connections <= 2, "{protocol}: {}", total.connections);
    }
    let nobody = Tls::new();
    std::fs::write(&authorities, nobody.authority.pem()).unwrap();
    let error = try_run(&Plan { trust: Trust::Authorities(authorities), ..plan(&url) }).unwrap_err();
    assert!(error.to_string().contains("TLS handshake failed"), "{error}");
    let total = run(&Plan { trust: Trust::Anybody, ..plan(&url) }).measured.remove(0).total;
    assert!(total.statuses[&401] > 0);
}

/// Runs the command; returns its exit code and what it printed.
fn command(line: &str) -> (Result<Exit, CommandError>, String, String) {
    let words = ["tollgate", "bench", "-d", "100ms", "--warm-up", "0s", "-c", "2"].into_iter();
    let Some(Verb::Bench(arguments)) = Arguments::parse_from(words.chain(line.split_whitespace())).verb
    else {
        panic!("another verb");
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = tollgate::cli::bench::perform(&arguments, &mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn the_exit_code_says_whether_too_much_failed() {
    let upstream = Upstream::echo();
    let scratch = Scratch::new();
    let page = scratch.path().join("report.html");
    let line = format!("{} --format json --html {}", upstream.url(), page.display());
    let (exit, out, err) = command(&line);
    assert_eq!(exit.unwrap(), Exit::Ok);
    let document: Value = serde_json::from_str(&out).unwrap();
    let measured = &document["measured"]["gateway"];
    assert!(
        measured["statuses"]["200"].as_u64() > Some(0) && measured["response_ms"]["p99"].is_f64(),
        "{document}"
    );
    assert!(std::fs::read_to_string(page).unwrap().contains("<svg "));
    assert!(err.contains("a second") && !err.contains('\r'), "{err:?}");

    let failing = Upstream::says("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", Then::Next);
    let (exit, out, err) = command(&format!("{} --quiet", failing.url()));
    assert_eq!((exit.unwrap(), err.as_str()), (Exit::Findings, "tollgate: more than 1% failed\n"));
    assert!(out.contains("status 503"), "{out}");
    let (exit, ..) = command(&format!("{} --max-errors 100%", failing.url()));
    assert_eq!(exit.unwrap(), Exit::Ok);
    // A port that is taken and that nobody listens on, so that it is nobody else's meanwhile.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    let error = command(&format!("http://{address}/")).0.unwrap_err();
    assert!(error.exit() == Exit::Findings && error.to_string().contains("did not answer"), "{error}");
}
