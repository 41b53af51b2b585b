//! Who passes: with which token, until when, and as long as the user may.

use std::time::Duration;

use serde_json::json;
use tollgate::cli::user;

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::{Gateway, Setup, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// Within which a change to a user has its effect.
const AT_ONCE: Duration = Duration::from_secs(1);

fn guarded(upstream: &Upstream) -> Gateway {
    Setup::guarded(upstream)
        .clock(NOW_MS)
        .user("alice")
        .person("bob", None, &["staff"], PASSWORD, true)
        .start()
}

/// Changes users as the command line does.
macro_rules! manage {
    ($gateway:expr, $verb:ident $(, $argument:expr)*) => {
        $gateway.change(async |store| user::$verb(store $(, $argument)*, &mut std::io::sink()).await.unwrap())
    };
}

#[test]
fn each_kind_of_route_has_its_answer_to_each_kind_of_token() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    let good = mint::access("1", NOW, 600);
    let expired = mint::access("1", NOW - 100, 100);
    let foreign = mint::sign(
        &json!({"alg": "HS256"}),
        &mint::claims("1", NOW, 600),
        "another-key-that-nobody-knows-0000000000",
    );
    let mut early = mint::claims("1", NOW, 600);
    early["nbf"] = json!(NOW + 1);
    let early = mint::sign(&json!({"alg": "HS256"}), &early, mint::SECRET);
    let mut refresh = mint::claims("1", NOW, 600);
    refresh["token_type"] = json!("refresh");
    let refresh = mint::sign(&json!({"alg": "HS256"}), &refresh, mint::SECRET);
    for (token, reason) in [
        ("garbage", "token_invalid"),
        ("a.b.c", "token_invalid"),
        (expired.as_str(), "token_expired"),
        (foreign.as_str(), "token_invalid"),
        (early.as_str(), "token_not_yet_valid"),
        (refresh.as_str(), "token_wrong_type"),
    ] {
        for target in ["/", "/optional"] {
            let refused = client.get_as(target, token).refused(401, reason);
            let challenge = refused.field("www-authenticate");
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
        client.get_as("/public", token).expect(200);
    }
    assert_eq!(
        client.get("/", "").refused(401, "credentials_missing").field("www-authenticate"),
        "Bearer realm=\"api\""
    );
    let seen = upstream.count();
    for target in ["/", "/optional", "/public"] {
        client.get_as(target, &good).expect(200);
    }
    client.get("/optional", "").expect(200);
    let ids: Vec<String> =
        upstream.requests().iter().skip(seen).map(|request| request.field("x-user-id").to_owned()).collect();
    assert_eq!(ids, ["1", "1", "", ""]);
    client.call("HEAD", "/", "", b"").head.fields.one("www-authenticate").unwrap();
}

#[test]
fn no_token_gains_by_its_header() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    let claims = mint::claims("1", NOW, 600);
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512", "kid": mint::KID}),
        json!({"alg": "HS256", "kid": "other"}),
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "typ": "dpop+jwt"}),
        json!({"alg": 5}),
        json!({}),
    ] {
        client.get_as("/", &mint::sign(&header, &claims, mint::SECRET)).refused(401, "token_invalid");
    }
    let good = mint::access("1", NOW, 600);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        signed.to_owned(),
        format!("{signed}."),
        format!("{good}="),
        format!("{good}A"),
        format!("{good}.{signature}"),
        format!(".{good}"),
    ] {
        client.get_as("/", &bad).refused(401, "token_invalid");
    }
    let long = mint::sign(&json!({"alg": "HS256", "x": "y".repeat(9000)}), &claims, mint::SECRET);
    client.get_as("/", &long).refused(401, "token_invalid");
    for header in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "typ": "at+jwt"}),
        json!({"alg": "HS256", "kid": mint::KID, "typ": "JWT"}),
    ] {
        client.get_as("/", &mint::sign(&header, &claims, mint::SECRET)).expect(200);
    }
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_token_ends_on_the_second_also_when_it_is_remembered() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let token = mint::access("1", NOW, 600);
    let mut remembered = gateway.client();
    remembered.get_as("/", &token).expect(200);
    gateway.set_clock(NOW_MS + 599_999);
    remembered.get_as("/", &token).expect(200);
    let fresh = mint::access("2", NOW, 600);
    gateway.client().get_as("/", &fresh).expect(200);
    gateway.set_clock(NOW_MS + 600_000);
    remembered.get_as("/", &token).refused(401, "token_expired");
    gateway.client().get_as("/", &fresh).refused(401, "token_expired");
    gateway.client().get_as("/", &mint::access("2", NOW - 1, 601)).refused(401, "token_expired");
    // Time that goes back does not bring it back for long.
    gateway.set_clock(NOW_MS + 599_000);
    remembered.get_as("/", &token).expect(200);
}

#[test]
fn the_leeway_is_exact_as_well() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).tokens("leeway = \"10s\"").clock(NOW_MS).user("alice").start();
    let mut client = gateway.client();
    let token = mint::access("1", NOW, 600);
    client.get_as("/", &token).expect(200);
    gateway.set_clock(NOW_MS + 609_999);
    client.get_as("/", &token).expect(200);
    gateway.set_clock(NOW_MS + 610_000);
    client.get_as("/", &token).refused(401, "token_expired");
}

#[test]
fn a_token_from_the_future_waits_for_its_time() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    let token = mint::access("1", NOW + 5, 600);
    client.get_as("/", &token).refused(401, "token_not_yet_valid");
    gateway.set_clock(NOW_MS + 4_999);
    client.get_as("/", &token).refused(401, "token_not_yet_valid");
    gateway.set_clock(NOW_MS + 5_000);
    client.get_as("/", &token).expect(200);
}

#[test]
fn there_is_one_authorization_header_with_one_token() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let good = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&good);
    let mut client = gateway.client();
    for fields in [
        format!("authorization: Bearer {good}\r\nauthorization: Bearer {good}\r\n"),
        format!("authorization: Bearer {good}\r\nAuthorization: Basic eDp5\r\n"),
        format!("authorization: Bearer {good} {good}\r\n"),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer a b\r\n".to_owned(),
    ] {
        for target in ["/", "/optional"] {
            let refused = client.get(target, &fields).refused(401, "header_malformed");
            assert!(refused.field("www-authenticate").contains("error=\"invalid_request\""));
        }
        client.get("/public", &fields).expect(200);
    }
    for fields in [
        format!("authorization: Basic {good}\r\n"),
        format!("authorization: {good}\r\n"),
        "authorization:\r\n".to_owned(),
    ] {
        client.get("/", &fields).refused(401, "credentials_missing");
    }
    for fields in
        [format!("authorization: bearer {good}\r\n"), format!("AUTHORIZATION: BEARER   {good}  \r\n")]
    {
        client.get("/", &fields).expect(200);
    }
}

#[test]
fn a_disabled_user_is_refused_at_once_on_an_open_connection() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let (alice, bob) = (mint::access("1", NOW, 600), mint::access("2", NOW, 600));
    let mut client = gateway.client();
    client.get_as("/", &alice).expect(200);
    client.get_as("/", &bob).expect(200);
    manage!(gateway, disable, "alice");
    eventually("alice is refused", AT_ONCE, || client.get_as("/", &alice).status == 401);
    client.get_as("/", &alice).refused(401, "user_inactive");
    client.get_as("/optional", &alice).refused(401, "user_inactive");
    client.get_as("/public", &alice).expect(200);
    gateway.client().get_as("/", &mint::access("1", NOW, 601)).refused(401, "user_inactive");
    client.get_as("/", &bob).expect(200);
    // Twice is fine.
    manage!(gateway, disable, "alice");
    client.get_as("/", &alice).refused(401, "user_inactive");
    manage!(gateway, enable, "alice");
    // Being switched off has ended what was there before.
    eventually("alice may come back", AT_ONCE, || {
        client.get_as("/", &alice).json()["reason"] == "token_revoked"
    });
    let (again, _) = gateway.login("alice", PASSWORD);
    client.get_as("/", &again).expect(200);
}

#[test]
fn a_deleted_user_does_not_come_back_with_the_same_name() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let alice = mint::access("1", NOW, 600);
    let mut client = gateway.client();
    client.get_as("/", &alice).expect(200);
    manage!(gateway, delete, "alice");
    eventually("alice is refused", AT_ONCE, || client.get_as("/", &alice).status == 401);
    client.get_as("/", &alice).refused(401, "user_not_found");
    gateway.add("alice", None, &[], PASSWORD);
    eventually("the new alice passes", AT_ONCE, || {
        client.get_as("/", &mint::access("3", NOW, 600)).status == 200
    });
    client.get_as("/", &alice).refused(401, "user_not_found");
    client.get_as("/", &mint::access("99", NOW, 600)).refused(401, "user_not_found");
}

#[test]
fn a_deleted_last_user_leaves_nobody_behind() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).clock(NOW_MS).user("alice").start();
    let alice = mint::access("1", NOW, 600);
    let mut client = gateway.client();
    client.get_as("/", &alice).expect(200);
    manage!(gateway, delete, "alice");
    eventually("alice is refused", AT_ONCE, || client.get_as("/", &alice).status == 401);
    client.get_as("/", &alice).refused(401, "user_not_found");
    client.get_as("/", &mint::access("anybody", NOW, 600)).refused(401, "user_not_found");
}

#[test]
fn a_change_reaches_every_thread() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).workers(2).clock(NOW_MS).user("alice").start();
    let alice = mint::access("1", NOW, 600);
    // The kernel spreads connections over the threads.
    let mut clients: Vec<_> = (0..12).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get_as("/", &alice).expect(200);
    }
    manage!(gateway, disable, "alice");
    eventually("alice is refused everywhere", AT_ONCE, || {
        clients.iter_mut().all(|client| client.get_as("/", &alice).status == 401)
    });
}

#[test]
fn a_token_without_users_is_taken_at_its_word_until_there_are_users() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).clock(NOW_MS).start();
    let mut claims = mint::claims("external-7", NOW, 600);
    for (name, value) in
        [("username", json!("eve")), ("email", json!("eve@x.test")), ("groups", json!(["b", "a", "b"]))]
    {
        claims[name] = value;
    }
    let token = mint::sign(&json!({"alg": "HS256"}), &claims, mint::SECRET);
    let mut client = gateway.client();
    client.get_as("/", &token).expect(200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-user-id"), seen.field("x-user-name")), ("external-7", "eve"));
    assert_eq!((seen.field("x-user-email"), seen.field("x-user-groups")), ("eve@x.test", "a,b"));
    gateway.add("alice", None, &[], PASSWORD);
    eventually("a stranger is refused", AT_ONCE, || client.get_as("/", &token).status == 401);
    client.get_as("/", &token).refused(401, "user_not_found");
    client.get_as("/", &mint::access("1", NOW, 600)).expect(200);
}

#[test]
fn users_of_a_file_come_and_go_with_it() {
    let upstream = Upstream::echo();
    let hash = bcrypt::hash("secure-password", 4).unwrap();
    let both = format!("alice:{hash}\nbob:{hash}\n");
    let gateway = Setup::guarded(&upstream).htpasswd(&both).start();
    gateway.ledger.keep_secret(hash.as_str());
    let (alice, _) = gateway.login("alice", "secure-password");
    let (bob, refresh) = gateway.login("bob", "secure-password");
    let mut client = gateway.client();
    client.get_as("/", &alice).expect(200);
    assert_eq!(upstream.last().field("x-user-name"), "alice");
    client.get_as("/", &bob).expect(200);
    gateway.write("users.htpasswd", &format!("alice:{hash}\n"));
    eventually("bob is refused", Duration::from_secs(2), || client.get_as("/", &bob).status == 401);
    client.get_as("/", &bob).refused(401, "user_not_found");
    client.get_as("/", &alice).expect(200);
    client
        .post_json("/api/token/", &json!({"username": "bob", "password": "secure-password"}))
        .refused(401, "credentials_invalid");
    let refused = client.post_json("/api/token/refresh/", &json!({ "refresh": refresh }));
    assert_eq!(refused.status, 401);
    // A file that cannot be read changes nothing.
    gateway.write("users.htpasswd", "not a line of users\n");
    client.get_as("/", &alice).expect(200);
    gateway.write("users.htpasswd", &both);
    // Leaving has ended his session; he may begin another one.
    eventually("bob may come back", Duration::from_secs(2), || {
        client.get_as("/", &bob).json()["reason"] == "token_revoked"
    });
    let (bob, _) = gateway.login("bob", "secure-password");
    client.get_as("/", &bob).expect(200);
    client.get_as("/", &alice).expect(200);
}

#[test]
fn a_pipeline_of_tokens_keeps_them_apart() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let tokens = [mint::access("1", NOW, 600), mint::access("2", NOW, 600), "garbage".to_owned()];
    let mut client = gateway.client();
    let mut bytes = Vec::new();
    for number in 0..30 {
        bytes.extend(request("GET", "/", &format!("authorization: Bearer {}\r\n", tokens[number % 3]), b""));
    }
    client.send(bytes);
    for number in 0..30 {
        let answer = client.answer();
        if number % 3 == 2 {
            answer.refused(401, "token_invalid");
        } else {
            assert_eq!(answer.expect(200).json()["id"], (number % 3 + 1).to_string());
        }
    }
}
