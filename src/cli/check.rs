//! `tollgate check`: reads everything that the gateway would read, shows who may use which route, tells what a careful
//! operator would want to know, and runs `[[tests]]`.

mod careful;
mod cases;
mod entropy;
mod exposure;
pub mod findings;
mod limits;
mod tls;

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use self::cases::Outcome;
use self::findings::Finding;
use super::arguments::{CheckArguments, CheckFormat};
use super::error::{CommandError, Exit};
use crate::base::clock::Clock;
use crate::config::{Config, DjangoDatabase, Ignored, UserSource};
use crate::identity::Firewall;
use crate::keys::KeyRing;
use crate::proof;
use crate::users::Directory;

/// Checks a configuration: everything that a start would refuse, what else there is to find, and the tests. Nothing is made
/// or changed: neither a store nor a key.
///
/// # Errors
///
/// What a start would refuse, as [`CommandError`]; with `--format json` it is told in JSON instead.
pub fn perform(
    file_name: &str,
    config: Result<Config, CommandError>,
    arguments: &CheckArguments,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let checked = config.and_then(|config| look(&config, &arguments.ignore).map(|report| (config, report)));
    let (text, exit) = match (checked, arguments.format) {
        (Ok((config, report)), CheckFormat::Text) => (report.text(file_name, &config), report.exit()),
        (Ok((config, report)), CheckFormat::Json) => (report.json(file_name, &config), report.exit()),
        (Err(error), CheckFormat::Text) => return Err(error),
        (Err(error), CheckFormat::Json) => (refused(file_name, &error), error.exit()),
    };
    out.write_all(text.as_bytes()).map_err(CommandError::Output)?;
    Ok(exit)
}

/// What a start would refuse, for programs.
fn refused(file_name: &str, error: &CommandError) -> String {
    let problems = if let CommandError::Config(failure) = error { failure.problems() } else { &[] };
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| {
            json!({
                "line": problem.line, "column": problem.column,
                "message": problem.message, "help": problem.hint,
            })
        })
        .collect();
    let error = if problems.is_empty() { Some(error.to_string()) } else { None };
    format!("{}\n", json!({"file": file_name, "ok": false, "error": error, "problems": problems}))
}

/// Everything that was found.
struct Report {
    ring: Option<KeyRing>,
    certificates: String,
    findings: Vec<Finding>,
    ignored: usize,
    tests: Vec<Outcome>,
}

/// Looks at everything. What is not here is refused already.
fn look(config: &Config, ignore: &[Ignored]) -> Result<Report, CommandError> {
    let ring = configured_keys(config)?;
    check_user_file(config)?;
    let certificates = tls::report(config, &Clock::System)?;
    let firewall = Arc::new(Firewall::new(config));
    proof::prove(config, &firewall).map_err(CommandError::Identity)?;
    let tests = cases::run(config)?;
    let mut findings = careful::keys(config, ring.as_ref());
    findings.extend(certificates.findings);
    findings.extend(careful::routes(config, &certificates.certificates));
    findings.extend(careful::unused(config));
    findings.extend(careful::listeners(config));
    let all = findings.len();
    findings.retain(|finding| !finding.is_ignored(ignore) && !finding.is_ignored(&config.check.ignore));
    findings.sort_by_key(|finding| finding.code as u8);
    let ignored = all - findings.len();
    Ok(Report { ring, certificates: certificates.text, findings, ignored, tests })
}

impl Report {
    fn exit(&self) -> Exit {
        if self.failed() > 0 {
            Exit::TestFailed
        } else if self.findings.is_empty() {
            Exit::Ok
        } else {
            Exit::Findings
        }
    }

    fn failed(&self) -> usize {
        self.tests.iter().filter(|test| !test.failures.is_empty()).count()
    }

    fn verdict(&self) -> String {
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            count => Some(format!("{count} {what}s")),
        };
        let failed = counted(self.failed(), "test").map(|tests| format!("{tests} failed"));
        let all: Vec<String> = failed.into_iter().chain(counted(self.findings.len(), "finding")).collect();
        if all.is_empty() { "ok".to_owned() } else { all.join(", ") }
    }

    fn text(&self, file_name: &str, config: &Config) -> String {
        let mut text = format!("{file_name}: {}\n\n", self.verdict());
        text.push_str(&summary(config, self.ring.as_ref()));
        text.push_str(&self.certificates);
        text.push('\n');
        text.push_str(&exposure::table(config));
        text.push_str(&limits::table(config));
        for finding in &self.findings {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{finding}");
        }
        if self.ignored > 0 {
            let plural = if self.ignored == 1 { "" } else { "s" };
            let _ = writeln!(text, "\n{} finding{plural} ignored", self.ignored);
        }
        if !self.tests.is_empty() {
            let failed = self.failed();
            let _ = writeln!(text, "\ntests    {} passed, {failed} failed", self.tests.len() - failed);
        }
        for test in self.tests.iter().filter(|test| !test.failures.is_empty()) {
            let _ = writeln!(text, "{file_name}:{}: {}", test.line, test.request);
            for failure in &test.failures {
                let _ = writeln!(text, "  = {failure}");
            }
        }
        text
    }

    fn json(&self, file_name: &str, config: &Config) -> String {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "code": finding.code.to_string(), "subject": finding.subject,
                "message": finding.message, "help": finding.help,
            })
        });
        let tests = self.tests.iter().map(|test| {
            json!({
                "line": test.line, "request": test.request,
                "passed": test.failures.is_empty(), "failures": test.failures,
            })
        });
        let all = json!({
            "file": file_name, "ok": self.exit() == Exit::Ok,
            "findings": findings.collect::<Vec<_>>(), "ignored": self.ignored,
            "routes": exposure::json(config), "tests": tests.collect::<Vec<_>>(),
        });
        format!("{all}\n")
    }
}

/// Those of the configuration; the store is not asked. Loading without configured keys would make one.
fn configured_keys(config: &Config) -> Result<Option<KeyRing>, CommandError> {
    if config.tokens.keys.is_empty() {
        return Ok(None);
    }
    KeyRing::load_existing(&config.tokens, &[], &Clock::System).map_err(CommandError::Keys)
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
        UserSource::Store => match config.store.file() {
            Some(path) => format!("in the store {}", shown(path)),
            None => format!("in the store {}", config.store.name()),
        },
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
    let in_store = config.tokens.key_encryption_key.is_some();
    let keys = match ring {
        Some(ring) => ring
            .keys()
            .map(|key| {
                let exposed = if key.is_exposed() { ", private key readable by all: chmod 600" } else { "" };
                format!("{} ({}{exposed})", key.kid(), key.algorithm())
            })
            .collect::<Vec<_>>()
            .join(", "),
        None if in_store => "in the store".to_owned(),
        None => format!("made in {} at the first start", shown(&config.tokens.key_directory)),
    };
    let keys = if in_store && ring.is_some() { format!("{keys}, and those in the store") } else { keys };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};
    use crate::store::scratch::Scratch;

    fn checked(text: &str, directory: &Scratch) -> Result<String, CommandError> {
        told(text, directory, &CheckArguments::default()).map(|(text, _)| text)
    }

    fn told(
        text: &str,
        directory: &Scratch,
        arguments: &CheckArguments,
    ) -> Result<(String, Exit), CommandError> {
        let config = parse(text, "gateway.toml", &directory.path(""), &Environment::default());
        let mut out = Vec::new();
        let exit = perform("gateway.toml", config.map_err(CommandError::Config), arguments, &mut out)?;
        let directory = directory.path("").display().to_string();
        Ok((String::from_utf8(out).unwrap().replace(&directory, ""), exit))
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
gateway.toml: 1 finding

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
        let expected = "
T006 route \"one\" is for everybody: =/users/{id}/
  = help: if it is meant to be, ignore this for this route
  = ignore: T006:one
";
        assert!(text.ends_with(expected), "{text}");
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
        assert!(text.contains(expected) && text.contains("T011 limit \"spare\" limits nothing"), "{text}");
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
        for line in [
            "gateway.toml: 2 findings\n",
            "listen   127.0.0.1:8080 (https)\nredirect 127.0.0.1:80 (http), to https\n",
            "tls      versions 1.2 and 1.3\n         a.test, b.test until 2090-01-01T00:00:00Z (c.pem)\n",
            "T005 the certificate c.pem does not name b.test, so clients refuse it there\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("chmod"), "{text}");
        std::fs::set_permissions(scratch.path("k.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        assert!(checked(&format!("{tls}{ROUTES}"), &scratch).unwrap().contains("chmod 600"));
    }

    #[test]
    fn a_certificate_that_has_expired_or_cannot_be_loaded_is_a_finding() {
        let scratch = Scratch::new();
        let text = format!("{}{ROUTES}", pair(&scratch, r#"["a.test"]"#, 2020));
        let (found, exit) = told(&text, &scratch, &CheckArguments::default()).unwrap();
        assert!(found.contains("T003 the certificate c.pem has expired"), "{found}");
        assert_eq!(exit, Exit::Findings);
        scratch.write("k.pem", "no key");
        let error = checked(&text, &scratch).unwrap_err();
        assert!(matches!(error, CommandError::Tls(_)) && error.exit() == Exit::Findings);
    }

    const CAREFUL: &str = r#"
server.listen = ["0.0.0.0:80"]
server.admin = "0.0.0.0:9911"
server.trusted_proxies = []
[[tokens.keys]]
kid = "weak"
alg = "HS256"
secret = "please-change-me-please-change-me"
[upstreams.api]
targets = ["http://127.0.0.1:9000"]
[upstreams.spare]
targets = ["http://127.0.0.1:9000"]
[[routes]]
name = "login"
path = "=/api/token/"
auth = "required"
upstream = "api"
[[routes]]
name = "staff"
path = "/staff/{id}"
auth = "optional"
deny = { groups = ["a", "b"] }
upstream = "api"
[[routes]]
name = "own"
path = "/own/{id}"
auth = "required"
allow = { groups = ["a", "b"], scopes = ["r", "w"], claims = { t = "x" }, match = { user_id = "{id}" } }
enforce = "report"
upstream = "api"
"#;

    fn codes(text: &str) -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(code, _)| code)
            .filter(|code| {
                code.len() == 4
                    && code.starts_with('T')
                    && code.bytes().skip(1).all(|byte| byte.is_ascii_digit())
            })
            .collect()
    }

    #[test]
    fn what_a_careful_operator_would_want_to_know_is_told_by_number() {
        let scratch = Scratch::new();
        let (text, exit) = told(CAREFUL, &scratch, &CheckArguments::default()).unwrap();
        assert_eq!(codes(&text), ["T001", "T007", "T008", "T009", "T012", "T013", "T014"], "{text}");
        assert_eq!(exit, Exit::Findings);
        for line in [
            "EVERYBODY, also without a token, but not groups a|b",
            "EVERYBODY (reports only: groups a|b and scopes r+w and t=x and user_id={id})",
            "T007 no request takes route \"login\": its path is that of the token route \"token\"",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("please-change-me"), "{text}");
    }

    #[test]
    fn a_wildcard_of_origins_is_told_of_where_scripts_send_credentials() {
        let scratch = Scratch::new();
        let found = |cors: &str| {
            let text = format!(
                "{CAREFUL}[[routes]]\nname = \"c\"\npath = \"/c\"\nauth = \"required\"\nupstream = \"spare\"\ncors = {cors}\n"
            );
            told(&text, &scratch, &CheckArguments::default()).unwrap().0
        };
        let text = found(r#"{ origins = ["https://a.test", "https://*.b.test"], credentials = true }"#);
        let line = "T010 scripts of every host of https://*.b.test may use route \"c\" with credentials\n";
        assert!(text.contains(line) && text.contains("  = ignore: T010:c\n"), "{text}");
        for sound in [
            r#"{ origins = ["https://*.b.test"] }"#,
            r#"{ origins = ["*"] }"#,
            r#"{ origins = ["https://a.test"], credentials = true }"#,
        ] {
            assert!(!codes(&found(sound)).contains(&"T010"), "{sound}");
        }
    }

    #[test]
    fn findings_are_ignored_by_number_and_by_what_they_are_about() {
        let scratch = Scratch::new();
        let ignored = |text: &str| Ignored::parse(text).unwrap();
        let arguments = CheckArguments {
            ignore: ["T001:weak", "T007", "T008:other", "T012:spare"].map(ignored).to_vec(),
            ..CheckArguments::default()
        };
        let text = format!("{CAREFUL}[check]\nignore = [\"T009\", \"T013\"]\n");
        let (told_of, exit) = told(&text, &scratch, &arguments).unwrap();
        assert_eq!((codes(&told_of), exit), (vec!["T008", "T014"], Exit::Findings));
        assert!(told_of.contains("\n5 findings ignored\n"), "{told_of}");
        let all = CheckArguments {
            ignore: ["T001", "T007", "T008", "T009", "T012", "T013", "T014"].map(ignored).to_vec(),
            ..CheckArguments::default()
        };
        let (told_of, exit) = told(CAREFUL, &scratch, &all).unwrap();
        assert!(told_of.starts_with("gateway.toml: ok\n") && exit == Exit::Ok, "{told_of}");
    }

    #[test]
    fn tests_are_run_and_one_that_fails_has_its_own_exit_code() {
        let scratch = Scratch::new();
        let tests = r#"
[check]
ignore = ["T001", "T007", "T008", "T009", "T012", "T013", "T014"]
[[tests]]
request = "GET https://a.test/own/7?x=1"
as = { user = "alice", id = "7", groups = ["a"], scopes = ["r", "w"], claims = { t = "x" } }
expect = { route = "own", status = 200, upstream = "api", upstream_path = "/own/7" }
[[tests]]
request = "GET /own/8"
as = { user = "alice", id = "7", groups = ["a"], scopes = ["r", "w"], claims = { t = "x" } }
expect = { would_refuse = "claim_mismatch", status = 200 }
[[tests]]
request = "GET /staff/1"
as = { user = "bob", groups = ["b"] }
expect = { status = 403, reason = "policy_denied" }
[[tests]]
request = "GET /nothing"
expect = { status = 404, reason = "route_not_found" }
"#;
        let (text, exit) = told(&format!("{CAREFUL}{tests}"), &scratch, &CheckArguments::default()).unwrap();
        assert!(text.ends_with("\ntests    4 passed, 0 failed\n"), "{text}");
        assert_eq!(exit, Exit::Ok);
        let wrong = tests.replace("status = 403", "status = 200, route = \"own\"");
        let arguments = CheckArguments::default();
        let (text, exit) = told(&format!("{CAREFUL}{wrong}"), &scratch, &arguments).unwrap();
        let expected = "
tests    3 passed, 1 failed
gateway.toml:42: GET localhost/staff/1
  = status: expected 200, got 403 (policy_denied)
  = route: expected own, got staff
";
        assert!(text.ends_with(expected) && text.starts_with("gateway.toml: 1 test failed\n"), "{text}");
        assert_eq!(exit, Exit::TestFailed);
        let arguments = CheckArguments { format: CheckFormat::Json, ..arguments };
        let (text, exit) = told(&format!("{CAREFUL}{wrong}"), &scratch, &arguments).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&all["ok"], &all["tests"][2]["passed"]), (&false.into(), &false.into()));
        assert_eq!((&all["routes"][1]["name"], exit), (&"staff".into(), Exit::TestFailed));
    }

    #[test]
    fn what_a_start_refuses_is_told_in_json_too() {
        let scratch = Scratch::new();
        let arguments = CheckArguments { format: CheckFormat::Json, ..CheckArguments::default() };
        let (text, exit) = told("[servr]\n", &scratch, &arguments).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&all["ok"], &all["problems"][0]["line"], exit),
            (&false.into(), &1.into(), Exit::Findings)
        );
    }

    #[test]
    fn the_shipped_configurations_load() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let secret = "0123456789abcdef0123456789abcdef";
        let environment = Environment::from_pairs([
            ("DJANGO_SECRET_KEY", secret),
            ("DATABASE_PASSWORD", secret),
            ("REDIS_PASSWORD", secret),
            ("SIGNING_SECRET", secret),
            ("APPLIANCE_PASSWORD", "hunter2"),
        ]);
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
