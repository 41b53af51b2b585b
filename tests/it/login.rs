//! Attacks on the login: guessing, flooding, finding out names, and locking others out.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::{Gateway, Response, Setup, Upstream, mint};

const JSON: &str = "content-type: application/json\r\n";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.1\"]";

/// A gateway with `alice`, which locks after so many failures.
fn locking(upstream: &Upstream, attempts: u32) -> Setup {
    Setup::guarded(upstream).user("alice").section(&format!("[users.lockout]\nattempts = {attempts}"))
}

fn login(gateway: &Gateway, name: &str, password: &str, fields: &str) -> Response {
    let body = json!({"username": name, "password": password}).to_string();
    gateway.client().call("POST", "/api/token/", &format!("{JSON}{fields}"), body.as_bytes())
}

fn wrong(gateway: &Gateway, name: &str, fields: &str) -> Response {
    login(gateway, name, "wrong-password", fields)
}

/// Everything of an answer but what names this one request.
fn told(response: &Response) -> String {
    let mut body = response.json();
    body.as_object_mut().unwrap().remove("request_id");
    let own = ["x-request-id", "date", "content-length"];
    let fields = response.head.fields.0.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    format!("{} {:?} {body}", response.status, fields.collect::<Vec<_>>())
}

#[test]
fn time_tells_no_unknown_wrong_or_inactive_user_apart() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 1_000_000).person("gone", None, &[], PASSWORD, false).start();
    let mut client = gateway.client();
    let cases = [("nobody", PASSWORD), ("alice", "wrong-password"), ("gone", PASSWORD)];
    let bodies = cases.map(|(name, password)| json!({"username": name, "password": password}));
    let mut times = [const { Vec::new() }; 3];
    let mut answers = BTreeSet::new();
    for round in 0..300 {
        // The order changes, so that nobody always comes after the same one.
        for turn in 0..3 {
            let case = (round + turn) % 3;
            let began = Instant::now();
            let response = client.post_json("/api/token/", &bodies[case]);
            times[case].push(began.elapsed());
            answers.insert(told(&response));
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    let (least, most) = (*medians.iter().min().unwrap(), *medians.iter().max().unwrap());
    assert!(
        most.saturating_sub(least) < (most / 20).max(Duration::from_millis(1)),
        "medians differ: {medians:?}"
    );
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn sizes_come_before_hashing_and_nothing_is_cut() {
    let upstream = Upstream::echo();
    let long = "x".repeat(80);
    let gateway = locking(&upstream, 1000).person("long", None, &[], &long, true).start();
    gateway.tokens_of(&login(&gateway, "long", &long, "").expect(200));
    // Equal in the 72 bytes that bcrypt would look at.
    for other in [format!("{}y", &long[..79]), long[..72].to_owned(), format!("{long}x")] {
        login(&gateway, "long", &other, "").refused(401, "credentials_invalid");
    }
    for (name, password) in [("alice", "x".repeat(1025)), ("alice", "x".repeat(10_000))] {
        login(&gateway, name, &password, "").refused(401, "credentials_invalid");
    }
    login(&gateway, &"x".repeat(300), PASSWORD, "").refused(401, "credentials_invalid");
    // 10 MB are told by the head, and nobody waits for them.
    for length in [10_000_000_u64, 100_000_000] {
        let mut client = gateway.client();
        client
            .send(format!("POST /api/token/ HTTP/1.1\r\nhost: a\r\n{JSON}content-length: {length}\r\n\r\n"));
        client.answer().refused(413, "body_too_large");
    }
}

#[test]
fn odd_bodies_are_refused_and_cost_nothing() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 1000).start();
    let members = (0..6000).map(|number| format!("\"{number}\":1")).collect::<Vec<_>>().join(",");
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1];
    for (fields, body, status) in [
        (JSON, format!("{{{members}}}").into_bytes(), 400),
        (JSON, format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000)).into_bytes(), 400),
        (JSON, format!("{}1{}", "{\"a\":".repeat(9000), "}".repeat(9000)).into_bytes(), 400),
        (JSON, json!({"username": {"a": 1}, "password": ["x"]}).to_string().into_bytes(), 400),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", gzip.to_vec(), 400),
        ("content-type: text/plain\r\n", b"username=alice".to_vec(), 415),
        ("", b"{}".to_vec(), 415),
    ] {
        let response = gateway.client().call("POST", "/api/token/", fields, &body);
        assert_eq!(response.status, status, "{response:?}");
    }
    let million = format!("{{{}}}", "\"aaaaaa\":1,".repeat(1_000_000));
    let mut client = gateway.client();
    let _ = client.try_send(request("POST", "/api/token/", JSON, million.as_bytes()));
    client.answer().refused(413, "body_too_large");
    // Of two names the last counts, as in simplejwt: there is one meaning, and one counter.
    let twice = format!(r#"{{"username": "nobody", "username": "alice", "password": "{PASSWORD}"}}"#);
    let response = gateway.client().call("POST", "/api/token/", JSON, twice.as_bytes()).expect(200);
    assert_eq!(mint::payload(&gateway.tokens_of(&response).0)["user_id"], "1");
}

#[test]
fn a_thousand_guesses_for_one_user_are_throttled_whatever_the_client_says_of_its_address() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 10).clock(1_800_000_000_000).start();
    let mut statuses = Vec::new();
    for number in 0..1000 {
        let fields = format!("x-forwarded-for: 203.0.113.{}\r\n", number % 50);
        statuses.push(wrong(&gateway, "alice", &fields).status);
    }
    assert!(statuses[..10].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses[10..].iter().all(|status| *status == 429), "{statuses:?}");
    // The right one is not tried either, and somebody who does not exist is locked in the same words.
    let locked = login(&gateway, "alice", PASSWORD, "").refused(429, "locked_out");
    assert_eq!(locked.field("retry-after"), "600");
    assert_eq!(locked.json()["detail"], "Request was throttled. Expected available in 600 seconds.");
    for _ in 0..10 {
        wrong(&gateway, "nobody", "").refused(401, "credentials_invalid");
    }
    assert_eq!(told(&locked), told(&wrong(&gateway, "nobody", "")));
    gateway.set_clock(1_800_000_000_000 + 599_500);
    let locked = wrong(&gateway, "alice", "").refused(429, "locked_out");
    assert_eq!(locked.field("retry-after"), "1");
    assert_eq!(locked.json()["detail"], "Request was throttled. Expected available in 1 second.");
    gateway.set_clock(1_800_000_000_000 + 600_000);
    gateway.login("alice", PASSWORD);
}

#[test]
fn one_password_for_a_thousand_users_is_throttled() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 3).start();
    let tried = (0..1000).filter(|number| wrong(&gateway, &format!("user{number}"), "").status == 401);
    assert_eq!(tried.count(), 30);
}

#[test]
fn the_hop_before_the_trusted_proxies_counts_and_never_the_left_most() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 3).server(TRUSTING).start();
    let from = |right: &str, left: usize| format!("x-forwarded-for: 198.51.100.{left}, {right}\r\n");
    for number in 0..3 {
        wrong(&gateway, "alice", &from("192.0.2.7", number)).refused(401, "credentials_invalid");
    }
    wrong(&gateway, "alice", &from("192.0.2.7", 9)).refused(429, "locked_out");
    wrong(&gateway, "alice", &from("192.0.2.8", 0)).refused(401, "credentials_invalid");
}

#[test]
fn spellings_of_a_name_are_one_and_other_names_are_others() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 3).person("Ａda", Some("ada@example.com"), &[], PASSWORD, true).start();
    for name in ["Ada", "Ａda", "Ａｄａ"] {
        wrong(&gateway, name, "").refused(401, "credentials_invalid");
    }
    for name in ["Ada", "Ａda", "Ａｄａ"] {
        login(&gateway, name, PASSWORD, "").refused(429, "locked_out");
    }
    // Case is kept, white space belongs to no name, and an address is none: these are not Ada, and locked for themselves.
    for name in ["ada", "Ada ", "ada@example.com", "Аda"] {
        login(&gateway, name, PASSWORD, "").refused(401, "credentials_invalid");
    }
}

#[test]
fn guesses_lock_out_neither_other_networks_nor_live_sessions() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 5).server(TRUSTING).user("bob").start();
    let here = "x-forwarded-for: 192.0.2.7\r\n";
    let (access, refresh) = gateway.login("alice", PASSWORD);
    let (other, _) = gateway.login("bob", PASSWORD);
    for _ in 0..45 {
        wrong(&gateway, "alice", here);
    }
    login(&gateway, "alice", PASSWORD, here).refused(429, "locked_out");
    // From elsewhere.
    let elsewhere = login(&gateway, "alice", PASSWORD, "x-forwarded-for: 192.0.2.8\r\n").expect(200);
    let (ended, refresh_of_ended) = gateway.tokens_of(&elsewhere);
    gateway.client().post_json("/api/token/blacklist/", &json!({ "refresh": refresh_of_ended })).expect(200);
    // The session goes on, and may log in again from the very network.
    gateway.client().get_as("/", &access).expect(200);
    let refreshed = gateway.client().post_json("/api/token/refresh/", &json!({ "refresh": refresh }));
    gateway.tokens_of(&refreshed.expect(200));
    let with = |token: &str| format!("{here}authorization: Bearer {token}\r\n");
    gateway.tokens_of(&login(&gateway, "alice", PASSWORD, &with(&access)).expect(200));
    // Neither another user's session nor one that has ended, a refresh token or garbage is a way around.
    for token in [&other, &ended, &refresh, "garbage"] {
        login(&gateway, "alice", PASSWORD, &with(token)).refused(429, "locked_out");
    }
    // A stolen token has a count like everybody.
    for _ in 0..5 {
        wrong(&gateway, "alice", &with(&access)).refused(401, "credentials_invalid");
    }
    wrong(&gateway, "alice", &with(&access)).refused(429, "locked_out");
}

#[test]
fn of_a_hundred_guesses_at_once_five_are_tried() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 5).workers(2).start();
    let body = json!({"username": "alice", "password": "wrong-password"}).to_string();
    let mut clients: Vec<_> = (0..100).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(request("POST", "/api/token/", JSON, body.as_bytes()));
    }
    let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer_to("POST").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![401; 5], vec![429; 95]].concat());
}

/// The policy of the class for batch work, as the kernel tells it.
#[cfg(target_os = "linux")]
const SCHED_BATCH: &str = "3";

#[test]
#[cfg(target_os = "linux")]
fn the_control_plane_takes_no_processor_from_requests() {
    let upstream = Upstream::echo();
    let _gateway = locking(&upstream, 5).start();
    // What stands behind the name of each thread: of these fields the 39th is its policy (proc(5), field 41).
    let stats = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
        let (name, fields) = text.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), fields.split(' ').nth(38)?.to_owned()))
    });
    let stats: Vec<_> = stats.collect();
    let of = |name: &str| stats.iter().filter(|(own, _)| own.starts_with(name)).collect::<Vec<_>>();
    assert!(of("control").len() >= 2);
    assert!(of("control").iter().all(|(_, policy)| policy == SCHED_BATCH), "{stats:?}");
    assert!(!of("worker-").is_empty());
    assert!(of("worker-").iter().all(|(_, policy)| policy != SCHED_BATCH), "{stats:?}");
}

#[test]
fn a_hundred_right_logins_at_once_pass() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 5).workers(2).start();
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    let mut clients: Vec<_> = (0..100).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(request("POST", "/api/token/", JSON, body.as_bytes()));
    }
    for client in &mut clients {
        gateway.tokens_of(&client.answer_to("POST").expect(200));
    }
}

#[test]
fn a_store_that_cannot_be_read_refuses_logins_and_nothing_else() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 3).start();
    let (access, _) = gateway.login("alice", PASSWORD);
    gateway.client().get_as("/", &access).expect(200);
    let rename = |sql: &'static str| {
        let url = format!("sqlite://{}", gateway.config.store.file().unwrap().display());
        let options = sqlx::sqlite::SqliteConnectOptions::from_str(&url).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    };
    rename("ALTER TABLE users RENAME TO lost");
    // More often than may fail: what was not tried is not counted.
    for password in [PASSWORD, "wrong-password", PASSWORD, "wrong-password"] {
        login(&gateway, "alice", password, "").refused(503, "store_unavailable");
    }
    gateway.client().get_as("/", &access).expect(200);
    gateway.client().get("/public", "").expect(200);
    rename("ALTER TABLE lost RENAME TO users");
    gateway.login("alice", PASSWORD);
}

#[test]
fn no_answer_of_a_token_route_may_be_kept_and_ids_are_random() {
    let upstream = Upstream::echo();
    let gateway = locking(&upstream, 2).start();
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let response = login(&gateway, "alice", PASSWORD, "").expect(200);
        assert_eq!(response.field("cache-control"), "no-store");
        let (access, refresh) = gateway.tokens_of(&response);
        for token in [&access, &refresh] {
            let jti = mint::payload(token)["jti"].as_str().unwrap().to_owned();
            assert!(jti.len() == 32 && jti.bytes().all(|byte| byte.is_ascii_hexdigit()), "{jti}");
            ids.insert(jti);
        }
    }
    assert_eq!(ids.len(), 20);
    let mut statuses = BTreeSet::new();
    let bodies: [(&str, &str, Value); 6] = [
        ("POST", "/api/token/", json!({})),
        ("POST", "/api/token/", json!({"username": "alice", "password": "wrong-password"})),
        ("POST", "/api/token/", json!({"username": "alice", "password": "wrong-password"})),
        ("POST", "/api/token/", json!({"username": "alice", "password": PASSWORD})),
        ("POST", "/api/token/refresh/", json!({"refresh": "garbage"})),
        ("PUT", "/api/token/refresh/", json!({})),
    ];
    for (method, path, body) in bodies {
        let response = gateway.client().call(method, path, JSON, body.to_string().as_bytes());
        assert_eq!(response.field("cache-control"), "no-store", "{response:?}");
        statuses.insert(response.status);
    }
    assert_eq!(statuses, BTreeSet::from([400, 401, 405, 429]));
}

crate::support::also_in_postgresql!(
    spellings_of_a_name_are_one_and_other_names_are_others,
    guesses_lock_out_neither_other_networks_nor_live_sessions,
    of_a_hundred_guesses_at_once_five_are_tried,
    a_hundred_right_logins_at_once_pass,
    a_thousand_guesses_for_one_user_are_throttled_whatever_the_client_says_of_its_address,
);
