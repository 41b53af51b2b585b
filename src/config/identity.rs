//! What an upstream is told of callers, and how the gateway itself shows who it is: `identity` and the keys beside it in
//! `[upstreams.NAME]`.

use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::complaint::{Complaint, alternatives, nearest, quoted};
use super::credentials::{Credentials, credentials};
use super::excerpt::Span;
use super::header_name::{is_same, owned_header};
use super::kind::Kind;
use super::policy::OF_THE_TOKEN;
use super::reader::{Located, Table};
use super::{Tls, Tokens, units};
use crate::base::claim::ClaimPath;
use crate::base::user::Attribute;

/// Bytes of identity headers that an upstream gets at most, when nothing else is said.
const DEFAULT_MAX_BYTES: u32 = 8 * 1024;
/// The most that can be said: no usual server takes more in all of its headers.
const LARGEST_MAX_BYTES: u64 = 64 * 1024;
/// Life of an assertion when nothing else is said.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(30);
const SHORTEST_LIFETIME: Duration = Duration::from_secs(5);
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);
/// Longest audience of an assertion, in bytes.
const MAX_AUDIENCE_BYTES: usize = 255;

/// The headers of each preset, with what they say.
pub const PRESETS: [(&str, &[(&str, Attribute)]); 5] = [
    (
        "default",
        &[
            ("x-user-id", Attribute::Id),
            ("x-user-name", Attribute::Name),
            ("x-user-email", Attribute::Email),
            ("x-user-groups", Attribute::Groups),
        ],
    ),
    (
        "forwarded",
        &[
            ("x-forwarded-user", Attribute::Id),
            ("x-forwarded-preferred-username", Attribute::Name),
            ("x-forwarded-email", Attribute::Email),
            ("x-forwarded-groups", Attribute::Groups),
        ],
    ),
    (
        "remote-user",
        &[
            ("remote-user", Attribute::Name),
            ("remote-name", Attribute::Name),
            ("remote-email", Attribute::Email),
            ("remote-groups", Attribute::Groups),
        ],
    ),
    (
        "webauth",
        &[
            ("x-webauth-user", Attribute::Name),
            ("x-webauth-name", Attribute::Name),
            ("x-webauth-email", Attribute::Email),
            ("x-webauth-groups", Attribute::Groups),
        ],
    ),
    ("none", &[]),
];

/// What an upstream is told of a caller, and of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The headers with what they say. No two are the same to an upstream.
    pub headers: Vec<IdentityHeader>,
    /// How text beyond ASCII is written in them.
    pub encoding: IdentityEncoding,
    /// Most bytes of them together, with their names.
    pub max_bytes: u32,
    /// A signed statement besides.
    pub assertion: Option<Assertion>,
    /// Whether the upstream gets the client's `Authorization` as it came.
    pub forward_token: bool,
    /// How the gateway shows the upstream who it is.
    pub credentials: Option<Credentials>,
}

/// A header and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The header.
    pub name: HeaderName,
    /// What it says.
    pub source: IdentitySource,
}

/// What an identity header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// This of the user.
    User(Attribute),
    /// This claim of the token.
    Claim(ClaimPath),
}

/// `identity_encoding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityEncoding {
    /// UTF-8 as it is.
    Utf8,
    /// Percent-encoded UTF-8 (RFC 3986 section 2.1). A percent sign is encoded too.
    Percent,
    /// Encoded words of RFC 2047.
    Rfc2047,
}

/// `assertion`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// `aud`: for whom it is.
    pub audience: String,
    /// From `iat` to `exp`, in whole seconds.
    pub lifetime: Duration,
}

impl Identity {
    /// Every header that this sets for some caller.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let credentials = self.credentials.iter().map(|credentials| &credentials.name);
        self.headers.iter().map(|header| &header.name).chain(credentials)
    }

    /// Every claim that its headers say.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.headers.iter().filter_map(|header| match &header.source {
            IdentitySource::Claim(path) => Some(path),
            IdentitySource::User(_) => None,
        })
    }
}

/// Reads `identity`, `identity_encoding`, `identity_max_bytes`, `assertion`, `forward_token` and `credentials`.
pub(super) fn identity(
    table: &mut Table<'_>,
    upstream: &str,
    tokens: &Tokens,
    tls: Option<&Tls>,
) -> Identity {
    let place = table.key_span("identity").unwrap_or_else(|| table.span.clone());
    let is_table = table.value("identity").is_some_and(|value| value.get_ref().is_table());
    let headers = if is_table { own_headers(table) } else { preset(table) };
    let encoding = table.parsed("identity_encoding", Kind::Text, |text| {
        let choices = [
            ("utf8", IdentityEncoding::Utf8),
            ("percent", IdentityEncoding::Percent),
            ("rfc2047", IdentityEncoding::Rfc2047),
        ];
        super::complaint::choose(text, &choices)
    });
    let max_bytes = table.parsed("identity_max_bytes", Kind::Size, max_bytes);
    let assertion = assertion(table, upstream, tokens);
    let credentials = credentials(table);
    let forward_token = table.boolean("forward_token").unwrap_or(false);
    let identity = Identity {
        headers,
        encoding: encoding.unwrap_or(IdentityEncoding::Utf8),
        max_bytes: max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        assertion,
        forward_token,
        credentials,
    };
    check_headers(table, &identity, &place, tls);
    identity
}

/// Sees that each header has one meaning.
fn check_headers(table: &Table<'_>, identity: &Identity, place: &Span, tls: Option<&Tls>) {
    if identity.forward_token
        && identity
            .credentials
            .as_ref()
            .is_some_and(|credentials| credentials.name == http::header::AUTHORIZATION)
        && let Some(place) = table.key_span("forward_token")
    {
        let complaint = Complaint::new("\"forward_token\" and \"credentials\" both set Authorization");
        let hint = "the upstream can see one of them: remove \"forward_token\" or \"credentials\"";
        table.reader.report(&place, complaint.hint(hint));
    }
    if let Some(credentials) = &identity.credentials
        && let Some(place) = table.key_span("credentials")
        && identity.headers.iter().any(|header| is_same(&header.name, &credentials.name))
    {
        let complaint = Complaint::new(format!("the header \"{}\" already tells of users", credentials.name));
        table.reader.report(&place, complaint.hint("take another header for one of the two"));
    }
    let certificates = tls.and_then(|tls| tls.client_auth.as_ref());
    for header in certificates.map(|auth| auth.headers.as_slice()).unwrap_or_default() {
        if let Some(name) = identity.names().find(|name| is_same(name, &header.name)) {
            let message = format!("the header \"{name}\" is there already in [tls.client_auth]");
            let hint = "take another name there, or an \"identity\" without this header";
            table.reader.report(place, Complaint::new(message).hint(hint));
        }
    }
}

fn preset(table: &mut Table<'_>) -> Vec<IdentityHeader> {
    let choices = PRESETS.map(|(name, headers)| (name, headers));
    let chosen = table.parsed("identity", Kind::Text, |text| {
        super::complaint::choose(text, &choices).map_err(|complaint| {
            if text.contains(':') {
                return complaint.hint(
                    "a table says what headers hold: identity = { \"X-Account\" = \"claim:account_id\" }",
                );
            }
            complaint
        })
    });
    let usual = PRESETS.first().map(|(_, headers)| *headers);
    let headers = chosen.or(usual).unwrap_or_default().iter();
    headers
        .map(|(name, attribute)| IdentityHeader {
            name: HeaderName::from_static(name),
            source: IdentitySource::User(*attribute),
        })
        .collect()
}

/// `identity` as a table of headers.
fn own_headers(table: &mut Table<'_>) -> Vec<IdentityHeader> {
    if let Some(value) = table.value("identity")
        && let DeValue::Table(entries) = value.get_ref()
        && entries.is_empty()
    {
        let complaint = Complaint::new("\"identity\" names no header");
        table.reader.report(&value.span(), complaint.hint("write identity = \"none\" for no headers"));
    }
    let mut headers: Vec<IdentityHeader> = Vec::new();
    for Located { value, span } in table.named_values("identity", header) {
        match headers.iter().find(|other| is_same(&other.name, &value.name)) {
            Some(other) => {
                let message = format!("the header \"{}\" is there already as \"{}\"", value.name, other.name);
                let hint = "to many servers all names are the same that differ only in case, \"-\" and \"_\"";
                table.reader.report(&span, Complaint::new(message).hint(hint));
            }
            None => headers.push(value),
        }
    }
    headers
}

fn header(name: &str, source: &str) -> Result<IdentityHeader, Complaint> {
    if name.eq_ignore_ascii_case("authorization") {
        let complaint = Complaint::new("\"Authorization\" says nothing of users");
        return Err(complaint
            .hint("\"forward_token\" passes the client's on, \"credentials\" sets the gateway's own"));
    }
    Ok(IdentityHeader { name: owned_header(name, "X-Account")?, source: self::source(source)? })
}

fn source(text: &str) -> Result<IdentitySource, Complaint> {
    const FORMS: &str = "write \"user:id\", \"user:name\", \"user:email\", \"user:groups\", or \"claim:\" and the name of a claim";
    let unknown = || Complaint::new(format!("{} is nothing that a header can say", quoted(text)));
    match text.split_once(':') {
        Some(("claim", path)) => {
            let path = ClaimPath::parse(path).map_err(|_| {
                Complaint::new(format!("{} is not the name of a claim", quoted(path)))
                    .hint("write \"claim:account_id\", \"claim:account.id\" for a member of an object, or a URL, which is one name")
            })?;
            match path.name() {
                Some(name) if OF_THE_TOKEN.contains(&name) => {
                    let complaint =
                        Complaint::new(format!("the claim \"{name}\" does not say who is calling"));
                    Err(complaint.hint("it is about the token itself, which the upstream does not see"))
                }
                Some(_) | None => Ok(IdentitySource::Claim(path)),
            }
        }
        Some(("user", field)) => {
            let words = Attribute::ALL.map(Attribute::name);
            let found = Attribute::ALL.into_iter().find(|attribute| attribute.name() == field);
            found.map(IdentitySource::User).ok_or_else(|| match nearest(field, words) {
                Some(word) => unknown().hint(format!("did you mean \"user:{word}\"?")),
                None => unknown().hint(format!("of users there is {}", alternatives(words))),
            })
        }
        // What is the same for everybody says nothing of the caller, and a misspelt source must not be sent as it is.
        Some(_) | None => Err(unknown().hint(FORMS)),
    }
}

fn max_bytes(text: &str) -> Result<u32, Complaint> {
    let bytes = units::size(text)?.get();
    u32::try_from(bytes).ok().filter(|_| bytes <= LARGEST_MAX_BYTES).ok_or_else(|| {
        Complaint::new(format!("{} is too much for headers", quoted(text)))
            .hint("the most is \"64KiB\"; most servers take 8 KiB")
    })
}

fn assertion(table: &mut Table<'_>, upstream: &str, tokens: &Tokens) -> Option<Assertion> {
    let place = table.key_span("assertion");
    let is_table = table.value("assertion").is_some_and(|value| value.get_ref().is_table());
    let (audience, lifetime) = if is_table {
        let mut inner = table.table("assertion");
        let audience = inner.parsed("audience", Kind::Text, audience);
        let lifetime = inner.parsed("lifetime", Kind::Duration, lifetime);
        inner.finish();
        (audience, lifetime)
    } else if table.boolean("assertion").unwrap_or(false) {
        (None, None)
    } else {
        return None;
    };
    if let Some(algorithm) = tokens.keys.first().map(|key| key.algorithm).filter(|found| found.is_symmetric())
        && let Some(place) = place
    {
        let complaint = Complaint::new(format!("an assertion cannot be signed with {algorithm}"));
        let hint = "the upstream could verify it only with the secret that signs tokens: let an EdDSA or ES256 key be the first of [[tokens.keys]]; \"tollgate key generate\" makes one";
        table.reader.report(&place, complaint.hint(hint));
    }
    Some(Assertion {
        audience: audience.unwrap_or_else(|| upstream.to_owned()),
        lifetime: lifetime.unwrap_or(DEFAULT_LIFETIME),
    })
}

fn audience(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > MAX_AUDIENCE_BYTES || text.contains(char::is_control) {
        let complaint = Complaint::new(format!("{} is not an audience", quoted(text)));
        return Err(complaint.hint("write the name by which the upstream knows itself, such as \"billing\""));
    }
    Ok(text.to_owned())
}

fn lifetime(text: &str) -> Result<Duration, Complaint> {
    let lifetime = units::whole_seconds(text)?;
    if (SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&lifetime) {
        return Ok(lifetime);
    }
    Err(Complaint::new(format!("{} is out of range", quoted(text)))
        .hint("an assertion lives from \"5s\" to \"1h\"; it is made anew when half of that is over"))
}

#[cfg(test)]
mod tests;
