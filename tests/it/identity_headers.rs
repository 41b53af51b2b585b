//! What upstreams are told of callers, in which headers, and what they are not told.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::django::execute;
use crate::support::gateway::PASSWORD;
use crate::support::mint;
use crate::support::upstream::Recorded;
use crate::support::{DEADLINE, Gateway, Setup, Upstream, eventually};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// A gateway whose upstream has these lines, and whose users are in its store.
fn telling(upstream: &Upstream, lines: &str) -> Setup {
    Setup::new()
        .upstream("api", upstream, lines)
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .route("path = \"/optional\"\nauth = \"optional\"\nupstream = \"api\"")
        .route("path = \"/public\"\nauth = \"public\"\nupstream = \"api\"")
        .clock(NOW_MS)
}

fn with_alice(setup: Setup) -> Setup {
    setup.person("alice", Some("alice@example.com"), &["staff", "finance"], PASSWORD, true)
}

/// What the upstream sees of a request with a token that has these claims besides.
fn seen(gateway: &Gateway, upstream: &Upstream, claims: &Value) -> Recorded {
    gateway.client().get_as("/", &token(claims)).expect(200);
    upstream.last()
}

/// Puts everybody of the staff into another group.
fn move_to_ops(gateway: &Gateway) {
    execute(gateway.config.store.file().unwrap(), "UPDATE user_groups SET name = 'ops' WHERE name = 'staff'");
}

fn token(more: &Value) -> String {
    let mut claims = mint::claims("1", NOW, 600);
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    mint::sign(&json!({"alg": "HS256"}), &claims, mint::SECRET)
}

#[test]
fn every_preset_has_its_headers_and_no_others() {
    let all = [
        (
            "default",
            [
                ("x-user-id", "1"),
                ("x-user-name", "alice"),
                ("x-user-email", "alice@example.com"),
                ("x-user-groups", "finance,staff"),
            ],
        ),
        (
            "forwarded",
            [
                ("x-forwarded-user", "1"),
                ("x-forwarded-preferred-username", "alice"),
                ("x-forwarded-email", "alice@example.com"),
                ("x-forwarded-groups", "finance,staff"),
            ],
        ),
        (
            "remote-user",
            [
                ("remote-user", "alice"),
                ("remote-name", "alice"),
                ("remote-email", "alice@example.com"),
                ("remote-groups", "finance,staff"),
            ],
        ),
        (
            "webauth",
            [
                ("x-webauth-user", "alice"),
                ("x-webauth-name", "alice"),
                ("x-webauth-email", "alice@example.com"),
                ("x-webauth-groups", "finance,staff"),
            ],
        ),
    ];
    let forged: String =
        all.iter().flat_map(|(_, headers)| headers).map(|(name, _)| format!("{name}: forged\r\n")).collect();
    let upstream = Upstream::echo();
    let mut setup = Setup::new().clock(NOW_MS);
    for (preset, _) in &all {
        setup = setup
            .upstream(preset, &upstream, &format!("identity = \"{preset}\""))
            .route(&format!("path = \"/{preset}\"\nauth = \"optional\"\nupstream = \"{preset}\""));
    }
    let gateway = with_alice(setup).start();
    let bearer = format!("authorization: Bearer {}\r\n", mint::access("1", NOW, 600));
    for (preset, own) in &all {
        gateway.client().get(&format!("/{preset}"), &format!("{forged}{bearer}")).expect(200);
        let known = upstream.last();
        gateway.client().get(&format!("/{preset}"), &forged).expect(200);
        let unknown = upstream.last();
        for (name, value) in all.iter().flat_map(|(_, headers)| headers) {
            let expected: &[&str] = if own.iter().any(|(other, _)| other == name) { &[value] } else { &[] };
            assert_eq!(known.head.fields.all(name), expected, "{name} of {preset}");
            assert!(!unknown.head.fields.has(name), "{name} of {preset}");
        }
    }
}

#[test]
fn a_table_tells_of_claims_and_of_the_user() {
    let upstream = Upstream::echo();
    let lines = r#"identity = { "X-Account" = "claim:account.id", "X-Tenant" = "claim:tenant", "X-Roles" = "claim:https://example.com/roles", "X-Login" = "user:name", "X-Teams" = "user:groups", "X-Issuer" = "claim:iss" }"#;
    let gateway = telling(&upstream, lines).start();
    let claims = json!({
        "account": { "id": 42 }, "tenant": "acme", "https://example.com/roles": ["admin", "ops"],
        "username": "alice", "groups": ["b", "a"], "iss": "https://issuer.test",
    });
    let told = seen(&gateway, &upstream, &claims);
    for (name, value) in [
        ("x-account", "42"),
        ("x-tenant", "acme"),
        ("x-roles", "admin,ops"),
        ("x-login", "alice"),
        ("x-teams", "a,b"),
    ] {
        assert_eq!(told.field(name), value, "{told:?}");
    }
    assert_eq!(told.field("x-issuer"), "https://issuer.test");
    assert!(!told.head.fields.has("x-user-id"));
    // What a token does not say is not said, whatever the client sends.
    let forged = "x-account: 1\r\nX_Tenant: acme\r\nhttp-x-roles: admin\r\nx.login: root\r\n";
    let silent = json!({ "account": [], "tenant": null });
    let token = token(&silent);
    gateway.client().get("/", &format!("{forged}authorization: Bearer {token}\r\n")).expect(200);
    let told = upstream.last();
    for target in ["/optional", "/public"] {
        gateway.client().get(target, forged).expect(200);
    }
    for request in [told, upstream.last()] {
        for (name, _) in &request.head.fields.0 {
            let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            assert!(
                !["xaccount", "xtenant", "xroles", "xlogin", "httpxroles"].contains(&plain.as_str()),
                "{request:?}"
            );
        }
    }
}

#[test]
fn a_claim_that_could_be_read_in_two_ways_is_refused() {
    let upstream = Upstream::echo();
    let gateway = telling(&upstream, r#"identity = { "X-Teams" = "claim:teams" }"#).start();
    for teams in [
        json!("a,admin"),
        json!(["a,admin"]),
        json!("a\r\nX-Teams: admin"),
        json!("a\u{0}"),
        json!(" admin"),
        json!(["a", ""]),
        json!([["admin"]]),
        json!({ "admin": true }),
    ] {
        let before = upstream.requests().len();
        let refused = gateway.client().get_as("/", &token(&json!({ "teams": teams }))).expect(502);
        assert_eq!(refused.json()["reason"], "identity_unfit", "{teams}");
        assert_eq!(upstream.requests().len(), before, "nothing arrives");
    }
    // Where nobody asks for the claim, it does not matter.
    gateway.client().get("/public", "").expect(200);
}

#[test]
fn text_beyond_ascii_goes_in_the_encoding_that_is_configured() {
    for (encoding, name, groups) in [
        ("utf8", "zoë", "équipe,staff"),
        ("percent", "zo%C3%AB", "%C3%A9quipe,staff"),
        ("rfc2047", "=?UTF-8?B?em/Dqw==?=", "=?UTF-8?B?w6lxdWlwZQ==?=,staff"),
    ] {
        let upstream = Upstream::echo();
        let gateway = telling(&upstream, &format!("identity_encoding = \"{encoding}\""))
            .person("zoë", None, &["staff", "équipe"], PASSWORD, true)
            .start();
        let told = seen(&gateway, &upstream, &json!({}));
        assert_eq!(told.field("x-user-name"), name, "{encoding}");
        let mut sent: Vec<&str> = told.field("x-user-groups").split(',').collect();
        let mut expected: Vec<&str> = groups.split(',').collect();
        sent.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sent, expected, "{encoding}");
    }
}

#[test]
fn identity_larger_than_the_upstream_takes_is_refused_and_not_cut() {
    let upstream = Upstream::echo();
    let gateway =
        telling(&upstream, "identity_max_bytes = \"200B\"\nidentity = { \"X-Teams\" = \"claim:teams\" }")
            .start();
    // The name, ": " and the end of the line count too.
    let fits = "x".repeat(200 - "x-teams".len() - 4);
    assert_eq!(seen(&gateway, &upstream, &json!({ "teams": fits })).field("x-teams"), fits);
    let token = token(&json!({ "teams": format!("{fits}x") }));
    for _ in 0..2 {
        let refused = gateway.client().get_as("/", &token).expect(502);
        assert_eq!(refused.json()["reason"], "identity_too_large");
    }
    let groups: Vec<String> = (0..600).map(|number| format!("group-{number:08}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let usual = telling(&upstream, "").person("alice", None, &groups, PASSWORD, true).start();
    let refused = usual.client().get_as("/", &mint::access("1", NOW, 600)).expect(502);
    assert_eq!(refused.json()["reason"], "identity_too_large");
}

#[test]
fn a_change_of_the_user_changes_what_is_told_and_claims_stay() {
    let upstream = Upstream::echo();
    let lines = r#"identity = { "X-Teams" = "user:groups", "X-Tenant" = "claim:tenant" }"#;
    let gateway = with_alice(telling(&upstream, lines)).start();
    let claims = json!({ "tenant": "acme" });
    assert_eq!(seen(&gateway, &upstream, &claims).field("x-teams"), "finance,staff");
    move_to_ops(&gateway);
    eventually("new groups", DEADLINE, || {
        let told = seen(&gateway, &upstream, &claims);
        assert_eq!(told.field("x-tenant"), "acme");
        told.field("x-teams") == "finance,ops"
    });
}

#[test]
fn the_client_s_token_is_forwarded_only_where_that_is_configured() {
    let (told, untold) = (Upstream::echo(), Upstream::echo());
    let gateway = telling(&told, "forward_token = true")
        .upstream("other", &untold, "")
        .route("path = \"/other\"\nauth = \"required\"\nupstream = \"other\"")
        .start();
    let token = token(&json!({}));
    gateway.ledger.keep_token_secret(&token);
    gateway.client().get_as("/", &token).expect(200);
    assert_eq!(told.last().head.fields.all("authorization"), [format!("Bearer {token}")]);
    gateway.client().get_as("/other", &token).expect(200);
    assert!(!untold.last().head.fields.has("authorization"));
    // On a public route it is for the upstream to judge; two of them are for nobody.
    gateway.client().get("/public", "authorization: Basic eDp5\r\n").expect(200);
    assert_eq!(told.last().field("authorization"), "Basic eDp5");
    for fields in [
        "authorization: Basic eDp5\r\nauthorization: Basic eDp6\r\n",
        "authorization: Basic eDp5\r\nconnection: authorization\r\n",
        "http_authorization: Basic eDp5\r\n",
        "x: y\r\n",
    ] {
        gateway.client().get("/public", fields).expect(200);
        let seen = told.last();
        assert!(seen.head.fields.0.iter().all(|(_, value)| !value.contains("Basic")), "{fields:?}: {seen:?}");
    }
}

#[test]
fn upstreams_get_the_gateway_s_credentials_and_never_the_client_s() {
    let upstream = Upstream::echo();
    let scratch = Setup::new();
    std::fs::write(scratch.place().join("password"), "hunter2-hunter2\n").unwrap();
    let gateway = scratch
        .clock(NOW_MS)
        .upstream(
            "basic",
            &upstream,
            "credentials = { basic = { username = \"gateway\", password_file = \"password\" } }",
        )
        .upstream("bearer", &upstream, "credentials = { bearer = \"swordfish-swordfish\" }")
        .upstream("header", &upstream, "credentials = { header = \"X-Api-Key\", value = \"open sesame\" }")
        .upstream("none", &upstream, "")
        .route("path = \"/basic\"\nauth = \"public\"\nupstream = \"basic\"")
        .route("path = \"/bearer\"\nauth = \"public\"\nupstream = \"bearer\"")
        .route("path = \"/header\"\nauth = \"public\"\nupstream = \"header\"")
        .route("path = \"/none\"\nauth = \"public\"\nupstream = \"none\"")
        .start();
    for secret in
        ["hunter2-hunter2", "swordfish-swordfish", "open sesame", "Z2F0ZXdheTpodW50ZXIyLWh1bnRlcjI="]
    {
        gateway.ledger.keep_secret(secret);
    }
    let forged =
        "authorization: forged\r\nx-api-key: forged\r\nX_API_KEY: forged\r\nhttp-x-api-key: forged\r\n";
    for (target, authorization, key) in [
        ("/basic", Some("Basic Z2F0ZXdheTpodW50ZXIyLWh1bnRlcjI="), None),
        ("/bearer", Some("Bearer swordfish-swordfish"), None),
        ("/header", None, Some("open sesame")),
        ("/none", None, None),
    ] {
        // What comes back would tell the client, so the upstream does not echo it here.
        gateway.client().get(target, forged).expect(200);
        let seen = upstream.last();
        assert!(seen.head.fields.0.iter().all(|(_, value)| value != "forged"), "{seen:?}");
        assert_eq!(seen.head.fields.one("authorization"), authorization, "{target}");
        assert_eq!(seen.head.fields.one("x-api-key"), key, "{target}");
    }
}

/// The parts of a statement, verified with the keys that the gateway publishes.
fn verified(gateway: &Gateway, statement: &str) -> (Value, Value) {
    let jwks = gateway.client().get("/.well-known/jwks.json", "").expect(200).json();
    let header = mint::header(statement);
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key is published");
    assert_eq!(
        (&key["crv"], &header["alg"], &header["typ"]),
        (&json!("Ed25519"), &json!("EdDSA"), &json!("JWT"))
    );
    let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let (message, signature) = statement.rsplit_once('.').unwrap();
    let public = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public);
    public.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    (header, mint::payload(statement))
}

#[test]
fn a_statement_can_be_verified_and_is_no_access_token() {
    let upstream = Upstream::echo();
    let setup = telling(&upstream, "assertion = true").tokens("access_lifetime = \"10m\"").generated_key();
    let gateway = with_alice(setup).start();
    let (access, _) = gateway.login("alice", PASSWORD);
    gateway.client().get("/", &format!("x-tollgate-assertion: forged\r\nX_Tollgate_Assertion: forged\r\nauthorization: Bearer {access}\r\n")).expect(200);
    let seen = upstream.last();
    let statement = seen.field("x-tollgate-assertion").to_owned();
    gateway.ledger.keep_token_secret(&statement);
    assert!(seen.head.fields.0.iter().all(|(_, value)| value != "forged"));
    let (_, claims) = verified(&gateway, &statement);
    for (name, value) in [
        ("token_type", json!("assertion")),
        ("iss", json!("tollgate")),
        ("aud", json!("api")),
        ("sub", json!("1")),
        ("user_id", json!("1")),
        ("username", json!("alice")),
        ("email", json!("alice@example.com")),
        ("groups", json!(["finance", "staff"])),
        ("iat", json!(NOW)),
        ("exp", json!(NOW + 30)),
    ] {
        assert_eq!(claims[name], value, "{name}: {claims}");
    }
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    let refused = gateway.client().get_as("/", &statement).expect(401);
    assert_eq!(refused.json()["reason"], "token_wrong_type");
    let refresh = json!({ "refresh": statement });
    gateway.client().post_json("/api/token/refresh/", &refresh).expect(401);
    // Nobody in particular has none, and neither can they bring one.
    gateway.client().get("/optional", &format!("x-tollgate-assertion: {statement}\r\n")).expect(200);
    assert!(!upstream.last().head.fields.has("x-tollgate-assertion"));
}

#[test]
fn a_statement_is_used_for_half_of_its_life_and_does_not_outlive_the_token() {
    let upstream = Upstream::echo();
    let lines = "assertion = { audience = \"billing\", lifetime = \"60s\" }\nidentity = \"none\"";
    let setup = telling(&upstream, lines).tokens("access_lifetime = \"100s\"\nissuer = \"https://gw.test\"");
    let gateway = with_alice(setup.generated_key()).start();
    let (access, _) = gateway.login("alice", PASSWORD);
    let at = |seconds: i64| {
        gateway.set_clock(NOW_MS + seconds * 1000);
        gateway.client().get_as("/", &access).expect(200);
        let seen = upstream.last();
        assert!(!seen.head.fields.has("x-user-id"));
        let statement = seen.field("x-tollgate-assertion").to_owned();
        let claims = verified(&gateway, &statement).1;
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!("billing"), &json!("https://gw.test")));
        (statement, claims["exp"].as_i64().unwrap() - NOW)
    };
    let (first, ends) = at(0);
    assert_eq!((at(29), ends), ((first.clone(), 60), 60));
    let (second, ends) = at(30);
    assert!(second != first && ends == 90, "{ends}");
    let (third, ends) = at(65);
    assert!(third != second && ends == 100, "it ends with the token: {ends}");
    assert_eq!(at(99).1, 100);
    gateway.set_clock(NOW_MS + 100_000);
    gateway.client().get_as("/", &access).expect(401);
}

#[test]
fn a_statement_is_made_anew_when_the_user_changes() {
    let upstream = Upstream::echo();
    let gateway = with_alice(telling(&upstream, "assertion = true").generated_key()).start();
    let (access, _) = gateway.login("alice", PASSWORD);
    let groups = || {
        gateway.client().get_as("/", &access).expect(200);
        verified(&gateway, upstream.last().field("x-tollgate-assertion")).1["groups"].clone()
    };
    assert_eq!(groups(), json!(["finance", "staff"]));
    move_to_ops(&gateway);
    eventually("new groups", DEADLINE, || groups() == json!(["finance", "ops"]));
}
