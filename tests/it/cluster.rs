//! Two gateways on one PostgreSQL.

use std::time::Duration;

use crate::support::gateway::PASSWORD;
use crate::support::postgres_server;
use crate::support::{DEADLINE, Gateway, Setup, Upstream, eventually, in_postgresql, mint, schema_of};
use serde_json::json;

/// What is revoked at one gateway is refused at the other one within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Both with the same upstream, store and users.
fn pair(upstream: &Upstream, tokens: &str) -> (Gateway, Gateway) {
    let one = Setup::guarded(upstream).tokens(tokens);
    let two = Setup::guarded(upstream).tokens(tokens).store_of(&one);
    (one.user("alice").start(), two.start())
}

#[test]
fn what_is_revoked_at_one_gateway_is_refused_at_the_other() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let (one, two) = pair(&upstream, "");
        for _ in 0..5 {
            let (access, token) = one.login("alice", PASSWORD);
            let mut client = two.client();
            client.get_as("/", &access).expect(200);
            one.client().post_json("/api/token/blacklist/", &json!({"refresh": token})).expect(200);
            eventually("it is revoked there too", AT_ONCE, || client.get_as("/", &access).status == 401);
            client.get_as("/", &access).refused(401, "token_revoked");
            client.post_json("/api/token/refresh/", &json!({"refresh": token})).refused(401, "token_revoked");
        }
    });
}

#[test]
fn a_user_who_is_switched_off_is_refused_by_every_gateway() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let (one, two) = pair(&upstream, "");
        let (access, _) = two.login("alice", PASSWORD);
        two.client().get_as("/", &access).expect(200);
        one.change(async |store| store.set_active("alice", false).await.unwrap());
        eventually("she is off", AT_ONCE, || two.client().get_as("/", &access).status == 401);
    });
}

#[test]
fn refreshes_at_several_gateways_have_one_successor() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let (one, two) = pair(&upstream, "rotate_refresh = true\n");
        let (_, token) = one.login("alice", PASSWORD);
        let successors: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|number| {
                    let (gateway, token) = (if number % 2 == 0 { &one } else { &two }, &token);
                    scope.spawn(move || {
                        let body = json!({"refresh": token});
                        let answer = gateway.client().post_json("/api/token/refresh/", &body);
                        let refresh = answer.expect(200).json()["refresh"].as_str().unwrap().to_owned();
                        mint::payload(&refresh)["jti"].as_str().unwrap().to_owned()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(successors.iter().all(|jti| *jti == successors[0]), "{successors:?}");
    });
}

#[test]
fn a_gateway_that_is_behind_says_so_and_refuses_when_it_is_told_to() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let setup = Setup::guarded(&upstream).store("stale_policy = \"refuse\"\nstale_after = \"1s\"\n");
        let gateway = setup.user("alice").start();
        let (access, _) = gateway.login("alice", PASSWORD);
        let mut client = gateway.client();
        client.get_as("/", &access).expect(200);
        assert_eq!(gateway.admin("/readyz").0, 200);
        // What it asks for is not there: it cannot know what others revoke.
        let server = postgres_server::shared().unwrap();
        let schema = schema_of(&gateway);
        server.execute(&format!("ALTER TABLE {schema}.revocations RENAME TO away"));
        eventually("nothing passes", DEADLINE, || client.get_as("/", &access).status == 503);
        client.get_as("/", &access).refused(503, "store_unavailable");
        assert_eq!(gateway.admin("/readyz").0, 503);
        server.execute(&format!("ALTER TABLE {schema}.away RENAME TO revocations"));
        eventually("it is known again", DEADLINE, || client.get_as("/", &access).status == 200);
        assert_eq!(gateway.admin("/readyz").0, 200);
    });
}
