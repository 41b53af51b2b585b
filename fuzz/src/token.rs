//! Credentials and tokens: nothing passes that was not signed here, and what passes has one meaning.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, header};
use serde_json::{Map, Value};
use tollgate::authn::credentials::{self, Credentials};
use tollgate::base::bounds;
use tollgate::base::clock::Clock;
use tollgate::base::field_list::FieldList;
use tollgate::base::field_value::FieldValue;
use tollgate::config::{self, Environment};
use tollgate::keys::KeyRing;
use tollgate::tokens::{Claims, Expected, Verifier, json};

/// The time at which every token is looked at, in seconds since 1970.
const NOW: i64 = 1_800_000_000;

/// The key that signs, and one that nobody signs with here.
const SECRET: &str = "a secret of the fuzz targets, which has to be forty-eight bytes";
const OTHER_SECRET: &str = "another secret, with which nothing is ever signed in this place..";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let text = format!(
        r#"
        [tokens]
        issuer = "https://gw.test"
        audience = ["api"]
        [[tokens.keys]]
        kid = "signs"
        alg = "HS256"
        secret = "{SECRET}"
        [[tokens.keys]]
        kid = "other"
        alg = "HS384"
        secret = "{OTHER_SECRET}"
        [upstreams.api]
        targets = ["http://127.0.0.1:9000"]
        [[routes]]
        path = "/"
        auth = "required"
        upstream = "api"
    "#
    );
    let config = config::parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
    let (clock, _) = Clock::manual(NOW * 1000);
    let ring = Arc::new(KeyRing::load(&config.tokens, &clock).unwrap());
    Verifier::new(ring, &config.tokens, clock)
});

/// Takes the first byte as a choice: what the rest is.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => authorization(rest),
        1 => check(rest),
        2 => signed(rest),
        _ => check(&assembled(rest)),
    }
}

/// Lines of `Authorization`.
fn authorization(lines: &[u8]) {
    let mut headers = FieldList::new();
    let values = lines.split(|byte| *byte == b'\n');
    for value in values.filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(header::AUTHORIZATION, value);
    }
    let values: Vec<&[u8]> = headers.get_all("authorization").map(FieldValue::as_bytes).collect();
    let bears = |value: &[u8]| value.trim_ascii().to_ascii_lowercase().starts_with(b"bearer");
    match credentials::of(&headers) {
        Ok(Credentials::Bearer(token)) => {
            assert!(values.len() == 1 && bears(values[0]), "there is one and it is Bearer");
            assert!(values[0].trim_ascii().ends_with(token) && !token.is_empty());
            assert!(!token.iter().any(u8::is_ascii_whitespace), "a token is one word");
            check(token);
        }
        Ok(Credentials::None) => assert!(values.len() <= 1, "of several none may be chosen"),
        Err(credentials::CredentialsMalformed) => {
            assert!(values.len() > 1 || bears(values[0]), "another scheme is not for the gateway");
        }
    }
}

/// Whether a text is a token that the key of this target signed, told without the code under test.
fn is_signed(token: &[u8]) -> bool {
    let Some(dot) = token.iter().rposition(|byte| *byte == b'.') else { return false };
    let (message, signature) = (&token[..dot], &token[dot + 1..]);
    hmac_of(message) == signature
}

/// The signature of the key that signs, in base64url.
fn hmac_of(message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, message)).into_bytes()
}

/// Verifies a token as each kind, and holds what passes against a second reading.
fn check(token: &[u8]) {
    let any = VERIFIER.verify_any(token);
    let (access, refresh) =
        (VERIFIER.verify(token, Expected::Access), VERIFIER.verify(token, Expected::Refresh));
    assert!(access.is_err() || refresh.is_err(), "a token is of one kind");
    if access.is_ok() || refresh.is_ok() {
        assert!(any.is_ok(), "what passes as one kind passes as any");
    }
    if let Ok(key) = VERIFIER.signing_key(token) {
        assert!(key.kid() == "signs" && is_signed(token), "only this key signs here");
    }
    for fault in [&any, &access, &refresh].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(!fault.to_string().is_empty() && !fault.message().is_empty());
    }
    let Ok(claims) = any else { return };
    assert!(is_signed(token), "nothing passes that was not signed here");
    assert!(token.len() <= bounds::MAX_TOKEN_BYTES);
    let mut parts = token.split(|byte| *byte == b'.');
    let mut part = || URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
    let (header, payload) = (part(), part());
    check_header(&members(&header));
    check_claims(&members(&payload), &claims);
    for (outcome, kind) in [(access, "access"), (refresh, "refresh")] {
        let fits = claims.token_type == kind && !claims.user_id.is_empty();
        assert_eq!(outcome.as_ref().ok(), fits.then_some(&claims), "{kind}");
    }
    is_bound_to_its_signature(token);
}

/// An object as a lenient parser reads it. It takes the last of two members; so a second reading that differs from the
/// first tells of a repeated one.
fn members(bytes: &[u8]) -> Map<String, Value> {
    let strict = json::read_object(bytes).expect("what passes is strict JSON");
    let lenient: Map<String, Value> = serde_json::from_slice(bytes).expect("what is strict is JSON");
    assert_eq!(strict, lenient);
    strict
}

fn check_header(header: &Map<String, Value>) {
    assert_eq!(header.get("alg"), Some(&Value::from("HS256")), "the algorithm is the key's");
    assert!(header.get("kid").is_none_or(|kid| kid == "signs"));
    for forbidden in ["crit", "enc", "zip"] {
        assert!(!header.contains_key(forbidden), "{forbidden} is not understood");
    }
    if let Some(typ) = header.get("typ") {
        let typ = typ.as_str().expect("typ is text").to_ascii_lowercase();
        assert!(["jwt", "at+jwt", "application/at+jwt"].contains(&typ.as_str()), "{typ}");
    }
}

fn check_claims(members: &Map<String, Value>, claims: &Claims) {
    let number = |name: &str| members.get(name).map(|value| value.as_f64().expect("a time is a number"));
    #[expect(clippy::cast_precision_loss, reason = "a time of this century is exact")]
    let now = NOW as f64;
    let expires = number("exp").expect("exp is required");
    assert!(expires > now, "{expires} is over");
    assert!(expires < now + 367.0 * 86_400.0, "{expires} practically never ends");
    for begun in [number("iat"), number("nbf")].into_iter().flatten() {
        assert!(begun < now + 0.002, "{begun} has not come");
    }
    assert_eq!(members.get("iss"), Some(&Value::from("https://gw.test")));
    let audience = members.get("aud").expect("aud is required");
    assert!(audience == "api" || audience.as_array().is_some_and(|list| list.contains(&Value::from("api"))));
    assert_eq!(members.get("jti").and_then(Value::as_str), Some(claims.jti.as_str()));
    assert_eq!(members.get("sid").and_then(Value::as_str), claims.session.as_deref());
    match members.get("user_id") {
        Some(Value::String(id)) if !claims.user_id.is_empty() => assert_eq!(*id, claims.user_id),
        Some(Value::Number(id)) if !claims.user_id.is_empty() => assert_eq!(id.to_string(), claims.user_id),
        _ => assert!(claims.user_id.is_empty(), "a user id is text or a whole number"),
    }
    for text in [Some(&claims.jti), claims.session.as_ref(), Some(&claims.user_id)].into_iter().flatten() {
        assert!(text.len() <= bounds::MAX_IDENTIFIER_BYTES && !text.chars().any(char::is_control));
    }
    // A user id has to fit a header as it is.
    assert_eq!(claims.user_id.trim(), claims.user_id);
    assert!(HeaderValue::from_bytes(claims.user_id.as_bytes()).is_ok());
}

/// One letter changed anywhere, and it does not pass any more.
fn is_bound_to_its_signature(token: &[u8]) {
    let step = (token.len() / 16).max(1);
    for at in (0..token.len()).step_by(step).chain([token.len() - 1]) {
        let mut changed = token.to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(VERIFIER.verify_any(&changed).is_err(), "byte {at} does not count");
    }
    assert!(VERIFIER.verify_any(&[token, b"="].concat()).is_err());
    assert!(VERIFIER.verify_any(&[token, b" "].concat()).is_err());
}

/// A header and a payload, parted by a line feed, signed properly.
fn signed(text: &[u8]) {
    let mut halves = text.splitn(2, |byte| *byte == b'\n');
    let mut half = || URL_SAFE_NO_PAD.encode(halves.next().unwrap_or_default());
    let message = format!("{}.{}", half(), half());
    let signature = hmac_of(message.as_bytes());
    check(&[message.as_bytes(), b".", &signature].concat());
}

/// Header, payload and signature, parted by line feeds: everything but the signature's secret.
fn assembled(text: &[u8]) -> Vec<u8> {
    let parts = text.splitn(3, |byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part));
    parts.collect::<Vec<_>>().join(".").into_bytes()
}
