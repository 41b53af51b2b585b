//! `tollgate token mint`: a token without a login, for tests and machines. It says who minted it.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::arguments::MintArguments;
use super::error::{CommandError, Exit};
use super::{key, people};
use crate::base::clock::Clock;
use crate::base::user::User;
use crate::config::Config;
use crate::keys::KeyRing;
use crate::tokens::{Expected, IssueError, Issuer};
use crate::users::{Lookup, UsersError, normal_name};

/// The claim that says who minted a token.
const MINTED_BY: &str = "minted_by";

/// Why no token was minted.
#[derive(Debug)]
pub enum MintError {
    /// There is no such user.
    UnknownUser(String),
    /// The user is switched off.
    InactiveUser(String),
    /// The name cannot be the id of a user, where there are none to look it up in.
    Unfit(String),
    /// The claim is written by the gateway itself, or given twice.
    Claim(String),
    /// The user cannot be looked up.
    Users(UsersError),
    /// The token cannot be made.
    Issue(IssueError),
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(name) => write!(f, "there is no user {name:?}"),
            Self::InactiveUser(name) => write!(f, "user {name:?} is switched off"),
            Self::Unfit(name) => write!(f, "{name:?} cannot be the id of a user"),
            Self::Claim(name) => {
                write!(f, "the claim {name:?} is given twice, or written by the gateway itself")
            }
            Self::Users(error) => error.fmt(f),
            Self::Issue(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MintError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownUser(_) | Self::InactiveUser(_) | Self::Unfit(_) | Self::Claim(_) => None,
            Self::Users(error) => Some(error),
            Self::Issue(error) => Some(error),
        }
    }
}

/// Prints a token, and nothing else, to `out`; whose it is and how long it is good goes to `told`.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(
    config: &Config,
    arguments: &MintArguments,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let ring = Arc::new(key::load(config)?);
    let name = arguments.user.clone();
    let lookup = people::look_up(config, |users| async move { users.find_named(&name).await })?;
    let user = user(&arguments.user, lookup).map_err(CommandError::Mint)?;
    let minter = minter();
    let token = mint(config, ring, &user, arguments, &minter).map_err(CommandError::Mint)?;
    let kind = if arguments.refresh { "a refresh token" } else { "an access token" };
    let until = shown_time(token.expires_at);
    let User { id, name, .. } = user;
    // Before the token: who cannot be told of it does not get it.
    writeln!(told, "tollgate: minted {kind} of user {name} (id {id}) by {minter}, good until {until}")
        .and_then(|()| writeln!(out, "{}", token.text))
        .map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

pub(super) fn user(name: &str, lookup: Result<Lookup, UsersError>) -> Result<User, MintError> {
    match lookup.map_err(MintError::Users)? {
        Lookup::Active(account) => Ok(account.user),
        Lookup::Inactive => Err(MintError::InactiveUser(name.to_owned())),
        Lookup::Unknown => Err(MintError::UnknownUser(name.to_owned())),
        // Then tokens are taken at their word, so this one may say what it likes.
        Lookup::Unmanaged => {
            let id = normal_name(name).map_err(|_| MintError::Unfit(name.to_owned()))?;
            Ok(User { id: id.clone(), name: id, email: None, groups: Vec::new() })
        }
    }
}

fn mint(
    config: &Config,
    ring: Arc<KeyRing>,
    user: &User,
    arguments: &MintArguments,
    minter: &str,
) -> Result<crate::tokens::Minted, MintError> {
    let issuer = Issuer::new(ring, &config.tokens);
    let mut claims: Vec<(String, Value)> = vec![(MINTED_BY.to_owned(), minter.into())];
    for (name, value) in &arguments.claims {
        if issuer.writes(name) || claims.iter().any(|(other, _)| other == name) {
            return Err(MintError::Claim(name.clone()));
        }
        claims.push((name.clone(), value.clone()));
    }
    let kind = if arguments.refresh { Expected::Refresh } else { Expected::Access };
    let usual = match kind {
        Expected::Access => config.tokens.access_lifetime,
        Expected::Refresh => config.tokens.refresh_lifetime,
    };
    let lifetime = i64::try_from(arguments.lifetime.unwrap_or(usual).as_secs()).unwrap_or(i64::MAX);
    let now = Clock::System.now_unix_seconds();
    issuer.mint(kind, user, (now, now.saturating_add(lifetime)), claims).map_err(MintError::Issue)
}

/// The user and the machine that this process runs as. No variable is asked, for anybody may set those.
fn minter() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}@{host}", name.unwrap_or_else(|| format!("uid {uid}")))
}

/// A time in seconds since 1970 as RFC 3339, UTC.
pub(super) fn shown_time(unix_seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = OffsetDateTime::from_unix_timestamp(unix_seconds).ok();
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| unix_seconds.to_string())
}

/// `name=value`. The value is JSON when it can be read as such, and text otherwise.
///
/// # Errors
///
/// What is wrong, in words.
pub fn parse_claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        Some(_) | None => Err("write name=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::secret::Secret;
    use crate::config::{self, Environment};
    use crate::store::Store;
    use crate::store::scratch::Scratch;
    use crate::tokens::Verifier;
    use crate::users::HashPool;
    use crate::users::password::tests::cheap_hashing;

    fn config(scratch: &Scratch, tokens: &str) -> Config {
        let secret = "0123456789abcdef0123456789abcdef";
        let text = format!(
            "[tokens]\n{tokens}\n[[tokens.keys]]\nkid = \"k\"\nalg = \"HS256\"\nsecret = \"{secret}\"\n\
             [store]\nurl = \"sqlite://s.db\"\n{}",
            config::starter("http://127.0.0.1:1")
                .split_once("[upstreams")
                .map(|(_, rest)| format!("[upstreams{rest}"))
                .unwrap()
        );
        config::parse(&text, "g.toml", &scratch.path(""), &Environment::default())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn arguments(user: &str) -> MintArguments {
        MintArguments { user: user.to_owned(), lifetime: None, claims: Vec::new(), refresh: false }
    }

    fn run(config: &Config, arguments: &MintArguments) -> Result<(String, String), String> {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        match perform(config, arguments, &mut out, &mut told) {
            Ok(exit) => {
                assert_eq!(exit, Exit::Ok);
                Ok((String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap()))
            }
            Err(error) => {
                assert_eq!(error.exit(), Exit::Findings);
                assert!(out.is_empty() && told.is_empty());
                Err(error.to_string())
            }
        }
    }

    fn add_users(config: &Config) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::connect(&config.store).await.unwrap();
            let hash = HashPool::new(&cheap_hashing()).hash(&Secret::new("x")).await.unwrap();
            store.add("gone", None, &[], &hash).await.unwrap();
            store.add("alice", Some("a@example.com"), &["staff".to_owned()], &hash).await.unwrap();
            store.set_active("gone", false).await.unwrap();
            store.close().await;
        });
    }

    #[test]
    fn a_minted_token_passes_and_says_who_minted_it() {
        let scratch = Scratch::new();
        let config = config(&scratch, "claims = [\"groups\"]");
        add_users(&config);
        let ring = Arc::new(key::load(&config).unwrap());
        let verifier = Verifier::new(ring, &config.tokens, Clock::System);
        for refresh in [false, true] {
            let arguments = MintArguments {
                lifetime: Some(Duration::from_mins(5)),
                claims: vec![parse_claim("tenant=acme").unwrap(), parse_claim("level=3").unwrap()],
                refresh,
                ..arguments("alice")
            };
            let (out, told) = run(&config, &arguments).unwrap();
            let token = out.strip_suffix('\n').unwrap();
            let kind = if refresh { Expected::Refresh } else { Expected::Access };
            let claims = verifier.verify(token.as_bytes(), kind).unwrap();
            assert_eq!((claims.user_id.as_str(), claims.session.is_some()), ("2", true));
            assert_eq!(claims.expires_at_ms - claims.issued_at_ms.unwrap(), 300_000);
            assert_eq!((&claims.other["tenant"], &claims.other["level"]), (&"acme".into(), &3.into()));
            assert_eq!(claims.other[MINTED_BY], minter());
            assert_eq!(claims.other.contains_key("groups"), !refresh);
            assert!(told.contains("token of user alice (id 2) by ") && told.contains('@'), "{told}");
            assert!(!told.contains(token.rsplit('.').next().unwrap()));
        }
    }

    #[test]
    fn only_active_users_get_one_once_there_are_users() {
        let scratch = Scratch::new();
        let config = config(&scratch, "");
        let (out, _) = run(&config, &arguments("machine-7")).unwrap();
        assert!(config.store.is_missing(), "minting makes no store");
        assert_eq!(out.trim().split('.').count(), 3);
        add_users(&config);
        assert!(run(&config, &arguments("machine-7")).unwrap_err().contains("no user \"machine-7\""));
        assert!(run(&config, &arguments("gone")).unwrap_err().contains("switched off"));
        assert!(run(&config, &arguments("Alice")).unwrap_err().contains("no user"));
        assert!(run(&config, &arguments(" ")).unwrap_err().contains("no user"));
        run(&config, &arguments("alice")).unwrap();
    }

    #[test]
    fn claims_of_the_gateway_are_not_overwritten() {
        let scratch = Scratch::new();
        let config = config(&scratch, "claims = [\"email\"]");
        for claim in [
            "exp=1",
            "jti=x",
            "sid=x",
            "user_id=1",
            "token_type=refresh",
            "iss=x",
            "aud=x",
            "iat=1",
            "nbf=1",
            "email=x",
            "minted_by=x",
        ] {
            let arguments = MintArguments { claims: vec![parse_claim(claim).unwrap()], ..arguments("m") };
            assert!(run(&config, &arguments).is_err(), "{claim}");
        }
        let twice = vec![parse_claim("a=1").unwrap(), parse_claim("a=2").unwrap()];
        assert!(run(&config, &MintArguments { claims: twice, ..arguments("m") }).is_err());
        assert!(parse_claim("a").is_err() && parse_claim("=a").is_err());
        assert_eq!(parse_claim("a=b=c").unwrap().1, "b=c");
        assert_eq!(parse_claim("a=[\"x\"]").unwrap().1, serde_json::json!(["x"]));
    }
}
