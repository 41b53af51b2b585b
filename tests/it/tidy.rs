//! The rules of the house, held by reading the source: who may use whom, how long a file may be, what is documented.

use std::fs;
use std::path::{Path, PathBuf};

use tollgate::base::bounds;
use tollgate::base::reason::Reason;
use tollgate::config::{self, Environment};
use tollgate::telemetry::metrics::families;

/// Most lines of a file without its tests.
const MAX_LINES: usize = 400;

/// Who may use whom: each module with those that it may name, which stand above it here. What a module does not need it
/// may not take; add a line here only after asking whether the arrow points downward.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("net", &["base", "config"]),
    ("store", &["base", "config"]),
    ("telemetry", &["base", "config"]),
    ("http", &["base", "net"]),
    ("keys", &["base", "config", "store"]),
    ("users", &["base", "config", "store"]),
    ("tokens", &["base", "config", "keys"]),
    ("limits", &["base", "config", "store"]),
    ("sessions", &["base", "config", "store", "tokens", "users"]),
    ("upgrade", &["base"]),
    ("request", &["base", "http", "upgrade"]),
    ("routing", &["base", "config", "request"]),
    ("admission", &["base", "config", "limits", "net", "routing"]),
    ("authn", &["admission", "base", "config", "request", "routing", "sessions", "tokens", "users"]),
    ("authz", &["authn", "base", "config", "limits", "request", "routing"]),
    ("fixed", &["authz", "base", "config", "http"]),
    (
        "identity",
        &[
            "authn",
            "authz",
            "base",
            "config",
            "http",
            "net",
            "request",
            "routing",
            "telemetry",
            "tokens",
            "upgrade",
        ],
    ),
    ("upstream", &["base", "config", "http", "identity", "net", "request"]),
    ("endpoints", &["base", "config", "keys", "limits", "sessions", "tokens", "users"]),
    ("service", &[]),
    ("handover", &[]),
    ("streams", &["authn", "base", "http", "net", "telemetry", "upgrade"]),
    ("response", &["base", "http", "net", "streams", "telemetry", "upgrade", "upstream"]),
    (
        "refusals",
        &[
            "authn", "authz", "base", "http", "identity", "limits", "net", "request", "routing", "tokens",
            "upgrade", "upstream",
        ],
    ),
    (
        "snapshot",
        &[
            "base",
            "config",
            "endpoints",
            "identity",
            "keys",
            "limits",
            "net",
            "routing",
            "sessions",
            "store",
            "telemetry",
            "tokens",
            "upstream",
            "users",
        ],
    ),
    ("admin", &["base", "config", "endpoints", "net", "sessions", "snapshot", "telemetry", "upstream"]),
    (
        "pipeline",
        &[
            "admission",
            "authn",
            "authz",
            "base",
            "connection",
            "endpoints",
            "fixed",
            "http",
            "identity",
            "limits",
            "net",
            "request",
            "response",
            "routing",
            "streams",
            "telemetry",
            "upgrade",
            "upstream",
            "worker",
        ],
    ),
    ("last_words", &["base", "connection", "http", "telemetry", "worker"]),
    (
        "connection",
        &[
            "authn",
            "base",
            "config",
            "http",
            "last_words",
            "net",
            "pipeline",
            "response",
            "streams",
            "telemetry",
            "upgrade",
            "upstream",
            "worker",
        ],
    ),
    (
        "worker",
        &[
            "authn",
            "base",
            "config",
            "endpoints",
            "http",
            "identity",
            "connection",
            "limits",
            "net",
            "request",
            "routing",
            "snapshot",
            "streams",
            "telemetry",
            "upstream",
        ],
    ),
    (
        "rehearsal",
        &[
            "admission",
            "authn",
            "authz",
            "base",
            "config",
            "connection",
            "http",
            "identity",
            "limits",
            "net",
            "request",
            "snapshot",
            "store",
            "telemetry",
            "tokens",
            "upstream",
            "worker",
        ],
    ),
    ("trial", &["base", "config", "http", "identity", "rehearsal", "routing"]),
    ("proof", &["base", "config", "identity", "rehearsal"]),
    (
        "reload",
        &[
            "admin",
            "base",
            "config",
            "identity",
            "keys",
            "limits",
            "net",
            "proof",
            "service",
            "snapshot",
            "telemetry",
            "upstream",
            "users",
            "worker",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "base",
            "config",
            "connection",
            "handover",
            "identity",
            "keys",
            "net",
            "proof",
            "reload",
            "sessions",
            "snapshot",
            "store",
            "telemetry",
            "upstream",
            "users",
            "worker",
        ],
    ),
    ("lifecycle", &["app", "service"]),
    ("bench", &["base"]),
    (
        "cli",
        &[
            "admin",
            "app",
            "base",
            "bench",
            "config",
            "endpoints",
            "handover",
            "identity",
            "keys",
            "lifecycle",
            "net",
            "proof",
            "rehearsal",
            "reload",
            "service",
            "sessions",
            "store",
            "telemetry",
            "tokens",
            "trial",
            "users",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// A thread, the story of its requests and its last words know each other; nobody else has such a circle.
const CIRCLE: [&str; 4] = ["connection", "last_words", "pipeline", "worker"];

/// A file of `src` without its tests and comments.
struct Source {
    /// Relative to `src`.
    path: String,
    /// Numbered from 1.
    lines: Vec<(usize, String)>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "data" | "node_modules") {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root().join(directory), &mut found);
    found.retain(|path| path.extension().is_some_and(|other| other == extension));
    found.sort();
    found
}

/// The production code of every file: what comes before the tests, without whole-line comments.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for path in files("src", "rs") {
        if matches!(path.file_name().unwrap().to_str(), Some("tests.rs" | "scratch.rs")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let before_tests = before_tests.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap();
        let numbered = before_tests.lines().enumerate().map(|(number, line)| (number + 1, line.to_owned()));
        let path = path.strip_prefix(root().join("src")).unwrap().display().to_string();
        sources.push(Source { path, lines: numbered.collect() });
    }
    assert!(sources.len() > 50, "the source was found");
    sources
}

impl Source {
    /// The module at the top of the crate that it belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().map(|(number, line)| (*number, line.as_str()));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn files_are_short_enough_to_be_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines.len() > MAX_LINES)
        .map(|source| format!("{} has {} lines", source.path, source.lines.len()))
        .collect();
    nothing("files that should be split", &long);
}

#[test]
fn arrows_point_downward() {
    let mut wrong = Vec::new();
    for (place, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let above = MAY_USE[..place].iter().any(|(other, _)| other == used);
            let circle = CIRCLE.contains(module) && CIRCLE.contains(used);
            if !above && !circle {
                wrong.push(format!("the table lets {module} use {used}, which does not stand above it"));
            }
        }
    }
    for source in sources() {
        let module = source.module();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{module} is not in the table"));
            continue;
        };
        for (number, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let name: String =
                    used.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
                if name != module && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}:{number} uses {name}", source.path));
                }
            }
        }
    }
    nothing("modules that use what they may not", &wrong);
}

#[test]
fn some_things_are_done_in_one_place() {
    let mut wrong = Vec::new();
    for source in sources() {
        let (module, path) = (source.module(), source.path.as_str());
        for (number, line) in source.code() {
            let mut only = |pattern: &str, allowed: bool, rule: &str| {
                if !allowed && line.to_ascii_lowercase().contains(pattern) {
                    wrong.push(format!("{path}:{number} {rule}: {}", line.trim()));
                }
            };
            only(
                "jsonwebtoken",
                matches!(module, "tokens" | "keys"),
                "only tokens and keys may use jsonwebtoken",
            );
            // The sample upstream of `tollgate demo` reads them, the proof compares them, presets name them, and what is owned is a list.
            only(
                "\"x-user-",
                matches!(module, "identity" | "cli" | "proof")
                    || matches!(path, "base/fields.rs" | "config/identity.rs"),
                "only identity writes identity headers",
            );
            let reads = path == "config/environment.rs";
            only("env::var", reads, "only config::environment reads the environment");
            only("systemtime", path == "base/clock.rs", "only base::clock reads the time");
            let names = matches!(module, "endpoints" | "admin") || path == "http/problem.rs";
            for name in line.split("StatusCode::").skip(1) {
                let name: String =
                    name.chars().take_while(|letter| letter.is_ascii_uppercase() || *letter == '_').collect();
                let harmless = matches!(
                    name.as_str(),
                    "" | "OK" | "NO_CONTENT" | "CONTINUE" | "SWITCHING_PROTOCOLS" | "PERMANENT_REDIRECT"
                );
                if !harmless && !names {
                    wrong.push(format!("{path}:{number} names the status {name}, where a Reason belongs"));
                }
            }
        }
    }
    nothing("things done in the wrong place", &wrong);
}

#[test]
fn shipped_configurations_load() {
    let mut paths = files("examples", "toml");
    paths.extend(files("deploy", "toml"));
    paths.push(root().join("gateway.toml"));
    assert!(paths.len() >= 2);
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let mut wrong = Vec::new();
    for path in paths {
        // Whatever variable an example names is set to something that could be a secret.
        let text = fs::read_to_string(&path).unwrap();
        let named = text.split("${").skip(1).filter_map(|rest| rest.split(['}', ':']).next());
        let quoted =
            text.lines().filter_map(|line| line.trim().strip_prefix("secret_env")?.split('"').nth(1));
        let environment = Environment::from_pairs(named.chain(quoted).map(|name| (name, secret)));
        if let Err(failure) = config::load(&path, &environment) {
            wrong.push(failure.to_string());
        }
    }
    nothing("configurations that do not load", &wrong);
}

/// The pages for users, with all blanks as single spaces.
fn manual() -> String {
    let page = |name: &str| fs::read_to_string(root().join("docs").join(name)).unwrap();
    let text = page("configuration.md") + &page("operations.md");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the manual says of a bound, made of the constant, and what it says it of, close by.
type Documented = (&'static str, String, &'static str);

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes / 1024)
}

fn mib(bytes: usize) -> String {
    format!("{} MiB", bytes / 1024 / 1024)
}

/// The bounds of what is read and remembered.
fn bounds_of_data() -> Vec<Documented> {
    vec![
        ("MAX_TOKEN_BYTES", kib(bounds::MAX_TOKEN_BYTES), "token"),
        (
            "MAX_TOKEN_LIFETIME_SECONDS",
            format!("{} days", bounds::MAX_TOKEN_LIFETIME_SECONDS / 86_400),
            "token",
        ),
        ("MAX_IDENTIFIER_BYTES", format!("{} bytes", bounds::MAX_IDENTIFIER_BYTES), "id"),
        ("MAX_TOKEN_MEMBERS", format!("{} members", bounds::MAX_TOKEN_MEMBERS), "token"),
        ("TOKEN_CACHE_ENTRIES", grouped(bounds::TOKEN_CACHE_ENTRIES), "tokens"),
        ("MAX_PASSWORD_BYTES", format!("{} bytes", grouped(bounds::MAX_PASSWORD_BYTES)), "password"),
        ("MAX_TRACKED_LOGINS", grouped(bounds::MAX_TRACKED_LOGINS), "failed logins"),
        ("NETWORK_ATTEMPTS_FACTOR", format!("{} times", bounds::NETWORK_ATTEMPTS_FACTOR), "network"),
        ("RATE_KEYS", grouped(bounds::RATE_KEYS), "keys"),
        ("MAX_RATES_OF_ROUTE", format!("at most {} rates", bounds::MAX_RATES_OF_ROUTE), "route"),
        (
            "TOKEN_ROUTES_RATE",
            format!("{} requests a second", grouped(small(bounds::TOKEN_ROUTES_RATE.get()))),
            "client network",
        ),
        ("UNSETTLED_KEYS", grouped(bounds::UNSETTLED_KEYS), "keys"),
        ("LIMITS_STORE_INTERVAL_MS", format!("{} ms", bounds::LIMITS_STORE_INTERVAL_MS), "told"),
        ("LIMITS_STORE_WAIT_MS", format!("{} ms", bounds::LIMITS_STORE_WAIT_MS), "waits"),
        ("LIMITS_STORE_TIMEOUT_MS", format!("{} ms", bounds::LIMITS_STORE_TIMEOUT_MS), "away"),
        ("UNSETTLED_PART", format!("1/{}", bounds::UNSETTLED_PART), "burst"),
        ("MAX_USERNAME_BYTES", format!("{} bytes", bounds::MAX_USERNAME_BYTES), "user name"),
        ("MAX_TOKEN_REQUEST_BYTES", kib(bounds::MAX_TOKEN_REQUEST_BYTES), "token route"),
        ("MAX_FORM_FIELDS", format!("{} form fields", bounds::MAX_FORM_FIELDS), "token route"),
        ("MAX_HOST_BYTES", format!("{} bytes", bounds::MAX_HOST_BYTES), "host"),
        ("MAX_TARGET_BYTES", kib(bounds::MAX_TARGET_BYTES), "target"),
        ("MAX_PATH_SEGMENTS", format!("{} segments", bounds::MAX_PATH_SEGMENTS), "path"),
        ("MAX_FILE_BYTES", mib(usize::try_from(bounds::MAX_FILE_BYTES).unwrap()), "files"),
        ("MAX_TLS_SESSIONS", grouped(bounds::MAX_TLS_SESSIONS), "TLS sessions"),
    ]
}

/// The bounds of connections, and of the time that things take.
fn bounds_of_connections() -> Vec<Documented> {
    vec![
        ("RATE_WINDOW_MS", format!("{} seconds", bounds::RATE_WINDOW_MS / 1000), "min_rate"),
        ("TICK_MS", format!("{} ms", bounds::TICK_MS), "late"),
        ("STALL_MS", format!("{} seconds", bounds::STALL_MS / 1000), "stands still"),
        ("CLOSE_FRAME_WAIT_MS", format!("{} second", bounds::CLOSE_FRAME_WAIT_MS / 1000), "close frame"),
        ("WATCH_INTERVAL_MS", format!("{} ms", bounds::WATCH_INTERVAL_MS), "looked at"),
        ("HTTP2_MAX_STREAMS", format!("{} streams", bounds::HTTP2_MAX_STREAMS), "connection"),
        ("HTTP2_STREAM_WINDOW_BYTES", kib(small(bounds::HTTP2_STREAM_WINDOW_BYTES)), "ahead"),
        ("HTTP2_CONNECTION_WINDOW_BYTES", mib(small(bounds::HTTP2_CONNECTION_WINDOW_BYTES)), "ahead"),
        ("HTTP2_SEND_BUFFER_BYTES", kib(bounds::HTTP2_SEND_BUFFER_BYTES), "answer"),
        ("HTTP2_MAX_RESET_STREAMS", format!("{} streams", bounds::HTTP2_MAX_RESET_STREAMS), "reset"),
        ("HTTP2_MAX_ERROR_RESETS", format!("{} streams", bounds::HTTP2_MAX_ERROR_RESETS), "faults"),
        ("MAX_ANSWER_HEADER_BYTES", kib(small(bounds::MAX_ANSWER_HEADER_BYTES)), "head of an answer"),
        ("MAX_REPLAY_BYTES", kib(bounds::MAX_REPLAY_BYTES), "sent again"),
        ("SILENCE_MS", format!("{} seconds", bounds::SILENCE_MS / 1000), "alive"),
        ("MIN_SPLICED_BYTES", kib(bounds::MIN_SPLICED_BYTES), "body of an answer"),
        ("PIPE_BYTES", kib(bounds::PIPE_BYTES), "pipe"),
        ("PIPES", format!("at most {} pipes", bounds::PIPES), "thread"),
        ("REMEMBERED_REFUSALS", grouped(bounds::REMEMBERED_REFUSALS), "refusals"),
        ("REMEMBERED_TEXT_BYTES", kib(bounds::REMEMBERED_TEXT_BYTES), "refusal"),
        ("MAX_LOG_BACKLOG_BYTES", mib(bounds::MAX_LOG_BACKLOG_BYTES), "lines"),
    ]
}

#[test]
fn every_bound_is_documented() {
    let documented: Vec<_> = bounds_of_data().into_iter().chain(bounds_of_connections()).collect();
    let manual = manual();
    let mut missing = Vec::new();
    let source = fs::read_to_string(root().join("src/base/bounds.rs")).unwrap();
    for name in source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()) {
        let Some((_, value, subject)) = documented.iter().find(|(other, ..)| *other == name) else {
            missing.push(format!("{name} is not in this test"));
            continue;
        };
        let close_by = |at: usize| {
            let near = manual.char_indices().filter(|(place, _)| place.abs_diff(at) < 120);
            near.map(|(_, letter)| letter).collect::<String>().contains(subject)
        };
        if !manual.match_indices(value.as_str()).any(|(at, _)| close_by(at)) {
            missing.push(format!("{name}: {value:?} near {subject:?}"));
        }
    }
    nothing("bounds that neither configuration.md nor operations.md tells", &missing);
}

fn small(bound: u32) -> usize {
    usize::try_from(bound).unwrap()
}

/// A number as the manual writes it: `16,384`.
fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

#[test]
fn every_reason_is_documented() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let missing: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| reason.word().to_owned())
        .filter(|word| !operations.contains(&format!("`{word}`")))
        .collect();
    nothing("reasons that operations.md does not list", &missing);
}

/// The names of all metrics as samples have them, without what histograms add.
fn metrics() -> Vec<String> {
    families::ALL.iter().map(|family| format!("{}{}", family.name, family.suffix())).collect()
}

#[test]
fn every_metric_is_documented_and_no_other_is() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = operations.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let told: Vec<&str> = rows.filter(|name| is_metric(name)).collect();
    let known = metrics();
    let missing = known
        .iter()
        .filter(|name| !told.contains(&name.as_str()))
        .map(|name| format!("{name} is not told of"));
    let unknown = told.iter().filter(|name| !known.iter().any(|known| known == *name));
    nothing("metrics", &missing.chain(unknown.map(|name| format!("{name} is none"))).collect::<Vec<_>>());
}

#[test]
fn alerts_and_the_dashboard_use_metrics_that_exist() {
    let known = metrics();
    let mut unknown = Vec::new();
    for name in ["deploy/grafana-dashboard.json", "deploy/prometheus-rules.yml"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let used: Vec<&str> = words.filter(|word| is_metric(word)).collect();
        assert!(used.len() > 10, "{name} uses metrics");
        for word in used {
            let family = word.strip_suffix("_bucket").unwrap_or(word);
            if !known.iter().any(|known| known == family) {
                unknown.push(format!("{name}: {word}"));
            }
        }
    }
    nothing("metrics that do not exist", &unknown);
}

fn is_metric(word: &str) -> bool {
    let begins = ["tollgate_", "process_"].iter().any(|begin| word.starts_with(begin));
    begins && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn the_tests_and_scripts_that_stand_against_threats_exist() {
    let threats = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let mut code = String::new();
    for directory in ["src", "tests", "fuzz"] {
        for path in files(directory, "rs") {
            code.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    // Names of tests have three words at least, which nothing else in backticks has there.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 2
            && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    let named: Vec<&str> = threats.split('`').skip(1).step_by(2).collect();
    let tests: Vec<&str> =
        named.iter().copied().filter(is_test).filter(|name| *name == name.to_lowercase()).collect();
    assert!(tests.len() > 150, "{} tests are named", tests.len());
    let missing = tests.iter().filter(|name| !code.contains(&format!("fn {name}(")));
    let scripts = named.iter().filter(|name| name.starts_with("scripts/"));
    let missing: Vec<String> = missing
        .chain(scripts.filter(|script| !root().join(script).exists()))
        .map(ToString::to_string)
        .collect();
    nothing("tests that threats.md names and that are not there", &missing);
}

#[test]
fn nothing_tells_of_the_place_where_it_was_made() {
    // Put together here, so that this file does not hold them.
    let words = [
        ["/wo", "rk/"],
        ["/tmp/", "wt"],
        ["sub", "agent"],
        ["issue ", "#"],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X "],
    ]
    .map(|halves| halves.concat());
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    let mut found = Vec::new();
    // In a second work tree, `.git` is a file.
    for path in paths.into_iter().filter(|path| !path.ends_with(".git")) {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if matches!(kind, "json" | "lock") {
            continue;
        }
        let path = path.strip_prefix(root()).unwrap().display().to_string();
        for (number, line) in text.lines().enumerate() {
            let marker = words.iter().find(|word| line.contains(word.as_str()));
            let ticket = matches!(kind, "rs" | "md") && tells_a_ticket(line);
            if marker.is_some() || ticket {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nothing("words of a workplace", &found);
}

/// Whether a number with a `#` in front stands by itself or in brackets.
fn tells_a_ticket(line: &str) -> bool {
    line.match_indices('#').any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let digits = line[at + 1..].chars().take_while(char::is_ascii_digit).count();
        matches!(before, Some(' ' | '(')) && digits > 0
    })
}
