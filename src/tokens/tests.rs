//! Every class of hostile token, truly signed wherever that is possible, for each kind of key; sound ones too.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_lc_rs::{hmac, rand, signature as aws};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::base::algorithm::Algorithm;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::reason::Reason;
use crate::base::user::{User, UserField};
use crate::config;
use crate::keys::KeyRing;
use crate::keys::tests::{Folder, file_key, pair, pem, rsa_pkcs8, secret_key, settings};

pub(crate) const NOW: i64 = 1_795_000_000;
const LATER: i64 = NOW + 1200;
const ISSUER: &str = "https://gw.test";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef";
const FOUR: [Algorithm; 4] = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The gateway's keys in the hands of a tester.
pub(crate) struct Mint {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) tokens: config::Tokens,
    pub(crate) clock: Clock,
    pub(crate) hand: Arc<AtomicI64>,
    algorithm: Algorithm,
    spki: Vec<u8>,
}

impl Mint {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let folder = Folder::new();
        let (key, spki) = if algorithm.is_symmetric() {
            (secret_key("rig", algorithm, SECRET), Vec::new())
        } else {
            let (private, public) = pair(algorithm);
            (file_key("rig", algorithm, folder.write("k", &pem("PRIVATE KEY", &private))), public)
        };
        let mut tokens = settings(vec![key]);
        tokens.issuer = Some(ISSUER.to_owned());
        tokens.audience = vec!["api".to_owned()];
        tokens.user_id_claim = "sub".to_owned();
        let (clock, hand) = Clock::manual(NOW * 1000);
        let ring = Arc::new(KeyRing::load(&tokens, &clock).unwrap());
        Self { ring, tokens, clock, hand, algorithm, spki }
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(Arc::clone(&self.ring), &self.tokens, self.clock.clone())
    }

    fn header(&self) -> Value {
        json!({ "alg": self.algorithm.name(), "typ": "JWT" })
    }

    pub(crate) fn token(&self, claims: &Value) -> Vec<u8> {
        self.token_with(&self.header(), claims)
    }

    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> Vec<u8> {
        self.token_of(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    fn token_of(&self, header: &[u8], payload: &[u8]) -> Vec<u8> {
        self.signed(format!("{}.{}", b64(header), b64(payload)).as_bytes())
    }

    fn signed(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.ring.signer().sign(message).unwrap();
        [message, b".", signature.as_bytes()].concat()
    }

    fn verify(&self, token: &[u8]) -> Result<Claims, TokenFault> {
        self.verifier().verify(token, Expected::Access)
    }

    fn accepts(&self, name: &str, token: &[u8]) -> Claims {
        self.verify(token).unwrap_or_else(|fault| panic!("{} {name}: {fault}", self.algorithm))
    }

    fn refuses(&self, name: &str, token: &[u8]) -> TokenFault {
        match self.verify(token) {
            Ok(_) => panic!("{} {name} passed", self.algorithm),
            Err(fault) => fault,
        }
    }

    fn invalid(&self, name: &str, token: &[u8]) {
        let fault = self.refuses(name, token);
        assert!(matches!(fault, TokenFault::Invalid(_)), "{} {name}: {fault:?}", self.algorithm);
    }
}

pub(crate) fn claims() -> Value {
    json!({ "token_type": "access", "exp": LATER, "iat": NOW, "nbf": NOW, "jti": "j1", "sub": "alice",
            "iss": ISSUER, "aud": "api" })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A time that can have a fraction.
#[expect(clippy::cast_precision_loss, reason = "times of this century are far from the limit")]
fn seconds(whole: i64) -> f64 {
    whole as f64
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The same bytes with other unused bits, where the text has any.
fn other_spelling(text: &str) -> Option<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = text.bytes().last().filter(|_| !text.len().is_multiple_of(4))?;
    let place = ALPHABET.iter().position(|&letter| letter == last)?;
    Some(format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[place ^ 1])))
}

fn mints() -> impl Iterator<Item = Mint> {
    FOUR.into_iter().map(Mint::new)
}

#[test]
fn sound_tokens_pass() {
    for mint in mints() {
        let algorithm = mint.algorithm.name();
        let plain = mint.accepts("plain", &mint.token(&claims()));
        assert_eq!(
            (plain.user_id.as_str(), plain.jti.as_str(), plain.token_type.as_str()),
            ("alice", "j1", "access")
        );
        assert_eq!((plain.expires_at_ms, plain.issued_at_ms), (LATER * 1000, Some(NOW * 1000)));
        assert_eq!(plain.session, None);
        mint.accepts("aud list", &mint.token(&with("aud", json!(["other", "api"]))));
        for typ in ["jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
            mint.accepts(typ, &mint.token_with(&json!({ "alg": algorithm, "typ": typ }), &claims()));
        }
        for header in [
            json!({ "alg": algorithm }),
            json!({ "alg": algorithm, "kid": "rig" }),
            json!({ "alg": algorithm, "x-unknown": "1", "cty": "JWT" }),
            json!({ "alg": algorithm, "b64": true }),
            json!({ "alg": algorithm, "jwk": { "kty": "oct", "k": "AA" }, "jku": "http://127.0.0.1:1/" }),
        ] {
            mint.accepts(&header.to_string(), &mint.token_with(&header, &claims()));
        }
        let spaced = format!("{{ \"alg\" : \"{algorithm}\" ,\n\"typ\":\"JWT\"}}");
        mint.accepts("white space", &mint.token_of(spaced.as_bytes(), claims().to_string().as_bytes()));
    }
}

#[test]
fn no_other_algorithm_is_believed() {
    for mint in mints() {
        for name in [
            "none", "None", "NONE", "nOnE", "none ", "", "HS256\0", "hs256", "rs256", "es256", "eddsa",
            "Ed25519",
        ] {
            let header = json!({ "alg": name, "typ": "JWT" });
            mint.invalid(name, &mint.token_with(&header, &claims()));
            let message =
                format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims().to_string().as_bytes()));
            mint.invalid(name, message.as_bytes());
            mint.invalid(name, format!("{message}.").as_bytes());
        }
        for alg in [json!(null), json!(1), json!([mint.algorithm.name()]), json!({}), json!(true)] {
            mint.invalid("alg of another type", &mint.token_with(&json!({ "alg": alg }), &claims()));
        }
        mint.invalid("no alg", &mint.token_with(&json!({ "typ": "JWT" }), &claims()));
        for other in Algorithm::ALL.into_iter().filter(|other| *other != mint.algorithm) {
            mint.invalid(other.name(), &mint.token_with(&json!({ "alg": other.name() }), &claims()));
            mint.invalid(
                other.name(),
                &mint.token_with(&json!({ "alg": other.name(), "kid": "rig" }), &claims()),
            );
        }
        let token = mint.token(&claims());
        let end = token.iter().rposition(|&byte| byte == b'.').unwrap();
        mint.invalid("empty signature", &token[..=end]);
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for mint in mints() {
        let text = pem("PUBLIC KEY", &mint.spki);
        let forms: Vec<Vec<u8>> = vec![
            text.clone().into_bytes(),
            text.trim_end().as_bytes().to_vec(),
            text.replace('\n', "\r\n").into_bytes(),
            mint.spki.clone(),
            mint.spki.iter().rev().take(65).rev().copied().collect(),
            mint.spki.iter().rev().take(32).rev().copied().collect(),
            Vec::new(),
            b"secret".to_vec(),
            vec![0; 32],
        ];
        for secret in &forms {
            for (name, kind) in
                [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
            {
                for header in [json!({ "alg": name }), json!({ "alg": name, "kid": "rig" })] {
                    let message = format!(
                        "{}.{}",
                        b64(header.to_string().as_bytes()),
                        b64(claims().to_string().as_bytes())
                    );
                    let signature = hmac::sign(&hmac::Key::new(kind, secret), message.as_bytes());
                    mint.invalid(name, format!("{message}.{}", b64(signature.as_ref())).as_bytes());
                }
            }
        }
    }
}

#[test]
fn another_key_or_padding_does_not_verify() {
    for (mint, stranger) in mints().zip(mints()) {
        // RSA keys of the tests are one and the same, so RSA gets a PSS signature instead.
        if mint.algorithm == Algorithm::RS256 {
            let pair = aws::RsaKeyPair::from_pkcs8(rsa_pkcs8()).unwrap();
            let message = format!(
                "{}.{}",
                b64(mint.header().to_string().as_bytes()),
                b64(claims().to_string().as_bytes())
            );
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&aws::RSA_PSS_SHA256, &rand::SystemRandom::new(), message.as_bytes(), &mut signature)
                .unwrap();
            mint.invalid("PSS under RS256", format!("{message}.{}", b64(&signature)).as_bytes());
        } else if mint.algorithm != Algorithm::HS256 {
            mint.invalid("stranger", &stranger.token(&claims()));
        }
        let mut token = mint.token(&claims());
        let middle = token.len() - 20;
        token[middle] = if token[middle] == b'A' { b'B' } else { b'A' };
        mint.invalid("a changed signature", &token);
    }
    let mut mint = Mint::new(Algorithm::HS256);
    let tokens = settings(vec![secret_key("rig", Algorithm::HS256, &[9; 48])]);
    let token = mint.token(&claims());
    mint.ring = Arc::new(KeyRing::load(&tokens, &mint.clock).unwrap());
    mint.invalid("another secret", &token);
}

#[test]
fn signatures_at_the_edges_do_not_verify() {
    let mint = Mint::new(Algorithm::ES256);
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let one: Vec<u8> = [vec![0; 31], vec![1]].concat();
    let message =
        format!("{}.{}", b64(mint.header().to_string().as_bytes()), b64(claims().to_string().as_bytes()));
    for r in [vec![0; 32], one.clone(), order.clone(), vec![0xff; 32]] {
        for s in [vec![0; 32], one.clone(), order.clone(), vec![0xff; 32]] {
            mint.invalid("edge", format!("{message}.{}", b64(&[r.as_slice(), &s].concat())).as_bytes());
        }
    }
    mint.invalid("DER", format!("{message}.{}", b64(&[0x30, 6, 2, 1, 1, 2, 1, 1])).as_bytes());
    let mint = Mint::new(Algorithm::EdDSA);
    let token = String::from_utf8(mint.token(&claims())).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // S plus the order of the group (RFC 8032 section 5.1.7) is the same number to a lenient verifier.
    let group: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(group) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    mint.invalid("S beyond the order", format!("{message}.{}", b64(&bytes)).as_bytes());
}

#[test]
fn critical_extensions_and_other_kinds_are_refused() {
    for mint in mints() {
        let header = |members: Value| {
            let mut header = mint.header();
            header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            header
        };
        for members in [
            json!({ "crit": ["exp"], "exp": 0 }),
            json!({ "crit": ["x-bork"], "x-bork": true }),
            json!({ "crit": [] }),
            json!({ "crit": "exp" }),
            json!({ "crit": ["alg"] }),
            json!({ "crit": ["x-missing"] }),
            json!({ "crit": null }),
            json!({ "crit": ["b64"], "b64": true }),
            json!({ "crit": ["b64"], "b64": false }),
            json!({ "b64": false }),
            json!({ "b64": null }),
            json!({ "b64": "true" }),
            json!({ "zip": "DEF" }),
            json!({ "enc": "A256GCM" }),
            json!({ "typ": "rt+jwt" }),
            json!({ "typ": "" }),
            json!({ "typ": null }),
            json!({ "typ": 1 }),
            json!({ "typ": "JOSE" }),
            json!({ "kid": 1 }),
            json!({ "kid": null }),
            json!({ "kid": ["rig"] }),
            json!({ "kid": {} }),
            json!({ "kid": "" }),
            json!({ "kid": "RIG" }),
            json!({ "kid": "../../dev/null" }),
            json!({ "kid": "rig\0" }),
            json!({ "kid": "' OR 1=1 --" }),
            json!({ "kid": "x".repeat(4000) }),
        ] {
            mint.invalid(&members.to_string(), &mint.token_with(&header(members), &claims()));
        }
        let raw = format!(
            "{}.{}",
            b64(header(json!({ "b64": false, "crit": ["b64"] })).to_string().as_bytes()),
            claims()
        );
        mint.invalid("unencoded payload", &mint.signed(raw.as_bytes()));
    }
}

#[test]
fn the_compact_form_is_taken_by_the_letter() {
    for mint in mints() {
        let good = String::from_utf8(mint.token(&claims())).unwrap();
        let parts: Vec<&str> = good.split('.').collect();
        let (header, payload, signature) = (parts[0], parts[1], parts[2]);
        let message = format!("{header}.{payload}");
        let mut bad = vec![
            String::new(),
            ".".into(),
            "..".into(),
            ".".repeat(100_000),
            ".".repeat(8000),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.AAAA"),
            format!("{good}.AAAA.BBBB"),
            message.clone(),
            header.to_owned(),
            format!(".{payload}.{signature}"),
            format!("{header}..{signature}"),
            format!("{good}="),
            format!("{good}=="),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}. {payload}.{signature}"),
            format!("{good}%0a"),
            format!("{header}\t.{payload}.{signature}"),
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n"),
            format!("{good}\0"),
            format!("{good}é"),
            format!("\u{feff}{good}"),
            good[..good.len() - 4].to_owned(),
            format!("{good}AAAA"),
            format!("{good}+"),
            format!("{good}A"),
            format!("\"{good}\""),
            format!("Bearer {good}"),
            json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
            json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] })
                .to_string(),
        ];
        bad.extend(other_spelling(signature).map(|other| format!("{message}.{other}")));
        for token in &bad {
            mint.invalid(&token.chars().take(60).collect::<String>(), token.as_bytes());
        }
        for padded in
            [format!("{header}.{payload}=="), format!("{header}=.{payload}"), format!("{header}.{payload}\n")]
        {
            mint.invalid("padding that is signed", &mint.signed(padded.as_bytes()));
        }
        let mut spellings = 0;
        for spaces in 0..3 {
            let blanks = " ".repeat(spaces);
            let header = b64(format!("{}{blanks}", mint.header()).as_bytes());
            let payload = b64(format!("{}{blanks}", claims()).as_bytes());
            mint.accepts("blanks", &mint.signed(format!("{header}.{payload}").as_bytes()));
            for message in [
                other_spelling(&header).map(|other| format!("{other}.{payload}")),
                other_spelling(&payload).map(|other| format!("{header}.{other}")),
            ]
            .into_iter()
            .flatten()
            {
                spellings += 1;
                mint.invalid("unused bits that are signed", &mint.signed(message.as_bytes()));
            }
        }
        assert!(spellings >= 2);
        mint.invalid("not ASCII", &[good.as_bytes(), &[0xff, 0xfe]].concat());
    }
}

#[test]
fn json_has_one_meaning() {
    let mint = Mint::new(Algorithm::EdDSA);
    let sound = claims().to_string();
    let inner = sound.trim_matches(['{', '}']);
    for payload in [
        format!("{{{inner},\"sub\":\"mallory\"}}"),
        format!("{{\"sub\":\"mallory\",{inner}}}"),
        format!("{{{inner},\"s\\u0075b\":\"mallory\"}}"),
        format!("{{{inner},\"x\":{{\"a\":1,\"a\":2}}}}"),
        format!("[{sound}]"),
        format!("{sound}{sound}"),
        format!("{sound}x"),
        format!("\u{feff}{sound}"),
        "[]".to_owned(),
        "null".to_owned(),
        "\"x\"".to_owned(),
        String::new(),
        format!("{{{inner},\"x\":NaN}}"),
        format!("{{{inner},\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000)),
        format!("{{{inner},\"x\":\"\\ud800\"}}"),
        json!([["sub", "alice"], ["exp", LATER]]).to_string(),
    ] {
        mint.invalid(
            &payload.chars().take(80).collect::<String>(),
            &mint.token_of(mint.header().to_string().as_bytes(), payload.as_bytes()),
        );
    }
    for header in [
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","\u0061lg":"none"}"#,
        r#"["EdDSA"]"#,
        r#"[["alg","EdDSA"]]"#,
        r#"{"alg":"EdDSA"}{}"#,
        "\"EdDSA\"",
        "",
    ] {
        mint.invalid(header, &mint.token_of(header.as_bytes(), sound.as_bytes()));
    }
    let utf16: Vec<u8> = sound.encode_utf16().flat_map(u16::to_le_bytes).collect();
    mint.invalid("UTF-16", &mint.token_of(mint.header().to_string().as_bytes(), &utf16));
    let mut many = claims();
    for index in 0..bounds::MAX_TOKEN_MEMBERS {
        many[format!("m{index}")] = json!(0);
    }
    mint.invalid("many members", &mint.token(&many));
}

#[test]
fn a_limit_of_size_comes_first() {
    let mint = Mint::new(Algorithm::HS256);
    let sized = |length: usize| mint.token(&with("pad", json!("x".repeat(length))));
    let overhead = sized(0).len();
    let fitting = (bounds::MAX_TOKEN_BYTES - overhead) / 4 * 3 - 3;
    mint.accepts("as long as may be", &sized(fitting));
    mint.invalid("longer", &sized(fitting + 8));
    mint.invalid("a megabyte", &sized(1_000_000));
}

#[test]
fn times_are_checked_to_the_millisecond() {
    for mint in mints() {
        let expired = |seconds: i64| {
            json!({ "token_type": "access", "exp": NOW - seconds, "iat": NOW - seconds - 600, "nbf": NOW - seconds - 600,
                    "jti": "j", "sub": "alice", "iss": ISSUER, "aud": "api" })
        };
        for seconds in [0, 1, 2, 30, 300, 3600, 86_400] {
            assert_eq!(mint.refuses("past", &mint.token(&expired(seconds))), TokenFault::Expired);
        }
        for soon in [json!(NOW + 1), json!(seconds(NOW) + 0.5), json!(seconds(LATER) + 0.5)] {
            mint.accepts("fraction", &mint.token(&with("exp", soon)));
        }
        assert_eq!(
            mint.refuses("fraction", &mint.token(&with("exp", json!(seconds(NOW) - 3600.5)))),
            TokenFault::Expired
        );
        mint.hand.store(NOW * 1000 + 999, Ordering::Release);
        mint.accepts("the last millisecond", &mint.token(&with("exp", json!(NOW + 1))));
        mint.hand.store(NOW * 1000 + 1000, Ordering::Release);
        assert_eq!(
            mint.refuses("exp is now", &mint.token(&with("exp", json!(NOW + 1)))),
            TokenFault::Expired
        );
        mint.hand.store(NOW * 1000, Ordering::Release);
        assert_eq!(mint.refuses("no exp", &mint.token(&without("exp"))), TokenFault::MissingExpiry);
        for wrong in [
            json!(null),
            json!("never"),
            json!(LATER.to_string()),
            json!(-1),
            json!(0),
            json!(true),
            json!([LATER]),
            json!({}),
        ] {
            mint.invalid(&format!("exp {wrong}"), &mint.token(&with("exp", wrong)));
        }
        for name in ["nbf", "iat"] {
            for wrong in [json!(null), json!("1"), json!({}), json!([1]), json!(true)] {
                mint.invalid(name, &mint.token(&with(name, wrong)));
            }
            for future in [
                json!(NOW + 1),
                json!(NOW + 86_400),
                json!(seconds(NOW) + 0.5),
                json!(u64::MAX),
                json!(1e300),
            ] {
                assert_eq!(mint.refuses(name, &mint.token(&with(name, future))), TokenFault::NotYetValid);
            }
            for past in [json!(-1), json!(0), json!(NOW), json!(-1e300), json!(i64::MIN)] {
                mint.accepts(name, &mint.token(&with(name, past)));
            }
            mint.accepts(name, &mint.token(&without(name)));
        }
    }
}

#[test]
fn no_number_overflows() {
    for mint in mints() {
        let literals = [
            "1e300",
            "1e400",
            "-1e400",
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775",
            "18446744073709551556",
            "-0.0",
            "-0",
            "0.0001",
            "0x7fffffff",
            "01795001200",
            "1795001200.",
            ".5",
            "+1795001200",
            "1_795_001_200",
            "1e10",
        ];
        for literal in literals {
            let text =
                claims().to_string().replace(&format!("\"exp\":{LATER}"), &format!("\"exp\":{literal}"));
            assert!(text.contains(literal));
            let fault =
                mint.refuses(literal, &mint.token_of(mint.header().to_string().as_bytes(), text.as_bytes()));
            assert!(matches!(fault, TokenFault::Invalid(_)), "{literal}: {fault:?}");
        }
        let latest = NOW + bounds::MAX_TOKEN_LIFETIME_SECONDS;
        mint.accepts("latest", &mint.token(&with("exp", json!(latest))));
        mint.invalid("too late", &mint.token(&with("exp", json!(latest + 1))));
    }
}

#[test]
fn leeway_moves_every_time() {
    let mut mint = Mint::new(Algorithm::HS256);
    mint.tokens.leeway = Duration::from_secs(30);
    mint.accepts("expired 10 s ago", &mint.token(&with("exp", json!(NOW - 10))));
    assert_eq!(mint.refuses("40 s", &mint.token(&with("exp", json!(NOW - 40)))), TokenFault::Expired);
    assert_eq!(mint.refuses("30 s", &mint.token(&with("exp", json!(NOW - 30)))), TokenFault::Expired);
    mint.accepts("nbf in 30 s", &mint.token(&with("nbf", json!(NOW + 30))));
    assert_eq!(
        mint.refuses("nbf in 31 s", &mint.token(&with("nbf", json!(NOW + 31)))),
        TokenFault::NotYetValid
    );
    let claims =
        mint.verifier().verify(&mint.token(&with("exp", json!(NOW - 10))), Expected::Access).unwrap();
    assert_eq!(claims.valid_until_ms, (NOW + 20) * 1000);
}

#[test]
fn issuer_and_audience_are_equal_to_the_letter() {
    for mint in mints() {
        for iss in [
            json!("https://evil.test"),
            json!(1),
            json!({}),
            json!(null),
            json!([ISSUER, "https://evil.test"]),
            json!([ISSUER]),
            json!(format!("{ISSUER}/")),
            json!(ISSUER.to_uppercase()),
            json!(""),
            json!(format!("{ISSUER} ")),
        ] {
            mint.invalid(&format!("iss {iss}"), &mint.token(&with("iss", iss)));
        }
        for aud in [
            json!("other"),
            json!(1),
            json!({ "api": 1 }),
            json!(null),
            json!([]),
            json!([""]),
            json!("ap"),
            json!("api2"),
            json!([["api"]]),
            json!(["api", 1]),
            json!([1, "api"]),
            json!("API"),
            json!(""),
            json!([null]),
        ] {
            mint.invalid(&format!("aud {aud}"), &mint.token(&with("aud", aud)));
        }
        for name in ["iss", "aud"] {
            mint.invalid(name, &mint.token(&without(name)));
        }
    }
    let mut mint = Mint::new(Algorithm::HS256);
    (mint.tokens.issuer, mint.tokens.audience) = (None, Vec::new());
    for value in [json!("elsewhere"), json!(1), json!(null), json!([1])] {
        mint.accepts("iss unasked", &mint.token(&with("iss", value.clone())));
        mint.accepts("aud unasked", &mint.token(&with("aud", value)));
    }
}

#[test]
fn the_kind_of_a_token_is_binding() {
    for mint in mints() {
        for kind in [
            json!("refresh"),
            json!("id"),
            json!("reset"),
            json!("REFRESH"),
            json!("Access"),
            json!(""),
            json!(null),
            json!(1),
            json!(["access"]),
        ] {
            assert_eq!(
                mint.refuses(&kind.to_string(), &mint.token(&with("token_type", kind))),
                TokenFault::WrongType
            );
        }
        assert_eq!(mint.refuses("no kind", &mint.token(&without("token_type"))), TokenFault::MissingType);
        let access = mint.token(&claims());
        assert_eq!(mint.verifier().verify(&access, Expected::Refresh), Err(TokenFault::WrongType));
        let refresh = mint.token(&with("token_type", json!("refresh")));
        assert!(mint.verifier().verify(&refresh, Expected::Refresh).is_ok());
    }
}

#[test]
fn identifiers_are_required_and_sound() {
    let mint = Mint::new(Algorithm::HS256);
    let long = "x".repeat(bounds::MAX_IDENTIFIER_BYTES);
    assert_eq!(mint.refuses("jti", &mint.token(&without("jti"))), TokenFault::MissingId);
    assert_eq!(mint.refuses("sub", &mint.token(&without("sub"))), TokenFault::MissingUser);
    assert_eq!(mint.refuses("sub", &mint.token(&with("sub", json!(null)))), TokenFault::MissingUser);
    for name in ["jti", "sid", "sub"] {
        for wrong in [
            json!(true),
            json!([]),
            json!(["a"]),
            json!({}),
            json!(1.5),
            json!(1e300),
            json!(""),
            json!("a\0"),
            json!("a\r\nX: 1"),
            json!("a\u{7f}"),
            json!("a\u{80}"),
            json!("a\u{9f}"),
            json!("a\tb"),
            json!(format!("{long}x")),
            json!("é".repeat(128)),
        ] {
            mint.invalid(&format!("{name} {wrong}"), &mint.token(&with(name, wrong)));
        }
        mint.accepts(name, &mint.token(&with(name, json!(long))));
        mint.accepts(name, &mint.token(&with(name, json!("zoë"))));
    }
    for name in ["jti", "sid"] {
        mint.invalid(name, &mint.token(&with(name, json!(1))));
    }
    mint.invalid("sid", &mint.token(&with("sid", json!(null))));
    for wrong in [" a", "a ", "\u{a0}a", "a\u{2003}", " ", "\u{3000}"] {
        mint.invalid(wrong, &mint.token(&with("sub", json!(wrong))));
    }
    for (number, text) in [(json!(1), "1"), (json!(-7), "-7"), (json!(u64::MAX), "18446744073709551615")] {
        assert_eq!(mint.accepts(text, &mint.token(&with("sub", number))).user_id, text);
    }
    let claims = mint.accepts("sid", &mint.token(&with("sid", json!("s1"))));
    assert_eq!(claims.session.as_deref(), Some("s1"));
    assert_eq!(claims.other.keys().collect::<Vec<_>>(), ["aud", "iss", "nbf"]);
}

#[test]
fn several_faults_get_the_message_of_simplejwt() {
    let mint = Mint::new(Algorithm::HS256);
    let several = |members: Value| mint.refuses("several", &mint.token(&members));
    assert_eq!(several(json!({ "iss": ISSUER, "aud": "api" })), TokenFault::MissingExpiry);
    assert_eq!(several(json!({ "iss": ISSUER, "aud": "api", "exp": LATER })), TokenFault::MissingId);
    assert_eq!(
        several(json!({ "iss": ISSUER, "aud": "api", "exp": LATER, "jti": "j" })),
        TokenFault::MissingType
    );
    assert_eq!(several(json!({ "exp": 1 })), TokenFault::Expired);
    assert!(matches!(several(json!({ "exp": LATER, "token_type": "refresh" })), TokenFault::Invalid(_)));
    assert_eq!(TokenFault::NotYetValid.message(), "Token is invalid");
    assert_eq!(TokenFault::NotYetValid.reason(), Reason::TokenNotYetValid);
    assert_eq!(TokenFault::MissingExpiry.message(), "Token has no 'exp' claim");
}

#[test]
fn keys_rotate_without_falling_back() {
    let (clock, hand) = Clock::manual(NOW * 1000);
    let mut old = secret_key("old", Algorithm::HS256, &[1; 32]);
    let new = secret_key("new", Algorithm::HS256, &[2; 32]);
    let before = Arc::new(KeyRing::load(&settings(vec![old.clone()]), &clock).unwrap());
    let user = User { id: "1".into(), name: "alice".into(), email: None, groups: Vec::new() };
    let issued = Issuer::new(before, &settings(Vec::new())).login(&user, &grant("s")).unwrap().access;
    old.verify_until = Some(NOW + 60);
    let tokens = settings(vec![new, old]);
    let ring = Arc::new(KeyRing::load(&tokens, &clock).unwrap());
    let verifier = Verifier::new(Arc::clone(&ring), &tokens, clock);
    assert!(verifier.verify(issued.as_bytes(), Expected::Access).is_ok());
    let payload = b64(json!({ "token_type": "access", "exp": LATER, "jti": "j", "user_id": "1" })
        .to_string()
        .as_bytes());
    let minted = |header: Value, kid: &str| {
        let message = format!("{}.{payload}", b64(header.to_string().as_bytes()));
        let secret = if kid == "old" { [1; 32] } else { [2; 32] };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        format!("{message}.{}", b64(tag.as_ref())).into_bytes()
    };
    let passes = |token: &[u8]| verifier.verify(token, Expected::Access).is_ok();
    // Without kid every key of the algorithm is tried; with kid only that one, and an unknown kid is nobody's.
    assert!(
        passes(&minted(json!({ "alg": "HS256" }), "old"))
            && passes(&minted(json!({ "alg": "HS256" }), "new"))
    );
    assert!(passes(&minted(json!({ "alg": "HS256", "kid": "new" }), "new")));
    assert!(!passes(&minted(json!({ "alg": "HS256", "kid": "new" }), "old")));
    assert!(!passes(&minted(json!({ "alg": "HS256", "kid": "gone" }), "new")));
    hand.store((NOW + 60) * 1000, Ordering::Release);
    assert!(!passes(issued.as_bytes()));
    assert!(!passes(&minted(json!({ "alg": "HS256" }), "old")));
    assert!(passes(&minted(json!({ "alg": "HS256" }), "new")));
}

fn decoded(token: &str, part: usize) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn grant(session: &str) -> Grant {
    let refresh = NewRefresh { jti: "r1".to_owned(), issued_at: NOW, expires_at: NOW + 86_400 };
    let (session, access_expires_at) = (session.to_owned(), NOW + 1800);
    Grant { session, issued_at: NOW, access_expires_at, refresh: Some(refresh) }
}

fn alice() -> User {
    let groups = vec!["admin".to_owned(), "finance".to_owned()];
    User { id: "7".into(), name: "alice".into(), email: Some("a@example.com".into()), groups }
}

#[test]
fn issued_tokens_have_the_claims_of_simplejwt_in_its_order() {
    let mut mint = Mint::new(Algorithm::EdDSA);
    mint.tokens.claims = vec![UserField::Groups, UserField::Email];
    mint.tokens.user_id_claim = "user_id".to_owned();
    let issuer = Issuer::new(Arc::clone(&mint.ring), &mint.tokens);
    let pair = issuer.login(&alice(), &grant("s1")).unwrap();
    assert_eq!(decoded(&pair.access, 0), r#"{"alg":"EdDSA","typ":"JWT","kid":"rig"}"#);
    let verifier = mint.verifier();
    let access = verifier.verify(pair.access.as_bytes(), Expected::Access).unwrap();
    let refresh = verifier.verify(pair.refresh.as_ref().unwrap().as_bytes(), Expected::Refresh).unwrap();
    let (jti, sid) = (&access.jti, access.session.as_ref().unwrap());
    assert_eq!(
        decoded(&pair.access, 1),
        format!(
            r#"{{"token_type":"access","exp":{},"iat":{NOW},"jti":"{jti}","user_id":"7","sid":"{sid}","groups":["admin","finance"],"email":"a@example.com","aud":"api","iss":"{ISSUER}"}}"#,
            NOW + 1800
        )
    );
    assert_eq!((refresh.session.as_ref(), refresh.expires_at_ms), (Some(sid), (NOW + 86_400) * 1000));
    assert!(refresh.jti != access.jti && jti.len() == 32 && sid == "s1");
    assert!(!refresh.other.contains_key("groups"));
    assert!(!format!("{pair:?}").contains(&pair.access));
}

#[test]
fn a_refresh_reads_the_user_again_and_keeps_the_rest() {
    let mut mint = Mint::new(Algorithm::HS256);
    mint.tokens.claims = vec![UserField::Groups, UserField::Email];
    let issuer = Issuer::new(Arc::clone(&mint.ring), &mint.tokens);
    let mut old = claims();
    for (name, value) in [
        ("token_type", json!("refresh")),
        ("sub", json!("7")),
        ("sid", json!("s1")),
        ("role", json!({ "a": [1] })),
        ("groups", json!(["stale"])),
        ("email", json!("stale@example.com")),
    ] {
        old[name] = value;
    }
    let verifier = mint.verifier();
    let refresh = verifier.verify(&mint.token(&old), Expected::Refresh).unwrap();
    let user = User { email: None, ..alice() };
    let pair = issuer.refresh(&refresh, &user, &grant("s1")).unwrap();
    let (access, successor) = (pair.access, pair.refresh.unwrap());
    // Decided once, a refresh token is the same however often it is issued.
    let again = issuer.refresh(&refresh, &user, &grant("s1")).unwrap();
    assert_eq!(again.refresh.as_ref(), Some(&successor));
    let successor = verifier.verify(successor.as_bytes(), Expected::Refresh).unwrap();
    assert_eq!((successor.jti.as_str(), successor.other.get("role")), ("r1", Some(&json!({ "a": [1] }))));
    let access = verifier.verify(access.as_bytes(), Expected::Access).unwrap();
    assert_eq!((access.user_id.as_str(), access.session.as_deref()), ("7", Some("s1")));
    assert_ne!(access.jti, refresh.jti);
    assert_eq!(access.other.get("role"), Some(&json!({ "a": [1] })));
    assert_eq!(access.other.get("groups"), Some(&json!(["admin", "finance"])));
    assert!(!access.other.contains_key("email") && !access.other.contains_key("nbf"));
    let many = User { groups: (0..2000).map(|index| format!("group-{index}")).collect(), ..alice() };
    assert!(matches!(issuer.login(&many, &grant("s1")), Err(IssueError::TooLong)));
}

#[test]
fn several_audiences_are_a_list() {
    let mut mint = Mint::new(Algorithm::HS256);
    mint.tokens.audience = vec!["api".to_owned(), "web".to_owned()];
    let issuer = Issuer::new(Arc::clone(&mint.ring), &mint.tokens);
    let pair = issuer.login(&alice(), &grant("s1")).unwrap();
    assert!(decoded(&pair.access, 1).contains(r#""aud":["api","web"]"#));
    mint.accepts("list", pair.access.as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mint = Mint::new(Algorithm::HS256);
        prop_assert!(mint.verify(&bytes).is_err());
    }

    #[test]
    fn no_signed_bytes_make_it_panic(header in "\\{(\"(alg|kid|typ|crit)\":(\"HS256\"|1|null|\\[\\]),?){0,3}\\}", payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let mint = Mint::new(Algorithm::HS256);
        let _ = mint.verify(&mint.token_of(header.as_bytes(), &payload));
        let _ = mint.verify(&mint.token_of(mint.header().to_string().as_bytes(), &payload));
    }

    #[test]
    fn no_claims_make_it_panic(name in "exp|iat|nbf|sub|jti|sid|aud|iss|token_type", number in any::<f64>(), text in any::<String>(), integer in any::<i64>()) {
        let mint = Mint::new(Algorithm::HS256);
        for value in [json!(number), json!(text), json!(integer), json!([text]), json!({ text: number })] {
            let _ = mint.verify(&mint.token(&with(&name, value)));
        }
    }

    #[test]
    fn a_changed_token_never_passes(at in 0_usize..400, byte in any::<u8>()) {
        let mint = Mint::new(Algorithm::HS256);
        let mut token = mint.token(&claims());
        let at = at % token.len();
        prop_assume!(token[at] != byte);
        token[at] = byte;
        prop_assert!(mint.verify(&token).is_err());
    }
}
