//! What a hash costs: its kind and parameters, which decide how long it takes.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};

use super::{BCRYPT_MEMORY_KIB, StoredHash, foreign};

/// The digest of PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pbkdf2Digest {
    /// SHA-256.
    Sha256,
    /// SHA-1.
    Sha1,
}

/// Kind and parameters of a hash, which decide how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// bcrypt.
    Bcrypt {
        /// The power of two of its rounds.
        log_rounds: u32,
    },
    /// argon2 (RFC 9106).
    Argon2 {
        /// argon2id, argon2i or argon2d.
        algorithm: Algorithm,
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes; they are computed one after the other.
        lanes: u32,
    },
    /// PBKDF2 (RFC 8018) with HMAC.
    Pbkdf2 {
        /// Of the HMAC.
        digest: Pbkdf2Digest,
        /// Rounds.
        iterations: NonZeroU32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// The power of two of its N.
        log_n: u8,
        /// Block size.
        r: u32,
        /// Passes, one after the other.
        p: u32,
    },
    /// SHA-512-crypt.
    ShaCrypt {
        /// Rounds.
        rounds: u32,
    },
    /// MD5, once or a thousand times: next to nothing.
    Md5,
}

impl Cost {
    /// Memory of one such hash, in KiB.
    pub fn memory_kib(self) -> u32 {
        match self {
            Self::Bcrypt { .. } => BCRYPT_MEMORY_KIB,
            Self::Argon2 { memory_kib, .. } => memory_kib,
            Self::Scrypt { log_n, r, p } => {
                // 128 bytes times r for each of N blocks, and for each of p.
                let blocks = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX).saturating_add(p.into());
                let kib = blocks.saturating_mul(r.into()).div_ceil(8);
                u32::try_from(kib).unwrap_or(u32::MAX)
            }
            Self::Pbkdf2 { .. } | Self::ShaCrypt { .. } | Self::Md5 => 1,
        }
    }

    /// How much there is to do: KiB written for argon2, rounds for the others. Comparable within one kind only.
    pub fn work(self) -> u64 {
        match self {
            Self::Bcrypt { log_rounds } => 1_u64.checked_shl(log_rounds).unwrap_or(u64::MAX),
            Self::Argon2 { memory_kib, passes, .. } => u64::from(memory_kib) * u64::from(passes),
            Self::Pbkdf2 { iterations, .. } => iterations.get().into(),
            Self::Scrypt { log_n, r, p } => {
                let blocks = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX);
                blocks.saturating_mul(r.into()).saturating_mul(p.into())
            }
            Self::ShaCrypt { rounds } => rounds.into(),
            Self::Md5 => 1,
        }
    }
}

impl Cost {
    /// argon2id with one lane, as new passwords are hashed.
    pub(in crate::users) fn usual(memory_kib: u32, passes: u32) -> Self {
        Self::Argon2 { algorithm: Algorithm::Argon2id, memory_kib, passes, lanes: Params::DEFAULT_P_COST }
    }

    /// Does the work that a hash of this cost saved against one of the `reference` cost, so that a refusal takes the same
    /// time for an old, cheap hash. Between kinds no common measure exists: for one that costs next to nothing the whole
    /// work is done, otherwise nothing.
    pub(in crate::users) fn make_up(self, reference: Self) {
        let missing = reference.work().saturating_sub(self.work());
        match (self, reference) {
            (Self::Bcrypt { log_rounds: spent }, Self::Bcrypt { log_rounds: due }) => {
                // 2^spent + 2^spent + 2^(spent+1) + … + 2^(due-1) = 2^due
                for log_rounds in spent..due {
                    let _ = std::hint::black_box(bcrypt::bcrypt(log_rounds, [0; 16], &[0]));
                }
            }
            (Self::Argon2 { .. }, Self::Argon2 { algorithm, passes, lanes, .. }) => {
                let Ok(memory_kib) = u32::try_from(missing / u64::from(passes.max(1))) else { return };
                // Too little left to be measured, let alone computed.
                let Ok(params) = Params::new(memory_kib, passes, lanes, None) else { return };
                let mut output = [0; 32];
                let argon2 = Argon2::new(algorithm, Version::V0x13, params);
                let _ = std::hint::black_box(argon2.hash_password_into(&[0], &[0; 16], &mut output));
            }
            (Self::Pbkdf2 { .. }, Self::Pbkdf2 { .. }) => {
                if let Some(missing) = u32::try_from(missing).ok().and_then(NonZeroU32::new) {
                    foreign::spend_pbkdf2(missing);
                }
            }
            (Self::ShaCrypt { .. }, Self::ShaCrypt { .. }) => {
                let Ok(rounds) = u32::try_from(missing) else { return };
                Self::ShaCrypt { rounds: rounds.max(sha_crypt::Params::ROUNDS_MIN) }.spend();
            }
            (Self::Scrypt { .. }, Self::Scrypt { log_n, r, .. }) => {
                let pass = (Self::Scrypt { log_n, r, p: 1 }).work().max(1);
                match u32::try_from(missing / pass) {
                    Ok(0) | Err(_) => {}
                    Ok(p) => Self::Scrypt { log_n, r, p }.spend(),
                }
            }
            (Self::Md5, reference) => reference.spend(),
            (
                Self::Bcrypt { .. }
                | Self::Argon2 { .. }
                | Self::Pbkdf2 { .. }
                | Self::Scrypt { .. }
                | Self::ShaCrypt { .. },
                Self::Bcrypt { .. }
                | Self::Argon2 { .. }
                | Self::Pbkdf2 { .. }
                | Self::Scrypt { .. }
                | Self::ShaCrypt { .. }
                | Self::Md5,
            ) => {}
        }
    }

    /// Takes the time of a hash of this cost.
    fn spend(self) {
        let fits = StoredHash::dummy(self).map(|dummy| dummy.fits(&[0]));
        let _ = std::hint::black_box(fits);
    }
}
