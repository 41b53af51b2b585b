//! Keys of every kind, sound and not. They are made anew in every run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::base::ids;
use crate::base::secret::Secret;

/// A directory of one test, which is removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-keys-{}", ids::random_id().unwrap()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn rsa_pkcs8() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec()
    })
}

/// A new private key in PKCS#8, and its public half as `SubjectPublicKeyInfo`.
pub(crate) fn pair(algorithm: Algorithm) -> (Vec<u8>, Vec<u8>) {
    match algorithm {
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
            (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), [&prefix, pair.public_key().as_ref()].concat())
        }
        Algorithm::ES256 | Algorithm::ES384 => {
            let large = algorithm == Algorithm::ES384;
            let kind =
                if large { &ECDSA_P384_SHA384_FIXED_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING };
            let pair = EcdsaKeyPair::generate(kind).unwrap();
            let public =
                AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
            (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
        }
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::HS256
        | Algorithm::HS384
        | Algorithm::HS512 => {
            let pair = rsa::KeyPair::from_pkcs8(rsa_pkcs8()).unwrap();
            let public =
                AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
            (rsa_pkcs8().to_vec(), public.as_ref().to_vec())
        }
    }
}

/// `[tokens]` with its defaults and these keys.
pub(crate) fn settings(keys: Vec<config::Key>) -> config::Tokens {
    config::Tokens {
        issuer: None,
        audience: Vec::new(),
        access_lifetime: Duration::from_mins(30),
        refresh_lifetime: Duration::from_hours(24),
        session_lifetime: None,
        rotate_refresh: false,
        reuse_grace: Duration::from_secs(30),
        stream_grace: Duration::ZERO,
        leeway: Duration::ZERO,
        user_id_claim: "user_id".to_owned(),
        claims: Vec::new(),
        path: "/api/token".to_owned(),
        realm: "api".to_owned(),
        keys,
        key_encryption_key: None,
        key_rotation_delay: Duration::from_mins(10),
        key_directory: PathBuf::from("/nonexistent/keys"),
        limits: Vec::new(),
    }
}

pub(crate) fn secret_key(kid: &str, algorithm: Algorithm, secret: &[u8]) -> config::Key {
    let material = config::KeyMaterial::Secret(Secret::new(secret));
    config::Key { kid: kid.to_owned(), algorithm, material, verify_until: None }
}

pub(crate) fn file_key(kid: &str, algorithm: Algorithm, path: PathBuf) -> config::Key {
    let material = config::KeyMaterial::PemFile(path);
    config::Key { kid: kid.to_owned(), algorithm, material, verify_until: None }
}

fn load(keys: Vec<config::Key>) -> Result<KeyRing, KeyError> {
    KeyRing::load(&settings(keys), &Clock::manual(1_000_000).0)
}

fn fault_of(algorithm: Algorithm, text: &str) -> KeyFault {
    let folder = Folder::new();
    let path = folder.write("k.pem", text);
    match load(vec![file_key("k1", algorithm, path)]) {
        Err(KeyError::Key { kid, file: Some(_), fault }) if kid == "k1" => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_algorithm_signs_and_its_public_half_verifies() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        let folder = Folder::new();
        let (private, public) = pair(algorithm);
        let private = file_key("private", algorithm, folder.write("a.pem", &pem("PRIVATE KEY", &private)));
        let public = file_key("public", algorithm, folder.write("b.pem", &pem("PUBLIC KEY", &public)));
        let ring = load(vec![private, public]).unwrap();
        let signature = ring.signer().sign(b"message").unwrap();
        for key in ring.keys() {
            assert!(key.verifies(b"message", &signature), "{algorithm}");
            assert!(!key.verifies(b"massage", &signature), "{algorithm}");
            assert!(!key.verifies(b"message", "") && !key.verifies(b"message", "!"), "{algorithm}");
        }
        assert!(ring.find("public").unwrap().sign(b"message").is_err());
    }
}

#[test]
fn keys_that_openssl_writes_in_older_forms_are_read() {
    let (rsa, _) = pair(Algorithm::RS256);
    // PKCS#8 wraps PKCS#1 and SEC1 keys as its last octet string.
    let pkcs1 = rsa.get(26..).unwrap();
    let (ec, _) = pair(Algorithm::ES256);
    let sec1 = ec.get(29..).unwrap();
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (algorithm, text) in [
        (Algorithm::PS256, pem("RSA PRIVATE KEY", pkcs1)),
        (Algorithm::ES256, pem("EC PRIVATE KEY", sec1)),
        (Algorithm::ES256, format!("{parameters}{}", pem("EC PRIVATE KEY", sec1))),
    ] {
        let folder = Folder::new();
        load(vec![file_key("k", algorithm, folder.write("k.pem", &text))]).unwrap();
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_by_name() {
    let private = |algorithm| pem("PRIVATE KEY", &pair(algorithm).0);
    assert!(matches!(
        fault_of(Algorithm::ES256, &private(Algorithm::ES384)),
        KeyFault::WrongKind { found: "EC P-384", .. }
    ));
    assert!(matches!(fault_of(Algorithm::ES384, &private(Algorithm::ES256)), KeyFault::WrongKind { .. }));
    assert!(matches!(
        fault_of(Algorithm::ES256, &private(Algorithm::RS256)),
        KeyFault::WrongKind { found: "RSA", .. }
    ));
    assert!(matches!(fault_of(Algorithm::EdDSA, &private(Algorithm::ES256)), KeyFault::WrongKind { .. }));
    assert!(matches!(
        fault_of(Algorithm::PS512, &private(Algorithm::EdDSA)),
        KeyFault::WrongKind { found: "Ed25519", .. }
    ));
    assert!(matches!(fault_of(Algorithm::HS256, &private(Algorithm::EdDSA)), KeyFault::WrongKind { .. }));
    let public = pem("PUBLIC KEY", &pair(Algorithm::EdDSA).1);
    assert!(matches!(fault_of(Algorithm::EdDSA, &public), KeyFault::PublicOnly));
    assert!(matches!(fault_of(Algorithm::EdDSA, ""), KeyFault::NotPem));
    assert!(matches!(fault_of(Algorithm::EdDSA, "hunter2"), KeyFault::NotPem));
    assert!(matches!(fault_of(Algorithm::EdDSA, &pem("PRIVATE KEY", b"x")), KeyFault::WrongKind { .. }));
    assert!(matches!(fault_of(Algorithm::EdDSA, &pem("CERTIFICATE", b"x")), KeyFault::NotAKey));
    assert!(matches!(fault_of(Algorithm::EdDSA, &pem("ENCRYPTED PRIVATE KEY", b"x")), KeyFault::Encrypted));
    let cut = private(Algorithm::EdDSA).replace("-----END PRIVATE KEY-----", "");
    assert!(matches!(fault_of(Algorithm::EdDSA, &cut), KeyFault::NotPem));
}

#[test]
fn damaged_and_short_keys_are_refused() {
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        let (private, public) = pair(algorithm);
        let short = private.get(..private.len() - 3).unwrap();
        assert!(matches!(fault_of(algorithm, &pem("PRIVATE KEY", short)), KeyFault::Broken), "{algorithm}");
        let short = public.get(..public.len() - 3).unwrap();
        assert!(matches!(fault_of(algorithm, &pem("PUBLIC KEY", short)), KeyFault::Broken), "{algorithm}");
    }
    let (_, mut off_curve) = pair(Algorithm::ES256);
    *off_curve.last_mut().unwrap() ^= 1;
    assert!(matches!(fault_of(Algorithm::ES256, &pem("PUBLIC KEY", &off_curve)), KeyFault::Broken));
    // The public half of a 1024-bit key.
    let weak = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDEV7nMFDd9/dzi4TF15EBRk+jqEe5D0plYTUUrT8jnX4LjKRgUCwEQdyQ4PEw80kDv1a8PqAc4vuxl9DnM2gBGQkz/Ma3u2+3rcq4uiTp3LHTsxMkBhXKz+cgMPiVzFk8uPDE/4i80FvM3QwRxuX+JoZMDu7yo4bwC3VUuM2LjhwIDAQAB";
    let text = format!("-----BEGIN PUBLIC KEY-----\n{weak}\n-----END PUBLIC KEY-----\n");
    assert!(matches!(fault_of(Algorithm::RS256, &text), KeyFault::RsaTooSmall));
}

#[test]
fn errors_name_key_and_file_and_no_key_bytes() {
    let folder = Folder::new();
    let text = pem("PRIVATE KEY", &pair(Algorithm::ES384).0);
    let path = folder.write("wrong.pem", &text);
    let error = load(vec![file_key("2026-11", Algorithm::ES256, path)]).unwrap_err();
    let words = format!("{error} {error:?}");
    assert!(words.contains("2026-11") && words.contains("wrong.pem") && words.contains("P-384"), "{words}");
    assert!(!words.contains(&text[40..60]));
    let missing = load(vec![file_key("k", Algorithm::ES256, folder.0.join("none.pem"))]).unwrap_err();
    assert!(matches!(missing, KeyError::Key { fault: KeyFault::Unreadable(_), .. }));
    assert!(std::error::Error::source(&missing).is_some());
}

#[test]
fn a_private_key_that_everybody_may_read_is_told_of() {
    let folder = Folder::new();
    let (private, public) = pair(Algorithm::EdDSA);
    let (a, b) =
        (folder.write("a", &pem("PRIVATE KEY", &private)), folder.write("b", &pem("PUBLIC KEY", &public)));
    for path in [&a, &b] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let keys =
        || vec![file_key("a", Algorithm::EdDSA, a.clone()), file_key("b", Algorithm::EdDSA, b.clone())];
    let exposed = |ring: &KeyRing| ring.keys().map(Key::is_exposed).collect::<Vec<_>>();
    assert_eq!(exposed(&load(keys()).unwrap()), [true, false]);
    fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(exposed(&load(keys()).unwrap()), [false, false]);
}

#[test]
fn a_retiring_key_never_signs_and_leaves_the_published_set() {
    let folder = Folder::new();
    let path = folder.write("a", &pem("PRIVATE KEY", &pair(Algorithm::EdDSA).0));
    let mut retiring = file_key("old", Algorithm::EdDSA, path.clone());
    retiring.verify_until = Some(2_000);
    assert!(matches!(load(vec![retiring.clone()]), Err(KeyError::Key { fault: KeyFault::Retiring, .. })));
    let first = secret_key("hs", Algorithm::HS256, &[7; 32]);
    let (clock, hand) = Clock::manual(1_999_999);
    let ring = KeyRing::load(&settings(vec![first, retiring]), &clock).unwrap();
    assert!(!ring.find("old").unwrap().is_retired(1_999_999));
    let set: Value = serde_json::from_str(&ring.jwks_json()).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1, "symmetric keys are never published");
    assert_eq!((&set["keys"][0]["kid"], &set["keys"][0]["use"]), (&json!("old"), &json!("sig")));
    hand.store(2_000_000, Ordering::Release);
    assert!(ring.find("old").unwrap().is_retired(2_000_000));
    assert_eq!(ring.jwks_json(), r#"{"keys":[]}"#);
}

#[test]
fn the_published_set_has_public_members_only() {
    let folder = Folder::new();
    let keys = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::PS384].map(|algorithm| {
        let path = folder.write(algorithm.name(), &pem("PRIVATE KEY", &pair(algorithm).0));
        file_key(algorithm.name(), algorithm, path)
    });
    let set: Value = serde_json::from_str(&load(keys.to_vec()).unwrap().jwks_json()).unwrap();
    let members = |index: usize| set["keys"][index].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(0), ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(members(1), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(members(3), ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!((&set["keys"][2]["crv"], &set["keys"][2]["alg"]), (&json!("P-384"), &json!("ES384")));
    // A library that reads key sets understands them and verifies with them.
    let known: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set.clone()).unwrap();
    assert_eq!(known.keys.len(), 4);
}

#[test]
fn without_keys_one_is_generated_and_kept() {
    let folder = Folder::new();
    let mut tokens = settings(Vec::new());
    tokens.key_directory = folder.0.join("data").join("keys");
    let clock = Clock::manual(0).0;
    let first = KeyRing::load(&tokens, &clock).unwrap();
    assert_eq!(first.signer().algorithm(), Algorithm::EdDSA);
    let path = tokens.key_directory.join(format!("{}.pem", first.signer().kid()));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&tokens.key_directory).unwrap().permissions().mode() & 0o777, 0o700);
    let second = KeyRing::load(&tokens, &clock).unwrap();
    assert_eq!(first.jwks_json(), second.jwks_json());
}

#[test]
fn starters_at_the_same_time_agree_on_one_key() {
    let folder = Folder::new();
    let mut tokens = settings(Vec::new());
    tokens.key_directory = folder.0.join("keys");
    let sets: Vec<String> = std::thread::scope(|scope| {
        let start = || KeyRing::load(&tokens, &Clock::System).unwrap().jwks_json();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(sets.windows(2).all(|two| two[0] == two[1]));
    assert_eq!(fs::read_dir(&tokens.key_directory).unwrap().count(), 2, "the key and the lock");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    let mut tokens = settings(Vec::new());
    tokens.key_directory = folder.write("file", "").join("keys");
    assert!(matches!(KeyRing::load(&tokens, &Clock::System), Err(KeyError::Directory { .. })));
}
