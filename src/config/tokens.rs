//! `[tokens]`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::complaint::{Complaint, choose, quoted};
use super::keys;
use super::kind::Kind;
use super::limits;
use super::reader::{Located, Table, values};
use super::units;
use super::{RateLimit, Store};
use crate::base::algorithm::Algorithm;
use crate::base::path;
use crate::base::secret::Secret;
use crate::base::user::UserField;

/// Where a generated key is kept when the store is no file.
const KEYS: &str = "data/keys";
const DEFAULT_ACCESS_LIFETIME: Duration = Duration::from_mins(30);
const DEFAULT_REFRESH_LIFETIME: Duration = Duration::from_hours(24);
const DEFAULT_REUSE_GRACE: Duration = Duration::from_secs(30);
/// Twice as long as others may keep the published keys (`Cache-Control`), and far longer than gateways take to learn of them.
const DEFAULT_KEY_ROTATION_DELAY: Duration = Duration::from_mins(10);
/// Every gateway has to know a key before any of them signs with it.
const MIN_KEY_ROTATION_DELAY: Duration = Duration::from_secs(10);
const MAX_KEY_ROTATION_DELAY: Duration = Duration::from_hours(30 * 24);
/// Claims that the gateway writes itself.
const RESERVED_CLAIMS: [&str; 8] = ["exp", "iat", "nbf", "jti", "iss", "aud", "sid", "token_type"];

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Written as `iss` and required, when set.
    pub issuer: Option<String>,
    /// Written as `aud` and one of them required, when there are any.
    pub audience: Vec<String>,
    /// Life of an access token.
    pub access_lifetime: Duration,
    /// Life of a refresh token.
    pub refresh_lifetime: Duration,
    /// Absolute end of a session, counted from its login; `None` is none.
    pub session_lifetime: Option<Duration>,
    /// Whether a refresh token is exchanged for a new one when it is used.
    pub rotate_refresh: bool,
    /// With rotation: how long a used refresh token still gets the same successor.
    pub reuse_grace: Duration,
    /// Tolerance for clocks that differ.
    pub leeway: Duration,
    /// How long a stream that is open may outlive its token: a WebSocket, server-sent events, gRPC.
    pub stream_grace: Duration,
    /// The claim that holds the user id; never one of the registered or reserved claims but `sub`.
    pub user_id_claim: String,
    /// User fields that are copied into access tokens.
    pub claims: Vec<UserField>,
    /// Prefix of the token routes, without a slash at the end: `/api/token`.
    pub path: String,
    /// The realm in challenges: printable ASCII without `"` and `\`.
    pub realm: String,
    /// Configured keys; the first one signs, unless one of the store does. None: one is generated in `key_directory`.
    pub keys: Vec<Key>,
    /// What keys in the store are encrypted with, at least 32 bytes; `None` where the store holds no keys.
    pub key_encryption_key: Option<Secret>,
    /// How long a new key of the store is published before it signs.
    pub key_rotation_delay: Duration,
    /// Where a generated key is kept: `keys` beside the store file.
    pub key_directory: PathBuf,
    /// Indices into [`super::Config::limits`] of what limits the token routes, each one once.
    pub limits: Vec<usize>,
}

/// `[[tokens.keys]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key id, unique among the keys.
    pub kid: String,
    /// The algorithm; the material fits its kind (symmetric or not).
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: KeyMaterial,
    /// A retiring key verifies until this time, in seconds since 1970, and never signs.
    pub verify_until: Option<i64>,
}

/// Where a key's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A PEM file: a private key (PKCS#8, PKCS#1 or SEC1), or a public key that only verifies.
    PemFile(PathBuf),
    /// A shared secret, already read, at least 32 bytes.
    Secret(Secret),
}

/// Reads `[tokens]`. A generated key is kept beside the store. A limit of the token routes that the file says nothing of is
/// added to the others.
pub(super) fn tokens(
    root: &mut Table<'_>,
    store: &Store,
    limits: &mut Vec<RateLimit>,
    workers: NonZeroUsize,
) -> Tokens {
    let mut table = root.table("tokens");
    let issuer = table.text("issuer").map(|located| located.value);
    let audience = table.list("audience", non_empty);
    let (access_lifetime, refresh_lifetime) = lifetimes(&mut table);
    let session_lifetime = table.parsed("session_lifetime", Kind::Duration, units::seconds_or_none);
    let rotate_refresh = table.boolean("rotate_refresh");
    let reuse_grace = table.parsed("reuse_grace", Kind::Duration, units::from_zero);
    let leeway = table.parsed("leeway", Kind::Duration, units::leeway);
    let stream_grace = table.parsed("stream_grace", Kind::Duration, units::from_zero);
    let user_id_claim = table.parsed("user_id_claim", Kind::Text, user_id_claim);
    let user_id_claim = user_id_claim.unwrap_or_else(|| "user_id".to_owned());
    let claims = claims(&mut table, &user_id_claim);
    let path = table.parsed("path", Kind::Text, token_path);
    let realm = table.parsed("realm", Kind::Text, realm);
    let key_encryption_key = keys::encryption_key(&mut table);
    let key_rotation_delay = table.parsed("key_rotation_delay", Kind::Duration, key_rotation_delay);
    let key_directory = key_directory(&table, store);
    let keys = keys::keys(&mut table);
    let workers = NonZeroU32::try_from(workers).unwrap_or(NonZeroU32::MAX);
    let limits = limits::of_token_routes(&mut table, limits, workers);
    table.finish();
    Tokens {
        issuer: issuer.filter(|issuer| !issuer.is_empty()),
        audience: values(audience.unwrap_or_default()),
        access_lifetime,
        refresh_lifetime,
        session_lifetime: session_lifetime.flatten(),
        rotate_refresh: rotate_refresh.unwrap_or(false),
        reuse_grace: reuse_grace.unwrap_or(DEFAULT_REUSE_GRACE),
        leeway: leeway.unwrap_or_default(),
        stream_grace: stream_grace.unwrap_or_default(),
        user_id_claim,
        claims,
        path: path.unwrap_or_else(|| "/api/token".to_owned()),
        realm: realm.unwrap_or_else(|| "api".to_owned()),
        keys,
        key_encryption_key,
        key_rotation_delay: key_rotation_delay.unwrap_or(DEFAULT_KEY_ROTATION_DELAY),
        key_directory,
        limits,
    }
}

/// Where a key is made when there is none. Several gateways would each make their own, and refuse each other's tokens,
/// unless they share the one of their store.
fn key_directory(table: &Table<'_>, store: &Store) -> PathBuf {
    let Some(file) = store.file() else {
        if !table.has("keys") && !keys::ENCRYPTION_KEY.given(table) {
            let complaint = Complaint::new("there is no key for the gateways that share this store");
            table.reader.report(
                &table.span,
                complaint.hint(
                    "add [[tokens.keys]], the same for all of them, which \"tollgate key generate --out FILE\" makes; \
                     or \"key_encryption_key_file\", to keep keys in the store",
                ),
            );
        }
        return table.reader.resolve(KEYS);
    };
    file.parent().unwrap_or(Path::new("")).join("keys")
}

fn lifetimes(table: &mut Table<'_>) -> (Duration, Duration) {
    let access = table.located("access_lifetime", Kind::Duration, units::whole_seconds);
    let refresh = table.located("refresh_lifetime", Kind::Duration, units::whole_seconds);
    let value =
        |given: &Option<Located<Duration>>, default| given.as_ref().map_or(default, |located| located.value);
    let access_lifetime = value(&access, DEFAULT_ACCESS_LIFETIME);
    let refresh_lifetime = value(&refresh, DEFAULT_REFRESH_LIFETIME);
    // A lifetime that is faulty has its own problem, and its default says nothing.
    let comparable = access.is_some() == table.has("access_lifetime")
        && refresh.is_some() == table.has("refresh_lifetime");
    if comparable
        && access_lifetime > refresh_lifetime
        && let Some(span) =
            access.as_ref().map(|access| &access.span).or(refresh.as_ref().map(|refresh| &refresh.span))
    {
        let message = "\"access_lifetime\" is longer than \"refresh_lifetime\"";
        let hint = format!(
            "access tokens live {} and refresh tokens {}; a refresh token must live at least as long",
            units::shown(access_lifetime),
            units::shown(refresh_lifetime)
        );
        table.reader.report(span, Complaint::new(message).hint(hint));
    }
    (access_lifetime, refresh_lifetime)
}

fn key_rotation_delay(text: &str) -> Result<Duration, Complaint> {
    let duration = units::duration(text)?;
    if duration < MIN_KEY_ROTATION_DELAY || duration > MAX_KEY_ROTATION_DELAY {
        let hint = "a new key is published from \"10s\" to \"30d\" before it signs; others may keep the published keys for \"5m\"";
        return Err(Complaint::new(format!("{} is out of range", quoted(text))).hint(hint));
    }
    Ok(duration)
}

fn user_id_claim(text: &str) -> Result<String, Complaint> {
    let fault = Complaint::new(format!("{} cannot be the claim of the user id", quoted(text)));
    if RESERVED_CLAIMS.contains(&text) {
        return Err(fault.hint(
            "that claim has another meaning in every token; common names are \"user_id\" and \"sub\"",
        ));
    }
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text.is_empty()
        || text.len() > 64
        || !letters
        || text.starts_with(|first: char| first.is_ascii_digit())
    {
        return Err(fault.hint("a name has at most 64 letters, digits and \"_\", and no digit in front"));
    }
    Ok(text.to_owned())
}

fn claims(table: &mut Table<'_>, user_id_claim: &str) -> Vec<UserField> {
    let choices = UserField::ALL.map(|field| (field.name(), field));
    let Some(list) = table.list("claims", |text| choose(text, &choices)) else { return Vec::new() };
    let mut fields = Vec::with_capacity(list.len());
    for Located { value, span } in list {
        let name = value.name();
        if fields.contains(&value) {
            table.reader.report(
                &span,
                Complaint::new(format!("\"{name}\" is listed twice")).hint("remove one of the two"),
            );
        } else if name == user_id_claim {
            let complaint = Complaint::new(format!("\"{name}\" is the claim of the user id already"));
            table
                .reader
                .report(&span, complaint.hint("choose another \"user_id_claim\", or leave the field out"));
        }
        fields.push(value);
    }
    fields
}

fn token_path(text: &str) -> Result<String, Complaint> {
    let fault = |why: &str| Complaint::new(format!("{} {why}", quoted(text)));
    if !text.starts_with('/') {
        let correction = format!("did you mean \"/{text}\"?");
        return Err(fault("does not begin with \"/\"").hint(correction));
    }
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err(fault("leaves no path for the routes")
            .hint("the token routes need a prefix such as \"/api/token\""));
    }
    if trimmed != text {
        return Err(fault("ends with \"/\"").hint(format!(
            "did you mean \"{trimmed}\"? clients may write the slash at the end or leave it out"
        )));
    }
    match path::normalise(text) {
        Ok(normal) if normal == text => Ok(text.to_owned()),
        Ok(normal) => Err(fault("is not in normal form").hint(format!("did you mean \"{normal}\"?"))),
        Err(why) => Err(fault("is not a path that a request could have").hint(in_a_line(why.text()))),
    }
}

/// A sentence for clients as a hint.
fn in_a_line(sentence: &str) -> String {
    let sentence = sentence.strip_suffix('.').unwrap_or(sentence);
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn realm(text: &str) -> Result<String, Complaint> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{} cannot stand in a challenge", quoted(text)))
        .hint("a realm has printable ASCII characters other than the double quote and the backslash"))
}

fn non_empty(text: &str) -> Result<String, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("an empty audience").hint("write audience = [] for none"));
    }
    Ok(text.to_owned())
}
