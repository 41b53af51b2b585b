//! `tollgate bench`: load on a URL, by users who log in, with figures that can be believed.

mod failure;

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

pub use self::failure::BenchCommandError;
use self::failure::MaxErrors;
use super::error::{CommandError, Exit};
use super::hash_password::read_password;
use crate::bench::{self, Callers, Endpoint, Pace, Person, Plan, Progress, Protocol, Rate, Trust, people};
use crate::config;

/// Where users log in when nothing else is said.
const LOGIN: &str = "/api/token/";

/// What is tested, and how.
#[derive(Args, Debug)]
pub struct BenchArguments {
    /// What to test
    #[arg(value_name = "URL")]
    url: Endpoint,
    /// How long
    #[arg(short, long, value_name = "D", default_value = "10s", value_parser = config::span)]
    duration: Duration,
    /// How many connections
    #[arg(short, long, value_name = "N", default_value = "64")]
    connections: NonZeroUsize,
    /// So many requests a second whatever comes of them, such as 5000/s; times count from when a request was due
    #[arg(short, long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// How many threads [default: one for each processor; half of them when the server is on this machine]
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// The method [default: GET; POST with --body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file to send as the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Speak HTTP/2, in the clear too
    #[arg(long)]
    http2: bool,
    /// How many requests at a time on each connection of HTTP/2
    #[arg(long, value_name = "N", default_value = "1", requires = "http2")]
    streams: NonZeroUsize,
    /// The authorities, in PEM, that may have signed the server's certificate [default: those of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    #[command(flatten)]
    callers: CallerArguments,
    /// Test this URL too, which is the same without the gateway, and show what the gateway adds
    #[arg(long, value_name = "URL")]
    compare: Option<Endpoint>,
    /// A header for the URL of --compare, in place of those of --header; may be given several times
    #[arg(long = "compare-header", value_name = "NAME: VALUE", value_parser = parse_header, requires = "compare")]
    compare_headers: Vec<(HeaderName, HeaderValue)>,
    /// How often the two URLs take turns
    #[arg(long, value_name = "N", default_value = "3", requires = "compare")]
    rounds: NonZeroU32,
    /// How long requests are made before they count
    #[arg(long, value_name = "D", default_value = "2s", value_parser = config::span_or_none)]
    warm_up: Duration,
    /// How long an answer may take
    #[arg(long, value_name = "D", default_value = "10s", value_parser = config::span)]
    timeout: Duration,
    /// Exit code 1 when more requests fail: a number, or a share such as 1%
    #[arg(long, value_name = "N|N%", default_value = "1%", value_parser = MaxErrors::parse)]
    max_errors: MaxErrors,
    /// How the result is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    format: Form,
    /// Write the result as a page with plots too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show nothing while it runs
    #[arg(short, long)]
    quiet: bool,
}

/// Who calls.
#[derive(Args, Debug)]
struct CallerArguments {
    /// Log in as this user; the password is read from a prompt or standard input
    #[arg(long, value_name = "NAME", group = "who")]
    user: Option<String>,
    /// Log in as the users in this file, each line being a name and a password; "-" is standard input
    #[arg(long, value_name = "FILE", group = "who")]
    users: Option<PathBuf>,
    /// Use the tokens in this file, one on each line, without refreshing them; "-" is standard input
    #[arg(long, value_name = "FILE", group = "who", conflicts_with_all = ["sessions", "login_url", "refresh_url"])]
    token_file: Option<PathBuf>,
    /// How many sessions the users begin together [default: one each]
    #[arg(long, value_name = "N")]
    sessions: Option<NonZeroUsize>,
    /// The token route for logins, as a URL or a path [default: /api/token/]
    #[arg(long, value_name = "URL")]
    login_url: Option<String>,
    /// The token route for refreshes [default: refresh/ below the one for logins]
    #[arg(long, value_name = "URL")]
    refresh_url: Option<String>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs the load test. The result goes to `out`, and what happens meanwhile to `err`.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(
    arguments: &BenchArguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let plan = arguments.plan().map_err(CommandError::Bench)?;
    let stop = stop_by_signal().map_err(CommandError::System)?;
    let mut progress = Progress::new(err, io::stderr().is_terminal());
    let outcome = bench::run(&plan, &stop, &mut |told| {
        if !arguments.quiet {
            progress.show(told);
        }
    });
    progress.clear();
    let report = outcome.map_err(|error| CommandError::Bench(BenchCommandError::Run(error)))?;
    let text = match arguments.format {
        Form::Text => bench::text::render(&report),
        Form::Json => format!("{:#}\n", bench::document::render(&report)),
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)?;
    if let Some(path) = &arguments.html {
        let written = std::fs::write(path, bench::page::render(&report));
        written.map_err(|error| CommandError::Write(path.clone(), error))?;
    }
    if !arguments.max_errors.are_exceeded(&report) {
        return Ok(Exit::Ok);
    }
    // Who cannot read it has the exit code.
    let _unread = writeln!(err, "tollgate: more than {} failed", arguments.max_errors);
    Ok(Exit::Findings)
}

impl BenchArguments {
    fn plan(&self) -> Result<Plan, BenchCommandError> {
        let (connections, streams) = (self.connections.get(), self.streams.get());
        if connections.checked_mul(streams).is_none_or(|lanes| lanes > bench::plan::MAX_LANES) {
            return Err(BenchCommandError::Usage(format!(
                "--connections times --streams is more than {}",
                bench::plan::MAX_LANES
            )));
        }
        if self.compare.is_some() && self.duration / self.rounds.get() < Duration::from_millis(1) {
            return Err(BenchCommandError::Usage("--duration is too short for so many --rounds".to_owned()));
        }
        let body = self.body.as_deref().map(read).transpose()?.map(Bytes::from).unwrap_or_default();
        let method = self.method.clone();
        let protocol = if self.http2 { Protocol::Http2 } else { Protocol::Http1 };
        Ok(Plan {
            method: method.unwrap_or(if self.body.is_some() { Method::POST } else { Method::GET }),
            fields: fields(&self.headers),
            direct_fields: if self.compare_headers.is_empty() {
                without_credentials(&self.headers)
            } else {
                fields(&self.compare_headers)
            },
            body,
            protocol,
            trust: match &self.ca {
                _ if self.insecure => Trust::Anybody,
                Some(path) => Trust::Authorities(path.clone()),
                None => Trust::System,
            },
            callers: self.callers.callers(&self.url)?,
            pace: self.rate.map_or(Pace::Closed, Pace::Rate),
            connections,
            streams,
            threads: self.threads.map(NonZeroUsize::get),
            duration: self.duration,
            warm_up: self.warm_up,
            timeout: self.timeout,
            rounds: self.rounds,
            url: self.url.clone(),
            direct: self.compare.clone(),
        })
    }
}

impl CallerArguments {
    fn callers(&self, url: &Endpoint) -> Result<Callers, BenchCommandError> {
        let people = if let Some(name) = &self.user {
            let password = read_password(false);
            let password = password.map_err(|error| BenchCommandError::Usage(error.to_string()))?;
            vec![Person { name: name.clone(), password }]
        } else if let Some(path) = &self.users {
            let list = people::users(&zeroize::Zeroizing::new(read(path)?));
            list.map_err(|error| BenchCommandError::List(path.clone(), error))?
        } else if let Some(path) = &self.token_file {
            let list = people::tokens(&zeroize::Zeroizing::new(read(path)?));
            return list.map(Callers::Tokens).map_err(|error| BenchCommandError::List(path.clone(), error));
        } else if self.sessions.is_some() || self.login_url.is_some() || self.refresh_url.is_some() {
            return Err(BenchCommandError::Usage("who logs in? name --user or --users".to_owned()));
        } else {
            return Ok(Callers::Nobody);
        };
        let login = route(url, self.login_url.as_deref().unwrap_or(LOGIN))?;
        let refresh = match &self.refresh_url {
            Some(written) => route(url, written)?,
            None => login.below("refresh/"),
        };
        let sessions = self.sessions.map_or(people.len(), NonZeroUsize::get);
        if sessions > people::MAX_PEOPLE {
            let most = people::MAX_PEOPLE;
            return Err(BenchCommandError::Usage(format!("--sessions is more than {most}")));
        }
        let people = people.into_iter().map(Arc::new).collect();
        Ok(Callers::Users { people, sessions, login, refresh })
    }
}

/// A token route: a URL, or a path of the same origin.
fn route(url: &Endpoint, written: &str) -> Result<Endpoint, BenchCommandError> {
    if written.starts_with('/') {
        let path = PathAndQuery::try_from(written);
        return path
            .map(|path| url.at(path))
            .map_err(|_| BenchCommandError::Usage(format!("{written:?} is no path")));
    }
    written.parse().map_err(|error: bench::EndpointError| BenchCommandError::Usage(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, BenchCommandError> {
    let unreadable = |error| BenchCommandError::Unreadable(path.to_owned(), error);
    if path != Path::new("-") {
        return std::fs::read(path).map_err(unreadable);
    }
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let fault = || "a header is a name, a colon and a value, such as \"accept: text/html\"".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(fault)?;
    let name: HeaderName = name.trim().parse().map_err(|_| fault())?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| fault())?;
    value.set_sensitive(matches!(name, header::AUTHORIZATION | header::COOKIE));
    let owned = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if owned.contains(&name) {
        return Err(format!("{name} belongs to the connection, and is set as it has to be"));
    }
    Ok((name, value))
}

fn fields(headers: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        fields.append(name, value.clone());
    }
    fields
}

/// What lets somebody in at the gateway is not for the server behind it, nor is the gateway's name.
fn without_credentials(headers: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut fields = fields(headers);
    for name in [header::AUTHORIZATION, header::COOKIE, header::HOST] {
        fields.remove(name);
    }
    fields
}

/// Set by the first interrupt or termination, after which there is a report of what was measured; the second one ends
/// the program at once.
fn stop_by_signal() -> io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if set.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::arguments::{Arguments, Verb};
    use super::*;
    use crate::store::scratch::Scratch;

    fn parsed(line: &str) -> Result<BenchArguments, ErrorKind> {
        let words = ["tollgate", "bench"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.kind())?.verb {
            Some(Verb::Bench(arguments)) => Ok(*arguments),
            other => panic!("another verb: {other:?}"),
        }
    }

    fn plan(line: &str) -> Result<Plan, String> {
        parsed(line).unwrap().plan().map_err(|error| error.to_string())
    }

    #[test]
    fn what_users_of_other_load_generators_write_is_understood() {
        let plan = plan("-c 8 -t 2 -d 30s -r 5000/s -X PUT -k --http2 --streams 4 https://a/b").unwrap();
        assert_eq!((plan.connections, plan.threads, plan.streams), (8, Some(2), 4));
        assert_eq!((plan.method, plan.protocol, plan.trust), (Method::PUT, Protocol::Http2, Trust::Anybody));
        assert_eq!(
            (plan.duration, plan.pace),
            (Duration::from_secs(30), Pace::Rate(Rate::parse("5000").unwrap()))
        );
        assert!(matches!(plan.callers, Callers::Nobody));
    }

    #[test]
    fn usage_errors_are_told_before_anything_is_sent() {
        for line in [
            "",
            "a",
            "http://u:p@a/",
            "http://a/ --rate 0",
            "http://a/ --duration 0s",
            "http://a/ --connections 0",
            "http://a/ --header x",
            "http://a/ --max-errors 101%",
            "http://a/ --max-errors -1",
            "http://a/ --user a --users f",
            "http://a/ --user a --token-file f",
            "http://a/ --password x",
            "http://a/ --streams 2",
            "http://a/ --rounds 2",
            "http://a/ --ca f --insecure",
            "http://a/ -H content-length:5",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        for (line, part) in [
            ("http://a/ --connections 100001", "more than 100000"),
            ("http://a/ --sessions 5", "--user"),
            ("http://a/ --login-url /x", "--user"),
            ("http://a/ --compare http://b/ --duration 2ms", "--rounds"),
        ] {
            let error = parsed(line).unwrap().plan().unwrap_err();
            assert!(error.exit() == Exit::Usage && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn users_and_tokens_come_from_files() {
        let scratch = Scratch::new();
        let path = scratch.write("users", "alice secret\nbob:other\n");
        let line = format!("https://a:1/b --users {} --sessions 7 --login-url /auth/login", path.display());
        let Callers::Users { people, sessions, login, refresh } = plan(&line).unwrap().callers else {
            panic!("nobody");
        };
        assert_eq!((people.len(), sessions), (2, 7));
        assert_eq!(login.to_string(), "https://a:1/auth/login");
        assert_eq!(refresh.to_string(), "https://a:1/auth/login/refresh/");
        let error = plan(&format!("http://a --token-file {}", path.display())).unwrap_err();
        assert!(error.ends_with("line 1 is no token"), "{error}");
        let path = scratch.write("tokens", "a.b.c\nd.e.f\n");
        let callers = plan(&format!("http://a --token-file {}", path.display())).unwrap().callers;
        assert!(matches!(callers, Callers::Tokens(tokens) if tokens.len() == 2));
    }

    #[test]
    fn the_other_url_is_not_given_what_lets_somebody_in() {
        let mut arguments = parsed("http://a/ --compare http://b/ -H accept:x").unwrap();
        arguments.headers.push((header::AUTHORIZATION, HeaderValue::from_static("Bearer t")));
        let plan = arguments.plan().unwrap();
        assert!(plan.fields.contains_key("authorization") && plan.fields.contains_key("accept"));
        assert!(
            !plan.direct_fields.contains_key("authorization") && plan.direct_fields.contains_key("accept")
        );
        arguments.compare_headers.push((HeaderName::from_static("x-user-id"), HeaderValue::from_static("1")));
        let plan = arguments.plan().unwrap();
        assert_eq!(plan.direct_fields.len(), 1);
    }
}
