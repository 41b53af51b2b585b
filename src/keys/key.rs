//! One key: what it signs and verifies, and its public half.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, crypto};
use serde_json::{Value, json};

use super::KeyFault;
use super::stored::Schedule;
use crate::base::algorithm::Algorithm;
use crate::base::secret::Secret;

/// A key with its id and its one algorithm.
#[derive(Debug)]
pub struct Key {
    kid: Arc<str>,
    algorithm: Algorithm,
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
    public: Option<Public>,
    verify_until: Option<i64>,
    /// `None` for a key that is in no store.
    schedule: Option<Schedule>,
    exposed: bool,
}

/// The public half of an asymmetric key, as the numbers that a JSON Web Key holds (RFC 7518 section 6, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    /// Modulus and exponent.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// The coordinates of a point, of equal length.
    Ec { curve: &'static str, x: Vec<u8>, y: Vec<u8> },
    /// An Ed25519 key.
    Ed { x: Vec<u8> },
}

/// The cryptographic library would not sign.
#[derive(Debug)]
pub struct SigningFailed;

impl fmt::Display for SigningFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key could not sign")
    }
}

impl std::error::Error for SigningFailed {}

impl Key {
    /// A symmetric key: the raw bytes of the secret.
    pub(super) fn from_secret(kid: &str, algorithm: Algorithm, secret: &Secret) -> Result<Self, KeyFault> {
        if !algorithm.is_symmetric() {
            return Err(KeyFault::WrongKind { found: "shared secret", algorithm });
        }
        Ok(Self {
            kid: kid.into(),
            algorithm,
            signing: Some(EncodingKey::from_secret(secret.expose())),
            exposed: false,
            verifying: DecodingKey::from_secret(secret.expose()),
            public: None,
            verify_until: None,
            schedule: None,
        })
    }

    /// An asymmetric key; without a private half it only verifies.
    pub(super) fn asymmetric(
        kid: &str,
        algorithm: Algorithm,
        public: Public,
        signing: Option<EncodingKey>,
    ) -> Result<Self, KeyFault> {
        let verifying = public.decoding_key();
        let key = Self {
            kid: kid.into(),
            algorithm,
            signing,
            exposed: false,
            verifying,
            public: Some(public),
            verify_until: None,
            schedule: None,
        };
        // A key whose halves do not belong together is found at the start, not with the first token.
        let probe = b"tollgate";
        if key.signing.is_some() && !key.sign(probe).is_ok_and(|signature| key.verifies(probe, &signature)) {
            return Err(KeyFault::Broken);
        }
        Ok(key)
    }

    /// The same key, which verifies until this time only, in seconds since 1970.
    pub(super) fn until(self, verify_until: Option<i64>) -> Self {
        Self { verify_until, ..self }
    }

    /// The same key of the store, which signs and ends by this.
    pub(super) fn scheduled(self, schedule: Schedule) -> Self {
        Self { schedule: Some(schedule), ..self }
    }

    /// The same key, out of a file that everybody on the machine may read or not.
    pub(super) fn exposed(self, exposed: bool) -> Self {
        Self { exposed, ..self }
    }

    /// Whether everybody on the machine may read this private key.
    pub fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key id, to be kept.
    pub fn shared_kid(&self) -> Arc<str> {
        Arc::clone(&self.kid)
    }

    /// When it signs and ends, for a key of the store.
    pub fn schedule(&self) -> Option<Schedule> {
        self.schedule
    }

    /// The one algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether its time to verify is over.
    pub fn is_retired(&self, now_unix_ms: i64) -> bool {
        self.retires_at_ms() <= now_unix_ms
    }

    /// When its time to verify is over, in milliseconds since 1970; the end of time for a key that does not retire.
    pub fn retires_at_ms(&self) -> i64 {
        let scheduled = self.schedule.and_then(|schedule| schedule.retires_at_ms);
        let configured = self.verify_until.map(|until| until.saturating_mul(1000));
        scheduled.unwrap_or(i64::MAX).min(configured.unwrap_or(i64::MAX))
    }

    /// Why this key may not be the one that signs.
    pub(super) fn signing_fault(&self) -> Option<KeyFault> {
        if self.signing.is_none() {
            Some(KeyFault::PublicOnly)
        } else if self.verify_until.is_some() {
            Some(KeyFault::Retiring)
        } else {
            None
        }
    }

    /// Signs with the key's own algorithm. The signature is base64url without padding.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`], also for a key that only verifies.
    pub fn sign(&self, message: &[u8]) -> Result<String, SigningFailed> {
        let key = self.signing.as_ref().ok_or(SigningFailed)?;
        crypto::sign(message, key, library_name(self.algorithm)).map_err(|_| SigningFailed)
    }

    /// Whether this base64url signature is one of this key over the message, by the key's own algorithm.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.verifying, library_name(self.algorithm)).unwrap_or(false)
    }

    /// Whether it does what the other one does: the same signatures pass, under the same id, until the same time.
    pub fn is_same(&self, other: &Self) -> bool {
        let told = |key: &Self| {
            let ends = (key.verify_until, key.schedule);
            (Arc::clone(&key.kid), key.algorithm, ends, key.exposed, key.signing.is_some())
        };
        if told(self) != told(other) || self.public != other.public {
            return false;
        }
        // A private half belongs to its public one. A shared secret has none, and shows by what it signs.
        let probe = b"tollgate";
        self.public.is_some() || self.sign(probe).is_ok_and(|signature| other.verifies(probe, &signature))
    }

    /// The public half as a JSON Web Key; none for a symmetric key.
    pub(super) fn public_jwk(&self) -> Option<Value> {
        let mut jwk = self.public.as_ref()?.jwk();
        let members = jwk.as_object_mut()?;
        members.insert("kid".to_owned(), Value::from(&*self.kid));
        members.insert("alg".to_owned(), Value::from(self.algorithm.name()));
        members.insert("use".to_owned(), Value::from("sig"));
        Some(jwk)
    }
}

impl Public {
    fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
            Self::Ec { x, y, .. } => DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()),
            Self::Ed { x } => DecodingKey::from_ed_der(x),
        }
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa { n, e } => json!({ "kty": "RSA", "n": text(n), "e": text(e) }),
            Self::Ec { curve, x, y } => json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) }),
            Self::Ed { x } => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(x) }),
        }
    }
}

/// The library's name of the algorithm.
pub(super) fn library_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
    }
}
