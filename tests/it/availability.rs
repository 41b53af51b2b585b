//! Targets that are dead, slow, silent or wrong: what the others and the clients notice of them.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tollgate::reload::Mode;

use crate::support::gateway::has_event;
use crate::support::http2::{Authority, Http2Upstream, Manner};
use crate::support::{DEADLINE, Gateway, Latch, Response, Setup, Then, Upstream, client, eventually};

/// An address on which nobody listens, and that nobody else gets.
struct Dead(Socket);

impl Dead {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// Begins to answer with this word.
    fn rise(self, name: &'static str) -> Upstream {
        self.0.listen(128).unwrap();
        Upstream::listen(self.0.into(), move |talk| talk.ok(name))
    }
}

/// The address of one that stays dead.
fn nobody() -> SocketAddr {
    let dead = Dead::new();
    let address = dead.address();
    std::mem::forget(dead);
    address
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// A gateway that lets everybody through to an upstream with these targets.
fn public(targets: &[String], lines: &str) -> Setup {
    let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    written(&targets.join(", "), lines)
}

/// The same with targets as the file writes them.
fn written(targets: &str, lines: &str) -> Setup {
    Setup::new()
        .section(&format!("[upstreams.api]\ntargets = [{targets}]\n{lines}"))
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
}

/// One that answers with this word.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |talk| talk.ok(name))
}

/// Whether something was logged of the target.
fn is_logged(message: &str, target: impl Display) -> bool {
    has_event(&[message, "\"upstream_target\":\"", &format!("://{target}\"")])
}

fn wait_until_logged(message: &str, target: SocketAddr) {
    eventually(message, DEADLINE, || is_logged(message, target));
}

/// Sends requests until one is answered with this word.
fn until_answered(gateway: &Gateway, word: &str) {
    let mut client = gateway.client();
    eventually(word, DEADLINE, || client.get("/", "").expect(200).text() == word);
}

fn proxy_status(response: &Response, error: &str) {
    assert_eq!(response.field("proxy-status"), format!("tollgate; error={error}"), "{response:?}");
}

#[test]
fn a_dead_target_costs_clients_nothing_and_is_soon_left_alone() {
    for balance in ["least_request", "round_robin"] {
        let (dead, good, better) = (nobody(), named("good"), named("better"));
        let targets = [url(dead), good.url(), better.url()];
        let lines = format!("balance = \"{balance}\"\nejection.duration = \"60s\"");
        let gateway = public(&targets, &lines).workers(2).start();
        let mut client = gateway.client();
        for number in 0..60 {
            let (method, body) = if number % 2 == 0 { ("GET", &b""[..]) } else { ("POST", &b"order"[..]) };
            client.call(method, &format!("/{number}"), "", body).expect(200);
        }
        wait_until_logged("a target is ejected", dead);
        assert_eq!(good.count() + better.count(), 60, "nothing came twice");
        assert!(good.count() > 10 && better.count() > 10);
    }
}

#[test]
fn a_request_that_was_not_sent_goes_to_each_target_once() {
    let good = named("good");
    let targets = [url(nobody()), url(nobody()), url(nobody()), good.url()];
    // They stay in, so that requests meet them again and again.
    let lines = "balance = \"round_robin\"\nretries = 1\nretry_budget = \"0%\"\nejection.failures = 0";
    let gateway = public(&targets, lines).start();
    let mut client = gateway.client();
    for number in 0..8 {
        client.call("POST", &format!("/{number}"), "", b"order").expect(200);
    }
    let mut seen: Vec<String> = good.requests().iter().map(|request| request.target().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, (0..8).map(|number| format!("/{number}")).collect::<Vec<_>>(), "each came once");
    // Who wants no retries gets none.
    let gateway = public(&targets, "balance = \"round_robin\"\nretries = 0\nejection.failures = 0").start();
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("/", "").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
}

#[test]
fn an_ejected_target_comes_back_once_it_takes_connections() {
    let (grave, good) = (Dead::new(), named("good"));
    let dead = grave.address();
    let lines = "ejection = { duration = \"100ms\", max_duration = \"200ms\" }\nslow_start = \"0s\"";
    let gateway = public(&[url(dead), good.url()], lines).start();
    let mut client = gateway.client();
    eventually("it is ejected", DEADLINE, || {
        client.get("/", "").expect(200);
        is_logged("a target is ejected", dead)
    });
    let back = grave.rise("back");
    wait_until_logged("a target is used again: it takes connections", dead);
    until_answered(&gateway, "back");
    assert!(back.count() > 0);
}

#[test]
fn the_last_target_is_never_ejected_and_ejected_ones_are_used_for_want_of_another() {
    let graves = [Dead::new(), Dead::new()];
    let [first, second] = [graves[0].address(), graves[1].address()];
    // One that is out is asked within the budget only, which is not what is looked at here.
    let lines = "ejection.duration = \"60s\"\nretry_budget = \"100%\"";
    let gateway = public(&[url(first), url(second)], lines).start();
    let mut client = gateway.client();
    for _ in 0..20 {
        proxy_status(&client.get("/", "").refused(502, "upstream_refused"), "connection_refused");
    }
    let out = [first, second].map(|target| is_logged("a target is ejected", target));
    assert_eq!(out.iter().filter(|out| **out).count(), 1, "one of two");
    // The one that is out comes up, and is used at once.
    let [one, other] = graves;
    let grave = if out[0] { one } else { other };
    let out = grave.address();
    let back = grave.rise("back");
    for _ in 0..20 {
        client.get("/", "").expect(200);
    }
    wait_until_logged("a target is used again: it has answered", out);
    assert_eq!(back.count(), 20);
}

#[test]
fn a_target_that_does_not_answer_in_time_is_ejected() {
    let never = Arc::new(Latch::default());
    let wait = Arc::clone(&never);
    let silent = Upstream::start(move |_| {
        wait.wait();
        Then::Close
    });
    let good = named("good");
    let lines = "balance = \"round_robin\"\nresponse_timeout = \"400ms\"\nejection = { failures = 2, duration = \"60s\" }";
    let gateway = public(&[silent.url(), good.url()], lines).start();
    let mut late = 0;
    let mut client = gateway.client();
    eventually("it is ejected", DEADLINE, || {
        let answer = client.get("/", "");
        if answer.status == 504 {
            proxy_status(&answer, "http_response_timeout");
            late += 1;
        }
        is_logged("a target is ejected", silent.address)
    });
    assert!(late >= 2, "{late}");
    for _ in 0..10 {
        client.get("/", "").expect(200);
    }
    never.open();
}

#[test]
fn statuses_eject_only_where_that_is_said() {
    for (statuses, is_ejected) in [("[]", false), ("[503]", true)] {
        let bad = Upstream::says(
            "HTTP/1.1 503 Service Unavailable\r\nx-upstream: 1\r\ncontent-length: 0\r\n\r\n",
            Then::Next,
        );
        let good = named("good");
        let lines = format!(
            "balance = \"round_robin\"\nejection = {{ failures = 3, duration = \"60s\", statuses = {statuses} }}"
        );
        let gateway = public(&[bad.url(), good.url()], &lines).start();
        let mut client = gateway.client();
        for _ in 0..20 {
            client.get("/", "");
        }
        assert_eq!(
            bad.count(),
            if is_ejected { 3 } else { 10 },
            "an answer is passed on, never asked for again"
        );
        assert_eq!(is_logged("a target is ejected", bad.address), is_ejected);
    }
}

/// An upstream whose health can be changed, and that answers others with its name.
fn healthy_or_not(name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    let upstream = Upstream::start(move |talk| {
        if !talk.head.line.starts_with("GET /health ") {
            return talk.ok(name);
        }
        assert_eq!(talk.head.fields.one("user-agent"), Some("tollgate-health-check"));
        assert_eq!(talk.head.fields.one("connection"), Some("close"));
        let status = if well.load(Ordering::Acquire) { "204 No Content" } else { "500 Sick" };
        talk.send(format!("HTTP/1.1 {status}\r\nx-upstream: 1\r\ncontent-length: 0\r\n\r\n"));
        Then::Close
    });
    (upstream, is_well)
}

const CHECKED: &str = "path = \"/health\", interval = \"20ms\", timeout = \"2s\", healthy = 2, unhealthy = 2";

#[test]
fn a_target_whose_checks_fail_gets_no_requests_until_they_pass() {
    let ((one, one_is_well), (other, other_is_well)) = (healthy_or_not("one"), healthy_or_not("other"));
    let lines = format!("health_check = {{ {CHECKED} }}\nslow_start = \"0s\"");
    let gateway = public(&[one.url(), other.url()], &lines).start();
    until_answered(&gateway, "one");
    until_answered(&gateway, "other");
    one_is_well.store(false, Ordering::Release);
    wait_until_logged("a target is not well", one.address);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").expect(200).text(), "other");
    }
    // None is well: nobody is asked, and the client is told when to come again.
    other_is_well.store(false, Ordering::Release);
    wait_until_logged("a target is not well", other.address);
    let answer = client.get("/", "").refused(503, "upstream_unavailable");
    proxy_status(&answer, "destination_unavailable");
    assert_eq!(answer.field("retry-after"), "1");
    one_is_well.store(true, Ordering::Release);
    wait_until_logged("a target is well", one.address);
    for _ in 0..20 {
        assert_eq!(client.get("/", "").expect(200).text(), "one");
    }
}

#[test]
fn what_is_known_of_targets_outlives_a_reload() {
    let ((sick, is_well), (good, _)) = (healthy_or_not("sick"), healthy_or_not("good"));
    let lines = format!("health_check = {{ {CHECKED} }}");
    let gateway = public(&[sick.url(), good.url()], &lines).start();
    is_well.store(false, Ordering::Release);
    wait_until_logged("a target is not well", sick.address);
    let before = sick.requests().iter().filter(|request| request.target() == "/").count();
    // With other checks, which take longer to find it out than this test goes on.
    let slower = gateway.text.replace("interval = \"20ms\"", "interval = \"1h\"");
    gateway.reload(&slower, Mode::Apply).unwrap_or_else(|error| panic!("{error}"));
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", "").expect(200).text(), "good");
    }
    assert_eq!(sick.requests().iter().filter(|request| request.target() == "/").count(), before);
}

#[test]
fn checks_that_fail_everywhere_may_be_overruled() {
    let (upstream, is_well) = healthy_or_not("sick");
    is_well.store(false, Ordering::Release);
    let lines = format!("health_check = {{ {CHECKED}, fail_open = true }}");
    let gateway = public(&[upstream.url()], &lines).start();
    wait_until_logged("a target is not well", upstream.address);
    assert_eq!(gateway.client().get("/", "").expect(200).text(), "sick");
}

#[test]
fn a_check_names_the_host_that_it_is_told_and_takes_the_status_that_it_is_told() {
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&hosts);
    let upstream = Upstream::start(move |talk| {
        seen.lock().unwrap().push(talk.head.fields.one("host").unwrap().to_owned());
        talk.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        Then::Close
    });
    let lines = format!("health_check = {{ {CHECKED}, host = \"app.internal\", expect = \"401\" }}");
    let gateway = public(&[upstream.url()], &lines).start();
    upstream.wait_for(4);
    assert!(hosts.lock().unwrap().iter().all(|host| host == "app.internal"));
    assert!(!is_logged("a target is not well", upstream.address));
    drop(gateway);
}

#[test]
fn checks_speak_what_the_target_speaks() {
    let authority = Authority::new();
    let pair = authority.sign("127.0.0.1", false);
    for protocols in [None, Some(&["h2"][..]), Some(&["http/1.1"][..])] {
        let tls = protocols.map(|protocols| authority.server(&pair, protocols, false));
        let is_well = Arc::new(AtomicBool::new(true));
        let well = Arc::clone(&is_well);
        let http1 = protocols == Some(&["http/1.1"][..]);
        let upstream = Http2Upstream::start(Manner { tls, ..Manner::default() }, move |mut call| {
            let well = Arc::clone(&well);
            async move {
                assert_eq!(call.request.headers().get("user-agent").unwrap(), "tollgate-health-check");
                let status = if well.load(Ordering::Acquire) { 200 } else { 500 };
                let head = http::Response::builder().status(status).body(()).unwrap();
                call.answer.send_response(head, true).unwrap();
            }
        });
        let target = if protocols.is_some() { upstream.https("127.0.0.1") } else { upstream.h2c() };
        let tls = if protocols.is_some() { "tls = { ca = \"ca.pem\" }\n" } else { "" };
        let setup = public(&[target], &format!("{tls}health_check = {{ {CHECKED} }}"));
        std::fs::write(setup.place().join("ca.pem"), authority.pem()).unwrap();
        let gateway = setup.start();
        let count = || if http1 { upstream.http1_count() } else { upstream.count() };
        eventually("checks", DEADLINE, || count() >= 3);
        assert!(!is_logged("a target is not well", upstream.address));
        is_well.store(false, Ordering::Release);
        if !http1 {
            wait_until_logged("a target is not well", upstream.address);
            gateway.client().get("/", "").refused(503, "upstream_unavailable");
        }
    }
}

#[test]
fn a_target_that_takes_no_connection_fails_its_checks() {
    let grave = Dead::new();
    let dead = grave.address();
    let gateway = public(&[url(dead)], &format!("health_check = {{ {CHECKED} }}")).start();
    // Until it is known, it is taken to be well.
    assert!(matches!(gateway.client().get("/", "").status, 502 | 503));
    wait_until_logged("a target is not well", dead);
    gateway.client().get("/", "").refused(503, "upstream_unavailable");
    let back = grave.rise("back");
    wait_until_logged("a target is well", dead);
    assert_eq!(gateway.client().get("/", "").expect(200).text(), "back");
    drop(back);
}

/// One that answers the first request of every connection and breaks off at the second one.
fn breaking() -> (Upstream, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = Upstream::start(move |talk| {
        count.fetch_add(1, Ordering::AcqRel);
        if talk.head.fields.has("x-break") {
            return Then::Reset;
        }
        talk.ok("fine")
    });
    (upstream, seen)
}

#[test]
fn retries_keep_to_their_budget_and_a_post_is_never_sent_twice() {
    for (budget, least, most) in [("0%", 0, 0), ("10%", 10, 14)] {
        let (upstream, seen) = breaking();
        let gateway = public(&[upstream.url()], &format!("retries = 3\nretry_budget = \"{budget}\"")).start();
        let mut client = gateway.client();
        for _ in 0..60 {
            // A connection that has answered once, so that what breaks on it may be sent again.
            client.get("/", "").expect(200);
            client.get("/", "x-break: 1\r\n").refused(502, "upstream_refused");
        }
        let retries = seen.load(Ordering::Acquire) - 120;
        // The reserve, and a tenth of the requests; the clock may add one or two.
        assert!((least..=most + 12).contains(&retries), "{budget}: {retries} retries");
        assert!(budget == "0%" || retries >= least);
        let before = seen.load(Ordering::Acquire);
        for body in [&b"order"[..], b""] {
            client.get("/", "").expect(200);
            let fields =
                if body.is_empty() { "x-break: 1\r\ncontent-length: 0\r\n" } else { "x-break: 1\r\n" };
            proxy_status(
                &client.call("POST", "/", fields, body).refused(502, "upstream_refused"),
                "connection_terminated",
            );
        }
        assert_eq!(seen.load(Ordering::Acquire) - before, 4);
    }
}

#[test]
fn a_target_has_so_many_requests_and_the_others_wait_their_turn() {
    for protocol in ["http", "h2c"] {
        let (here, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let go_on = Arc::new(tokio::sync::Semaphore::new(0));
        let latch = Arc::new(Latch::default());
        let (now, most, gate) = (Arc::clone(&here), Arc::clone(&peak), Arc::clone(&go_on));
        let http2 = Http2Upstream::start(Manner::default(), move |call| {
            let (now, most, gate) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&gate));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                gate.acquire().await.unwrap().forget();
                now.fetch_sub(1, Ordering::AcqRel);
                call.echo().await;
            }
        });
        let (now, most, wait) = (Arc::clone(&here), Arc::clone(&peak), Arc::clone(&latch));
        let http1 = Upstream::start(move |talk| {
            most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
            wait.wait();
            now.fetch_sub(1, Ordering::AcqRel);
            talk.ok("done")
        });
        let target = if protocol == "http" { http1.url() } else { http2.h2c() };
        let lines = "max_requests = 2\nmax_queue = 4";
        let gateway = public(&[target], lines).workers(2).start();
        // Two are there and four wait, wherever they came in; two more are too many.
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                let (mut client, refused) = (gateway.client(), &refused);
                scope.spawn(move || {
                    let answer = client.get("/", "");
                    if answer.status == 200 {
                        return;
                    }
                    let answer = answer.refused(503, "overloaded");
                    proxy_status(&answer, "connection_limit_reached");
                    assert_eq!(answer.field("retry-after"), "1");
                    refused.fetch_add(1, Ordering::AcqRel);
                });
            }
            eventually("the others are refused", DEADLINE, || refused.load(Ordering::Acquire) == 2);
            eventually("two at once", DEADLINE, || here.load(Ordering::Acquire) == 2);
            latch.open();
            go_on.add_permits(100);
        });
        assert_eq!(refused.load(Ordering::Acquire), 2);
        assert_eq!(peak.load(Ordering::Acquire), 2);
    }
}

#[test]
fn who_waits_too_long_for_a_connection_is_told_so() {
    let latch = Arc::new(Latch::default());
    let wait = Arc::clone(&latch);
    let upstream = Upstream::start(move |talk| {
        wait.wait();
        talk.ok("done")
    });
    let gateway = public(&[upstream.url()], "max_connections = 1\nqueue_timeout = \"200ms\"").start();
    let mut first = gateway.client();
    first.send(client::request("GET", "/", "", b""));
    upstream.wait_for(1);
    gateway.client().get("/", "").refused(503, "overloaded");
    latch.open();
    first.answer().expect(200);
}

#[test]
fn who_has_room_is_taken_before_who_has_none() {
    let latch = Arc::new(Latch::default());
    let wait = Arc::clone(&latch);
    let stuck = Upstream::start(move |talk| {
        wait.wait();
        talk.ok("stuck")
    });
    let free = named("free");
    for balance in ["least_request", "round_robin"] {
        let lines = format!("balance = \"{balance}\"\nmax_connections = 1\nmax_queue = 0");
        let gateway = public(&[stuck.url(), free.url()], &lines).start();
        let before = stuck.count();
        let mut waiting = Vec::new();
        while stuck.count() == before {
            let mut client = gateway.client();
            client.wire.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            client.send(client::request("GET", "/", "", b""));
            if client.try_answer_to("GET").is_err() {
                waiting.push(client);
            }
        }
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/", "").expect(200).text(), "free");
        }
    }
    latch.open();
}

#[test]
fn the_same_cookie_leads_to_the_same_target_on_every_thread() {
    let names = ["a", "b", "c"];
    let upstreams = names.map(named);
    let targets: Vec<String> = upstreams.iter().map(Upstream::url).collect();
    let lines = "balance = \"hash\"\nhash_on = \"cookie:sid\"\nejection.duration = \"60s\"";
    let gateway = public(&targets, lines).workers(2).start();
    let ask = |sid: usize| {
        let fields = format!("cookie: theme=dark; sid={sid}\r\n");
        gateway.client().get("/", &fields).expect(200).text().to_owned()
    };
    let before: HashMap<usize, String> = (0..40).map(|sid| (sid, ask(sid))).collect();
    for name in names {
        assert!(before.values().any(|answer| answer == name), "{name} has none");
    }
    for (sid, name) in &before {
        for _ in 0..3 {
            assert_eq!(ask(*sid), *name);
        }
    }
    // Those of a target that is gone go elsewhere, and nobody else does.
    let [a, b, c] = upstreams;
    drop(b);
    for _ in 0..2 {
        for (sid, name) in &before {
            let now = ask(*sid);
            assert!(if name == "b" { now != "b" } else { now == *name }, "{sid}: {name} -> {now}");
        }
    }
    drop((a, c));
}

#[test]
fn users_are_spread_and_those_without_a_key_are_balanced() {
    let upstreams = ["a", "b"].map(named);
    let targets: Vec<String> = upstreams.iter().map(|one| format!("\"{}\"", one.url())).collect();
    let gateway = Setup::new()
        .section(&format!(
            "[upstreams.api]\ntargets = [{}]\nbalance = \"hash\"\nhash_on = \"user\"",
            targets.join(", ")
        ))
        .route("path = \"/\"\nauth = \"optional\"\nupstream = \"api\"")
        .user("alice")
        .start();
    let (access, _) = gateway.login("alice", crate::support::gateway::PASSWORD);
    let first = gateway.client().get_as("/", &access).expect(200).text().to_owned();
    for _ in 0..10 {
        assert_eq!(gateway.client().get_as("/", &access).expect(200).text(), first);
    }
    until_answered(&gateway, "a");
    until_answered(&gateway, "b");
}

#[test]
fn requests_are_shared_as_the_weights_say() {
    let (light, heavy) = (named("light"), named("heavy"));
    let targets = format!("\"{}\", {{ url = \"{}\", weight = 3 }}", light.url(), heavy.url());
    let gateway = written(&targets, "balance = \"round_robin\"").start();
    let mut client = gateway.client();
    for _ in 0..40 {
        client.get("/", "").expect(200);
    }
    assert_eq!((light.count(), heavy.count()), (10, 30));
}

#[test]
fn a_name_is_used_before_and_after_its_addresses_are_known() {
    let upstream = named("here");
    let port = upstream.address.port();
    let target = format!("http://localhost:{port}");
    let gateway = public(&[target], "resolve_interval = \"200ms\"").start();
    let mut client = gateway.client();
    client.get("/", "").expect(200);
    eventually("the name leads somewhere", DEADLINE, || {
        is_logged("a name leads to", format_args!("localhost:{port}"))
    });
    for _ in 0..20 {
        client.get("/", "").expect(200);
    }
    let unknown = public(&["http://nowhere.invalid:80".to_owned()], "").start();
    proxy_status(&unknown.client().get("/", "").refused(502, "upstream_refused"), "dns_error");
}

#[test]
fn what_went_wrong_is_told_in_registered_words_without_an_address() {
    let tls = Authority::new();
    let server = tls.server(&tls.sign("other.test", false), &["http/1.1"], false);
    let other = Http2Upstream::echo(Manner { tls: Some(server), ..Manner::default() });
    let malformed = Upstream::says("SSH-2.0-OpenSSH\r\n\r\n", Then::Close);
    let closing = Upstream::start(|talk| {
        talk.read_body();
        Then::Close
    });
    for (target, error) in [
        (url(nobody()), "connection_refused"),
        (malformed.url(), "http_protocol_error"),
        (closing.url(), "connection_terminated"),
        (other.https("127.0.0.1"), "tls_certificate_error"),
    ] {
        let tls_lines = if target.starts_with("https") { "tls = { ca = \"ca.pem\" }" } else { "" };
        let setup = public(&[target], tls_lines);
        std::fs::write(setup.place().join("ca.pem"), tls.pem()).unwrap();
        let gateway = setup.start();
        let answer = gateway.client().get("/", "").refused(502, "upstream_refused");
        proxy_status(&answer, error);
        let head = String::from_utf8_lossy(&answer.head.raw).into_owned();
        assert!(!head.contains("127.0.0.1") && !answer.text().contains("127.0.0.1"), "{answer:?}");
        // gRPC is told in its own way, and by the same field.
        let answer = gateway.client().call("POST", "/s/m", "content-type: application/grpc\r\n", b"x");
        assert!(answer.status == 200 && answer.head.fields.has("grpc-status"), "{answer:?}");
        proxy_status(&answer, error);
    }
}

#[test]
fn an_answer_of_http2_with_a_name_that_is_none_is_refused() {
    let upstream = Http2Upstream::start(Manner::default(), |mut call| async move {
        let name = http::HeaderName::from_lowercase(b"x\"y").unwrap();
        let head = http::Response::builder().header(name, "1");
        call.answer.send_response(head.body(()).unwrap(), true).unwrap();
    });
    let gateway = public(&[upstream.h2c()], "").start();
    let answer = gateway.client().get("/", "").refused(502, "upstream_refused");
    proxy_status(&answer, "http_protocol_error");
}

#[test]
fn one_upstream_s_troubles_are_not_another_s() {
    let never = Arc::new(Latch::default());
    let wait = Arc::clone(&never);
    let silent = Upstream::start(move |_| {
        wait.wait();
        Then::Close
    });
    let good = named("good");
    let lines = "max_connections = 2\nmax_queue = 2\nqueue_timeout = \"300ms\"\nresponse_timeout = \"400ms\"";
    let gateway = Setup::new()
        .section(&format!(
            "[upstreams.bad]\ntargets = [\"{}\", \"{}\"]\n{lines}",
            silent.url(),
            url(nobody())
        ))
        .upstream("good", &good, "")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"good\"")
        .route("path = \"/bad\"\nauth = \"public\"\nupstream = \"bad\"")
        .start();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            let (mut client, stop) = (gateway.client(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    assert!(matches!(client.get("/bad", "").status, 502..=504));
                }
            });
        }
        let mut client = gateway.client();
        for _ in 0..300 {
            assert_eq!(client.get("/", "").expect(200).text(), "good");
        }
        stop.store(true, Ordering::Release);
    });
    never.open();
}
