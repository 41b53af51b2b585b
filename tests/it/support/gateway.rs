//! A gateway in this process, from the text of a configuration, with its log in memory.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tollgate::app;
use tollgate::base::clock::Clock;
use tollgate::base::secret::Secret;
use tollgate::cli::user;
use tollgate::config::{self, Config, Environment, Log, LogFormat, LogLevel};
use tollgate::reload::{Mode, ReloadError, Source};
use tollgate::store::Store;
use tollgate::telemetry::events;
use tollgate::telemetry::sink::{Sink, Writer};

use super::check::{self, Ledger};
use super::client::{Client, Response};
use super::mint;
use super::upstream::Upstream;
use super::wire::find;
use super::{DEADLINE, Scratch, eventually, postgres_server, store_url};

/// The password of every user of the tests that need none in particular.
pub(crate) const PASSWORD: &str = "secure-password";

/// What a gateway is started with.
pub(crate) struct Setup {
    workers: usize,
    watch_config: bool,
    store: String,
    store_lines: String,
    server: String,
    limits: String,
    tokens: String,
    keys: String,
    users: String,
    sections: String,
    clock_ms: Option<i64>,
    script: Option<Clock>,
    people: Vec<Person>,
    scratch: Scratch,
}

struct Person {
    name: String,
    email: Option<String>,
    groups: Vec<String>,
    password: String,
    active: bool,
}

/// A running gateway. Dropped, it is stopped and its whole log is checked.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
    /// The configuration as it was written.
    pub(crate) text: String,
    source: Source,
    pub(crate) ledger: Arc<Ledger>,
    running: Option<app::Gateway>,
    log: Memory,
    clock: Clock,
    hand: Option<Arc<AtomicI64>>,
    store: Option<Store>,
    runtime: Runtime,
    scratch: Scratch,
}

/// An output that is kept.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Setup {
    /// A gateway with one thread, the known secret, and no routes yet.
    pub(crate) fn new() -> Self {
        Self {
            workers: 1,
            watch_config: false,
            store: store_url(),
            store_lines: String::new(),
            server: String::new(),
            limits: String::new(),
            tokens: String::new(),
            keys: format!(
                "[[tokens.keys]]\nkid = \"{}\"\nalg = \"HS256\"\nsecret = \"{}\"\n",
                mint::KID,
                mint::SECRET
            ),
            users: String::new(),
            sections: String::new(),
            clock_ms: None,
            script: None,
            people: Vec::new(),
            scratch: Scratch::new(),
        }
    }

    /// Adds lines to `[store]`.
    pub(crate) fn store(mut self, lines: &str) -> Self {
        self.store_lines.push_str(lines);
        self
    }

    /// With the store of another gateway.
    pub(crate) fn store_of(mut self, other: &Setup) -> Self {
        self.store = match other.store.strip_prefix("sqlite://") {
            Some(path) => format!("sqlite://{}", other.scratch.path().join(path).display()),
            None => other.store.clone(),
        };
        self
    }

    /// A gateway that lets everybody through to one upstream.
    pub(crate) fn public(upstream: &Upstream) -> Self {
        Self::new().upstream("api", upstream, "").route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
    }

    /// A gateway that asks for a token on every path but those under `/public` and `/optional`.
    pub(crate) fn guarded(upstream: &Upstream) -> Self {
        Self::new()
            .upstream("api", upstream, "")
            .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
            .route("path = \"/public\"\nauth = \"public\"\nupstream = \"api\"")
            .route("path = \"/optional\"\nauth = \"optional\"\nupstream = \"api\"")
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// With a configuration that is read again when its file changes.
    pub(crate) fn watched(mut self) -> Self {
        self.watch_config = true;
        self
    }

    /// Lines of `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        self.server += &format!("{lines}\n");
        self
    }

    /// Lines of `[server.limits]`.
    pub(crate) fn limits(mut self, lines: &str) -> Self {
        self.limits += &format!("{lines}\n");
        self
    }

    /// Lines of `[tokens]`.
    pub(crate) fn tokens(mut self, lines: &str) -> Self {
        self.tokens += &format!("{lines}\n");
        self
    }

    /// With this private key, in PEM.
    pub(crate) fn pem_key(mut self, algorithm: &str, pem: &str) -> Self {
        std::fs::write(self.scratch.path().join("key.pem"), pem).unwrap();
        self.keys = format!("[[tokens.keys]]\nkid = \"pem\"\nalg = \"{algorithm}\"\nfile = \"key.pem\"\n");
        self
    }

    /// With a key that the gateway makes.
    pub(crate) fn generated_key(mut self) -> Self {
        self.keys.clear();
        self
    }

    /// With keys in the store, encrypted with this.
    pub(crate) fn keys_in_store(mut self, key_encryption_key: &str) -> Self {
        self.keys.clear();
        self.tokens += &format!("key_encryption_key = \"{key_encryption_key}\"\n");
        self
    }

    /// With users in an htpasswd file of this content.
    pub(crate) fn htpasswd(mut self, content: &str) -> Self {
        std::fs::write(self.scratch.path().join("users.htpasswd"), content).unwrap();
        self.users.push_str("source = \"file\"\n[users.file]\npath = \"users.htpasswd\"\n");
        self
    }

    /// With users in the database of a Django application. `lines` go to `[users.django]`.
    pub(crate) fn django(mut self, lines: &str) -> Self {
        self.users.push_str(&format!("source = \"django\"\n[users.django]\n{lines}\n"));
        self
    }

    /// The directory of the configuration.
    pub(crate) fn place(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// An upstream with lines of its own.
    pub(crate) fn upstream(self, name: &str, upstream: &Upstream, lines: &str) -> Self {
        let url = upstream.url();
        self.section(&format!("[upstreams.{name}]\ntargets = [\"{url}\"]\n{lines}"))
    }

    /// The lines of a route.
    pub(crate) fn route(self, lines: &str) -> Self {
        self.section(&format!("[[routes]]\n{lines}"))
    }

    /// Any section, with its header.
    pub(crate) fn section(mut self, text: &str) -> Self {
        self.sections += &format!("{text}\n");
        self
    }

    /// With a clock that stands at this time until the test moves it.
    pub(crate) fn clock(mut self, unix_ms: i64) -> Self {
        self.clock_ms = Some(unix_ms);
        self
    }

    /// With a clock that does what the test has written.
    pub(crate) fn script(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.script = Some(Clock::scripted(clock));
        self
    }

    /// An active user with the usual password.
    pub(crate) fn user(self, name: &str) -> Self {
        self.person(name, None, &[], PASSWORD, true)
    }

    /// A user in all detail.
    pub(crate) fn person(
        mut self,
        name: &str,
        email: Option<&str>,
        groups: &[&str],
        password: &str,
        active: bool,
    ) -> Self {
        self.people.push(Person {
            name: name.to_owned(),
            email: email.map(str::to_owned),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            password: password.to_owned(),
            active,
        });
        self
    }

    fn text(&self) -> String {
        let Self {
            workers,
            watch_config,
            server,
            limits,
            tokens,
            keys,
            users,
            sections,
            store,
            store_lines,
            ..
        } = self;
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nworkers = {workers}\n\
             watch_config = {watch_config}\n{server}\
             [server.limits]\n{limits}[store]\nurl = \"{store}\"\n{store_lines}[tokens]\n{tokens}{keys}\
             [users]\n{users}[users.hashing]\nmemory = \"8KiB\"\niterations = 1\n{sections}"
        )
    }

    pub(crate) fn start(self) -> Gateway {
        watch_events();
        let text = self.text();
        let path = self.scratch.path().join("gateway.toml");
        std::fs::write(&path, &text).unwrap();
        let environment = Environment::default();
        let read = config::Text::read(&path).unwrap();
        let config = read.parse(&environment).unwrap_or_else(|failure| panic!("{failure}"));
        let source = Source { path, environment, digest: read.digest() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (clock, hand) = match self.clock_ms {
            Some(unix_ms) => {
                let (clock, hand) = Clock::manual(unix_ms);
                (clock, Some(hand))
            }
            None => (self.script.unwrap_or_default(), None),
        };
        let store = runtime.block_on(Store::connect(&config.store)).unwrap();
        let store = Some(store.with_clock(clock.clone()));
        let ledger = Arc::new(Ledger::default());
        ledger.keep_secret(mint::SECRET);
        ledger.keep_secret(postgres_server::PASSWORD);
        let log = Memory::default();
        let mut gateway = Gateway {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            config,
            text,
            source: source.clone(),
            ledger,
            running: None,
            log: log.clone(),
            clock: clock.clone(),
            hand,
            store,
            runtime,
            scratch: self.scratch,
        };
        for person in &self.people {
            gateway.add(&person.name, person.email.as_deref(), &person.groups, &person.password);
            if !person.active {
                gateway
                    .change(async |store| user::disable(store, &person.name, &mut io::sink()).await.unwrap());
            }
        }
        let running = app::Gateway::start(gateway.config.clone(), origin(source), clock, log);
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        gateway.address = running.addresses()[0];
        gateway.running = Some(running);
        gateway
    }
}

fn origin(source: Source) -> app::Origin {
    app::Origin { source: Some(source), ..app::Origin::default() }
}

impl Gateway {
    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self)
    }

    pub(crate) fn running(&self) -> &app::Gateway {
        self.running.as_ref().expect("the gateway runs")
    }

    /// Moves the clock to this time, in milliseconds since 1970.
    pub(crate) fn set_clock(&self, unix_ms: i64) {
        self.hand.as_ref().expect("the clock is manual").store(unix_ms, Ordering::Release);
    }

    /// Adds an active user while the gateway runs, as the command line does.
    pub(crate) fn add(&self, name: &str, email: Option<&str>, groups: &[String], password: &str) {
        if password.len() >= 8 {
            self.ledger.keep_secret(password);
        }
        let (hashing, password) = (self.config.users.hashing, Secret::new(password));
        self.change(async |store| {
            user::add(store, &hashing, name, email, groups, &password, &mut io::sink()).await.unwrap();
        });
    }

    /// Changes users while the gateway runs, from outside of it.
    pub(crate) fn change<'a, F: Future>(&'a self, change: impl FnOnce(&'a Store) -> F) -> F::Output {
        self.runtime.block_on(change(self.store.as_ref().expect("users are in the store")))
    }

    /// Writes a file beside the configuration.
    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.scratch.path().join(name), content).unwrap();
    }

    /// A file beside the configuration.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// Writes another configuration and has it read, or only asks what it would change. Returns what changes.
    pub(crate) fn reload(&self, text: &str, mode: Mode) -> Result<Vec<String>, ReloadError> {
        self.write("gateway.toml", text);
        let reloader = self.running().reloader().clone();
        let control = self.running().control().expect("the control plane runs");
        let report = control.block_on(reloader.reload(mode, None))?;
        Ok(report.changes.iter().map(ToString::to_string).collect())
    }

    /// Logs in and keeps the signatures of the tokens secret.
    pub(crate) fn login(&self, name: &str, password: &str) -> (String, String) {
        let response =
            self.client().post_json("/api/token/", &json!({"username": name, "password": password}));
        self.tokens_of(&response.expect(200))
    }

    /// The access and the refresh token of an answer.
    pub(crate) fn tokens_of(&self, response: &Response) -> (String, String) {
        let body = response.json();
        let token = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let pair = (token("access"), token("refresh"));
        self.ledger.keep_token_secret(&pair.0);
        self.ledger.keep_token_secret(&pair.1);
        pair
    }

    /// What the gateway has counted: the value of one sample, 0 where there is none.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let (status, page) = self.admin("/metrics");
        assert_eq!(status, 200);
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Status and body of a path of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.admin_asked(path, "host: admin");
        (status, body)
    }

    /// Status, head and body of a path of the admin listener that is asked with these header fields.
    pub(crate) fn admin_asked(&self, path: &str, fields: &str) -> (u16, String, String) {
        self.admin_sent(&format!("GET {path} HTTP/1.1\r\n{fields}\r\nconnection: close\r\n\r\n"))
    }

    /// Status, head and body of what the admin listener answers to this request.
    pub(crate) fn admin_sent(&self, request: &str) -> (u16, String, String) {
        use std::io::{Read as _, Write as _};
        let address = self.running().admin_address().expect("there is an admin listener");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    /// The access lines so far. They are written with a tick's delay.
    pub(crate) fn access_lines(&self) -> Vec<Value> {
        check::access_lines(&self.log.0.lock().unwrap())
    }

    /// Waits for an access line, and returns it.
    pub(crate) fn access_line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually("an access line", DEADLINE, || {
            found = self.access_lines().into_iter().find(|line| wanted(line));
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Ends the gateway at once, without draining, and starts another one on the same store.
    pub(crate) fn restart(&mut self) {
        drop(self.running.take());
        let (origin, clock) = (origin(self.source.clone()), self.clock.clone());
        let running = app::Gateway::start(self.config.clone(), origin, clock, self.log.clone());
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        self.address = running.addresses()[0];
        self.running = Some(running);
    }

    /// The clock that the gateway goes by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Stops the gateway and returns its whole log, checked.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.end()
    }

    fn end(&mut self) -> Vec<Value> {
        let Some(running) = self.running.take() else { return Vec::new() };
        running.stop();
        let log = self.log.0.lock().unwrap().clone();
        self.ledger.check_log(&log);
        check_events(&self.ledger);
        check::access_lines(&log)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.running.take());
        } else {
            self.end();
        }
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }
}

/// What all gateways of this process say of their doings, in the finest detail that is ever logged.
struct Events {
    memory: Memory,
    writer: Writer,
}

static EVENTS: OnceLock<Events> = OnceLock::new();

/// Lines of the log that tell of no request, of all gateways of this process.
pub(crate) fn events() -> Vec<Value> {
    let Some(events) = EVENTS.get() else { return Vec::new() };
    events.writer.flush(Duration::from_secs(5));
    let lines = events.memory.0.lock().unwrap().clone();
    let whole = lines.split_inclusive(|byte| *byte == b'\n');
    whole.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Whether one line that tells of no request, of any gateway of this process, has all of these texts.
pub(crate) fn has_event(texts: &[&str]) -> bool {
    let Some(events) = EVENTS.get() else { return false };
    events.writer.flush(Duration::from_secs(5));
    let lines = events.memory.0.lock().unwrap();
    let has = |line: &[u8], text: &str| find(line, text.as_bytes()).is_some();
    lines.split(|byte| *byte == b'\n').any(|line| texts.iter().all(|text| has(line, text)))
}

/// Events go where the first one who asks wants them: here, before any gateway asks.
fn watch_events() {
    EVENTS.get_or_init(|| {
        let memory = Memory::default();
        let (sink, writer) = Sink::start(memory.clone()).unwrap();
        events::install(
            sink,
            Log { level: LogLevel::Trace, format: LogFormat::Json, access: true, server_timing: false },
            Clock::System,
        );
        Events { memory, writer }
    });
}

fn check_events(ledger: &Ledger) {
    if let Some(events) = EVENTS.get() {
        events.writer.flush(Duration::from_secs(5));
        let lines = events.memory.0.lock().unwrap().clone();
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        ledger.check_events(&lines[..whole]);
    }
}
