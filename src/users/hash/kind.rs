//! The forms that password hashes have, told by how they begin.

use crate::config::Hasher;

/// The form of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// argon2 in PHC form, as this program makes it.
    Argon2,
    /// `$2a$`, `$2b$`, `$2y$`
    Bcrypt,
    /// `$6$`
    ShaCrypt,
    /// `$apr1$`
    Apr1,
    /// `pbkdf2_sha256$`
    DjangoPbkdf2Sha256,
    /// `pbkdf2_sha1$`
    DjangoPbkdf2Sha1,
    /// `argon2$argon2`
    DjangoArgon2,
    /// `bcrypt_sha256$$2`
    DjangoBcryptSha256,
    /// `bcrypt$$2`
    DjangoBcrypt,
    /// `scrypt$`
    DjangoScrypt,
    /// `md5$`
    DjangoMd5,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Argon2,
        Self::Bcrypt,
        Self::ShaCrypt,
        Self::Apr1,
        Self::DjangoPbkdf2Sha256,
        Self::DjangoPbkdf2Sha1,
        Self::DjangoArgon2,
        Self::DjangoBcryptSha256,
        Self::DjangoBcrypt,
        Self::DjangoScrypt,
        Self::DjangoMd5,
    ];

    /// What a text says that it is.
    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            if *kind == Self::Bcrypt {
                return ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
            }
            text.starts_with(kind.prefix())
        })
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Argon2 => "$argon2",
            Self::Bcrypt => "$2",
            Self::ShaCrypt => "$6$",
            Self::Apr1 => "$apr1$",
            Self::DjangoPbkdf2Sha256 => "pbkdf2_sha256$",
            Self::DjangoPbkdf2Sha1 => "pbkdf2_sha1$",
            Self::DjangoArgon2 => "argon2$",
            Self::DjangoBcryptSha256 => "bcrypt_sha256$",
            Self::DjangoBcrypt => "bcrypt$",
            Self::DjangoScrypt => "scrypt$",
            // The short form, without a salt, is one of the legacy ones.
            Self::DjangoMd5 => "md5$",
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Argon2 | Self::DjangoArgon2 => "argon2",
            Self::Bcrypt | Self::DjangoBcrypt => "bcrypt",
            Self::ShaCrypt => "SHA-512 (crypt)",
            Self::Apr1 => "MD5 (apr1)",
            Self::DjangoPbkdf2Sha256 => "pbkdf2_sha256",
            Self::DjangoPbkdf2Sha1 => "pbkdf2_sha1",
            Self::DjangoBcryptSha256 => "bcrypt_sha256",
            Self::DjangoScrypt => "scrypt",
            Self::DjangoMd5 => "md5",
        }
    }

    /// The name of it in Django's settings; `None` for what Django does not make.
    pub(super) fn hasher(self) -> Option<Hasher> {
        match self {
            Self::Argon2 | Self::Bcrypt | Self::ShaCrypt | Self::Apr1 => None,
            Self::DjangoPbkdf2Sha256 => Some(Hasher::Pbkdf2Sha256),
            Self::DjangoPbkdf2Sha1 => Some(Hasher::Pbkdf2Sha1),
            Self::DjangoArgon2 => Some(Hasher::Argon2),
            Self::DjangoBcryptSha256 => Some(Hasher::BcryptSha256),
            Self::DjangoBcrypt => Some(Hasher::Bcrypt),
            Self::DjangoScrypt => Some(Hasher::Scrypt),
            Self::DjangoMd5 => Some(Hasher::Md5),
        }
    }

    /// Django puts its own name in front of what argon2 and bcrypt themselves write.
    pub(super) fn inner(self, text: &str) -> &str {
        match self {
            Self::DjangoArgon2 => text.strip_prefix("argon2").unwrap_or(text),
            Self::DjangoBcryptSha256 => text.strip_prefix("bcrypt_sha256$").unwrap_or(text),
            Self::DjangoBcrypt => text.strip_prefix("bcrypt$").unwrap_or(text),
            Self::Argon2
            | Self::Bcrypt
            | Self::ShaCrypt
            | Self::Apr1
            | Self::DjangoPbkdf2Sha256
            | Self::DjangoPbkdf2Sha1
            | Self::DjangoScrypt
            | Self::DjangoMd5 => text,
        }
    }
}

/// What an unsupported hash is, by its looks.
pub(super) fn foreign_kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 14] = [
        ("{SHA}", "SHA-1"),
        ("{SSHA", "salted SHA"),
        ("{SHA", "SHA-2"),
        ("{PLAIN}", "plain text"),
        ("md5$", "MD5"),
        ("sha1$", "SHA-1"),
        ("$1$", "MD5 (crypt)"),
        ("$2x$", "defective bcrypt (2x)"),
        ("$5$", "SHA-256 (crypt)"),
        ("crypt$", "DES (crypt)"),
        ("$y$", "yescrypt"),
        ("$7$", "scrypt"),
        ("$scrypt", "scrypt"),
        ("!", "an unusable password"),
    ];
    let known = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix));
    known.map_or("plain text or DES (crypt)", |(_, kind)| kind)
}
