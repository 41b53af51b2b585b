//! Keys in the store, which two gateways share: rotated, retired, and refused with another key-encryption key.

use std::io;
use std::time::Duration;

use serde_json::json;
use tollgate::app::{self, StartError};
use tollgate::base::clock::Clock;
use tollgate::base::secret::Secret;
use tollgate::cli::arguments::{KeyRetirement, KeyRotation};
use tollgate::cli::error::Exit;
use tollgate::cli::{rotation, token};
use tollgate::config::{self, Environment};
use tollgate::reload::Mode;

use crate::support::gateway::{PASSWORD, has_event};
use crate::support::{DEADLINE, Gateway, Setup, Then, Upstream, eventually, in_postgresql, mint};
use crate::support::{also_in_postgresql, postgres_server, schema_of};

const NOW_MS: i64 = 1_800_000_000_000;
const MINUTE_MS: i64 = 60_000;
const KEK: &str = "the key-encryption key of these tests";
/// What is changed in the store holds at every gateway within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Two gateways with one store, that keep their keys in it.
fn pair(upstream: &Upstream) -> (Gateway, Gateway) {
    let setup = || Setup::guarded(upstream).keys_in_store(KEK).clock(NOW_MS);
    let one = setup();
    let two = setup().store_of(&one);
    let pair = (one.user("alice").start(), two.start());
    for gateway in [&pair.0, &pair.1] {
        gateway.ledger.keep_secret(KEK);
    }
    pair
}

fn rotate(gateway: &Gateway, now: bool, keep: Option<Duration>) -> String {
    let mut out = Vec::new();
    let wanted = KeyRotation { algorithm: None, now, keep };
    rotation::rotate(&gateway.config, &wanted, gateway.clock(), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains("PRIVATE KEY") && !out.contains(KEK));
    out
}

fn retire(gateway: &Gateway, kid: &str) {
    let which = KeyRetirement { kid: kid.to_owned(), now: true };
    rotation::retire(&gateway.config, &which, gateway.clock(), &mut io::sink()).unwrap();
}

/// The ids of the published keys, in their order.
fn published(gateway: &Gateway) -> Vec<String> {
    let set = gateway.client().get("/.well-known/jwks.json", "").expect(200).json();
    let keys = set["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| key.get("d").is_none() && key["kty"] == "OKP"), "{set}");
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn kid_of(token: &str) -> String {
    mint::header(token)["kid"].as_str().unwrap().to_owned()
}

fn set_clocks((one, two): &(Gateway, Gateway), unix_ms: i64) {
    one.set_clock(unix_ms);
    two.set_clock(unix_ms);
}

fn a_rotation_is_published_then_signs_and_the_old_key_ends_on_every_gateway() {
    let upstream = Upstream::echo();
    let gateways = pair(&upstream);
    let (one, two) = (&gateways.0, &gateways.1);
    let (old, old_refresh) = one.login("alice", PASSWORD);
    let first = kid_of(&old);
    assert_eq!((published(one), published(two)), (vec![first.clone()], vec![first.clone()]));
    let told = rotate(two, false, Some(Duration::from_mins(5)));
    assert!(told.contains("is published now and signs from 2027-01-15T08:10:00Z"), "{told}");
    assert!(told.contains(&format!("key {first} verifies until 2027-01-15T08:16:00Z")), "{told}");
    for gateway in [one, two] {
        eventually("the next key is published", AT_ONCE, || published(gateway).len() == 2);
        assert_eq!(kid_of(&gateway.login("alice", PASSWORD).0), first, "it signs too early");
    }
    let next = published(one).pop().unwrap();
    assert_eq!(published(two), [first.clone(), next.clone()]);
    set_clocks(&gateways, NOW_MS + 10 * MINUTE_MS);
    let (new, new_refresh) = two.login("alice", PASSWORD);
    assert_eq!(kid_of(&new), next);
    let mut clients = [one.client(), two.client()];
    for client in &mut clients {
        client.get_as("/", &old).expect(200);
        client.get_as("/", &new).expect(200);
        client.post_json("/api/token/refresh/", &json!({"refresh": old_refresh})).expect(200);
    }
    // Whatever the threads remember of it, a token of a retired key does not pass.
    set_clocks(&gateways, NOW_MS + 16 * MINUTE_MS);
    for (gateway, client) in [one, two].into_iter().zip(&mut clients) {
        client.get_as("/", &old).refused(401, "token_invalid");
        let body = json!({"refresh": old_refresh});
        client.post_json("/api/token/refresh/", &body).refused(401, "token_invalid");
        client.get_as("/", &new).expect(200);
        client.post_json("/api/token/refresh/", &json!({"refresh": new_refresh})).expect(200);
        assert_eq!(published(gateway), std::slice::from_ref(&next));
    }
}

fn a_key_that_ends_now_takes_its_tokens_and_streams_with_it() {
    let upstream = Upstream::start(|talk| {
        talk.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        while talk.try_send("9\r\ndata: 1\n\n\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Then::Close
    });
    let gateways = pair(&upstream);
    let (one, two) = (&gateways.0, &gateways.1);
    let (old, refresh) = one.login("alice", PASSWORD);
    let listening = |token: &str| {
        let mut client = two.client();
        client
            .send(format!("GET /events HTTP/1.1\r\nhost: gw.test\r\nauthorization: Bearer {token}\r\n\r\n"));
        assert!(client.head().line.starts_with("HTTP/1.1 200"));
        client
    };
    let mut stream = listening(&old);
    let told = rotate(one, true, None);
    assert!(told.contains("signs from now on"), "{told}");
    set_clocks(&gateways, NOW_MS + 1);
    eventually("the new key signs", AT_ONCE, || kid_of(&two.login("alice", PASSWORD).0) != kid_of(&old));
    let (new, _) = two.login("alice", PASSWORD);
    let mut other = listening(&new);
    // It goes on as long as its key does, though keys have changed.
    for _ in 0..20 {
        stream.wire.fill().unwrap();
    }
    retire(one, &kid_of(&old));
    let body = json!({"refresh": refresh});
    for gateway in [one, two] {
        eventually("nobody can refresh with it", AT_ONCE, || {
            gateway.client().post_json("/api/token/refresh/", &body).status == 401
        });
        assert_eq!(published(gateway), [kid_of(&new)]);
    }
    two.client().get_as("/", &old).refused(401, "token_invalid");
    eventually("the stream has ended", DEADLINE, || {
        stream.wire.fill().is_err() || stream.wire.ahead.ends_with(b"0\r\n\r\n")
    });
    for _ in 0..20 {
        other.wire.fill().unwrap();
    }
}

fn another_key_encryption_key_is_refused_by_name() {
    let upstream = Upstream::echo();
    let (one, two) = pair(&upstream);
    let other = "another key-encryption key, 32 bytes long";
    one.ledger.keep_secret(other);
    let mut config = two.config.clone();
    config.tokens.key_encryption_key = Some(Secret::new(other));
    let Err(refused) = app::Gateway::start(config, app::Origin::default(), Clock::System, io::sink()) else {
        panic!("it started")
    };
    assert!(matches!(refused, StartError::Keys(_)), "{refused:?}");
    let told = format!("{refused} {refused:?}");
    assert!(refused.to_string().contains("encrypted with another key-encryption key"), "{told}");
    assert!(!told.contains(other) && !told.contains(KEK), "{told}");
    // A gateway that runs keeps what it has.
    let (access, _) = one.login("alice", PASSWORD);
    let refused = one.reload(&one.text.replace(KEK, other), Mode::Apply).unwrap_err();
    assert!(refused.to_string().contains("another key-encryption key"), "{refused}");
    one.client().get_as("/", &access).expect(200);
    let changes = one.reload(&one.text, Mode::Apply).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn keys_move_from_a_file_to_the_store_and_nobody_has_to_log_in_again() {
    let upstream = Upstream::echo();
    let mut gateway = Setup::guarded(&upstream).generated_key().user("alice").start();
    let (old, refresh) = gateway.login("alice", PASSWORD);
    let text = gateway.text.replace("[tokens]\n", &format!("[tokens]\nkey_encryption_key = \"{KEK}\"\n"));
    gateway.ledger.keep_secret(KEK);
    let changes = gateway.reload(&text, Mode::Apply).unwrap();
    assert!(changes.contains(&"tokens.key_encryption_key changes".to_owned()), "{changes:?}");
    assert_eq!(kid_of(&gateway.login("alice", PASSWORD).0), kid_of(&old), "the key in the file signs");
    let environment = Environment::default();
    gateway.config = config::Text::read(&gateway.path("gateway.toml")).unwrap().parse(&environment).unwrap();
    let told = rotate(&gateway, true, None);
    assert!(told.contains("signs from now on") && !told.contains("verifies until"), "{told}");
    eventually("the key in the store signs", AT_ONCE, || {
        kid_of(&gateway.login("alice", PASSWORD).0) != kid_of(&old)
    });
    let (new, _) = gateway.login("alice", PASSWORD);
    // Commands know both, and so does the gateway when it starts again.
    let mut out = Vec::new();
    for token in [&old, &new] {
        let inspected = token::perform(&gateway.config, Some(token.clone()), &mut out).unwrap();
        assert_eq!(inspected, Exit::Ok, "{}", String::from_utf8_lossy(&out));
    }
    gateway.restart();
    for token in [&old, &new] {
        gateway.client().get_as("/", token).expect(200);
    }
    gateway.client().post_json("/api/token/refresh/", &json!({"refresh": refresh})).expect(200);
    assert_eq!(published(&gateway), [kid_of(&old), kid_of(&new)]);
}

#[test]
fn an_altered_row_changes_nothing_in_a_gateway_that_runs() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let (one, two) = pair(&upstream);
        let (access, _) = one.login("alice", PASSWORD);
        let kid = kid_of(&access);
        let server = postgres_server::shared().unwrap();
        server.execute(&format!("UPDATE {}.token_keys SET alg = 'ES256'", schema_of(&one)));
        eventually("it is told", DEADLINE, || {
            has_event(&["the keys of the store are not taken in", &kid, "was altered"])
        });
        for gateway in [&one, &two] {
            gateway.client().get_as("/", &access).expect(200);
            assert_eq!(kid_of(&gateway.login("alice", PASSWORD).0), kid);
        }
    });
}

mod in_sqlite {
    #[test]
    fn a_rotation_is_published_then_signs_and_the_old_key_ends_on_every_gateway() {
        super::a_rotation_is_published_then_signs_and_the_old_key_ends_on_every_gateway();
    }

    #[test]
    fn a_key_that_ends_now_takes_its_tokens_and_streams_with_it() {
        super::a_key_that_ends_now_takes_its_tokens_and_streams_with_it();
    }

    #[test]
    fn another_key_encryption_key_is_refused_by_name() {
        super::another_key_encryption_key_is_refused_by_name();
    }
}

also_in_postgresql!(
    a_rotation_is_published_then_signs_and_the_old_key_ends_on_every_gateway,
    a_key_that_ends_now_takes_its_tokens_and_streams_with_it,
    another_key_encryption_key_is_refused_by_name,
);
