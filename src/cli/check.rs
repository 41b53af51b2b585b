//! `tollgate check`: reads everything that the gateway would read, and shows who may use which route.

mod limits;
mod tls;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::error::{CommandError, Exit};
use super::table;
use crate::base::clock::Clock;
use crate::base::pattern::HostPattern;
use crate::config::{Auth, Config, DjangoDatabase, Route, UserSource};
use crate::identity::Firewall;
use crate::keys::KeyRing;
use crate::proof;
use crate::users::Directory;

/// Checks configured keys, certificates and the user file, sees the identity firewall prove itself, and prints a summary of a configuration that has been loaded. Nothing is
/// made or changed: neither a store nor a key.
///
/// # Errors
///
/// [`CommandError::Keys`], [`CommandError::Users`], [`CommandError::Tls`], [`CommandError::Identity`].
pub fn check(file_name: &str, config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let ring = configured_keys(config)?;
    check_user_file(config)?;
    let certificates = tls::report(config, &Clock::System)?;
    let firewall = Arc::new(Firewall::new(config.tls.as_ref()));
    proof::prove(config, &firewall).map_err(CommandError::Identity)?;
    let (verdict, exit) = match certificates.problems {
        0 => ("ok".to_owned(), Exit::Ok),
        1 => ("1 problem found".to_owned(), Exit::Findings),
        count => (format!("{count} problems found"), Exit::Findings),
    };
    let mut text =
        format!("{file_name}: {verdict}\n\n{}{}", summary(config, ring.as_ref()), certificates.text);
    let rows =
        std::iter::once(["ROUTE", "HOST", "PATH", "METHODS", "WHO MAY", "UPSTREAM"].map(str::to_owned))
            .chain(config.routes.iter().map(|route| row(config, route)));
    text.push('\n');
    text.push_str(&table::of(&rows.collect::<Vec<_>>()));
    text.push_str(&limits::table(config));
    out.write_all(text.as_bytes()).map_err(CommandError::Output)?;
    Ok(exit)
}

/// Loading without configured keys would make one.
fn configured_keys(config: &Config) -> Result<Option<KeyRing>, CommandError> {
    if config.tokens.keys.is_empty() {
        return Ok(None);
    }
    KeyRing::load(&config.tokens, &Clock::System).map(Some).map_err(CommandError::Keys)
}

fn check_user_file(config: &Config) -> Result<(), CommandError> {
    match config.users.source {
        UserSource::Store => Ok(()),
        UserSource::File(_) | UserSource::Django(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(CommandError::System)?;
            let opened = runtime.block_on(Directory::open(&config.users, None, Clock::System));
            opened.map(drop).map_err(CommandError::Users)
        }
    }
}

fn summary(config: &Config, ring: Option<&KeyRing>) -> String {
    let listen: Vec<String> = config.server.listen.iter().map(ToString::to_string).collect();
    let admin = config.server.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let users = match &config.users.source {
        UserSource::Store => format!("in the store {}", shown(&config.store.path)),
        UserSource::File(path) => format!("in the file {}", shown(path)),
        UserSource::Django(django) => {
            let place = match &django.database {
                DjangoDatabase::Sqlite(path) => shown(path),
                DjangoDatabase::Postgres(_) => "PostgreSQL".to_owned(),
                DjangoDatabase::Mysql(_) => "MySQL".to_owned(),
            };
            format!("of a Django application, in the table {} of {place}", django.columns.table)
        }
    };
    let keys = match ring {
        Some(ring) => ring
            .keys()
            .map(|key| {
                let exposed = if key.is_exposed() { ", private key readable by all: chmod 600" } else { "" };
                format!("{} ({}{exposed})", key.kid(), key.algorithm())
            })
            .collect::<Vec<_>>()
            .join(", "),
        None => format!("made in {} at the first start", shown(&config.tokens.key_directory)),
    };
    let tokens = &config.tokens.path;
    let scheme = if config.tls.is_some() { " (https)" } else { "" };
    let redirect = config
        .server
        .http_redirect
        .map_or_else(String::new, |address| format!("redirect {address} (http), to https\n"));
    format!(
        "listen   {}{scheme}\n{redirect}admin    {admin}\ntokens   POST {tokens}/ and {tokens}/refresh/\nkeys     {keys}\nusers    {users}\n",
        listen.join(", ")
    )
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn row(config: &Config, route: &Route) -> [String; 6] {
    let host = match &route.host {
        HostPattern::Exact(_) | HostPattern::Suffix(_) => route.host.to_string(),
        HostPattern::Any => "any".to_owned(),
    };
    let methods = route.methods.as_ref().map_or_else(|| "any".to_owned(), |methods| methods.join(","));
    let who = match route.auth {
        Auth::Required => "any token",
        Auth::Optional => "optional",
        Auth::Public => "PUBLIC",
    };
    let upstream = config.upstreams.get(route.upstream).map_or_else(String::new, |upstream| {
        let targets: Vec<String> = upstream.targets.iter().map(|one| one.target.to_string()).collect();
        format!("{} ({})", upstream.name, targets.join(", "))
    });
    [route.name.clone(), host, route.path.to_string(), methods, who.to_owned(), upstream]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};
    use crate::store::scratch::Scratch;

    fn checked(text: &str, directory: &Scratch) -> Result<String, CommandError> {
        let config = parse(text, "gateway.toml", &directory.path(""), &Environment::default());
        let mut out = Vec::new();
        check("gateway.toml", &config.unwrap(), &mut out)?;
        let directory = directory.path("").display().to_string();
        Ok(String::from_utf8(out).unwrap().replace(&directory, ""))
    }

    const ROUTES: &str = r#"
[upstreams.api]
targets = ["http://127.0.0.1:9000", "http://[::1]:9001"]
[[routes]]
path = "/"
auth = "required"
upstream = "api"
[[routes]]
name = "one"
host = "*.example.com"
path = "=/users/{id}/"
methods = ["GET", "PUT"]
auth = "public"
upstream = "api"
"#;

    #[test]
    fn the_summary_shows_who_may_use_which_route_and_makes_nothing() {
        let scratch = Scratch::new();
        let text = checked(ROUTES, &scratch).unwrap();
        let expected = "\
gateway.toml: ok

listen   127.0.0.1:8080
admin    127.0.0.1:9911
tokens   POST /api/token/ and /api/token/refresh/
keys     made in data/keys at the first start
users    in the store data/tollgate.db

ROUTE    HOST           PATH           METHODS  WHO MAY    UPSTREAM
route-1  any            /              any      any token  api (http://127.0.0.1:9000, http://[::1]:9001)
one      *.example.com  =/users/{id}/  GET,PUT  PUBLIC     api (http://127.0.0.1:9000, http://[::1]:9001)

LIMIT         COUNTED BY      RATE     BURST  ROUTES
token-routes  client network";
        assert!(text.starts_with(expected), "{text}");
        assert!(std::fs::read_dir(scratch.path("")).unwrap().next().is_none());
    }

    #[test]
    fn limits_are_shown_with_what_they_limit() {
        let scratch = Scratch::new();
        let limits = r#"limit = ["per-user", "keyed"]
[server]
workers = 2
[limits.per-user]
key = "user"
rate = ["10000/h", "100/s"]
burst = 50
[limits.keyed]
key = "header:X-Api-Key"
rate = "7/d"
[limits.spare]
key = "ip"
rate = "1/m"
"#;
        let expected = "
LIMIT         COUNTED BY        RATE            BURST  ROUTES
keyed         header x-api-key  7/d             7      one
per-user      user              100/s, 10000/h  50     one
spare         client network    1/m             1      none, so it limits nothing
token-routes  client network    20000/s         20000  the token routes
";
        let text = checked(&format!("{ROUTES}{limits}"), &scratch).unwrap();
        assert!(text.ends_with(expected), "{text}");
        let text = format!("tokens.limit = \"keyed\"\n{ROUTES}{limits}");
        let line = "keyed         header x-api-key  7/d             7      one, the token routes\n";
        let text = checked(&text, &scratch).unwrap().replace("keyed     header", "keyed         header");
        assert!(text.contains(line) && !text.contains("token-routes"), "{text}");
    }

    fn pair(scratch: &Scratch, hosts: &str, not_after: i32) -> String {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        scratch.write("c.pem", params.self_signed(&key).unwrap().pem());
        let path = scratch.write("k.pem", key.serialize_pem());
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("[[tls.certificates]]\nhosts = {hosts}\ncert = \"c.pem\"\nkey = \"k.pem\"\n")
    }

    #[test]
    fn certificates_are_told_with_their_hosts_and_their_end() {
        let scratch = Scratch::new();
        let tls = pair(&scratch, r#"["a.test", "b.test"]"#, 2090);
        let text = format!("server.http_redirect = \"127.0.0.1:80\"\n{tls}{ROUTES}");
        let text = checked(&text, &scratch).unwrap();
        assert!(text.starts_with("gateway.toml: ok\n"), "{text}");
        for line in [
            "listen   127.0.0.1:8080 (https)\nredirect 127.0.0.1:80 (http), to https\n",
            "tls      versions 1.2 and 1.3\n         a.test, b.test until 2090-01-01T00:00:00Z (c.pem)\n",
            "           note: the certificate does not name b.test, so clients refuse it there\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("problem") && !text.contains("chmod"), "{text}");
        std::fs::set_permissions(scratch.path("k.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        assert!(checked(&format!("{tls}{ROUTES}"), &scratch).unwrap().contains("chmod 600"));
    }

    #[test]
    fn a_certificate_that_has_expired_or_cannot_be_loaded_is_a_finding() {
        let scratch = Scratch::new();
        let text = format!("{}{ROUTES}", pair(&scratch, r#"["a.test"]"#, 2020));
        let config = parse(&text, "gateway.toml", &scratch.path(""), &Environment::default()).unwrap();
        let mut out = Vec::new();
        assert_eq!(check("gateway.toml", &config, &mut out).unwrap(), Exit::Findings);
        let told = String::from_utf8(out).unwrap();
        assert!(told.starts_with("gateway.toml: 1 problem found\n"), "{told}");
        assert!(told.contains("problem: it has expired"), "{told}");
        scratch.write("k.pem", "no key");
        let error = checked(&text, &scratch).unwrap_err();
        assert!(matches!(error, CommandError::Tls(_)) && error.exit() == Exit::Findings);
    }

    #[test]
    fn the_shipped_configurations_load() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let environment =
            Environment::from_pairs([("DJANGO_SECRET_KEY", "0123456789abcdef0123456789abcdef")]);
        let examples = std::fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = examples.chain([root.join("gateway.toml")]).collect();
        assert!(files.len() > 4);
        for file in files {
            if let Err(failure) = crate::config::load(&file, &environment) {
                panic!("{failure}");
            }
        }
    }

    #[test]
    fn keys_and_the_user_file_are_read() {
        let scratch = Scratch::new();
        scratch.write("k.pem", "no key");
        let keys = format!("[[tokens.keys]]\nalg = \"EdDSA\"\nfile = \"k.pem\"\n{ROUTES}");
        assert!(matches!(checked(&keys, &scratch), Err(CommandError::Keys(_))));
        scratch.write("users", "no colon\n");
        let users = format!("[users]\nsource = \"file\"\nfile = {{ path = \"users\" }}\n{ROUTES}");
        let error = checked(&users, &scratch).unwrap_err();
        assert!(matches!(error, CommandError::Users(_)));
        assert_eq!(error.exit(), Exit::Findings);
    }
}
