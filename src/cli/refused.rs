//! `tollgate explain --request-id`: why a running gateway has refused a request of late.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::error::{CommandError, Exit};
use super::explain::{policy, write_line};
use super::token::printable;
use super::{health, reload};
use crate::admin::{ASKED_ID, FROM_PAGE, REFUSALS};
use crate::base::secret::Secret;
use crate::config::Config;

/// Why a refusal is not explained.
#[derive(Debug)]
pub enum RefusedError {
    /// The configuration has no admin token, and without one nobody may ask.
    NoToken,
    /// The id is none that a request could have.
    Id(String),
    /// The address is none.
    Address(String, io::Error),
    /// Nobody answers there, or not in time.
    Silent(SocketAddr, io::Error),
    /// The answer is not that of a gateway.
    Unexpected(SocketAddr),
    /// The gateway does not let this be asked; in its words.
    Denied(SocketAddr, String),
    /// The gateway knows of no such refusal.
    Unknown(SocketAddr, String),
}

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str(
                "the configuration has no admin token, without which a gateway tells nobody of its refusals; \
                 set server.admin_token_file or server.admin_token_env, and reload",
            ),
            Self::Id(id) => write!(f, "\"{}\" is no request id", id.escape_debug()),
            Self::Address(text, error) => write!(f, "\"{text}\" is not an address HOST:PORT: {error}"),
            Self::Silent(address, error) => write!(f, "{address} does not answer: {error}"),
            Self::Unexpected(address) => {
                write!(f, "what answers on {address} is no admin address of a gateway that tells of refusals")
            }
            Self::Denied(address, words) => write!(f, "the gateway on {address} does not tell: {words}"),
            Self::Unknown(address, id) => write!(
                f,
                "the gateway on {address} knows of no refused request {id}: it was not refused, or so long ago that \
                 others have taken its place, or before the gateway was started"
            ),
        }
    }
}

impl std::error::Error for RefusedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(_, error) | Self::Silent(_, error) => Some(error),
            Self::NoToken | Self::Id(_) | Self::Unexpected(_) | Self::Denied(..) | Self::Unknown(..) => None,
        }
    }
}

/// What the gateway tells.
#[derive(Debug, Deserialize)]
struct Told {
    refusals: Vec<Refusal>,
}

/// What it tells of one refusal.
#[derive(Debug, Deserialize)]
struct Refusal {
    request_id: String,
    at_ms: i64,
    client: Option<String>,
    method: String,
    host: String,
    path: String,
    route: Option<String>,
    upstream: Option<String>,
    user: Option<String>,
    status: Option<u16>,
    reason: String,
    detail: Option<String>,
    cause: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    rule: String,
    refuses: Option<String>,
}

/// Asks the gateway on `address`, or where the configuration has it, and tells what it remembers, the latest first.
///
/// # Errors
///
/// [`CommandError::Refused`], and [`CommandError::Health`] where the configuration does not say where to ask.
pub fn perform(
    config: &Config,
    request_id: &str,
    address: Option<String>,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let token = config.server.admin_token.as_ref();
    let token = token.ok_or(RefusedError::NoToken).map_err(CommandError::Refused)?;
    let address = address.map_or_else(|| health::configured(config), Ok)?;
    let refusals = ask(&address, token, request_id).map_err(CommandError::Refused)?;
    let texts: Vec<String> = refusals.iter().map(explanation).collect();
    out.write_all(texts.join("\n").as_bytes()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

fn ask(text: &str, token: &Secret, request_id: &str) -> Result<Vec<Refusal>, RefusedError> {
    if request_id.is_empty() || !request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RefusedError::Id(request_id.to_owned()));
    }
    let failed = |error| RefusedError::Address(text.to_owned(), error);
    let address = text.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    // A configured token has no character that could end the line.
    let token = String::from_utf8_lossy(token.expose());
    let id: String = form_urlencoded::byte_serialize(request_id.as_bytes()).collect();
    let request = format!(
        "GET {REFUSALS}?{ASKED_ID}={id} HTTP/1.1\r\nHost: {address}\r\n{FROM_PAGE}: 1\r\n\
         Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let answer = reload::exchange(address, &request).map_err(|error| RefusedError::Silent(address, error))?;
    let unexpected = || RefusedError::Unexpected(address);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unexpected)?;
    match head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some("200") => {
            let told: Told = serde_json::from_str(body).map_err(|_| unexpected())?;
            Ok(told.refusals)
        }
        Some("404") if body.starts_with("no refusal") => {
            Err(RefusedError::Unknown(address, request_id.to_owned()))
        }
        Some("401" | "403" | "421") => Err(RefusedError::Denied(address, body.trim_end().to_owned())),
        Some(_) | None => Err(unexpected()),
    }
}

/// What there is to say, for people, in the form of an explanation.
fn explanation(refusal: &Refusal) -> String {
    let Refusal { method, host, path, .. } = refusal;
    let asked = if method.is_empty() { "a message that is no request" } else { method };
    let mut text = format!("{}\n\n", printable(&format!("{asked} {host}{path}")));
    let mut line = |label: &str, what: &str| write_line(&mut text, label, what);
    line("request", &format!("{}, ended {}", refusal.request_id, ended(refusal)));
    line("path", if path.is_empty() { "none" } else { path });
    line("route", refusal.route.as_deref().unwrap_or("none"));
    match &refusal.user {
        Some(id) => line("caller", &format!("a user (id {id})")),
        None => line("caller", "nobody in particular"),
    }
    let rules = refusal.rules.iter();
    policy(&mut line, rules.map(|rule| (rule.rule.as_str(), rule.refuses.as_deref())));
    line("answer", &answer(refusal));
    if let Some(cause) = refusal.cause.as_ref().filter(|cause| Some(*cause) != refusal.detail.as_ref()) {
        line("cause", cause);
    }
    match &refusal.upstream {
        Some(upstream) => line("upstream", &format!("{upstream} was to get it")),
        None => line("upstream", "nothing was sent"),
    }
    text
}

fn ended(refusal: &Refusal) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(refusal.at_ms) * 1_000_000).ok();
    let time = time.and_then(|time| time.format(form).ok()).unwrap_or_else(|| "-".to_owned());
    let client = refusal.client.as_deref().map_or_else(String::new, |client| format!(", from {client}"));
    format!("{time}{client}")
}

fn answer(refusal: &Refusal) -> String {
    let status = refusal.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    let detail = refusal.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{status} {}{detail}", refusal.reason)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Environment, parse, starter};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// What is asked, and what comes of this answer.
    fn asked(answer: &'static str) -> (String, Result<Vec<Refusal>, RefusedError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let outcome = ask(&address, &Secret::new(TOKEN), "a&b=c%");
        (server.join().unwrap(), outcome)
    }

    #[test]
    fn a_refusal_is_told_in_the_form_of_an_explanation() {
        let refusal = Refusal {
            request_id: "3880dd7cb794d145573231e891a199fe".to_owned(),
            at_ms: 1_795_392_000_123,
            client: Some("192.0.2.7".to_owned()),
            method: "GET".to_owned(),
            host: "api.example.com".to_owned(),
            path: "/accounts/8".to_owned(),
            route: Some("account".to_owned()),
            upstream: None,
            user: Some("7".to_owned()),
            status: Some(403),
            reason: "claim_mismatch".to_owned(),
            detail: Some("You do not have permission to perform this action.".to_owned()),
            cause: None,
            rules: vec![
                Rule { rule: "allow: groups, any of staff".to_owned(), refuses: None },
                Rule {
                    rule: "allow: claim user_id = {id} of the path".to_owned(),
                    refuses: Some("claim_mismatch".to_owned()),
                },
            ],
        };
        insta::assert_snapshot!(explanation(&refusal), @r"
        GET api.example.com/accounts/8

        request   3880dd7cb794d145573231e891a199fe, ended 2026-11-23T00:00:00.123Z, from 192.0.2.7
        path      /accounts/8
        route     account
        caller    a user (id 7)
        policy    passes   allow: groups, any of staff
                  refuses  allow: claim user_id = {id} of the path (claim_mismatch)
        answer    403 claim_mismatch: You do not have permission to perform this action.
        upstream  nothing was sent
        ");
        let away = Refusal {
            rules: Vec::new(),
            upstream: Some("billing".to_owned()),
            user: None,
            path: "/\u{1b}[1m".to_owned(),
            status: None,
            detail: None,
            cause: Some("the connection broke".to_owned()),
            ..refusal
        };
        let text = explanation(&away);
        assert!(text.contains("\nanswer    none claim_mismatch\ncause     the connection broke\n"), "{text}");
        assert!(
            text.ends_with("\nupstream  billing was to get it\n") && !text.contains('\u{1b}'),
            "{text:?}"
        );
    }

    #[test]
    fn what_is_asked_is_one_request_with_the_token_and_the_id_escaped() {
        let (request, outcome) = asked("HTTP/1.1 200 OK\r\n\r\n{\"refusals\": []}");
        assert!(outcome.unwrap().is_empty());
        assert!(
            request.starts_with("GET /api/refusals?request_id=a%26b%3Dc%25 HTTP/1.1\r\nHost: 127.0.0.1:")
        );
        assert!(request.contains("\r\nx-tollgate-admin: 1\r\nAuthorization: Bearer 0123"), "{request}");
    }

    #[test]
    fn each_answer_has_its_meaning_and_no_error_tells_the_token() {
        let unknown = asked("HTTP/1.1 404 Not Found\r\n\r\nno refusal with this id is remembered\n").1;
        assert!(matches!(unknown, Err(RefusedError::Unknown(_, id)) if id == "a&b=c%"));
        let denied = asked("HTTP/1.1 401 Unauthorized\r\n\r\nthis needs the admin token\n").1.unwrap_err();
        let told = denied.to_string();
        assert!(
            told.ends_with(" does not tell: this needs the admin token") && !told.contains(TOKEN),
            "{told}"
        );
        for other in
            ["HTTP/1.1 404 Not Found\r\n\r\nnot found\n", "SSH-2.0-x\r\n", "", "HTTP/1.1 200 OK\r\n\r\n[]"]
        {
            assert!(matches!(asked(other).1, Err(RefusedError::Unexpected(_))), "{other}");
        }
        let secret = Secret::new(TOKEN);
        for id in ["", "a b", "a\r\nX: y", "\u{e4}"] {
            assert!(matches!(ask("127.0.0.1:9", &secret, id), Err(RefusedError::Id(_))), "{id:?}");
        }
        assert!(matches!(ask("nowhere", &secret, "a"), Err(RefusedError::Address(..))));
    }

    #[test]
    fn nobody_is_asked_without_an_admin_token() {
        let config =
            parse(&starter("http://127.0.0.1:1"), "g", std::path::Path::new(""), &Environment::default());
        let error =
            perform(&config.unwrap(), "id", Some("127.0.0.1:9".to_owned()), &mut Vec::new()).unwrap_err();
        assert!(
            matches!(error, CommandError::Refused(RefusedError::NoToken)) && error.exit() == Exit::Findings
        );
    }
}
