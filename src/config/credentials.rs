//! `credentials` of an upstream: how the gateway shows a backend with a login of its own who it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::complaint::Complaint;
use super::header_name::owned_header;
use super::hidden;
use super::kind::Kind;
use super::reader::{Located, Table};
use super::secrets::{SecretKeys, secret};
use crate::base::secret::Secret;

/// Longest secret of these, in bytes.
const MAX_SECRET_BYTES: usize = 4 * 1024;

const PASSWORD: SecretKeys = SecretKeys { value: "password", file: "password_file", env: "password_env" };
const BEARER: SecretKeys = SecretKeys { value: "bearer", file: "bearer_file", env: "bearer_env" };
const VALUE: SecretKeys = SecretKeys { value: "value", file: "value_file", env: "value_env" };

const FORMS: &str = "write { basic = { username = \"…\", password_file = \"…\" } }, { bearer_file = \"…\" } or { header = \"X-Api-Key\", value_file = \"…\" }";

/// A header that the gateway sets on every request to an upstream. Its value is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `Authorization`, or another one.
    pub name: HeaderName,
    /// Marked as sensitive, so that it does not print itself.
    pub value: HeaderValue,
}

/// Reads `credentials`; `None` when it is not there or faulty.
pub(super) fn credentials(upstream: &mut Table<'_>) -> Option<Credentials> {
    let given = upstream.key_span("credentials");
    if let Some(value) = upstream.value("credentials") {
        hidden::hide_value(upstream.reader.source, value);
    }
    let mut table = upstream.table("credentials");
    let place = given?;
    let bearers = BEARER.given(&table);
    let ways: Vec<&str> =
        [("basic", table.has("basic")), ("bearer", bearers), ("header", table.has("header"))]
            .into_iter()
            .filter_map(|(way, given)| given.then_some(way))
            .collect();
    let read = match ways.as_slice() {
        [] => {
            let complaint = Complaint::new("\"credentials\" holds none").hint(FORMS);
            table.reader.report(&place, complaint);
            None
        }
        [_] => read(&mut table),
        [first, .., last] => {
            let complaint = Complaint::new(format!("\"credentials\" has both \"{first}\" and \"{last}\""));
            table.reader.report(&place, complaint.hint("keep one of them"));
            read(&mut table)
        }
    };
    table.finish();
    read
}

/// Reads every form, so that each key is known and each fault noted, and takes the first that is there.
fn read(table: &mut Table<'_>) -> Option<Credentials> {
    let basic = if table.has("basic") { basic(table.table("basic")) } else { None };
    let bearer = secret(table, &BEARER).and_then(|secret| bearer(table, &secret));
    let header = table.located("header", Kind::Text, |name| {
        if name.eq_ignore_ascii_case("authorization") {
            return Ok(header::AUTHORIZATION);
        }
        owned_header(name, "X-Api-Key")
    });
    if table.has("header") && !VALUE.given(table) {
        let complaint = Complaint::new("\"header\" has no value");
        let hint = "add \"value_file\", \"value_env\" or \"value\"";
        table.reader.report(&table.key_span("header").unwrap_or_default(), complaint.hint(hint));
    }
    let value = secret(table, &VALUE).and_then(|secret| plain(table, &secret, "the value"));
    let header = header.zip(value).map(|(name, value)| Credentials { name: name.value, value });
    basic.or(bearer).or(header)
}

/// RFC 7617.
fn basic(mut table: Table<'_>) -> Option<Credentials> {
    table.require("username", "add username = \"…\", the name that the gateway has at the backend");
    let username = table.parsed("username", Kind::Text, |text| {
        if text.contains([':']) || text.contains(char::is_control) || text.is_empty() {
            let complaint = Complaint::new("this cannot be a user name of HTTP Basic");
            return Err(complaint.hint("it has no colon and no control character"));
        }
        Ok(text.to_owned())
    });
    if !PASSWORD.given(&table) {
        let complaint = Complaint::new("\"basic\" has no password");
        let hint = "add \"password_file\", \"password_env\" or \"password\"";
        table.reader.report(&table.span, complaint.hint(hint));
    }
    let password = secret(&mut table, &PASSWORD);
    let reader = table.reader;
    table.finish();
    let (username, password) = (username?, password?);
    if password.value.len() > MAX_SECRET_BYTES || password.value.expose().iter().any(u8::is_ascii_control) {
        let complaint = Complaint::new("this cannot be a password of HTTP Basic");
        reader.report(&password.span, complaint.hint("it has no control character and at most 4 KiB"));
        return None;
    }
    let mut pair = Zeroizing::new(username.into_bytes());
    pair.push(b':');
    pair.extend_from_slice(password.value.expose());
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    authorization(&value)
}

fn bearer(table: &Table<'_>, secret: &Located<Secret>) -> Option<Credentials> {
    if secret.value.expose().contains(&b' ') {
        let complaint = Complaint::new("a bearer token has no blanks");
        table.reader.report(&secret.span, complaint.hint("write the token alone, without \"Bearer\""));
        return None;
    }
    let token = plain(table, secret, "the token")?;
    let mut value = Zeroizing::new(b"Bearer ".to_vec());
    value.extend_from_slice(token.as_bytes());
    authorization(std::str::from_utf8(&value).ok()?)
}

fn authorization(value: &str) -> Option<Credentials> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(Credentials { name: header::AUTHORIZATION, value })
}

/// A secret that can stand in a header as it is: visible ASCII with blanks inside (RFC 9110 section 5.5).
fn plain(table: &Table<'_>, secret: &Located<Secret>, what: &str) -> Option<HeaderValue> {
    let bytes = secret.value.expose();
    let fits = !bytes.is_empty()
        && bytes.len() <= MAX_SECRET_BYTES
        && bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
        && bytes.trim_ascii() == bytes;
    if let Ok(mut value) = HeaderValue::from_bytes(bytes)
        && fits
    {
        value.set_sensitive(true);
        return Some(value);
    }
    let complaint = Complaint::new(format!("{what} does not fit a header"));
    let hint = "it has visible letters of ASCII, no blank at an end, and at most 4 KiB";
    table.reader.report(&secret.span, complaint.hint(hint));
    None
}
