//! Sessions: what ends them, and that nothing of an ended one passes. The numbers are those of the catalogue of attacks.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _};
use tollgate::base::secret::Secret;
use tollgate::cli::arguments::WhichSessions;
use tollgate::cli::{session, user};
use tollgate::sessions::{Sessions, Which};
use tollgate::store::Store;

use crate::support::gateway::PASSWORD;
use crate::support::{Client, Gateway, Response, Setup, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;
const AT_ONCE: Duration = Duration::from_secs(1);

const ROTATE: &str = "rotate_refresh = true";
const NO_GRACE: &str = "rotate_refresh = true\nreuse_grace = \"0s\"";

fn guarded(upstream: &Upstream, tokens: &str) -> Setup {
    Setup::guarded(upstream).tokens(tokens).user("alice").user("bob")
}

fn refresh(client: &mut Client, token: &str) -> Response {
    client.post_json("/api/token/refresh/", &json!({ "refresh": token }))
}

fn blacklist(client: &mut Client, token: &str) -> Response {
    client.post_json("/api/token/blacklist/", &json!({ "refresh": token }))
}

fn verify(client: &mut Client, token: &str) -> Response {
    client.post_json("/api/token/verify/", &json!({ "token": token }))
}

/// Exchanges a refresh token, which must work, for an access token and its successor.
#[track_caller]
fn rotated(gateway: &Gateway, token: &str) -> (String, String) {
    gateway.tokens_of(&refresh(&mut gateway.client(), token).expect(200))
}

#[track_caller]
fn blacklisted(response: Response) {
    let body = response.refused(401, "token_revoked").json();
    assert_eq!((&body["detail"], &body["code"]), (&json!("Token is blacklisted"), &json!("token_not_valid")));
}

/// Neither token passes anywhere.
#[track_caller]
fn dead(gateway: &Gateway, access: &str, refresh_token: &str) {
    let mut client = gateway.client();
    let body = client.get_as("/", access).refused(401, "token_revoked").json();
    assert_eq!(body["messages"][0]["message"], "Token is blacklisted", "{body}");
    blacklisted(verify(&mut client, access));
    blacklisted(refresh(&mut client, refresh_token));
    blacklisted(verify(&mut client, refresh_token));
    blacklisted(blacklist(&mut client, refresh_token));
}

fn hour() -> Value {
    json!({"token_type": "refresh", "exp": NOW + 3600, "iat": NOW - 60, "user_id": "1", "jti": "f0"})
}

fn signed(claims: &Value) -> String {
    mint::sign(&json!({"alg": "HS256", "typ": "JWT"}), claims, mint::SECRET)
}

/// Fifty connections, over all threads, present one token at once.
fn fifty(gateway: &Gateway, token: &str) -> Vec<Response> {
    let mut clients: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
    let barrier = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        let present = |client| {
            barrier.wait();
            refresh(client, token)
        };
        let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || present(client))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn f1_of_parallel_refreshes_one_mints_and_all_get_the_same_successor() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).workers(2).start();
    let (_, mut token) = gateway.login("alice", PASSWORD);
    for _ in 0..3 {
        let mut successors = BTreeSet::new();
        for response in fifty(&gateway, &token) {
            let (access, successor) = gateway.tokens_of(&response.expect(200));
            assert_eq!(mint::payload(&access)["sid"], mint::payload(&token)["sid"]);
            successors.insert(successor);
        }
        assert_eq!(successors.len(), 1, "byte by byte the same");
        token = successors.pop_first().unwrap();
    }
}

#[test]
fn f1_without_grace_one_of_parallel_refreshes_wins_and_the_others_end_the_session() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, NO_GRACE).workers(2).start();
    for _ in 0..3 {
        let (access, token) = gateway.login("alice", PASSWORD);
        let (won, lost): (Vec<_>, Vec<_>) =
            fifty(&gateway, &token).into_iter().partition(|response| response.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 49));
        let (_, successor) = gateway.tokens_of(&won[0]);
        lost.into_iter().for_each(blacklisted);
        dead(&gateway, &access, &successor);
    }
}

#[test]
fn f2_reuse_after_the_grace_ends_the_family() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).clock(NOW_MS).start();
    let (first_access, first) = gateway.login("alice", PASSWORD);
    let (second_access, second) = rotated(&gateway, &first);
    assert_ne!(first, second);
    gateway.set_clock(NOW_MS + 29_999);
    let (third_access, again) = rotated(&gateway, &first);
    assert_eq!(again, second, "a retry gets what was lost");
    gateway.client().get_as("/", &third_access).expect(200);
    gateway.set_clock(NOW_MS + 30_000);
    verify(&mut gateway.client(), &second).expect(200);
    blacklisted(verify(&mut gateway.client(), &first));
    blacklisted(refresh(&mut gateway.client(), &first));
    for access in [&first_access, &second_access, &third_access] {
        dead(&gateway, access, &second);
    }
    // Another session of the same user is not concerned.
    let (access, _) = gateway.login("alice", PASSWORD);
    gateway.client().get_as("/", &access).expect(200);
}

#[test]
fn f3_the_chain_counts_and_not_the_second() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).clock(NOW_MS).start();
    let (access, first) = gateway.login("alice", PASSWORD);
    let (_, second) = rotated(&gateway, &first);
    let (_, third) = rotated(&gateway, &second);
    // All in one millisecond, so well inside the grace.
    blacklisted(refresh(&mut gateway.client(), &first));
    for token in [&first, &second, &third] {
        dead(&gateway, &access, token);
    }
}

#[test]
fn f4_a_used_token_stays_used_when_the_process_ends() {
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, NO_GRACE).start();
    let (access, first) = gateway.login("alice", PASSWORD);
    let (_, second) = rotated(&gateway, &first);
    gateway.restart();
    gateway.client().get_as("/", &access).expect(200);
    blacklisted(refresh(&mut gateway.client(), &first));
    dead(&gateway, &access, &second);

    let mut gateway = guarded(&upstream, ROTATE).start();
    let (_, first) = gateway.login("alice", PASSWORD);
    let (_, second) = rotated(&gateway, &first);
    gateway.restart();
    assert_eq!(rotated(&gateway, &first).1, second, "a lost answer comes again");
}

#[test]
fn f5_nothing_survives_a_revocation_that_it_races() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).workers(2).start();
    let (mut one, mut two, mut three) = (gateway.client(), gateway.client(), gateway.client());
    for _ in 0..200 {
        let (access, token) = gateway.login("alice", PASSWORD);
        three.get_as("/", &access).expect(200);
        let barrier = Barrier::new(2);
        let won = std::thread::scope(|scope| {
            let racing = scope.spawn(|| {
                barrier.wait();
                refresh(&mut one, &token)
            });
            barrier.wait();
            blacklist(&mut two, &token).expect(200);
            // The revocation has answered: from here on nothing passes, on no thread.
            three.get_as("/", &access).refused(401, "token_revoked");
            racing.join().unwrap()
        });
        if won.status == 200 {
            let (access, successor) = gateway.tokens_of(&won);
            three.get_as("/", &access).refused(401, "token_revoked");
            blacklisted(refresh(&mut three, &successor));
        } else {
            blacklisted(won);
        }
    }
}

#[test]
fn f6_logout_ends_a_session_on_every_thread_and_after_a_restart() {
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, "").workers(2).start();
    let (access, token) = gateway.login("alice", PASSWORD);
    let (later, _) = rotated(&gateway, &token);
    let (other, _) = gateway.login("alice", PASSWORD);
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get_as("/", &access).expect(200);
    }
    let done = blacklist(&mut gateway.client(), &token).expect(200);
    assert_eq!(done.json(), json!({}));
    assert_eq!(done.field("cache-control"), "no-store");
    for client in &mut clients {
        client.get_as("/", &access).refused(401, "token_revoked");
        client.get_as("/", &later).refused(401, "token_revoked");
        client.get_as("/", &other).expect(200);
    }
    dead(&gateway, &access, &token);
    gateway.restart();
    dead(&gateway, &access, &token);
    gateway.client().get_as("/", &other).expect(200);
}

#[test]
fn f6_disabling_deleting_and_a_new_password_end_sessions() {
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, "").start();
    let hashing = gateway.config.users.hashing;
    let refused = |gateway: &Gateway, access: &str, reason: &str| {
        let mut client = gateway.client();
        eventually(reason, AT_ONCE, || client.get_as("/", access).json()["reason"] == reason);
    };
    let (access, token) = gateway.login("alice", PASSWORD);
    let (bobs, _) = gateway.login("bob", PASSWORD);
    gateway.client().get_as("/", &access).expect(200);
    gateway.change(async |store| {
        user::passwd(store, &hashing, "alice", &Secret::new("another-password"), &mut std::io::sink())
            .await
            .unwrap();
    });
    refused(&gateway, &access, "token_revoked");
    dead(&gateway, &access, &token);
    let (access, token) = gateway.login("alice", "another-password");
    gateway.client().get_as("/", &access).expect(200);
    gateway.change(async |store| user::disable(store, "alice", &mut std::io::sink()).await.unwrap());
    refused(&gateway, &access, "user_inactive");
    gateway.change(async |store| user::enable(store, "alice", &mut std::io::sink()).await.unwrap());
    refused(&gateway, &access, "token_revoked");
    dead(&gateway, &access, &token);
    gateway.restart();
    dead(&gateway, &access, &token);
    let (access, _) = gateway.login("alice", "another-password");
    gateway.change(async |store| user::delete(store, "alice", &mut std::io::sink()).await.unwrap());
    refused(&gateway, &access, "user_not_found");
    blacklisted(verify(&mut gateway.client(), &access));
    gateway.client().get_as("/", &bobs).expect(200);
}

#[test]
fn f6_a_new_line_in_the_user_file_ends_sessions() {
    let upstream = Upstream::echo();
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let (alice, bob) = (hash("first-password"), hash("bobs-password"));
    let gateway = Setup::guarded(&upstream).htpasswd(&format!("alice:{alice}\nbob:{bob}\n")).start();
    let (access, token) = gateway.login("alice", "first-password");
    let (bobs, _) = gateway.login("bob", "bobs-password");
    let mut client = gateway.client();
    client.get_as("/", &access).expect(200);
    gateway.write("users.htpasswd", &format!("alice:{}\nbob:{bob}\n", hash("second-password")));
    eventually("the old password's session ends", Duration::from_secs(3), || {
        client.get_as("/", &access).json()["reason"] == "token_revoked"
    });
    dead(&gateway, &access, &token);
    client.get_as("/", &bobs).expect(200);
}

#[test]
fn f7_a_token_does_only_what_it_is_for() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).start();
    let (access, token) = gateway.login("alice", PASSWORD);
    let mut client = gateway.client();
    client.get_as("/", &token).refused(401, "token_wrong_type");
    refresh(&mut client, &access).refused(401, "token_wrong_type");
    blacklist(&mut client, &access).refused(401, "token_wrong_type");
    let forged = mint::sign(&json!({"alg": "HS256"}), &mint::payload(&token), "x".repeat(40).as_str());
    blacklist(&mut client, &forged).refused(401, "token_invalid");
    // A session is that of its user: a token that claims it for another user neither uses nor ends it.
    let mut others = mint::payload(&token);
    others["user_id"] = json!("2");
    blacklisted(refresh(&mut client, &signed(&others)));
    blacklisted(blacklist(&mut client, &signed(&others)));
    others["token_type"] = json!("access");
    client.get_as("/", &signed(&others)).refused(401, "token_revoked");
    client.get_as("/", &access).expect(200);
    rotated(&gateway, &token);
}

#[test]
fn f8_an_id_means_nothing_in_another_name_space() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, NO_GRACE).clock(NOW_MS).start();
    let (access, token) = gateway.login("alice", PASSWORD);
    let (bobs, bobs_token) = gateway.login("bob", PASSWORD);
    // Bob's session has a refresh token with the id of Alice's; using it up uses up nothing of hers.
    let mut same_id = mint::payload(&bobs_token);
    same_id["jti"] = mint::payload(&token)["jti"].clone();
    rotated(&gateway, &signed(&same_id));
    rotated(&gateway, &token);
    // A session that is named like an access token's id ends: the token does not.
    let mut named = hour();
    named["sid"] = mint::payload(&bobs)["jti"].clone();
    blacklist(&mut gateway.client(), &signed(&named)).expect(200);
    gateway.client().get_as("/", &bobs).expect(200);
    gateway.client().get_as("/", &access).expect(200);
}

#[test]
fn f9_the_absolute_end_is_never_moved() {
    let upstream = Upstream::echo();
    for rotation in ["", ROTATE] {
        let tokens = format!("session_lifetime = \"2h\"\nrefresh_lifetime = \"90m\"\n{rotation}");
        let gateway = guarded(&upstream, &tokens).clock(NOW_MS).start();
        let (mut access, mut token) = gateway.login("alice", PASSWORD);
        for minute in 1..120 {
            if rotation.is_empty() && minute >= 90 {
                break;
            }
            gateway.set_clock(NOW_MS + minute * 60_000);
            let (new_access, new) = rotated(&gateway, &token);
            access = new_access;
            if !new.is_empty() {
                token = new;
            }
            for issued in [&access, &token] {
                assert!(mint::payload(issued)["exp"].as_i64().unwrap() <= NOW + 7200);
            }
        }
        gateway.set_clock(NOW_MS + 7_200_000);
        refresh(&mut gateway.client(), &token).refused(401, "token_expired");
        gateway.client().get_as("/", &access).refused(401, "token_expired");
    }
    // A token from elsewhere, whose own end is later.
    let gateway = guarded(&upstream, "session_lifetime = \"30m\"").clock(NOW_MS).start();
    let (access, _) = rotated(&gateway, &signed(&hour()));
    assert_eq!(mint::payload(&access)["exp"], NOW - 60 + 1800);
    gateway.set_clock(NOW_MS - 60_000 + 1_800_000);
    refresh(&mut gateway.client(), &signed(&hour())).refused(401, "token_expired");
}

#[test]
fn f10_the_store_holds_no_token_and_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).start();
    let (access, first) = gateway.login("alice", PASSWORD);
    let (_, second) = rotated(&gateway, &first);
    blacklist(&mut gateway.client(), &second).expect(200);
    let directory = gateway.config.store.file().unwrap().parent().unwrap().to_owned();
    let mut read = 0;
    for file in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if !file.is_file() {
            continue;
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        let bytes = std::fs::read(&file).unwrap();
        read += bytes.len();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        for token in [&access, &first, &second] {
            for part in token.split('.').skip(1) {
                assert!(!holds(part), "part of a token in {}", file.display());
            }
        }
        assert!(!holds(PASSWORD));
    }
    assert!(read > 10_000);
}

#[test]
fn f11_what_has_expired_is_swept_from_store_and_memory() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, NO_GRACE).clock(NOW_MS).start();
    let (kept, _) = gateway.login("bob", PASSWORD);
    let clock = gateway.clock().clone();
    let count = async |store: &Store| store.sessions(&Which::All).await.unwrap().len();
    gateway.change(async |store| {
        let sessions = Sessions::open(store.clone(), clock, &gateway.config.tokens).await.unwrap();
        let mark = tollgate::users::CredentialMark::of("x");
        for _ in 0..1200 {
            sessions.begin("7", mark).await.unwrap();
        }
        assert_eq!(store.end_sessions(&Which::OfUser("7".to_owned()), "revoked").await.unwrap(), 1200);
        sessions.look().await;
        assert_eq!(sessions.revocations().len(), 1201);
        sessions.sweep().await.unwrap();
        assert_eq!(count(store).await, 1201);
        gateway.set_clock(NOW_MS + 86_400_000 + 600_000);
        sessions.sweep().await.unwrap();
        assert_eq!(count(store).await, 0);
        // What was issued to the user elsewhere may live longer than any session here.
        assert_eq!(sessions.revocations().len(), 1);
        gateway.set_clock(NOW_MS + 367 * 86_400_000 + 600_000);
        sessions.sweep().await.unwrap();
        assert!(sessions.revocations().is_empty());
    });
    gateway.client().get_as("/", &kept).refused(401, "token_expired");
    let rows = gateway.change(async |_| {
        let mut rows = 0_i64;
        let mut connection = raw(&gateway).await;
        for table in ["sessions", "used_refresh_tokens", "revocations"] {
            let count = format!("SELECT count(*) FROM {table}");
            rows += sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count))
                .fetch_one(&mut connection)
                .await
                .unwrap();
        }
        rows
    });
    assert_eq!(rows, 0);
}

async fn raw(gateway: &Gateway) -> sqlx::sqlite::SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(gateway.config.store.file().unwrap())
        .connect()
        .await
        .unwrap()
}

/// The order of the group of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The same token with the other of its two signatures, which is as good.
fn mirrored(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (digit, order) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = i32::from(order) - i32::from(*digit) - borrow;
        borrow = i32::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn f12_another_spelling_of_a_revoked_token_is_revoked_too() {
    let upstream = Upstream::echo();
    let pkcs8 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let pkcs8 = pkcs8.to_pkcs8v1().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(pkcs8.as_ref())
    );
    let gateway = guarded(&upstream, "").pem_key("ES256", &pem).start();
    let (access, token) = gateway.login("alice", PASSWORD);
    let mut client = gateway.client();
    client.get_as("/", &access).expect(200);
    client.get_as("/", &mirrored(&access)).expect(200);
    blacklist(&mut client, &mirrored(&token)).expect(200);
    for spelling in [&access, &mirrored(&access)] {
        dead(&gateway, spelling, &token);
        dead(&gateway, spelling, &mirrored(&token));
    }
    let (rest, last) = access.split_at(access.len() - 1);
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
        if !last.starts_with(letter) {
            client.get_as("/", &format!("{rest}{letter}")).refused(401, "token_invalid");
        }
    }
}

#[test]
fn without_rotation_a_refresh_token_works_again_and_again() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, "").start();
    let (_, token) = gateway.login("alice", PASSWORD);
    for _ in 0..5 {
        let (access, none) = rotated(&gateway, &token);
        assert!(none.is_empty());
        gateway.client().get_as("/", &access).expect(200);
        verify(&mut gateway.client(), &token).expect(200);
    }
}

#[test]
fn a_refresh_token_that_the_store_has_never_seen_begins_a_session() {
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, "").clock(NOW_MS).start();
    let foreign = signed(&hour());
    verify(&mut gateway.client(), &foreign).expect(200);
    let (access, _) = rotated(&gateway, &foreign);
    let (again, _) = rotated(&gateway, &foreign);
    let session = mint::payload(&access)["sid"].clone();
    assert_eq!((session.as_str().unwrap().len(), &mint::payload(&again)["sid"]), (32, &session));
    gateway.client().get_as("/", &access).expect(200);
    blacklist(&mut gateway.client(), &foreign).expect(200);
    dead(&gateway, &access, &foreign);
    dead(&gateway, &again, &foreign);
    gateway.restart();
    dead(&gateway, &again, &foreign);
    // One with a session that is unknown here keeps it.
    let mut elsewhere = hour();
    (elsewhere["sid"], elsewhere["jti"]) = (json!("elsewhere"), json!("f1"));
    let (access, _) = rotated(&gateway, &signed(&elsewhere));
    assert_eq!(mint::payload(&access)["sid"], "elsewhere");
    blacklist(&mut gateway.client(), &signed(&elsewhere)).expect(200);
    dead(&gateway, &access, &signed(&elsewhere));
}

#[test]
fn the_command_line_ends_sessions_within_a_second_and_for_good() {
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, "").clock(NOW_MS).start();
    let revoke = |gateway: &Gateway, sid: Option<&str>, user: Option<&str>, all: bool| {
        let which = WhichSessions { sid: sid.map(str::to_owned), user: user.map(str::to_owned), all };
        gateway.change(async |store| {
            session::revoke(store, true, which, &mut std::io::sink()).await.unwrap();
        });
    };
    let refused = |gateway: &Gateway, access: &str| {
        let mut client = gateway.client();
        eventually("it is revoked", AT_ONCE, || {
            client.get_as("/", access).json()["reason"] == "token_revoked"
        });
    };
    let (one, one_token) = gateway.login("alice", PASSWORD);
    let (two, two_token) = gateway.login("alice", PASSWORD);
    let (bobs, _) = gateway.login("bob", PASSWORD);
    let foreign = mint::access("1", NOW, 600);
    for token in [&one, &two, &bobs, &foreign] {
        gateway.client().get_as("/", token).expect(200);
    }
    revoke(&gateway, mint::payload(&one)["sid"].as_str(), None, false);
    refused(&gateway, &one);
    dead(&gateway, &one, &one_token);
    gateway.client().get_as("/", &two).expect(200);
    revoke(&gateway, None, Some("alice"), false);
    refused(&gateway, &two);
    dead(&gateway, &two, &two_token);
    // What was issued to her elsewhere, and not before: what she begins in the same second is good.
    refused(&gateway, &foreign);
    blacklisted(refresh(&mut gateway.client(), &signed(&hour())));
    let (fresh, _) = gateway.login("alice", PASSWORD);
    gateway.client().get_as("/", &fresh).expect(200);
    gateway.client().get_as("/", &bobs).expect(200);
    revoke(&gateway, None, None, true);
    refused(&gateway, &bobs);
    refused(&gateway, &fresh);
    gateway.restart();
    for token in [&one, &two, &bobs, &fresh, &foreign] {
        gateway.client().get_as("/", token).refused(401, "token_revoked");
    }
}

#[test]
fn while_the_store_is_away_what_is_known_holds() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, "").start();
    let (access, token) = gateway.login("alice", PASSWORD);
    let (ended, ended_token) = gateway.login("alice", PASSWORD);
    let mut client = gateway.client();
    client.get_as("/", &access).expect(200);
    client.get_as("/", &ended).expect(200);
    blacklist(&mut client, &ended_token).expect(200);
    let rename = |statement: &'static str| {
        gateway.change(async |_| {
            let mut connection = raw(&gateway).await;
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    };
    rename("ALTER TABLE sessions RENAME TO away");
    let credentials = json!({"username": "alice", "password": PASSWORD});
    client.post_json("/api/token/", &credentials).refused(503, "store_unavailable");
    refresh(&mut client, &token).refused(503, "store_unavailable");
    blacklist(&mut client, &token).refused(503, "store_unavailable");
    client.get_as("/", &access).expect(200);
    client.get_as("/", &ended).refused(401, "token_revoked");
    rename("ALTER TABLE away RENAME TO sessions");
    rotated(&gateway, &token);
    client.get_as("/", &access).expect(200);
}

#[test]
fn rotation_keeps_what_the_token_says() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).clock(NOW_MS).start();
    let mut foreign = hour();
    foreign["tenant"] = json!("acme");
    let (_, second) = rotated(&gateway, &signed(&foreign));
    let (access, third) = rotated(&gateway, &second);
    for token in [&second, &third, &access] {
        let claims = mint::payload(token);
        assert_eq!((&claims["tenant"], &claims["user_id"]), (&json!("acme"), &json!("1")));
    }
    let claims = mint::payload(&third);
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 86_400)));
}

#[test]
fn a_clock_that_was_days_ahead_at_the_start_revives_nothing() {
    const DAYS_MS: i64 = 3 * 86_400_000;
    let upstream = Upstream::echo();
    let mut gateway = guarded(&upstream, ROTATE).clock(NOW_MS).start();
    let (access, out) = gateway.login("alice", PASSWORD);
    let (_, spent) = gateway.login("bob", PASSWORD);
    let (_, successor) = rotated(&gateway, &spent);
    rotated(&gateway, &successor);
    blacklist(&mut gateway.client(), &out).expect(200);
    gateway.set_clock(NOW_MS + DAYS_MS);
    gateway.restart();
    gateway.client().get_as("/", &access).refused(401, "token_expired");
    gateway.set_clock(NOW_MS + 1000);
    dead(&gateway, &access, &out);
    blacklisted(refresh(&mut gateway.client(), &spent));
}

#[test]
fn nothing_is_issued_while_the_clock_is_in_1970() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream, ROTATE).clock(86_400_000).start();
    let mut client = gateway.client();
    let login = json!({"username": "alice", "password": PASSWORD});
    client.post_json("/api/token/", &login).refused(500, "internal_error");
    client.get("/public", "").expect(200);
    gateway.set_clock(NOW_MS);
    let (access, token) = gateway.login("alice", PASSWORD);
    gateway.set_clock(86_400_000);
    refresh(&mut client, &token).refused(401, "token_not_yet_valid");
    client.get_as("/", &access).refused(401, "token_not_yet_valid");
    gateway.set_clock(NOW_MS + 1000);
    rotated(&gateway, &token);
    client.get_as("/", &access).expect(200);
}

crate::support::also_in_postgresql!(
    f1_of_parallel_refreshes_one_mints_and_all_get_the_same_successor,
    f1_without_grace_one_of_parallel_refreshes_wins_and_the_others_end_the_session,
    f2_reuse_after_the_grace_ends_the_family,
    f3_the_chain_counts_and_not_the_second,
    f4_a_used_token_stays_used_when_the_process_ends,
    f5_nothing_survives_a_revocation_that_it_races,
    f6_logout_ends_a_session_on_every_thread_and_after_a_restart,
    f6_disabling_deleting_and_a_new_password_end_sessions,
    f6_a_new_line_in_the_user_file_ends_sessions,
    f7_a_token_does_only_what_it_is_for,
    f8_an_id_means_nothing_in_another_name_space,
    f9_the_absolute_end_is_never_moved,
    f12_another_spelling_of_a_revoked_token_is_revoked_too,
    without_rotation_a_refresh_token_works_again_and_again,
    a_refresh_token_that_the_store_has_never_seen_begins_a_session,
    the_command_line_ends_sessions_within_a_second_and_for_good,
    rotation_keeps_what_the_token_says,
    a_clock_that_was_days_ahead_at_the_start_revives_nothing,
    nothing_is_issued_while_the_clock_is_in_1970,
);
