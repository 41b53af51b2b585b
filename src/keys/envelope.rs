//! Keys at rest: encrypted under a key-encryption key, and bound to what they are the key of.
//!
//! A sealed key is one byte of version, the id of the key-encryption key, a random nonce, and what AES-256-GCM makes of the
//! key. Version, both ids and the algorithm are authenticated with it, so that a row cannot take the place of another one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use super::KeyFault;
use crate::base::algorithm::Algorithm;
use crate::base::secret::Secret;

/// The only form that there is.
const VERSION: u8 = 1;
/// Bytes of what tells key-encryption keys apart.
const ID_BYTES: usize = 8;
const AES_KEY_BYTES: usize = 32;
/// What keys are derived for (RFC 5869), so that the same secret used elsewhere makes others.
const PURPOSE: &[u8] = b"tollgate key encryption 1";

/// What keys in the store are encrypted with. It is never shown.
pub(super) struct Kek {
    key: RandomizedNonceKey,
    id: [u8; ID_BYTES],
}

/// How many bytes are derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Kek {
    /// The one that is made of a configured secret.
    pub(super) fn of(secret: &Secret) -> Result<Self, KeyFault> {
        let derived = Salt::new(HKDF_SHA256, PURPOSE).extract(secret.expose());
        let mut bytes = Zeroizing::new([0; AES_KEY_BYTES]);
        derive(&derived, b"AES-256-GCM", &mut *bytes)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*bytes).map_err(|_| KeyFault::NotSealed)?;
        let mut id = [0; ID_BYTES];
        derive(&derived, b"id", &mut id)?;
        Ok(Self { key, id })
    }

    /// Seals the key of this id and algorithm.
    pub(super) fn seal(&self, kid: &str, algorithm: Algorithm, key: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let mut inside = Zeroizing::new(key.to_vec());
        inside.reserve_exact(AES_256_GCM.tag_len());
        let bound = Aad::from(bound(self.id, kid, algorithm));
        let nonce = self.key.seal_in_place_append_tag(bound, &mut *inside);
        let nonce = nonce.map_err(|_| KeyFault::NotSealed)?;
        Ok([&[VERSION], self.id.as_slice(), nonce.as_ref(), inside.as_slice()].concat())
    }

    /// Opens what was sealed for this id and algorithm.
    pub(super) fn open(
        &self,
        kid: &str,
        algorithm: Algorithm,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let (&version, rest) = sealed.split_first().ok_or(KeyFault::Altered)?;
        if version != VERSION {
            return Err(KeyFault::UnknownSeal);
        }
        let (id, rest) = rest.split_at_checked(ID_BYTES).ok_or(KeyFault::Altered)?;
        if id != self.id {
            return Err(KeyFault::OtherEncryptionKey);
        }
        let (nonce, inside) = rest.split_at_checked(NONCE_LEN).ok_or(KeyFault::Altered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyFault::Altered)?;
        let mut inside = Zeroizing::new(inside.to_vec());
        let bound = Aad::from(bound(self.id, kid, algorithm));
        let opened = self.key.open_in_place(nonce, bound, &mut inside).map_err(|_| KeyFault::Altered)?;
        Ok(Zeroizing::new(opened.to_vec()))
    }
}

fn derive(derived: &Prk, what: &[u8], out: &mut [u8]) -> Result<(), KeyFault> {
    let filled = derived.expand(&[what], Length(out.len())).and_then(|made| made.fill(out));
    filled.map_err(|_| KeyFault::NotSealed)
}

/// What a sealed key is bound to. The lengths are known but for that of the key id, which ends with a byte that is in no
/// name of an algorithm.
fn bound(id: [u8; ID_BYTES], kid: &str, algorithm: Algorithm) -> Vec<u8> {
    [&[VERSION], id.as_slice(), algorithm.name().as_bytes(), &[0], kid.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn kek(secret: &str) -> Kek {
        Kek::of(&Secret::new(secret)).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_and_shows_nothing_of_it() {
        let kek = kek(SECRET);
        let sealed = kek.seal("k", Algorithm::EdDSA, b"a private key").unwrap();
        assert_eq!(*kek.open("k", Algorithm::EdDSA, &sealed).unwrap(), b"a private key");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        // A nonce is never used twice.
        assert_ne!(sealed, kek.seal("k", Algorithm::EdDSA, b"a private key").unwrap());
        // The same secret is the same key-encryption key, on every gateway and in every run.
        assert!(self::kek(SECRET).open("k", Algorithm::EdDSA, &sealed).is_ok());
    }

    #[test]
    fn it_is_the_key_of_one_id_and_one_algorithm() {
        let kek = kek(SECRET);
        let sealed = kek.seal("k", Algorithm::ES256, b"a private key").unwrap();
        for (kid, algorithm) in [("l", Algorithm::ES256), ("", Algorithm::ES256), ("k", Algorithm::ES384)] {
            let opened = kek.open(kid, algorithm, &sealed);
            assert!(matches!(opened, Err(KeyFault::Altered)), "{kid} {algorithm}");
        }
    }

    #[test]
    fn every_byte_counts() {
        let kek = kek(SECRET);
        let sealed = kek.seal("k", Algorithm::EdDSA, b"a private key").unwrap();
        for place in 0..sealed.len() {
            let mut other = sealed.clone();
            other[place] ^= 1;
            let fault = kek.open("k", Algorithm::EdDSA, &other).unwrap_err();
            let expected = match place {
                0 => matches!(fault, KeyFault::UnknownSeal),
                1..=ID_BYTES => matches!(fault, KeyFault::OtherEncryptionKey),
                _ => matches!(fault, KeyFault::Altered),
            };
            assert!(expected, "byte {place}: {fault:?}");
            let cut = kek.open("k", Algorithm::EdDSA, &sealed[..place]).unwrap_err();
            assert!(matches!(cut, KeyFault::Altered), "{place} bytes: {cut:?}");
        }
    }

    #[test]
    fn another_key_encryption_key_is_told_from_an_altered_row() {
        let sealed = kek(SECRET).seal("k", Algorithm::EdDSA, b"a private key").unwrap();
        let other = kek("another secret of 32 bytes......").open("k", Algorithm::EdDSA, &sealed);
        assert!(matches!(other, Err(KeyFault::OtherEncryptionKey)));
    }
}
