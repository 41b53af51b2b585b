//! The configuration: text becomes raw structs with positions, and those become [`Config`], which cannot be wrong.

mod actions;
mod address;
mod availability;
mod cases;
mod catalogue;
mod complaint;
mod cors;
mod credentials;
mod database_url;
mod django;
mod environment;
mod excerpt;
mod fields;
mod header_name;
mod hidden;
mod identity;
mod keys;
mod kind;
mod limits;
mod limits_store;
mod load;
mod otlp;
mod policy;
mod problem;
mod reader;
mod routes;
mod secrets;
mod server;
mod store;
mod target;
mod template;
mod time;
mod tls;
mod tokens;
mod units;
mod untold;
mod upstreams;
mod users;
mod vocabulary;

pub use self::actions::{Action, Forward, Redirect, Respond};
pub use self::availability::{Availability, Balance, Ejection, HashKey, HealthCheck, WeightedTarget};
pub use self::cases::{Check, Expectation, Ignored, TestCaller, TestCase, TestRequest};
pub use self::catalogue::schema;
pub use self::cors::{Cors, OriginPattern, Origins};
pub use self::credentials::Credentials;
pub use self::django::{DjangoColumns, DjangoDatabase, DjangoGroups, DjangoUsers, Hasher};
pub use self::environment::Environment;
pub use self::fields::{Condition, Field, HeaderRules};
pub use self::identity::{Assertion, Identity, IdentityEncoding, IdentityHeader, IdentitySource, PRESETS};
pub use self::keys::read_key_encryption_key;
pub use self::limits::{LimitKey, LimitScope, Rate, RateLimit, RateUnit};
pub use self::limits_store::LimitsStore;
pub use self::load::{Text, load, parse};
pub use self::otlp::Otlp;
pub use self::policy::{ClaimTerm, Enforce, MatchTerm, Policy, Terms};
pub use self::problem::{Failure, Problem};
pub use self::store::{StalePolicy, Store, StorePlace};
pub use self::target::{Authority, ClientCertificate, Target, UpstreamTls};
pub use self::template::starter;
pub use self::tls::{
    CertificateFiles, CertificateHeader, CertificateHost, CertificatePart, ClientAuth, ClientAuthMode, Tls,
    TlsVersion,
};
pub use self::tokens::{Key, KeyMaterial, Tokens};
pub use self::units::{lifetime, span, span_or_none};

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::path::Oddities;
use crate::base::pattern::{HostPattern, PathPattern};
use crate::base::secret::Secret;

/// Everything that `gateway.toml` says, checked. Paths are absolute or relative to the process, never to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[tls]`; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// `[store]`
    pub store: Store,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[users]`
    pub users: Users,
    /// `[limits.*]`, in the order of their names; behind them the one of the token routes, when the file says nothing of it.
    pub limits: Vec<RateLimit>,
    /// `[limits_store]`; `None` is that each gateway counts for itself.
    pub limits_store: Option<LimitsStore>,
    /// `[upstreams.*]`, in the order of their names.
    pub upstreams: Vec<Upstream>,
    /// `[[routes]]`, in the order of the file. There are no two that tie.
    pub routes: Vec<Route>,
    /// `[log]`
    pub log: Log,
    /// `[log.otlp]`
    pub otlp: Option<Otlp>,
    /// `[[tests]]`, in the order of the file.
    pub tests: Vec<TestCase>,
    /// `[check]`
    pub check: Check,
}

/// `[server]`: listeners, workers, limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses that clients connect to; at least one.
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP whose every request is sent to HTTPS; only with `[tls]`.
    pub http_redirect: Option<SocketAddr>,
    /// Address of health and readiness; `None` is off.
    pub admin: Option<SocketAddr>,
    /// With which the admin page shows sessions and ends them; `None` is not at all.
    pub admin_token: Option<Secret>,
    /// Names under which a browser may reach the admin listener, beside addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Data-plane threads.
    pub workers: NonZeroUsize,
    /// How long requests in flight may take after the signal to stop.
    pub drain_timeout: Duration,
    /// Whether the file is read again when it changes.
    pub watch_config: bool,
    /// `[server.limits]`
    pub limits: Limits,
}

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// How many leading bits count: at most 32 for IPv4, 128 for IPv6.
    pub prefix_bits: u8,
}

/// `[server.limits]`: what one client may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of the whole process.
    pub max_connections: NonZeroUsize,
    /// Client connections of one network, of the whole process; `None` is no limit.
    pub max_connections_per_network: Option<NonZeroUsize>,
    /// Size of a request's head, in bytes; at least 8 KiB.
    pub max_header_bytes: usize,
    /// Header fields in a request.
    pub max_headers: usize,
    /// Size of a request body, in bytes; `None` is no limit.
    pub max_body: Option<NonZeroU64>,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between two reads of a request body.
    pub body_timeout: Duration,
    /// Bytes per second of a body sent or a response read; 0 is no limit.
    pub min_rate: u64,
    /// Between two requests, and for a connection that says nothing.
    pub idle_timeout: Duration,
}

/// `[users]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Where users are looked up.
    pub source: UserSource,
    /// `[users.hashing]`
    pub hashing: Hashing,
    /// `[users.lockout]`
    pub lockout: Lockout,
}

/// `[users.lockout]`: how many logins of a user may fail from one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// The failure that locks. There is no way to count none.
    pub attempts: NonZeroU32,
    /// From the first failure on; what failed before it began is forgotten.
    pub window: Duration,
    /// How long a lock holds.
    pub duration: Duration,
}

impl Default for Lockout {
    /// Ten failures within ten minutes lock for ten minutes.
    fn default() -> Self {
        let ten_minutes = Duration::from_mins(10);
        Self { attempts: NonZeroU32::MIN.saturating_add(9), window: ten_minutes, duration: ten_minutes }
    }
}

/// `users.source`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// The embedded store.
    Store,
    /// A file, watched: `users.toml`, or with any other extension an htpasswd file.
    File(PathBuf),
    /// The database of a Django application, only read.
    Django(Box<DjangoUsers>),
}

/// `[users.hashing]`: argon2id for new passwords, and the budget of all hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    /// Memory of one hash, in KiB; at least 8.
    pub memory_kib: u32,
    /// Passes.
    pub iterations: NonZeroU32,
    /// Memory of all hashes that run at once, in KiB; at least `memory_kib`.
    pub max_memory_kib: u32,
    /// Hashes that may wait; beyond it logins are shed.
    pub max_queue: usize,
}

/// `[upstreams.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name.
    pub name: String,
    /// Where requests go; at least one.
    pub targets: Vec<WeightedTarget>,
    /// How a target is chosen.
    pub balance: Balance,
    /// For a new connection.
    pub connect_timeout: Duration,
    /// To the response head.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Connections per target, of the whole process.
    pub max_connections: NonZeroUsize,
    /// Requests that may wait for a connection, per target, of the whole process.
    pub max_queue: usize,
    /// How often a request is sent again, where that is safe.
    pub retries: u32,
    /// What `Host` the upstream sees.
    pub host_header: HostHeader,
    /// What it is told of callers, and of the gateway.
    pub identity: Identity,
    /// How targets with `https://` are verified.
    pub tls: UpstreamTls,
    /// What keeps one target's troubles from the others and from clients.
    pub availability: Availability,
}

/// `host_header`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's, checked.
    Preserve,
    /// The target's authority.
    Target,
    /// This one.
    Fixed(String),
}

/// `[[routes]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name; unique. `route-N` (counted from 1) when the file gives none.
    pub name: String,
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; `None` is any. Never empty, upper case as written, no `CONNECT` or `TRACE`.
    pub methods: Option<Vec<String>>,
    /// Which header fields a request has; none is any request.
    pub headers: Vec<Condition>,
    /// Who may pass.
    pub auth: Auth,
    /// Who of those who are known may pass.
    pub policy: Policy,
    /// What becomes of a request that may pass.
    pub action: Action,
    /// Overrides `server.limits.max_body`: `Some(None)` is no limit.
    pub max_body: Option<Option<NonZeroU64>>,
    /// Overrides the upstream's `response_timeout`.
    pub timeout: Option<Duration>,
    /// Indices into [`Config::limits`], each one once.
    pub limits: Vec<usize>,
    /// What becomes of the header fields of a request.
    pub request_headers: Option<HeaderRules>,
    /// What becomes of the header fields of an answer.
    pub response_headers: Option<HeaderRules>,
    /// Which scripts of other origins may use it.
    pub cors: Option<Cors>,
    /// What its paths may have that is refused elsewhere.
    pub accept: Oddities,
}

/// `auth`: who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Only with a token that passes.
    Required,
    /// Without a token, or with one that passes.
    Optional,
    /// Everybody; tokens are ignored.
    Public,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// What is logged of the gateway's own doings.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
    /// Whether there is a line for every request.
    pub access: bool,
    /// Whether every answer says how long it took, in `Server-Timing`.
    pub server_timing: bool,
}

/// `log.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

#[cfg(test)]
mod tests;
