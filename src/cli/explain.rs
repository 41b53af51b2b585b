//! `tollgate explain`: what becomes of a request, and why. The request goes through the gateway's own stages in memory, with
//! the configured keys, users and sessions; nothing is sent to an upstream.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::error::{CommandError, Exit};
use super::token::{bare, printable, read_token};
use super::{key, mint, people};
use crate::base::reason::Reason;
use crate::config::{Config, TestCaller, TestRequest};
use crate::rehearsal::Field;
use crate::trial::{ANYBODY, Account, People, Trial};

/// Parts of names of header fields whose values are not shown.
const SECRET_NAMES: [&str; 8] =
    ["authorization", "cookie", "token", "secret", "password", "assertion", "api-key", "credential"];

/// What to explain.
#[derive(Args, Debug, Default)]
pub struct ExplainArguments {
    /// The method
    #[arg(value_name = "METHOD", required_unless_present = "request_id")]
    pub method: Option<String>,
    /// The URL, or a path alone
    #[arg(value_name = "URL", required_unless_present = "request_id")]
    pub url: Option<String>,
    /// Instead of a request that is thought up: one that a running gateway has refused of late, by its X-Request-Id
    #[arg(long, value_name = "ID", conflicts_with_all = ["method", "url", "user", "claims", "token", "token_file", "headers", "from"])]
    pub request_id: Option<String>,
    /// With --request-id: the admin address [default: server.admin of the configuration]
    #[arg(long, value_name = "HOST:PORT", requires = "request_id")]
    pub address: Option<String>,
    /// Who sends it: a user of the configuration
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token", "token_file"])]
    pub user: Option<String>,
    /// A claim that the user's token has beside the usual ones; the value is JSON, or else text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = super::mint::parse_claim, requires = "user")]
    pub claims: Vec<(String, Value)>,
    /// The token that is sent: "-" reads it from standard input, so that it is not seen in the list of processes
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the token that is sent
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A header field, such as "Accept: text/html"; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header_field)]
    pub headers: Vec<(String, String)>,
    /// The address that it comes from, which decides about trusted proxies
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
}

/// Explains a request that the arguments describe.
///
/// # Errors
///
/// A [`CommandError`]. That a request is refused is no error, but has another exit code.
pub fn perform(
    config: &Config,
    arguments: &ExplainArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let (method, url) = (arguments.method.as_deref(), arguments.url.as_deref());
    let request = TestRequest::parse(method.unwrap_or_default(), url.unwrap_or_default());
    let request = request.map_err(CommandError::Request)?;
    let request = TestRequest { headers: arguments.headers.clone(), ..request };
    let client = arguments.from.map_or(ANYBODY, |address| SocketAddr::new(address, 1024));
    let sender = sender(config, arguments)?;
    let trial = Trial::new(config, configured(config)).map_err(CommandError::Trial)?;
    let token = match sender {
        Sender::Nobody => None,
        Sender::Token(token) => Some(token),
        Sender::User(user) => Some(trial.token(&user).map_err(CommandError::Trial)?),
    };
    let account = trial.send(&request, token.as_deref(), client);
    out.write_all(explanation(&request, &account).as_bytes()).map_err(CommandError::Output)?;
    Ok(if account.told("reason").is_some() { Exit::Findings } else { Exit::Ok })
}

/// The users and keys of a configuration, as far as there are some.
fn configured(config: &Config) -> People {
    let store = Some(&config.store).filter(|store| !store.is_missing()).cloned();
    let has_generated_key = config.tokens.keys.is_empty() && key::holds_keys(&config.tokens.key_directory);
    People::Configured { store, has_generated_key }
}

enum Sender {
    Nobody,
    Token(String),
    User(TestCaller),
}

fn sender(config: &Config, arguments: &ExplainArguments) -> Result<Sender, CommandError> {
    if let Some(path) = &arguments.token_file {
        let file = std::fs::File::open(path).map_err(CommandError::Input)?;
        let token = read_token(file).map_err(CommandError::Input)?;
        return Ok(Sender::Token(bare(&token).to_owned()));
    }
    if let Some(token) = &arguments.token {
        let token = match token.as_str() {
            "-" => read_token(io::stdin().lock()).map_err(CommandError::Input)?,
            _ => token.clone(),
        };
        return Ok(Sender::Token(bare(&token).to_owned()));
    }
    let Some(name) = arguments.user.clone() else { return Ok(Sender::Nobody) };
    let wanted = name.clone();
    let lookup = people::look_up(config, |users| async move { users.find_named(&wanted).await })?;
    let user = mint::user(&name, lookup).map_err(CommandError::Mint)?;
    let claims = arguments.claims.iter().cloned().collect();
    Ok(Sender::User(TestCaller {
        id: user.id,
        user: user.name,
        email: user.email,
        groups: user.groups,
        scopes: Vec::new(),
        claims,
    }))
}

/// What there is to say, for people.
fn explanation(request: &TestRequest, account: &Account) -> String {
    let mut text = format!("{} {}{}\n\n", request.method, request.host, request.target);
    let mut line = |label: &str, what: &str| write_line(&mut text, label, what);
    let sent = request.target.split('?').next().unwrap_or_default();
    match &account.walk.path {
        Some(path) if path == sent => line("path", path),
        Some(path) => line("path", &format!("{path} (sent as {sent})")),
        None => line("path", &format!("{sent} (it does not come so far that it has a normal form)")),
    }
    line("route", &route(account));
    line("caller", &caller(account));
    let verdicts = account.walk.verdicts.iter();
    policy(&mut line, verdicts.map(|verdict| (verdict.rule.as_str(), verdict.refusal.map(Reason::word))));
    line("answer", &answer(account));
    match (&account.seen, account.told("upstream")) {
        (Some(seen), Some(upstream)) => {
            line("upstream", &format!("{upstream} gets {} {}", seen.method, seen.target));
            for field in &seen.fields {
                line("", &format!("{}: {}", field.name, shown(field)));
            }
        }
        (_, _) => line("upstream", "nothing is sent"),
    }
    text
}

/// `NAME: VALUE`.
fn header_field(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is not a header field: write one such as \"Accept: text/html\"");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    let sound =
        http::HeaderName::from_bytes(name.as_bytes()).is_ok() && http::HeaderValue::from_str(value).is_ok();
    if sound { Ok((name.to_owned(), value.to_owned())) } else { Err(wrong()) }
}

/// Adds a line with a label.
pub(super) fn write_line(text: &mut String, label: &str, what: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{label:<10}{}", printable(what));
}

/// What each rule says: it refuses the request for this reason, or lets it pass.
pub(super) fn policy<'a>(
    line: &mut impl FnMut(&str, &str),
    verdicts: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) {
    for (index, (rule, refusal)) in verdicts.enumerate() {
        let label = if index == 0 { "policy" } else { "" };
        match refusal {
            None => line(label, &format!("passes   {rule}")),
            Some(reason) => line(label, &format!("refuses  {rule} ({reason})")),
        }
    }
}

fn route(account: &Account) -> String {
    match (account.told("route"), &account.next_best) {
        (Some(route), Some(next)) => {
            format!("{route}; the next best would be {}, but {}", next.route, next.why)
        }
        (Some(route), None) => format!("{route}; no other one fits"),
        (None, _) => "none".to_owned(),
    }
}

fn caller(account: &Account) -> String {
    let Some((id, name)) = &account.walk.user else { return "nobody in particular".to_owned() };
    let groups = &account.walk.groups;
    let groups = if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") };
    let name = if name.is_empty() { "a user" } else { name };
    format!("{name} (id {id}), in {groups}")
}

fn answer(account: &Account) -> String {
    let status = account.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    let detail = account.detail.as_deref().map_or_else(String::new, |detail| format!(": {detail}"));
    match (account.told("reason"), account.told("would_refuse")) {
        (Some(reason), _) => format!("{status} {reason}{detail}"),
        (None, Some(reason)) => {
            format!("that of the upstream; were it enforced, it would be refused with {reason}")
        }
        (None, None) if account.seen.is_some() => "that of the upstream".to_owned(),
        (None, None) => status,
    }
}

/// The value of a field, if it is no secret.
fn shown(field: &Field) -> String {
    let name = field.name.to_ascii_lowercase();
    if SECRET_NAMES.iter().any(|secret| name.contains(secret)) {
        return format!("*** ({} bytes, not shown)", field.value.len());
    }
    String::from_utf8_lossy(&field.value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};
    use crate::store::scratch::Scratch;

    const CONFIG: &str = r#"
[[tokens.keys]]
kid = "k"
alg = "HS256"
secret = "0123456789abcdef0123456789abcdef"
[upstreams.api]
targets = ["http://127.0.0.1:9000"]
[[routes]]
name = "all"
path = "/"
auth = "public"
upstream = "api"
[[routes]]
name = "users"
path = "/users/{id}"
auth = "required"
upstream = "api"
allow = { scopes = ["read"], match = { user_id = "{id}" } }
"#;

    fn explained(arguments: &ExplainArguments) -> (String, Exit) {
        let scratch = Scratch::new();
        let config = parse(CONFIG, "gateway.toml", &scratch.path(""), &Environment::default()).unwrap();
        let mut out = Vec::new();
        let exit = perform(&config, arguments, &mut out).unwrap();
        assert!(std::fs::read_dir(scratch.path("")).unwrap().next().is_none(), "nothing was made");
        (String::from_utf8(out).unwrap(), exit)
    }

    fn get(url: &str) -> ExplainArguments {
        let (method, url) = (Some("GET".to_owned()), Some(url.to_owned()));
        ExplainArguments { method, url, ..ExplainArguments::default() }
    }

    #[test]
    fn a_request_that_passes_is_shown_as_the_upstream_sees_it() {
        let arguments = ExplainArguments {
            user: Some("zoe".to_owned()),
            claims: vec![("scope".to_owned(), "read write".into())],
            headers: vec![
                ("Cookie".to_owned(), "session=hunter2".to_owned()),
                ("X-User-Id".to_owned(), "1".to_owned()),
                ("Accept".to_owned(), "text/html".to_owned()),
            ],
            ..get("https://a.test/users/z%6fe?q=1")
        };
        let (text, exit) = explained(&arguments);
        let expected = "\
GET a.test/users/z%6fe?q=1

path      /users/zoe (sent as /users/z%6fe)
route     users; the next best would be all, but its path is shorter
caller    a user (id zoe), in no group
policy    passes   allow: scope read
          passes   allow: claim user_id = {id} of the path
answer    that of the upstream
upstream  api gets GET /users/zoe?q=1
";
        assert!(text.starts_with(expected), "{text}");
        for line in ["cookie: *** (15 bytes, not shown)", "accept: text/html", "x-user-id: zoe"] {
            assert!(text.contains(&format!("          {line}\n")), "{line}\n{text}");
        }
        assert!(!text.contains("hunter2") && exit == Exit::Ok);
    }

    #[test]
    fn a_refusal_is_told_with_every_rule() {
        let arguments = ExplainArguments { user: Some("zoe".to_owned()), ..get("/users/bob") };
        let (text, exit) = explained(&arguments);
        let expected = "
policy    refuses  allow: scope read (scope_missing)
          refuses  allow: claim user_id = {id} of the path (claim_mismatch)
answer    403 scope_missing: You do not have permission to perform this action.
upstream  nothing is sent
";
        assert!(text.ends_with(expected), "{text}");
        assert_eq!(exit, Exit::Findings);
        let (text, _) =
            explained(&ExplainArguments { token: Some("no.token.this".to_owned()), ..get("/users/1") });
        assert!(text.contains("answer    401 token_invalid: "), "{text}");
        assert!(!text.contains("no.token.this"), "{text}");
        let (text, _) = explained(&get("/a/../b"));
        assert!(text.contains("answer    400 path_ambiguous: The path has a dot segment.\n"), "{text}");
        let (text, exit) = explained(&get("/"));
        assert!(text.contains("caller    nobody in particular\n") && exit == Exit::Ok, "{text}");
    }

    #[test]
    fn what_is_no_request_is_a_wrong_command_line() {
        let config =
            parse(CONFIG, "gateway.toml", std::path::Path::new(""), &Environment::default()).unwrap();
        for (method, url) in [("GE T", "/"), ("GET", "a.test"), ("GET", "/a b"), ("GET", "ftp://a")] {
            let arguments = ExplainArguments { method: Some(method.to_owned()), ..get(url) };
            let error = perform(&config, &arguments, &mut Vec::new()).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{method} {url}");
        }
    }
}
