//! Keys in PEM files (RFC 7468): PKCS#8, PKCS#1 and SEC1 private keys, and public keys.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::errors::ErrorKind;
use zeroize::Zeroizing;

use super::KeyFault;
use super::key::{Key, Public};
use crate::base::algorithm::Algorithm;
use crate::base::bounds;

/// Object identifiers in DER. They tell the kind of a key apart before it is read.
const RSA_OID: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384_OID: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const EC_OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// A PEM file whose private keys are readable by others is refused.
const READABLE_BY_ALL: u32 = 0o004;

/// Text of a key file, wiped when dropped, and whether everybody may read the file.
pub(super) struct KeyText {
    text: Zeroizing<String>,
    exposed: bool,
}

impl KeyText {
    /// A text that nobody else can read.
    pub(super) fn private(bytes: &[u8]) -> Result<Self, KeyFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeyFault::NotPem)?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), exposed: false })
    }
}

/// Reads a key file.
pub(super) fn read_file(path: &Path) -> Result<KeyText, KeyFault> {
    let file = File::open(path).map_err(KeyFault::Unreadable)?;
    let metadata = file.metadata().map_err(KeyFault::Unreadable)?;
    let exposed = metadata.permissions().mode() & READABLE_BY_ALL != 0;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bounds::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(KeyFault::Unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > bounds::MAX_FILE_BYTES) {
        return Err(KeyFault::TooLarge);
    }
    Ok(KeyText { exposed, ..KeyText::private(&bytes)? })
}

/// Reads the first key of the text, which has to fit the algorithm.
pub(super) fn parse(kid: &str, algorithm: Algorithm, file: &KeyText) -> Result<Key, KeyFault> {
    let block = first_key(&file.text)?;
    let exposed = file.exposed && block.form.is_private();
    let needed = Kind::of_algorithm(algorithm).ok_or(KeyFault::WrongKind { found: "PEM file", algorithm })?;
    let found = Kind::of_block(&block, needed);
    if found != needed {
        return Err(KeyFault::WrongKind { found: found.name(), algorithm });
    }
    let (public, signing) = match (needed, block.form.is_private()) {
        (Kind::Rsa, true) => rsa_private(&block)?,
        (Kind::P256 | Kind::P384, true) => ec_private(needed, &block)?,
        (Kind::Ed25519, true) => ed_private(&block)?,
        (Kind::Rsa, false) => (rsa_public(&block)?, None),
        (Kind::P256 | Kind::P384, false) => (ec_public(needed, &block)?, None),
        (Kind::Ed25519, false) => (ed_public(&block)?, None),
        (Kind::OtherEc | Kind::Other, _) => {
            return Err(KeyFault::WrongKind { found: found.name(), algorithm });
        }
    };
    Ok(Key::asymmetric(kid, algorithm, public, signing)?.exposed(exposed))
}

type Halves = (Public, Option<EncodingKey>);

/// What a PEM block says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkcs8,
    Pkcs1Private,
    Sec1,
    Spki,
    Pkcs1Public,
}

impl Form {
    fn is_private(self) -> bool {
        matches!(self, Self::Pkcs8 | Self::Pkcs1Private | Self::Sec1)
    }
}

struct Block<'a> {
    form: Form,
    /// The block from its BEGIN line to its END line.
    text: &'a str,
    der: Zeroizing<Vec<u8>>,
}

/// The kinds of keys that matter here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
    OtherEc,
    Other,
}

impl Kind {
    fn of_algorithm(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::EdDSA => Some(Self::Ed25519),
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Some(Self::Rsa),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        }
    }

    /// The kind by the object identifiers in the block. A SEC1 key without a curve is taken for the one that is needed.
    fn of_block(block: &Block<'_>, needed: Self) -> Self {
        let has = |oid: &[u8]| block.der.windows(oid.len()).any(|window| window == oid);
        match block.form {
            Form::Pkcs1Private | Form::Pkcs1Public => Self::Rsa,
            Form::Sec1 if has(P256_OID) => Self::P256,
            Form::Sec1 if has(P384_OID) => Self::P384,
            Form::Sec1 => match needed {
                Self::P256 | Self::P384 => needed,
                Self::Rsa | Self::Ed25519 | Self::OtherEc | Self::Other => Self::OtherEc,
            },
            Form::Pkcs8 | Form::Spki if has(RSA_OID) => Self::Rsa,
            Form::Pkcs8 | Form::Spki if has(P256_OID) => Self::P256,
            Form::Pkcs8 | Form::Spki if has(P384_OID) => Self::P384,
            Form::Pkcs8 | Form::Spki if has(EC_OID) => Self::OtherEc,
            Form::Pkcs8 | Form::Spki if has(ED25519_OID) => Self::Ed25519,
            Form::Pkcs8 | Form::Spki => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::P256 => "EC P-256",
            Self::P384 => "EC P-384",
            Self::Ed25519 => "Ed25519",
            Self::OtherEc => "EC on another curve",
            Self::Other => "unknown",
        }
    }
}

/// Finds the first block that is a key. `openssl ecparam` writes its parameters in front of it.
fn first_key(text: &str) -> Result<Block<'_>, KeyFault> {
    let mut rest = text;
    loop {
        let begin = rest.find("-----BEGIN ").ok_or(KeyFault::NotPem)?;
        let block = rest.get(begin..).ok_or(KeyFault::NotPem)?;
        let (label, body) = block
            .strip_prefix("-----BEGIN ")
            .and_then(|after| after.split_once("-----"))
            .ok_or(KeyFault::NotPem)?;
        let end_line = format!("-----END {label}-----");
        let (body, after) = body.split_once(&end_line).ok_or(KeyFault::NotPem)?;
        let form = match label {
            "EC PARAMETERS" => {
                rest = after;
                continue;
            }
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1Private,
            "EC PRIVATE KEY" => Form::Sec1,
            "PUBLIC KEY" => Form::Spki,
            "RSA PUBLIC KEY" => Form::Pkcs1Public,
            "ENCRYPTED PRIVATE KEY" => return Err(KeyFault::Encrypted),
            _ => return Err(KeyFault::NotAKey),
        };
        if body.contains("ENCRYPTED") {
            return Err(KeyFault::Encrypted);
        }
        let packed: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|letter| !letter.is_ascii_whitespace()).collect());
        let der = STANDARD.decode(packed.as_bytes()).map_err(|_| KeyFault::NotPem)?;
        let length = block.len() - after.len();
        let text = block.get(..length).ok_or(KeyFault::NotPem)?;
        return Ok(Block { form, text, der: Zeroizing::new(der) });
    }
}

fn rsa_private(block: &Block<'_>) -> Result<Halves, KeyFault> {
    let signing = EncodingKey::from_rsa_pem(block.text.as_bytes()).map_err(|_| KeyFault::Broken)?;
    let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_private_key)(signing.as_bytes())
        .map_err(|error| rsa_fault(error.kind()))?;
    Ok((checked_rsa(n, e)?, Some(signing)))
}

fn rsa_public(block: &Block<'_>) -> Result<Public, KeyFault> {
    let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(&block.der)
        .map_err(|error| rsa_fault(error.kind()))?;
    checked_rsa(n, e)
}

fn checked_rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Public, KeyFault> {
    let zeros = n.iter().take_while(|&&byte| byte == 0).count();
    let top = n.get(zeros).copied().unwrap_or(0);
    let bits = (n.len() - zeros) * 8 - usize::try_from(top.leading_zeros()).unwrap_or(0);
    if bits < 2048 { Err(KeyFault::RsaTooSmall) } else { Ok(Public::Rsa { n, e }) }
}

/// The library itself refuses short keys, and says so in words only.
fn rsa_fault(kind: &ErrorKind) -> KeyFault {
    let too_small = matches!(kind, ErrorKind::InvalidRsaKey(text) if text == "TooSmall");
    if too_small { KeyFault::RsaTooSmall } else { KeyFault::Broken }
}

fn ec_private(kind: Kind, block: &Block<'_>) -> Result<Halves, KeyFault> {
    let algorithm =
        if kind == Kind::P384 { &ECDSA_P384_SHA384_FIXED_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING };
    let pair = if block.form == Form::Sec1 {
        EcdsaKeyPair::from_private_key_der(algorithm, &block.der)
    } else {
        EcdsaKeyPair::from_pkcs8(algorithm, &block.der)
    };
    let pair = pair.map_err(|_| KeyFault::Broken)?;
    // The library signs with PKCS#8 only, so every form becomes that.
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| KeyFault::Broken)?;
    let public = ec_point(kind, pair.public_key().as_ref())?;
    Ok((public, Some(EncodingKey::from_ec_der(pkcs8.as_ref()))))
}

fn ec_public(kind: Kind, block: &Block<'_>) -> Result<Public, KeyFault> {
    let length = if kind == Kind::P384 { 97 } else { 65 };
    let start = block.der.len().checked_sub(length).ok_or(KeyFault::Broken)?;
    let point = block.der.get(start..).ok_or(KeyFault::Broken)?;
    ec_point(kind, point)
}

/// An uncompressed point (SEC1 section 2.3.3) that lies on the curve.
fn ec_point(kind: Kind, point: &[u8]) -> Result<Public, KeyFault> {
    let (algorithm, curve): (&'static dyn VerificationAlgorithm, _) = match kind {
        Kind::P384 => (&ECDSA_P384_SHA384_FIXED, "P-384"),
        Kind::P256 | Kind::Rsa | Kind::Ed25519 | Kind::OtherEc | Kind::Other => {
            (&ECDSA_P256_SHA256_FIXED, "P-256")
        }
    };
    ParsedPublicKey::new(algorithm, point).map_err(|_| KeyFault::Broken)?;
    let (&form, coordinates) = point.split_first().ok_or(KeyFault::Broken)?;
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).ok_or(KeyFault::Broken)?;
    if form != 4 || x.len() != y.len() {
        return Err(KeyFault::Broken);
    }
    Ok(Public::Ec { curve, x: x.to_vec(), y: y.to_vec() })
}

fn ed_private(block: &Block<'_>) -> Result<Halves, KeyFault> {
    let pair = Ed25519KeyPair::from_pkcs8(&block.der).map_err(|_| KeyFault::Broken)?;
    let public = Public::Ed { x: pair.public_key().as_ref().to_vec() };
    Ok((public, Some(EncodingKey::from_ed_der(&block.der))))
}

fn ed_public(block: &Block<'_>) -> Result<Public, KeyFault> {
    // RFC 8410 section 4: a fixed prefix, then the 32 bytes.
    const PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let x = block.der.strip_prefix(PREFIX).ok_or(KeyFault::Broken)?;
    ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyFault::Broken)?;
    Ok(Public::Ed { x: x.to_vec() })
}
