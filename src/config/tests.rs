//! Tests of whole files: the messages, the defaults, and the contract.

#![expect(clippy::too_many_lines, reason = "a snapshot is as long as what it shows")]

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::base::algorithm::Algorithm;
use crate::base::bounds;
use crate::base::pattern::PathEnd;

/// The smallest useful file.
const SMALLEST: &str = r#"
[upstreams.api]
targets = ["http://127.0.0.1:9000"]

[[routes]]
path = "/"
auth = "required"
upstream = "api"
"#;
const LONG_SECRET: &str = "0123456789abcdef0123456789abcdef";

fn environment() -> Environment {
    Environment::from_pairs([
        ("PORT", "9000"),
        ("SHORT", "hunter2-in-env"),
        ("LONG", LONG_SECRET),
        ("WEIRD", "w\u{1b}[31m"),
    ])
}

fn parsed(text: &str) -> Result<Config, Failure> {
    parse(text, "gateway.toml", Path::new("/etc/tollgate"), &environment())
}

/// The configuration of a text in front of the smallest file.
fn with(text: &str) -> Config {
    parsed(&format!("{text}\n{SMALLEST}")).unwrap_or_else(|failure| panic!("{failure}"))
}

/// What is said about a text in front of the smallest file.
fn told(text: &str) -> String {
    told_of_file(&format!("{text}\n{SMALLEST}"))
}

fn told_of_file(text: &str) -> String {
    parsed(text).unwrap_err().to_string()
}

/// The messages about a text in front of the smallest file, with their places.
fn messages(text: &str) -> Vec<String> {
    let failure = parsed(&format!("{text}\n{SMALLEST}")).unwrap_err();
    let line = |problem: &Problem| format!("{}:{}: {}", problem.line, problem.column, problem.message);
    failure.problems().iter().map(line).collect()
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let path =
            std::env::temp_dir().join(format!("tollgate-config-{}", crate::base::ids::random_id().unwrap()));
        for (name, bytes) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        Self(path)
    }

    fn parse(&self, text: &str) -> Result<Config, Failure> {
        parse(&format!("{text}\n{SMALLEST}"), "gateway.toml", &self.0, &environment())
    }

    fn told(&self, text: &str) -> String {
        self.parse(text).unwrap_err().to_string().replace(self.0.to_str().unwrap(), "DIR")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = parsed(SMALLEST).unwrap();
    let server = &config.server;
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(server.listen, [address("127.0.0.1:8080")]);
    assert_eq!(server.admin, Some(address("127.0.0.1:9911")));
    assert_eq!(server.trusted_proxies, []);
    assert_eq!(server.workers, std::thread::available_parallelism().unwrap());
    assert_eq!(server.drain_timeout, seconds(30));
    let limits = &server.limits;
    assert_eq!(
        (limits.max_connections.get(), limits.max_header_bytes, limits.max_headers),
        (20_000, 32_768, 100)
    );
    assert_eq!(limits.max_connections_per_network.unwrap().get(), 10_000);
    assert_eq!((limits.max_body, limits.min_rate), (NonZeroU64::new(16_777_216), 128));
    assert_eq!(
        (limits.header_timeout, limits.body_timeout, limits.idle_timeout),
        (seconds(10), seconds(30), seconds(75))
    );
    assert_eq!(config.store.file().unwrap(), Path::new("/etc/tollgate/data/tollgate.db"));
    let tokens = &config.tokens;
    assert_eq!(
        (&tokens.issuer, tokens.audience.len(), tokens.claims.len(), tokens.keys.len()),
        (&None, 0, 0, 0)
    );
    assert_eq!(
        (tokens.access_lifetime, tokens.refresh_lifetime, tokens.leeway),
        (seconds(1800), seconds(86_400), seconds(0))
    );
    assert_eq!(
        (tokens.session_lifetime, tokens.rotate_refresh, tokens.reuse_grace),
        (None, false, seconds(30))
    );
    assert_eq!(
        (tokens.user_id_claim.as_str(), tokens.path.as_str(), tokens.realm.as_str()),
        ("user_id", "/api/token", "api")
    );
    assert_eq!(tokens.key_directory, Path::new("/etc/tollgate/data/keys"));
    assert_eq!(config.users.source, UserSource::Store);
    let hashing = Hashing {
        memory_kib: 19_456,
        iterations: NonZeroU32::new(2).unwrap(),
        max_memory_kib: 262_144,
        max_queue: 256,
    };
    assert_eq!(config.users.hashing, hashing);
    assert_eq!(
        config.log,
        Log { level: LogLevel::Info, format: LogFormat::Json, access: true, server_timing: false }
    );
}

#[test]
fn an_admin_token_is_long_and_stands_elsewhere() {
    let environment = |token: &str| Environment::from_pairs([("ADMIN_TOKEN", token)]);
    let text =
        format!("[server]\nadmin_token_env = \"ADMIN_TOKEN\"\nadmin_hosts = [\"Gate.Internal\"]\n{SMALLEST}");
    let read = |token: &str| super::parse(&text, "gateway.toml", ".".as_ref(), &environment(token));
    let config = read("0123456789abcdef0123456789abcdef").unwrap();
    assert!(config.server.admin_token.is_some());
    assert_eq!(config.server.admin_hosts, ["gate.internal"]);
    for token in ["0123456789abcdef0123456789abcde", "0123456789abcdef 0123456789abcdef", ""] {
        let told = read(token).unwrap_err().to_string();
        assert!(told.contains("the admin token is not at least 32"), "{told}");
        assert!(token.is_empty() || !told.contains(token), "{told}");
    }
    let plain = format!("[server]\nadmin_token = \"x\"\n{SMALLEST}");
    let told = parsed(&plain).unwrap_err().to_string();
    assert!(told.contains("unknown key \"admin_token\"") && !told.contains("= \"x\""), "{told}");
}

#[test]
fn a_collector_is_read_and_its_headers_are_secret() {
    let text = format!(
        "{SMALLEST}\n[log.otlp]\nendpoint = \"https://otlp.example/otlp/\"\nsample = 0.25\nheaders_env = \"OTEL_HEADERS\"\n"
    );
    let environment = |headers: &str| Environment::from_pairs([("OTEL_HEADERS", headers)]);
    let read = |headers: &str| super::parse(&text, "gateway.toml", ".".as_ref(), &environment(headers));
    let otlp = read("api-key=tell-nobody, x-scope=a=b").unwrap().otlp.unwrap();
    assert_eq!(
        (otlp.target.to_string().as_str(), otlp.path.path()),
        ("https://otlp.example:443", "/otlp/v1/traces")
    );
    assert_eq!((otlp.sample_millionths, otlp.service_name.as_str()), (250_000, "tollgate"));
    assert_eq!(otlp.headers.len(), 2);
    assert!(!format!("{otlp:?}").contains("tell-nobody"));
    for headers in ["tell-nobody", "a b=tell-nobody", "a=tell\nnobody"] {
        let told = read(headers).unwrap_err().to_string();
        assert!(told.contains("not a list of header fields") && !told.contains("nobody"), "{told}");
    }
    for (lines, wanted) in [
        ("", "has no \"endpoint\""),
        ("endpoint = \"127.0.0.1:4318\"", "is not the address of a collector"),
        ("endpoint = \"h2c://127.0.0.1:4318\"", "is not the address of a collector"),
        ("endpoint = \"http://127.0.0.1:4318\"\nsample = 2", "must be a number from 0 to 1"),
        ("endpoint = \"http://127.0.0.1:4318\"\nsample = \"1\"", "must be a number from 0 to 1"),
    ] {
        let told = parsed(&format!("{SMALLEST}\n[log.otlp]\n{lines}\n")).unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn the_smallest_file_has_an_upstream_and_a_route() {
    let config = parsed(SMALLEST).unwrap();
    let [upstream] = config.upstreams.as_slice() else { panic!() };
    let seconds = Duration::from_secs;
    assert_eq!(upstream.name, "api");
    assert_eq!(targets(upstream), [Target::Http(Authority { host: "127.0.0.1".into(), port: 9000 })]);
    assert_eq!(upstream.balance, Balance::LeastRequest);
    let told: Vec<_> = upstream.identity.names().map(http::HeaderName::as_str).collect();
    assert_eq!(told, ["x-user-id", "x-user-name", "x-user-email", "x-user-groups"]);
    assert_eq!((upstream.identity.max_bytes, upstream.identity.forward_token), (8192, false));
    assert_eq!(
        (upstream.connect_timeout, upstream.response_timeout, upstream.idle_timeout),
        (seconds(5), seconds(60), seconds(60))
    );
    assert_eq!((upstream.max_connections.get(), upstream.max_queue, upstream.retries), (512, 1024, 1));
    assert_eq!(upstream.host_header, HostHeader::Preserve);
    let [route] = config.routes.as_slice() else { panic!() };
    assert_eq!(
        (route.name.as_str(), &route.host, route.auth, route.action.upstream()),
        ("route-1", &HostPattern::Any, Auth::Required, Some(0))
    );
    assert_eq!(route.path, PathPattern { segments: Vec::new(), end: PathEnd::Prefix });
    assert_eq!((&route.methods, route.max_body, route.timeout), (&None, None, None));
    assert_eq!((route.limits.as_slice(), config.tokens.limits.as_slice()), (&[][..], &[0][..]));
    let [limit] = config.limits.as_slice() else { panic!() };
    assert_eq!((limit.name.as_str(), &limit.key, limit.is_told), ("token-routes", &LimitKey::Network, false));
    let count =
        NonZeroU32::try_from(config.server.workers).unwrap().saturating_mul(bounds::TOKEN_ROUTES_RATE);
    assert_eq!(limit.rates, [Rate { count, unit: RateUnit::Second, burst: count }]);
}

#[test]
fn every_supported_setting_is_read() {
    let directory = Directory::new(&[("keys/a.pem", b"PEM"), ("hs", LONG_SECRET.as_bytes())]);
    let text = r#"
[server]
listen          = ["localhost:0", "[::1]:${PORT}"]
admin           = ""
trusted_proxies = ["10.0.0.0/8", "::1"]
workers         = 3
drain_timeout   = "1m"
watch_config    = false
limits = { max_connections = 20_000, max_connections_per_network = 0, max_header_bytes = "64KiB", max_headers = 1000, max_body = 0, header_timeout = "1s", body_timeout = "2s", min_rate = 0, idle_timeout = "3s" }
[store]
url = "sqlite:///var/lib/x.db"
[tokens]
issuer = "https://id.example.com"
audience = ["a", "b"]
access_lifetime = "5m"
refresh_lifetime = "366d"
session_lifetime = "7d"
rotate_refresh = true
reuse_grace = "0s"
leeway = "10s"
stream_grace = "5s"
limit = "keyed"
user_id_claim = "sub"
claims = ["groups", "email", "username"]
path = "/auth"
realm = "a b"
key_encryption_key_file = "hs"
key_rotation_delay = "1h"
[[tokens.keys]]
kid = "a"
alg = "EdDSA"
file = "keys/a.pem"
[[tokens.keys]]
kid = "b"
alg = "HS256"
secret_file = "hs"
verify_until = 2026-12-15T00:00:00Z
[users]
source = "file"
file = { path = "htpasswd" }
hashing = { memory = "64KiB", iterations = 1, max_memory = "1GiB", max_queue = 0 }
[upstreams.zebra]
targets = ["http://z"]
[upstreams.big]
targets = ["http://[::1]:1/", "http://10.0.0.6:9000"]
balance = "round_robin"
connect_timeout = "1s"
response_timeout = "2s"
idle_timeout = "3s"
max_connections = 0x10
max_queue = 0
retries = 0
host_header = "target"
identity = "none"
[[routes]]
name = "big.one"
host = "*.Example.com"
path = "=/users/{id}/"
methods = ["GET", "PROPFIND"]
auth = "optional"
upstream = "zebra"
max_body = "0"
timeout = "500ms"
limit = ["per-user", "keyed"]
[[routes]]
path = "/x"
auth = "public"
upstream = "big"
max_body = "1KiB"
[limits.per-user]
key = "user"
rate = ["10000/h", "100/s"]
burst = 50
scope = "cluster"
[limits_store]
url = "rediss://gate:secret@cache:7000/1"
ca = "redis.pem"
[limits.keyed]
key = "header:X-Api-Key"
rate = "7/d"
[log]
level = "debug"
format = "pretty"
access = false
"#;
    let config = directory.parse(text).unwrap_or_else(|failure| panic!("{failure}"));
    assert_snapshot!(
        format!("{config:#?}").replace(directory.0.to_str().unwrap(), "DIR"),
        @r##"
    Config {
        server: Server {
            listen: [
                127.0.0.1:0,
                [::1]:9000,
            ],
            http_redirect: None,
            admin: None,
            admin_token: None,
            admin_hosts: [],
            trusted_proxies: [
                Network {
                    address: 10.0.0.0,
                    prefix_bits: 8,
                },
                Network {
                    address: ::1,
                    prefix_bits: 128,
                },
            ],
            workers: 3,
            drain_timeout: 60s,
            watch_config: false,
            limits: Limits {
                max_connections: 20000,
                max_connections_per_network: None,
                max_header_bytes: 65536,
                max_headers: 1000,
                max_body: None,
                header_timeout: 1s,
                body_timeout: 2s,
                min_rate: 0,
                idle_timeout: 3s,
            },
        },
        tls: None,
        store: Store {
            place: Sqlite(
                "/var/lib/x.db",
            ),
            max_connections: 10,
            statement_timeout: 2s,
            stale_policy: Serve,
            stale_after: 30s,
        },
        tokens: Tokens {
            issuer: Some(
                "https://id.example.com",
            ),
            audience: [
                "a",
                "b",
            ],
            access_lifetime: 300s,
            refresh_lifetime: 31622400s,
            session_lifetime: Some(
                604800s,
            ),
            rotate_refresh: true,
            reuse_grace: 0ns,
            leeway: 10s,
            stream_grace: 5s,
            user_id_claim: "sub",
            claims: [
                Groups,
                Email,
                Username,
            ],
            path: "/auth",
            realm: "a b",
            keys: [
                Key {
                    kid: "a",
                    algorithm: EdDSA,
                    material: PemFile(
                        "DIR/keys/a.pem",
                    ),
                    verify_until: None,
                },
                Key {
                    kid: "b",
                    algorithm: HS256,
                    material: Secret(
                        Secret(..),
                    ),
                    verify_until: Some(
                        1797292800,
                    ),
                },
            ],
            key_encryption_key: Some(
                Secret(..),
            ),
            key_rotation_delay: 3600s,
            key_directory: "/var/lib/keys",
            limits: [
                0,
            ],
        },
        users: Users {
            source: File(
                "DIR/htpasswd",
            ),
            hashing: Hashing {
                memory_kib: 64,
                iterations: 1,
                max_memory_kib: 1048576,
                max_queue: 0,
            },
            lockout: Lockout {
                attempts: 10,
                window: 600s,
                duration: 600s,
            },
        },
        limits: [
            RateLimit {
                name: "keyed",
                key: Header(
                    "x-api-key",
                ),
                scope: Node,
                rates: [
                    Rate {
                        count: 7,
                        unit: Day,
                        burst: 7,
                    },
                ],
                is_told: true,
            },
            RateLimit {
                name: "per-user",
                key: User,
                scope: Cluster,
                rates: [
                    Rate {
                        count: 100,
                        unit: Second,
                        burst: 50,
                    },
                    Rate {
                        count: 10000,
                        unit: Hour,
                        burst: 10000,
                    },
                ],
                is_told: true,
            },
        ],
        limits_store: Some(
            LimitsStore {
                host: "cache",
                port: 7000,
                database: 1,
                user: Some(
                    "gate",
                ),
                password: Some(
                    Secret(..),
                ),
                is_tls: true,
                ca: Some(
                    "DIR/redis.pem",
                ),
            },
        ),
        upstreams: [
            Upstream {
                name: "api",
                targets: [
                    WeightedTarget {
                        target: Http(
                            Authority {
                                host: "127.0.0.1",
                                port: 9000,
                            },
                        ),
                        weight: 1,
                    },
                ],
                balance: LeastRequest,
                connect_timeout: 5s,
                response_timeout: 60s,
                idle_timeout: 60s,
                max_connections: 512,
                max_queue: 1024,
                retries: 1,
                host_header: Preserve,
                identity: Identity {
                    headers: [
                        IdentityHeader {
                            name: "x-user-id",
                            source: User(
                                Id,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-name",
                            source: User(
                                Name,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-email",
                            source: User(
                                Email,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-groups",
                            source: User(
                                Groups,
                            ),
                        },
                    ],
                    encoding: Utf8,
                    max_bytes: 8192,
                    assertion: None,
                    forward_token: false,
                    credentials: None,
                },
                tls: UpstreamTls {
                    ca: None,
                    server_name: None,
                    client: None,
                },
                availability: Availability {
                    queue_timeout: 5s,
                    max_requests: None,
                    retry_budget_percent: 10,
                    slow_start: 10s,
                    resolve_interval: 30s,
                    health_check: None,
                    ejection: Ejection {
                        failures: Some(
                            5,
                        ),
                        duration: 1s,
                        max_duration: 60s,
                        max_ejected_percent: 100,
                        statuses: [],
                    },
                },
            },
            Upstream {
                name: "big",
                targets: [
                    WeightedTarget {
                        target: Http(
                            Authority {
                                host: "::1",
                                port: 1,
                            },
                        ),
                        weight: 1,
                    },
                    WeightedTarget {
                        target: Http(
                            Authority {
                                host: "10.0.0.6",
                                port: 9000,
                            },
                        ),
                        weight: 1,
                    },
                ],
                balance: RoundRobin,
                connect_timeout: 1s,
                response_timeout: 2s,
                idle_timeout: 3s,
                max_connections: 16,
                max_queue: 0,
                retries: 0,
                host_header: Target,
                identity: Identity {
                    headers: [],
                    encoding: Utf8,
                    max_bytes: 8192,
                    assertion: None,
                    forward_token: false,
                    credentials: None,
                },
                tls: UpstreamTls {
                    ca: None,
                    server_name: None,
                    client: None,
                },
                availability: Availability {
                    queue_timeout: 5s,
                    max_requests: None,
                    retry_budget_percent: 10,
                    slow_start: 10s,
                    resolve_interval: 30s,
                    health_check: None,
                    ejection: Ejection {
                        failures: Some(
                            5,
                        ),
                        duration: 1s,
                        max_duration: 60s,
                        max_ejected_percent: 100,
                        statuses: [],
                    },
                },
            },
            Upstream {
                name: "zebra",
                targets: [
                    WeightedTarget {
                        target: Http(
                            Authority {
                                host: "z",
                                port: 80,
                            },
                        ),
                        weight: 1,
                    },
                ],
                balance: LeastRequest,
                connect_timeout: 5s,
                response_timeout: 60s,
                idle_timeout: 60s,
                max_connections: 512,
                max_queue: 1024,
                retries: 1,
                host_header: Preserve,
                identity: Identity {
                    headers: [
                        IdentityHeader {
                            name: "x-user-id",
                            source: User(
                                Id,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-name",
                            source: User(
                                Name,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-email",
                            source: User(
                                Email,
                            ),
                        },
                        IdentityHeader {
                            name: "x-user-groups",
                            source: User(
                                Groups,
                            ),
                        },
                    ],
                    encoding: Utf8,
                    max_bytes: 8192,
                    assertion: None,
                    forward_token: false,
                    credentials: None,
                },
                tls: UpstreamTls {
                    ca: None,
                    server_name: None,
                    client: None,
                },
                availability: Availability {
                    queue_timeout: 5s,
                    max_requests: None,
                    retry_budget_percent: 10,
                    slow_start: 10s,
                    resolve_interval: 30s,
                    health_check: None,
                    ejection: Ejection {
                        failures: Some(
                            5,
                        ),
                        duration: 1s,
                        max_duration: 60s,
                        max_ejected_percent: 100,
                        statuses: [],
                    },
                },
            },
        ],
        routes: [
            Route {
                name: "big.one",
                host: Suffix(
                    ".example.com",
                ),
                path: PathPattern {
                    segments: [
                        Literal(
                            "users",
                        ),
                        Parameter(
                            "id",
                        ),
                        Literal(
                            "",
                        ),
                    ],
                    end: Exact,
                },
                methods: Some(
                    [
                        "GET",
                        "PROPFIND",
                    ],
                ),
                headers: [],
                auth: Optional,
                policy: Policy {
                    allow: None,
                    deny: None,
                    enforce: Enforce,
                },
                action: Forward(
                    Forward {
                        upstream: 2,
                        path: None,
                    },
                ),
                max_body: Some(
                    None,
                ),
                timeout: Some(
                    500ms,
                ),
                limits: [
                    1,
                    0,
                ],
                request_headers: None,
                response_headers: None,
                cors: None,
                accept: {},
            },
            Route {
                name: "route-2",
                host: Any,
                path: PathPattern {
                    segments: [
                        Literal(
                            "x",
                        ),
                    ],
                    end: Prefix,
                },
                methods: None,
                headers: [],
                auth: Public,
                policy: Policy {
                    allow: None,
                    deny: None,
                    enforce: Enforce,
                },
                action: Forward(
                    Forward {
                        upstream: 1,
                        path: None,
                    },
                ),
                max_body: Some(
                    Some(
                        1024,
                    ),
                ),
                timeout: None,
                limits: [],
                request_headers: None,
                response_headers: None,
                cors: None,
                accept: {},
            },
            Route {
                name: "route-3",
                host: Any,
                path: PathPattern {
                    segments: [],
                    end: Prefix,
                },
                methods: None,
                headers: [],
                auth: Required,
                policy: Policy {
                    allow: None,
                    deny: None,
                    enforce: Enforce,
                },
                action: Forward(
                    Forward {
                        upstream: 0,
                        path: None,
                    },
                ),
                max_body: None,
                timeout: None,
                limits: [],
                request_headers: None,
                response_headers: None,
                cors: None,
                accept: {},
            },
        ],
        log: Log {
            level: Debug,
            format: Pretty,
            access: false,
            server_timing: false,
        },
        otlp: None,
        tests: [],
        check: Check {
            ignore: [],
        },
    }
    "##
    );
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    assert_snapshot!(told_of_file(r#"[server]
listen = "127.0.0.1:8080"
drain_timeout = 30
max_body = "1MiB"

[upstreams.api]
targets = ["http://127.0.0.1:${PROT}"]
retrys  = 2
balance = "leastrequest"

[[routes]]
path     = "/a/../b"
upstream = "ap"
methods  = ["get", "TRACE"]

[[routes]]
path     = "/x"
auth     = "none"
upstream = "api"
max_body = 64

[logs]
level = "info"
"#), @r##"
    gateway.toml:2:10: "listen" must be a list, not a string
      |
    2 | listen = "127.0.0.1:8080"
      |          ^^^^^^^^^^^^^^^^
      = help: write listen = ["127.0.0.1:8080"]

    gateway.toml:3:17: "drain_timeout" must be a duration in quotes, not an integer
      |
    3 | drain_timeout = 30
      |                 ^^
      = help: write drain_timeout = "30s"

    gateway.toml:4:1: unknown key "max_body" in [server]
      |
    4 | max_body = "1MiB"
      | ^^^^^^^^
      = help: "max_body" belongs in [server.limits] or [[routes]]

    gateway.toml:7:12: environment variable "PROT" is not set
      |
    7 | targets = ["http://127.0.0.1:${PROT}"]
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: set it, or give a default: "${PROT:-default}"

    gateway.toml:8:1: unknown key "retrys" in [upstreams.api]
      |
    8 | retrys  = 2
      | ^^^^^^
      = help: did you mean "retries"?

    gateway.toml:9:11: unknown value "leastrequest"
      |
    9 | balance = "leastrequest"
      |           ^^^^^^^^^^^^^^
      = help: did you mean "least_request"?

    gateway.toml:11:1: [[routes]] has no "auth"
       |
    11 | [[routes]]
       | ^^^^^^^^^^
       = help: there is no default: add auth = "required" (a token is needed), "optional" or "public" (everybody may pass)

    gateway.toml:12:12: "/a/../b" is not a path pattern
       |
    12 | path     = "/a/../b"
       |            ^^^^^^^^^
       = help: no request could ever have this path: it has dot segments, empty segments, bad escapes or other characters that are refused

    gateway.toml:13:12: no upstream is named "ap"
       |
    13 | upstream = "ap"
       |            ^^^^
       = help: did you mean "api"?

    gateway.toml:14:13: "get" is not a method
       |
    14 | methods  = ["get", "TRACE"]
       |             ^^^^^
       = help: did you mean "GET"? case matters

    gateway.toml:14:20: "TRACE" cannot be routed
       |
    14 | methods  = ["get", "TRACE"]
       |                    ^^^^^^^
       = help: CONNECT and TRACE are always answered with 405

    gateway.toml:18:12: unknown value "none"
       |
    18 | auth     = "none"
       |            ^^^^^^
       = help: write "required", "optional" or "public"

    gateway.toml:20:12: "max_body" must be a size in quotes, not an integer
       |
    20 | max_body = 64
       |            ^^
       = help: write max_body = "64B"

    gateway.toml:22:2: unknown key "logs" at the top level
       |
    22 | [logs]
       |  ^^^^
       = help: did you mean "log"?

    14 problems found
    "##);
}

#[test]
fn a_file_that_is_not_toml_has_one_problem() {
    assert_snapshot!(told_of_file("[server]\nadmin = 127.0.0.1:9911\n"), @r##"
    gateway.toml:2:14: invalid float
      |
    2 | admin = 127.0.0.1:9911
      |              ^^^^^^^^^
      = help: write strings in quotes: key = "value"

    1 problem found
    "##);
    assert_snapshot!(told_of_file("[server]\r\nadmin = \"127.0.0.1:9911\r\nworkers = 1"), @r##"
    gateway.toml:2:25: invalid basic string, expected `"`
      |
    2 | admin = "127.0.0.1:9911
      |                        ^
      = help: a string ends with the quote that it begins with, on the same line

    1 problem found
    "##);
    assert_snapshot!(told_of_file("[server]\n[log]\n[server]\n"), @r##"
    gateway.toml:3:2: duplicate key
      |
    3 | [server]
      |  ^^^^^^
      = help: "server" stands here a second time; only [[routes]], [[tokens.keys]] and [[tls.certificates]] may repeat

    1 problem found
    "##);
    assert_snapshot!(told_of_file("{\"server\": {}}"), @r##"
    gateway.toml:1:1: invalid key-value pair, expected key
      |
    1 | ***
      | ^
      = help: this looks like JSON; the configuration is written in TOML

    1 problem found
    "##);
}

#[test]
fn an_empty_file_lacks_upstreams_and_routes() {
    assert_snapshot!(told_of_file(""), @r##"
    gateway.toml:1:1: there is no upstream
      = help: add [upstreams.api] with targets = ["http://127.0.0.1:9000"]

    gateway.toml:1:1: there is no route
      = help: add [[routes]] with path = "/", auth = "required" and upstream = "api"

    2 problems found
    "##);
    assert_snapshot!(told_of_file("# nothing\nroutes = []\nupstreams = {}\n"), @r##"
    gateway.toml:1:1: there is no upstream
      |
    1 | # nothing
      | ^
      = help: add [upstreams.api] with targets = ["http://127.0.0.1:9000"]

    gateway.toml:1:1: there is no route
      |
    1 | # nothing
      | ^
      = help: add [[routes]] with path = "/", auth = "required" and upstream = "api"

    2 problems found
    "##);
    assert_eq!(
        parsed("[[routes]]\npath='/'\nauth='public'\nupstream='api'").unwrap_err().problems().len(),
        1
    );
}

#[test]
fn unknown_keys_are_put_right() {
    assert_snapshot!(told("[sever]\n[server]\nlimit = {}\nmax_headers = 5\nrealm = 'x'\ncolour = 'red'\n[server.limits]\nmax_headrs = 1\n[users.hashing]\nmemory_kib = 1"), @r##"
    gateway.toml:1:2: unknown key "sever" at the top level
      |
    1 | [sever]
      |  ^^^^^
      = help: did you mean "server"?

    gateway.toml:3:1: unknown key "limit" in [server]
      |
    3 | limit = {}
      | ^^^^^
      = help: did you mean "limits"?

    gateway.toml:4:1: unknown key "max_headers" in [server]
      |
    4 | max_headers = 5
      | ^^^^^^^^^^^
      = help: "max_headers" belongs in [server.limits]

    gateway.toml:5:1: unknown key "realm" in [server]
      |
    5 | realm = 'x'
      | ^^^^^
      = help: "realm" belongs in [tokens]

    gateway.toml:6:1: unknown key "colour" in [server]
      |
    6 | colour = ***
      | ^^^^^^
      = help: [server] has listen, admin, admin_token_file, admin_token_env, admin_hosts, http_redirect, trusted_proxies, workers, drain_timeout, watch_config, limits

    gateway.toml:8:1: unknown key "max_headrs" in [server.limits]
      |
    8 | max_headrs = 1
      | ^^^^^^^^^^
      = help: did you mean "max_headers"?

    gateway.toml:10:1: unknown key "memory_kib" in [users.hashing]
       |
    10 | memory_kib = 1
       | ^^^^^^^^^^
       = help: [users.hashing] has memory, iterations, max_memory, max_queue

    7 problems found
    "##);
    assert_snapshot!(told_of_file(&format!("{SMALLEST}rout = 1\nauths = 2\ntargets = []")), @r##"
    gateway.toml:9:1: unknown key "rout" in [[routes]]
      |
    9 | rout = 1
      | ^^^^
      = help: [[routes]] has name, host, path, methods, headers, auth, allow, deny, enforce, upstream, strip_prefix, rewrite, redirect, respond, max_body, timeout, limit, request_headers, response_headers, cors, accept

    gateway.toml:10:1: unknown key "auths" in [[routes]]
       |
    10 | auths = 2
       | ^^^^^
       = help: did you mean "auth"?

    gateway.toml:11:1: unknown key "targets" in [[routes]]
       |
    11 | targets = []
       | ^^^^^^^
       = help: "targets" belongs in [upstreams.NAME]

    3 problems found
    "##);
}

#[test]
fn wrong_kinds_of_values_are_put_right() {
    assert_snapshot!(told(r#"server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
store = "sqlite://x.db"
tokens.keys.kid = "a"
tokens.issuer = 7
users = [1]
log = { access = "true", level = 3 }
"#), @r##"
    gateway.toml:1:22: "workers" must be "auto" or an integer, not a float
      |
    1 | server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
      |                      ^^^

    gateway.toml:1:43: "drain_timeout" must be a duration in quotes, not a boolean
      |
    1 | server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
      |                                           ^^^^
      = help: write drain_timeout = "30s"

    gateway.toml:1:49: "limits" must be a table, not an integer
      |
    1 | server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
      |                                                 ^^^^^^
      = help: write [server.limits], and its keys on the lines below

    gateway.toml:1:71: "listen" must be a list of strings, this is an integer
      |
    1 | server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
      |                                                                       ^^^^
      = help: did you mean "127.0.0.1:8080"?

    gateway.toml:1:96: "trusted_proxies" must be a list, not a table
      |
    1 | server = { workers = 1.5, drain_timeout = true, limits = 5, listen = [8080], trusted_proxies = {} }
      |                                                                                                ^^

    gateway.toml:2:1: "store" must be a table, not a string
      |
    2 | store = "sqlite://x.db"
      | ^^^^^
      = help: write [store], and its keys on the lines below

    gateway.toml:3:8: "keys" must be a list of tables, not a table
      |
    3 | tokens.keys.kid = "a"
      |        ^^^^
      = help: write [[tokens.keys]] with two pairs of brackets, once for each

    gateway.toml:4:17: "issuer" must be a string, not an integer
      |
    4 | tokens.issuer = 7
      |                 ^
      = help: write issuer = "7"

    gateway.toml:5:1: "users" must be a table, not a list
      |
    5 | users = [1]
      | ^^^^^
      = help: write [users] with one pair of brackets

    gateway.toml:6:18: "access" must be true or false, not a string
      |
    6 | log = { access = "true", level = 3 }
      |                  ^^^^^^
      = help: write access = true, without quotes

    gateway.toml:6:34: "level" must be a string, not an integer
      |
    6 | log = { access = "true", level = 3 }
      |                                  ^
      = help: write "error", "warn", "info", "debug" or "trace"

    11 problems found
    "##);
    assert_snapshot!(told_of_file("[[upstreams]]\nname = 'api'\n[routes]\npath = '/'\n"), @r##"
    gateway.toml:1:3: "upstreams" must be a table for each name, not a list
      |
    1 | [[upstreams]]
      |   ^^^^^^^^^
      = help: each has a name: write [upstreams.NAME], and its keys on the lines below

    gateway.toml:3:2: "routes" must be a list of tables, not a table
      |
    3 | [routes]
      |  ^^^^^^
      = help: write [[routes]] with two pairs of brackets, once for each

    2 problems found
    "##);
    assert_snapshot!(told_of_file("[upstreams]\ntargets = ['http://a']\n[[routes]]\npath='/'\nauth='public'\nupstream='api'\nmethods = [1]\n"), @r##"
    gateway.toml:2:1: "targets" must be a table, not a list
      |
    2 | targets = ['http://a']
      | ^^^^^^^
      = help: each has a name: write [upstreams.NAME], and its keys on the lines below

    gateway.toml:7:12: "methods" must be a list of strings, this is an integer
      |
    7 | methods = [1]
      |            ^
      = help: write "1"

    2 problems found
    "##);
    assert_snapshot!(told("store.url = \"sqlite://a\\u001b[31m\\u202e/\""), @r##"
    gateway.toml:1:13: "sqlite://a\u{1b}[31m\u{202e}/" does not name a file
      |
    1 | store.url = "sqlite://a\u001b[31m\u202e/"
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = help: write "sqlite://data/tollgate.db", or "sqlite:///var/lib/tollgate/tollgate.db" for an absolute path

    1 problem found
    "##);
    assert_snapshot!(told_of_file("routes = [1]\nupstreams.api = 'http://a'\n"), @r##"
    gateway.toml:1:11: "routes" must be a list of tables, this is an integer
      |
    1 | routes = [1]
      |           ^
      = help: write [[routes]] once for each

    gateway.toml:2:11: "api" must be a table, not a string
      |
    2 | upstreams.api = 'http://a'
      |           ^^^
      = help: each has a name: write [upstreams.NAME], and its keys on the lines below

    2 problems found
    "##);
}

#[test]
fn values_of_the_server_are_checked() {
    assert_snapshot!(told(r#"[server]
listen = ["127.0.0.1:80", "127.0.0.1:0", "localhost:80", "unix:/run/t.sock", "localhost:0"]
admin = "127.0.0.1:80"
trusted_proxies = ["10.0.0.1/8", "proxy.example.com"]
workers = 0
drain_timeout = "0s"
[server.limits]
max_connections = -1
max_header_bytes = "4KiB"
max_headers = 1001
max_body = 5
min_rate = "128B"
"#), @r##"
    gateway.toml:2:42: "127.0.0.1:80" is listed twice
      |
    2 | listen = ["127.0.0.1:80", "127.0.0.1:0", "localhost:80", "unix:/run/t.sock", "localhost:0"]
      |                                          ^^^^^^^^^^^^^^
      = help: remove one of the two

    gateway.toml:2:58: "unix:" is not supported in this version
      |
    2 | listen = ["127.0.0.1:80", "127.0.0.1:0", "localhost:80", "unix:/run/t.sock", "localhost:0"]
      |                                                          ^^^^^^^^^^^^^^^^^^
      = help: listen on a TCP address such as "127.0.0.1:8080"

    gateway.toml:3:9: "127.0.0.1:80" is in "listen" too
      |
    3 | admin = "127.0.0.1:80"
      |         ^^^^^^^^^^^^^^
      = help: give health and readiness a port of their own, or "" for none

    gateway.toml:4:20: "10.0.0.1/8" is not the first address of its network
      |
    4 | trusted_proxies = ["10.0.0.1/8", "proxy.example.com"]
      |                    ^^^^^^^^^^^^
      = help: did you mean "10.0.0.0/8"? a single address has no "/"

    gateway.toml:4:34: "proxy.example.com" is not a network
      |
    4 | trusted_proxies = ["10.0.0.1/8", "proxy.example.com"]
      |                                  ^^^^^^^^^^^^^^^^^^^
      = help: write an address or a network: "10.0.0.7", "10.0.0.0/8" or "fd00::/8"

    gateway.toml:5:11: "workers" must be from 1 to 1024
      |
    5 | workers = 0
      |           ^

    gateway.toml:6:17: a duration of zero
      |
    6 | drain_timeout = "0s"
      |                 ^^^^
      = help: it cannot be switched off; the longest is "366d"

    gateway.toml:8:19: "max_connections" must be from 1 to 1000000
      |
    8 | max_connections = -1
      |                   ^^

    gateway.toml:9:20: "4KiB" is out of range
      |
    9 | max_header_bytes = "4KiB"
      |                    ^^^^^^
      = help: a request's head may be limited to between "8KiB" and "1MiB"

    gateway.toml:10:15: "max_headers" must be from 1 to 1000
       |
    10 | max_headers = 1001
       |               ^^^^

    gateway.toml:11:12: "max_body" must be a size in quotes, not an integer
       |
    11 | max_body = 5
       |            ^
       = help: write max_body = "5B"

    gateway.toml:12:12: "128B" is a size, not a rate
       |
    12 | min_rate = "128B"
       |            ^^^^^^
       = help: did you mean "128B/s"?

    12 problems found
    "##);
    assert_snapshot!(told("[server]\nlisten = []\nworkers = \"many\"\nadmin = \"off\"\n[store]\nurl = \"data/x.db\""), @r##"
    gateway.toml:2:10: "listen" is an empty list
      |
    2 | listen = []
      |          ^^
      = help: name at least one address, such as "127.0.0.1:8080"

    gateway.toml:3:11: unknown value "many"
      |
    3 | workers = "many"
      |           ^^^^^^
      = help: write "auto" for one per core, or a number from 1 to 1024 without quotes

    gateway.toml:4:9: "off" is not an address with a port
      |
    4 | admin = "off"
      |         ^^^^^
      = help: write an IP address and a port: "127.0.0.1:8080" or "[::1]:8080"

    gateway.toml:6:7: "data/x.db" is not the URL of a store
      |
    6 | url = "data/x.db"
      |       ^^^^^^^^^^^
      = help: did you mean "sqlite://data/x.db"?

    4 problems found
    "##);
}

#[test]
fn values_of_tokens_are_checked() {
    assert_snapshot!(told(r#"[tokens]
issuer = ""
audience = [""]
access_lifetime = "2d"
leeway = "10m"
user_id_claim = "aud"
claims = ["email", "group", "email"]
path = "/api/token/"
realm = "a\"b"
"#), @r##"
    gateway.toml:3:13: an empty audience
      |
    3 | audience = [""]
      |             ^^
      = help: write audience = [] for none

    gateway.toml:4:19: "access_lifetime" is longer than "refresh_lifetime"
      |
    4 | access_lifetime = "2d"
      |                   ^^^^
      = help: access tokens live 2d and refresh tokens 1d; a refresh token must live at least as long

    gateway.toml:5:10: "10m" is too long for a leeway
      |
    5 | leeway = "10m"
      |          ^^^^^
      = help: clocks differ by seconds, and every expired token lives longer by the leeway; the longest is "5m"

    gateway.toml:6:17: "aud" cannot be the claim of the user id
      |
    6 | user_id_claim = "aud"
      |                 ^^^^^
      = help: that claim has another meaning in every token; common names are "user_id" and "sub"

    gateway.toml:7:20: unknown value "group"
      |
    7 | claims = ["email", "group", "email"]
      |                    ^^^^^^^
      = help: did you mean "groups"?

    gateway.toml:7:29: "email" is listed twice
      |
    7 | claims = ["email", "group", "email"]
      |                             ^^^^^^^
      = help: remove one of the two

    gateway.toml:8:8: "/api/token/" ends with "/"
      |
    8 | path = "/api/token/"
      |        ^^^^^^^^^^^^^
      = help: did you mean "/api/token"? clients may write the slash at the end or leave it out

    gateway.toml:9:9: "a\"b" cannot stand in a challenge
      |
    9 | realm = "a\"b"
      |         ^^^^^^
      = help: a realm has printable ASCII characters other than the double quote and the backslash

    8 problems found
    "##);
    assert_snapshot!(told("[tokens]\nrefresh_lifetime = \"1m\"\nuser_id_claim = \"email\"\nclaims = [\"email\"]\npath = \"/a/./b\""), @r##"
    gateway.toml:2:20: "access_lifetime" is longer than "refresh_lifetime"
      |
    2 | refresh_lifetime = "1m"
      |                    ^^^^
      = help: access tokens live 30m and refresh tokens 1m; a refresh token must live at least as long

    gateway.toml:4:11: "email" is the claim of the user id already
      |
    4 | claims = ["email"]
      |           ^^^^^^^
      = help: choose another "user_id_claim", or leave the field out

    gateway.toml:5:8: "/a/./b" is not a path that a request could have
      |
    5 | path = "/a/./b"
      |        ^^^^^^^^
      = help: the path has a dot segment

    3 problems found
    "##);
    assert_eq!(
        messages("[tokens]\nsession_lifetime = \"500ms\"\nreuse_grace = \"1\"\nrotate_refresh = 1").len(),
        3
    );
    // A lifetime that is faulty is not compared.
    assert_eq!(messages("[tokens]\nrefresh_lifetime = \"1x\"\naccess_lifetime = \"3d\"").len(), 1);
    for path in ["/", "", "api", "/a//b", "/a/", "/%61", "/a b", "/a?b"] {
        assert_eq!(messages(&format!("tokens.path = \"{path}\"")).len(), 1, "{path}");
    }
    for claim in ["exp", "iat", "nbf", "jti", "iss", "aud", "sid", "token_type", "", "1a", "a-b", "ä"] {
        assert_eq!(messages(&format!("tokens.user_id_claim = \"{claim}\"")).len(), 1, "{claim}");
    }
}

#[test]
fn stores_are_sqlite_files() {
    let path = |url: &str| with(&format!("store.url = \"{url}\"")).store.file().unwrap().to_owned();
    assert_eq!(path("sqlite://data/x.db"), Path::new("/etc/tollgate/data/x.db"));
    assert_eq!(path("sqlite:///abs/x.db"), Path::new("/abs/x.db"));
    assert_eq!(with("store.url = \"sqlite:///abs/x.db\"").tokens.key_directory, Path::new("/abs/keys"));
    for url in [
        "",
        "sqlite:",
        "sqlite://",
        "sqlite://data/",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://x?mode=ro",
        "mysql://a",
        "postgres:///tollgate",
        "postgres://h/d?sslmod=require",
        "postgres://h/d?sslmode=maybe",
        "postgres://u:p#w@h/d",
    ] {
        assert_eq!(messages(&format!("store.url = \"{url}\"")).len(), 1, "{url}");
    }
    for url in [
        "tollgate:hunter2@db/tollgate",
        "mysql://tollgate:hunter2@db",
        "postgres://u@h?passwort=hunter2",
        "postgres://a:b:hunter2:c@h:x/d",
    ] {
        let told = told(&format!("store.url = \"{url}\""));
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_store_of_several_gateways_is_a_postgresql_database() {
    let key = format!("[[tokens.keys]]\nkid = \"k\"\nalg = \"HS256\"\nsecret = \"{LONG_SECRET}\"");
    let store = |lines: &str| with(&format!("[store]\n{lines}\n{key}")).store;
    let usual = store("url = \"postgres://tollgate:hunter2@db/tollgate\"");
    let secret = Secret::new("postgres://tollgate:hunter2@db/tollgate");
    assert_eq!(usual.place, StorePlace::Postgres(secret));
    assert_eq!((usual.max_connections.get(), usual.statement_timeout), (10, Duration::from_secs(2)));
    assert_eq!((usual.stale_policy, usual.stale_after), (StalePolicy::Serve, Duration::from_secs(30)));
    assert!(!format!("{usual:?}").contains("hunter2"));
    let own = store(
        "url = \"postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem\"\nmax_connections = 3\n\
         statement_timeout = \"500ms\"\nstale_policy = \"refuse\"\nstale_after = \"5s\"",
    );
    assert_eq!((own.max_connections.get(), own.statement_timeout), (3, Duration::from_millis(500)));
    assert_eq!((own.stale_policy, own.stale_after), (StalePolicy::Refuse, Duration::from_secs(5)));
    for lines in [
        "max_connections = 0",
        "statement_timeout = \"1h\"",
        "stale_after = \"10ms\"",
        "stale_policy = \"x\"",
    ] {
        assert_eq!(messages(&format!("[store]\n{lines}")).len(), 1, "{lines}");
    }
    // Each gateway would make a key of its own.
    let told = told("store.url = \"postgres://tollgate:hunter2@db/tollgate\"");
    assert!(told.contains("there is no key for the gateways that share this store"), "{told}");
    assert!(told.contains("tollgate key generate --out FILE") && !told.contains("hunter2"), "{told}");
}

#[test]
fn values_of_users_are_checked() {
    assert_snapshot!(told("[users]\nsource = \"file\"\n[users.hashing]\nmemory = \"512MiB\"\niterations = 0"), @r##"
    gateway.toml:1:1: [users.file] has no "path"
      |
    1 | [users]
      | ^^^^^^^
      = help: source = "file" needs [users.file] with path = "users.toml", the path of a user file, or of an htpasswd file

    gateway.toml:4:10: "max_memory" is less than the "memory" of one hash
      |
    4 | memory = "512MiB"
      |          ^^^^^^^^
      = help: one hash takes 524288KiB of a budget of 262144KiB, so nobody could log in

    gateway.toml:5:14: "iterations" must be from 1 to 1000
      |
    5 | iterations = 0
      |              ^

    3 problems found
    "##);
    assert_snapshot!(told("[users]\nsource = \"stor\"\n[users.file]\npath = \"\"\n[users.hashing]\nmemory = \"1B\"\nmax_memory = \"4KiB\""), @r##"
    gateway.toml:2:10: unknown value "stor"
      |
    2 | source = "stor"
      |          ^^^^^^
      = help: did you mean "store"?

    gateway.toml:4:8: an empty path
      |
    4 | path = ""
      |        ^^
      = help: write the path of a user file, such as "users.toml" or "users.htpasswd"

    gateway.toml:6:10: "1B" is not a whole number of KiB
      |
    6 | memory = "1B"
      |          ^^^^
      = help: memory is counted in KiB: "19MiB" or "19456KiB"

    gateway.toml:7:14: "4KiB" is out of range
      |
    7 | max_memory = "4KiB"
      |              ^^^^^^
      = help: argon2 takes at least 8KiB; "19MiB" is a good choice

    4 problems found
    "##);
    assert_eq!(
        with("[users]\nsource = \"file\"\n[users.file]\npath = \"u\"").users.source,
        UserSource::File("/etc/tollgate/u".into())
    );
    assert_eq!(with("[users.file]\npath = \"u\"").users.source, UserSource::Store);
}

#[test]
fn a_django_application_has_a_database_and_names_that_are_checked() {
    let django =
        |lines: &str| with(&format!("[users]\nsource = \"django\"\n[users.django]\n{lines}")).users.source;
    let UserSource::Django(usual) = django("url = \"sqlite://db.sqlite3\"") else { panic!("not django") };
    assert_eq!(usual.database, DjangoDatabase::Sqlite("/etc/tollgate/db.sqlite3".into()));
    assert_eq!((usual.columns, usual.recheck.as_secs()), (DjangoColumns::default(), 10));
    assert_eq!(usual.hashers, Hasher::USUAL);
    let UserSource::Django(own) = django(
        "url = \"postgres://u:p@h/d\"\ntable = \"shop_customer\"\nemail_column = \"\"\nhashers = [\"bcrypt\"]\nrecheck = \"3s\"",
    ) else {
        panic!("not django")
    };
    assert!(matches!(own.database, DjangoDatabase::Postgres(_)));
    let groups = own.columns.groups.unwrap();
    assert_eq!((groups.membership.as_str(), groups.user.as_str()), ("shop_customer_groups", "customer_id"));
    assert_eq!((own.columns.email, own.hashers), (None, vec![Hasher::Bcrypt]));
    let UserSource::Django(alone) = django("url = \"mysql://h/d\"\ngroups = false") else {
        panic!("not django")
    };
    assert!(alone.columns.groups.is_none() && matches!(alone.database, DjangoDatabase::Mysql(_)));
    assert_eq!(with("[users.django]\nurl = \"mysql://h/d\"").users.source, UserSource::Store);
}

#[test]
fn what_is_wrong_with_a_django_application_is_told_without_its_password() {
    for (lines, message) in [
        ("", "[users.django] has no \"url\""),
        ("url = \"oracle://u:hunter2@h/d\"", "the URL of the database names no database that is known"),
        ("url = \"sqlite://\"", "the URL of the database names no database that is known"),
        ("url = \"sqlite://a\"\nurl_env = \"B\"", "the database has both \"url\" and \"url_env\""),
        ("url = \"sqlite://a\"\ntable = \"a; DROP\"", "\"a; DROP\" is not the name of a table or column"),
        ("url = \"sqlite://a\"\nid_column = \"\"", "\"\" is not the name of a table or column"),
        ("url = \"sqlite://a\"\nhashers = []", "\"hashers\" is an empty list"),
        ("url = \"sqlite://a\"\nhashers = [\"sha1\"]", "unknown value \"sha1\""),
        ("url = \"sqlite://a\"\nurls = \"postgres://u:hunter2@h\"", "unknown key \"urls\" in [users.django]"),
    ] {
        let text = format!("users.source = \"django\"\n{SMALLEST}[users.django]\n{lines}");
        let failure = parsed(&text).unwrap_err();
        assert!(failure.problems().iter().any(|problem| problem.message == message), "{lines}\n{failure}");
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
}

#[test]
fn values_of_upstreams_are_checked() {
    assert_snapshot!(told(r#"[upstreams.other]
targets = ["10.0.0.5:9000", "gopher://a", "http://user:hunter2@a", "http://a/path"]
balance = "hashed"
connect_timeout = "5"
max_connections = 0
retries = 11
host_header = "preserv"
identity = "forwarded"
[upstreams."a b"]
[upstreams.empty]
targets = []
identity = { "X-Account" = "claim:account_id" }
"#), @r##"
    gateway.toml:2:12: "10.0.0.5:9000" is not a target
      |
    2 | targets = ["10.0.0.5:9000", "gopher://a", "http://***@a", "http://a/path"]
      |            ^^^^^^^^^^^^^^^
      = help: did you mean "http://10.0.0.5:9000"?

    gateway.toml:2:29: "gopher://a" is not a target
      |
    2 | targets = ["10.0.0.5:9000", "gopher://a", "http://***@a", "http://a/path"]
      |                             ^^^^^^^^^^^^
      = help: a target is "http://host:port", "https://host:port", "h2c://host:port" or "unix:/path"

    gateway.toml:2:43: a target has no user and no password
      |
    2 | targets = ["10.0.0.5:9000", "gopher://a", "http://***@a", "http://a/path"]
      |                                           ^^^^^^^^^^^^^^
      = help: the gateway sends the upstream no credentials of its own

    gateway.toml:2:68: "http://a/path" has a path or a query
      |
    2 | targets = ["10.0.0.5:9000", "gopher://a", "http://***@a", "http://a/path"]
      |                                                           ^^^^^^^^^^^^^^^
      = help: write "http://a"; the path that a client sends is the path that the upstream gets

    gateway.toml:3:11: unknown value "hashed"
      |
    3 | balance = "hashed"
      |           ^^^^^^^^
      = help: did you mean "hash"?

    gateway.toml:4:19: "5" has no unit
      |
    4 | connect_timeout = "5"
      |                   ^^^
      = help: did you mean "5s"? units are ms, s, m, h and d

    gateway.toml:5:19: "max_connections" must be from 1 to 1000000
      |
    5 | max_connections = 0
      |                   ^

    gateway.toml:6:11: "retries" must be from 0 to 10
      |
    6 | retries = 11
      |           ^^

    gateway.toml:7:15: unknown value "preserv"
      |
    7 | host_header = "preserv"
      |               ^^^^^^^^^
      = help: did you mean "preserve"? other values are sent as the host name

    gateway.toml:9:1: [upstreams."a b"] has no "targets"
      |
    9 | [upstreams."a b"]
      | ^^^^^^^^^^^^^^^^^
      = help: add targets = ["http://127.0.0.1:9000"]

    gateway.toml:9:12: "a b" is not a name
      |
    9 | [upstreams."a b"]
      |            ^^^^^
      = help: a name has letters, digits, "_", "." and "-"

    gateway.toml:11:11: "targets" is an empty list
       |
    11 | targets = []
       |           ^^
       = help: name at least one, such as "http://127.0.0.1:9000"

    12 problems found
    "##);
}

#[test]
fn values_of_routes_are_checked() {
    assert_snapshot!(told_of_file(&format!(r#"{SMALLEST}
[[routes]]
name = "a b"
host = "https://example.com"
path = "x"
methods = []
auth = "require"
upstream = "backend"
timeout = "0ms"

[[routes]]
name = "route-1"
host = "*"
path = "/{{id}}/{{id}}"
methods = ["GET", "GET", "*"]

"#)), @r##"
    gateway.toml:11:8: "a b" is not a name
       |
    11 | name = "a b"
       |        ^^^^^
       = help: a name has letters, digits, "_", "." and "-"

    gateway.toml:12:8: "https://example.com" is not a host pattern
       |
    12 | host = "https://example.com"
       |        ^^^^^^^^^^^^^^^^^^^^^
       = help: a host is a name such as "api.example.com" or "*.example.com", without scheme, port or path

    gateway.toml:13:8: "x" is not a path pattern
       |
    13 | path = "x"
       |        ^^^
       = help: a path begins with "/", or with "=/" when it is meant exactly

    gateway.toml:14:11: "methods" is an empty list
       |
    14 | methods = []
       |           ^^
       = help: leave "methods" out for any method

    gateway.toml:15:8: unknown value "require"
       |
    15 | auth = "require"
       |        ^^^^^^^^^
       = help: did you mean "required"?

    gateway.toml:16:12: no upstream is named "backend"
       |
    16 | upstream = "backend"
       |            ^^^^^^^^^
       = help: write "api", or add an upstream of that name

    gateway.toml:17:11: a duration of zero
       |
    17 | timeout = "0ms"
       |           ^^^^^
       = help: it cannot be switched off; the longest is "366d"

    gateway.toml:19:1: [[routes]] has no "auth"
       |
    19 | [[routes]]
       | ^^^^^^^^^^
       = help: there is no default: add auth = "required" (a token is needed), "optional" or "public" (everybody may pass)

    gateway.toml:19:1: [[routes]] has no "upstream"
       |
    19 | [[routes]]
       | ^^^^^^^^^^
       = help: add upstream = "api", or the name of another [upstreams.NAME]

    gateway.toml:20:8: two routes have the name "route-1"
       |
    20 | name = "route-1"
       |        ^^^^^^^^^
       = help: the other one is in line 5; names stand in the log, so each is used once

    gateway.toml:21:8: "*" is not a host pattern
       |
    21 | host = "*"
       |        ^^^
       = help: leave "host" out for any host

    gateway.toml:22:8: "/{id}/{id}" is not a path pattern
       |
    22 | path = "/{id}/{id}"
       |        ^^^^^^^^^^^^
       = help: two parameters have the same name

    gateway.toml:23:19: "GET" is listed twice
       |
    23 | methods = ["GET", "GET", "*"]
       |                   ^^^^^
       = help: remove one of the two

    gateway.toml:23:26: "*" is not a method
       |
    23 | methods = ["GET", "GET", "*"]
       |                          ^^^
       = help: leave "methods" out for any method

    14 problems found
    "##);
}

#[test]
fn routes_that_tie_are_refused() {
    let route = |host: &str, path: &str, methods: &str| {
        format!("[[routes]]\npath = \"{path}\"\nauth = \"public\"\nupstream = \"api\"\n{host}{methods}\n")
    };
    let host = |host: &str| format!("host = \"{host}\"\n");
    let ties = |first: &str, second: &str| {
        parsed(&format!("{SMALLEST}{first}{second}")).map_or_else(|failure| failure.problems().len(), |_| 0)
    };
    let any = |path: &str| route("", path, "");
    for (first, second, count) in [
        (any("/x"), any("/x"), 1),
        (any("/x"), any("/x/"), 1),
        (any("/x"), any("=/x"), 0),
        (any("=/x"), any("=/x/"), 0),
        (any("/x"), any("/y"), 0),
        (any("/%7ex"), any("/~x"), 1),
        (any("/u/{id}"), any("/u/{name}"), 1),
        (any("/u/{id}"), any("/u/x"), 0),
        (any("/u/{id}/a"), any("/u/b/{id}"), 0),
        (any("/x"), route(&host("a.b"), "/x", ""), 0),
        (route(&host("A.b"), "/x", ""), route(&host("a.B"), "/x", ""), 1),
        (route(&host("*.b"), "/x", ""), route(&host("a.b"), "/x", ""), 0),
        (any("/x"), route("", "/x", "methods = [\"GET\"]"), 0),
        (route("", "/x", "methods = [\"GET\", \"PUT\"]"), route("", "/x", "methods = [\"PUT\", \"GET\"]"), 1),
        (route("", "/x", "methods = [\"GET\"]"), route("", "/x", "methods = [\"PUT\"]"), 0),
        (any("/"), any("/"), 2),
    ] {
        assert_eq!(ties(&first, &second), count, "{first}{second}");
    }
    assert_snapshot!(told_of_file(&format!("{SMALLEST}{}{}", route("", "/x/{a}", "methods = [\"GET\", \"PUT\"]"), route("", "/x/{b}", "methods = [\"DELETE\", \"PUT\"]\nname = \"b\""))), @r##"
    gateway.toml:15:8: route "b" ties with route "route-2" in line 9: same host and path, for PUT
       |
    15 | path = "/x/{b}"
       |        ^^^^^^^^
       = help: nothing says which of the two is meant: change the host, the path or the methods of one, or remove it

    1 problem found
    "##);
}

#[test]
fn a_route_without_auth_is_refused() {
    assert_snapshot!(told_of_file("[upstreams.api]\ntargets = [\"http://a\"]\n[[routes]]\npath = \"/\"\nupstream = \"api\""), @r##"
    gateway.toml:3:1: [[routes]] has no "auth"
      |
    3 | [[routes]]
      | ^^^^^^^^^^
      = help: there is no default: add auth = "required" (a token is needed), "optional" or "public" (everybody may pass)

    1 problem found
    "##);
}

#[test]
fn keys_are_read_from_their_sources() {
    let directory = Directory::new(&[
        ("key.pem", b"PEM"),
        ("lf", format!("{LONG_SECRET}\n").as_bytes()),
        ("crlf", format!("{LONG_SECRET}\r\n").as_bytes()),
        ("two", format!("{LONG_SECRET}\n\n").as_bytes()),
    ]);
    let key = |text: &str| {
        directory
            .parse(&format!("[[tokens.keys]]\n{text}"))
            .unwrap_or_else(|failure| panic!("{failure}"))
            .tokens
            .keys
            .remove(0)
    };
    let secret = |text: &str| match key(&format!("alg = \"HS256\"\n{text}")).material {
        KeyMaterial::Secret(secret) => String::from_utf8(secret.expose().to_vec()).unwrap(),
        KeyMaterial::PemFile(path) => panic!("{path:?}"),
    };
    let pem = key("alg = \"ES256\"\nfile = \"key.pem\"");
    assert_eq!((pem.kid.as_str(), pem.algorithm, pem.verify_until), ("default", Algorithm::ES256, None));
    assert!(matches!(pem.material, KeyMaterial::PemFile(path) if path == directory.0.join("key.pem")));
    assert_eq!(secret("secret_file = \"lf\""), LONG_SECRET);
    assert_eq!(secret("secret_file = \"crlf\""), LONG_SECRET);
    assert_eq!(secret("secret_file = \"two\""), format!("{LONG_SECRET}\n"));
    assert_eq!(secret("secret_env = \"LONG\""), LONG_SECRET);
    assert_eq!(secret("secret = \"${LONG}!\""), format!("{LONG_SECRET}!"));
    assert_eq!(secret(&format!("secret = \"{LONG_SECRET}\"")), LONG_SECRET);
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let directory = Directory::new(&[("short", b"hunter2-in-file\n"), ("d/x", b"")]);
    assert_snapshot!(directory.told(r#"[[tokens.keys]]
alg = "hs256"
verify_until = 2026-12-15T00:00:00Z
[[tokens.keys]]
kid = "a"
alg = "HS256"
file = "short"
[[tokens.keys]]
kid = "a"
alg = "EdDSA"
secret_file = "short"
[[tokens.keys]]
kid = "c"
alg = "none"
secret_file = "short"
secret_env = "SHORT"
verify_until = 2026-12-15
[[tokens.keys]]
kid = ""
alg = "RS256"
file = "missing.pem"
[[tokens.keys]]
kid = "d"
file = "d"
alg = "RS256"
"#), @r##"
    gateway.toml:1:1: [[tokens.keys]] has no "kid"
      |
    1 | [[tokens.keys]]
      | ^^^^^^^^^^^^^^^
      = help: each of several keys needs an id, such as kid = "2026-11"; tokens name their key by it

    gateway.toml:1:1: [[tokens.keys]] has no key
      |
    1 | [[tokens.keys]]
      | ^^^^^^^^^^^^^^^
      = help: add "file" with the path of a PEM file, or for HS256, HS384 and HS512 "secret_file", "secret_env" or "secret"

    gateway.toml:2:7: unknown algorithm "hs256"
      |
    2 | alg = "hs256"
      |       ^^^^^^^
      = help: did you mean "HS256"?

    gateway.toml:3:16: the first key signs and cannot be retiring
      |
    3 | verify_until = 2026-12-15T00:00:00Z
      |                ^^^^^^^^^^^^^^^^^^^^
      = help: put the key that signs in front, or remove "verify_until"

    gateway.toml:7:1: "file" does not fit HS256
      |
    7 | file = "short"
      | ^^^^
      = help: "file" is for PEM files; HS256 has one shared secret: use "secret_file", "secret_env" or "secret"

    gateway.toml:9:7: two keys have the id "a"
      |
    9 | kid = "a"
      |       ^^^
      = help: the other one is in line 5

    gateway.toml:11:1: "secret_file" does not fit EdDSA
       |
    11 | secret_file = "short"
       | ^^^^^^^^^^^
       = help: EdDSA has a private and a public key: use "file" with the path of a PEM file

    gateway.toml:14:7: unknown algorithm "none"
       |
    14 | alg = "none"
       |       ^^^^^^
       = help: a token without a signature is never accepted

    gateway.toml:16:1: a key has both "secret_file" and "secret_env"
       |
    16 | secret_env = "SHORT"
       | ^^^^^^^^^^
       = help: keep one of them

    gateway.toml:17:16: "2026-12-15" is not a date with a time
       |
    17 | verify_until = 2026-12-15
       |                ^^^^^^^^^^
       = help: write 2026-12-15T00:00:00Z, without quotes

    gateway.toml:19:7: "" is not a key id
       |
    19 | kid = ""
       |       ^^
       = help: a key id has from 1 to 255 bytes and no control characters

    gateway.toml:21:8: the key file cannot be read: No such file or directory (os error 2)
       |
    21 | file = "missing.pem"
       |        ^^^^^^^^^^^^^
       = help: it would be "DIR/missing.pem"; paths are relative to the configuration file

    gateway.toml:24:8: the key file cannot be read: it is not a file
       |
    24 | file = "d"
       |        ^^^
       = help: it would be "DIR/d"; paths are relative to the configuration file

    13 problems found
    "##);
}

#[test]
fn secrets_are_never_told() {
    let directory = Directory::new(&[("short", b"hunter2-in-file\n")]);
    for text in [
        "secret_file = \"short\"",
        "secret_env = \"SHORT\"",
        "secret_env = \"hunter2 is no name\"",
        "secret_env = [\"hunter2\"]",
        "secret_env = \"hunter2",
        "key = \"hunter2",
        "secret_file = [\"short\"]",
        "secret = \"hunter2\"",
        "secret = \"${SHORT}\"",
        "secret = \"${UNSET:-hunter2}\"",
        "secret = \"hunter2${\"",
        "secret = \"${hunter2 }\"",
        "secret = \"${A:-hunter2${}\"",
        "secret = [\"hunter2\"]",
        "secret = {a = \"hunter2\"}",
        "secret = '''\nhunter2'''",
        "sercet = \"hunter2\"",
        "key = \"hunter2\"",
        "SECRET = \"hunter2\"",
        "secret = \"hunter2",
        "secret = \"\"\"hunter2",
        "secret = \"\"\"\nhunter2",
        "secret = hunter2",
        "\"secret\" = 'hunter2",
        "secret = \"hunter2\" x",
        "secret = \"hunter2\"\nsecret = \"hunter2\"",
        "x = { secret = \"hunter2\" y }",
        "secret = \"hunter2\", x = 1",
        "secret.value = \"hunter2\"",
        "hmac = \"hunter2\"",
        "options = { a = \"hunter2\", b = [\"hunter2\"] }",
        "secret = \"x\"\nsecret_env = \"hunter2\"",
        "secret_env = \"hunter2\"",
        "secret_file = \"hunter2\"",
        "secret = \"${hunter2}\"",
        "secret = \"${hunter2:-${}\"",
        "kid = 7 # secret = \"hunter2\"",
        "secret \"hunter2\"",
        "secret: \"hunter2\"",
        "hmac: hunter2",
        "hmac = \"hunter2\" x",
        "hunter2",
        "secret = [\n  \"hunter2\",\n  x",
        "[tokens]\njwt_key = \"hunter2\"",
        "[tokens]\nkey_encryption_key = \"hunter2\"",
        "[tokens]\nkey_encrypton_key = \"hunter2\"",
        "[tokens]\nkey_encryption_key_env = \"hunter2\"",
        "[tokens]\nkey_encryption_key_file = \"short\"",
        "[tokens]\nkey_encryption_key = [\"hunter2\"]",
        "[tokens]\nkey_encryption_key = \"hunter2",
        "[store]\nurl = \"u:hunter2@h\"",
        "[store]\nurl = \"mysql://u: hunter2@h\"",
        "[upstreams.b]\ntargets = [\"http://a/?key=hunter2\", \"http://u:' hunter2@h\"]",
        "[[routes]]\nrequest_headers = { set = { \"X-Api-Key\" = \"hunter2\" } }",
        "[server]\nlisten = [\"${SHORT}\"]\nworkers = \"${SHORT}\"",
    ] {
        let failure = directory.told(&format!("[[tokens.keys]]\nalg = \"HS256\"\n{text}"));
        assert!(!failure.contains("hunter2"), "{text}:\n{failure}");
        let failure = directory.parse(&format!("[[tokens.keys]]\nalg = \"HS256\"\n{text}")).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{text}:\n{failure:?}");
    }
    let told = directory.told("[[tokens.keys]]\nalg = \"HS256\"\nsecret = \"hunter2\"");
    assert_snapshot!(told, @r##"
    gateway.toml:3:10: the secret has 7 bytes, it needs at least 32
      |
    3 | secret = ***
      |          ^^^
      = help: a shorter one can be guessed; "openssl rand -base64 48" makes a good one

    1 problem found
    "##);
}

#[test]
fn keys_in_the_store_need_a_key_that_encrypts_them() {
    let directory = Directory::new(&[("kek", LONG_SECRET.as_bytes()), ("k.pem", b"PEM")]);
    let parsed = |lines: &str| directory.parse(lines);
    let shared = "store.url = \"postgres://db/tollgate\"\ntokens.key_encryption_key_file = \"kek\"";
    let tokens = parsed(shared).unwrap().tokens;
    assert_eq!(tokens.key_encryption_key.unwrap().expose(), LONG_SECRET.as_bytes());
    assert_eq!((tokens.keys.len(), tokens.key_rotation_delay), (0, Duration::from_mins(10)));
    // Where the store signs, a key of the configuration may retire, and otherwise the first one may not.
    let key = "[[tokens.keys]]\nalg = \"EdDSA\"\nfile = \"k.pem\"\nverify_until = 2027-01-31T00:00:00Z";
    assert!(parsed(&format!("{shared}\n{key}")).is_ok());
    assert!(parsed(key).is_err());
    for lines in [
        "key_encryption_key_file = \"kek\"\nkey_encryption_key_env = \"KEK\"",
        "key_encryption_key = \"too short\"",
        "key_rotation_delay = \"9s\"",
        "key_rotation_delay = \"31d\"",
    ] {
        let problems = parsed(&format!("[tokens]\n{lines}")).unwrap_err();
        assert!(!problems.to_string().contains(LONG_SECRET), "{problems}");
    }
}

#[test]
fn variables_are_expanded_in_strings() {
    assert_eq!(
        targets(&with("[upstreams.x]\ntargets = [\"http://a:${PORT}\", \"http://${HOST:-b}\"]").upstreams[1])
            [0],
        Target::Http(Authority { host: "a".into(), port: 9000 })
    );
    assert_eq!(with("tokens.realm = \"$${PORT}\"").tokens.realm, "${PORT}");
    assert_snapshot!(told("tokens.realm = \"${NOT_SET}\"\nserver.listen = [\"${WEIRD}\", \"${}\", \"${PORT\"]"), @r##"
    gateway.toml:1:16: environment variable "NOT_SET" is not set
      |
    1 | tokens.realm = "${NOT_SET}"
      |                ^^^^^^^^^^^^
      = help: set it, or give a default: "${NOT_SET:-default}"

    gateway.toml:2:18: "${WEIRD}" is not an address with a port
      |
    2 | server.listen = ["${WEIRD}", "${}", "${PORT"]
      |                  ^^^^^^^^^^
      = help: write an IP address and a port: "127.0.0.1:8080" or "[::1]:8080"

    gateway.toml:2:30: "${…}" does not hold the name of an environment variable
      |
    2 | server.listen = ["${WEIRD}", "${}", "${PORT"]
      |                              ^^^^^
      = help: a name has letters, digits and "_"; write "${NAME}", "${NAME:-default}", or "$${" for a literal "${"

    gateway.toml:2:37: "${" without a closing "}"
      |
    2 | server.listen = ["${WEIRD}", "${}", "${PORT"]
      |                                     ^^^^^^^^
      = help: write "$${" for a "${" that is not the start of a variable

    4 problems found
    "##);
}

#[test]
fn the_starter_loads_as_it_is() {
    let text = starter("http://127.0.0.1:9000/");
    let config = parsed(&text).unwrap();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].auth, Auth::Required);
    assert_eq!(config.routes[0].path, PathPattern { segments: Vec::new(), end: PathEnd::Prefix });
    assert_eq!(
        targets(&config.upstreams[0]),
        [Target::Http(Authority { host: "127.0.0.1".into(), port: 9000 })]
    );
    assert!(text.contains("/api/token/") && text.contains("tollgate user add"));
    // A hostile URL changes nothing but the target.
    let failure = parsed(&starter("x\"]\n[evil]\n\\")).unwrap_err();
    assert_eq!(failure.problems().len(), 1);
}

#[test]
fn files_are_loaded_and_their_paths_are_relative_to_them() {
    let directory = Directory::new(&[("gateway.toml", SMALLEST.as_bytes()), ("latin1.toml", b"# \xe4")]);
    let config = load(&directory.0.join("gateway.toml"), &environment()).unwrap();
    assert_eq!(config.store.file().unwrap(), directory.0.join("data/tollgate.db"));
    let told = |name: &str| {
        let failure = load(&directory.0.join(name), &environment()).unwrap_err();
        assert_eq!(failure.problems(), []);
        assert!(std::error::Error::source(&failure).is_some());
        failure.to_string().replace(directory.0.to_str().unwrap(), "DIR")
    };
    assert_snapshot!(told("missing.toml"), @r##"
    DIR/missing.toml: cannot be read: No such file or directory (os error 2)
      = help: "tollgate init --upstream URL" writes one; --config FILE names another
    "##);
    assert_snapshot!(told("latin1.toml"), @r##"DIR/latin1.toml: cannot be read: stream did not contain valid UTF-8"##);
    let large = "#".repeat(usize::try_from(crate::base::bounds::MAX_FILE_BYTES).unwrap() + 1);
    std::fs::write(directory.0.join("large.toml"), &large).unwrap();
    assert_snapshot!(told("large.toml"), @r##"DIR/large.toml: cannot be read: it is larger than 4194304 bytes"##);
    assert!(parsed(&large).is_err());
}

const PAIR: &str = "[[tls.certificates]]\nhosts = [\"a.example.com\"]\ncert = \"c.pem\"\nkey = \"/k.pem\"\n";

#[test]
fn tls_is_on_when_it_is_there() {
    assert_eq!(with("").tls, None);
    let tls = with(PAIR).tls.unwrap();
    assert_eq!((tls.min_version, tls.client_auth), (TlsVersion::Tls12, None));
    let [pair] = tls.certificates.as_slice() else { panic!("{:?}", tls.certificates) };
    assert_eq!(
        (pair.cert.as_path(), pair.key.as_path()),
        (Path::new("/etc/tollgate/c.pem"), Path::new("/k.pem"))
    );
    assert_eq!(pair.hosts, [CertificateHost::Name("a.example.com".into())]);
    let text = format!(
        "tls.min_version = \"1.3\"\n[tls.client_auth]\nca = \"ca.pem\"\nheaders = {{ X-Client-Subject = \"subject\", X-Client-Name = \"san_dns\" }}\n{PAIR}"
    );
    let tls = with(&text).tls.unwrap();
    let clients = tls.client_auth.unwrap();
    assert_eq!((tls.min_version, clients.mode), (TlsVersion::Tls13, ClientAuthMode::Required));
    let mut headers: Vec<_> =
        clients.headers.iter().map(|header| (header.name.as_str(), header.part)).collect();
    headers.sort_unstable_by_key(|(name, _)| *name);
    assert_eq!(
        headers,
        [("x-client-name", CertificatePart::SanDns), ("x-client-subject", CertificatePart::Subject)]
    );
}

#[test]
fn what_is_wrong_with_tls_is_told_at_once() {
    assert_eq!(messages("[tls]"), ["1:1: [tls] has no \"certificates\""]);
    let text = r#"[tls]
min_version = 1.2
hosts = []
[[tls.certificates]]
hosts = ["a", "A", "b:443"]
cert = ""
[tls.client_auth]
mode = "open"
headers = { Host = "subject", X-A = "subject", X_A = "serial", X-B = "dns", X-C = 1 }
"#;
    assert_snapshot!(told(text), @r##"
    gateway.toml:2:15: "min_version" must be a string, not a float
      |
    2 | min_version = 1.2
      |               ^^^
      = help: write min_version = "1.2"

    gateway.toml:3:1: unknown key "hosts" in [tls]
      |
    3 | hosts = []
      | ^^^^^
      = help: "hosts" belongs in [[tls.certificates]]

    gateway.toml:4:1: [[tls.certificates]] has no "key"
      |
    4 | [[tls.certificates]]
      | ^^^^^^^^^^^^^^^^^^^^
      = help: add the path of a PEM file with the private key

    gateway.toml:5:15: "a" is listed twice
      |
    5 | hosts = ["a", "A", "b:443"]
      |               ^^^
      = help: remove one of the two

    gateway.toml:5:20: "b:443" is not a host of a certificate
      |
    5 | hosts = ["a", "A", "b:443"]
      |                    ^^^^^^^
      = help: did you mean "b"?

    gateway.toml:6:8: "cert" is empty
      |
    6 | cert = ""
      |        ^^
      = help: write the path of a PEM file

    gateway.toml:7:1: [tls.client_auth] has no "ca"
      |
    7 | [tls.client_auth]
      | ^^^^^^^^^^^^^^^^^
      = help: add the path of a PEM file with the authorities that client certificates come from

    gateway.toml:8:8: unknown value "open"
      |
    8 | mode = "open"
      |        ^^^^^^
      = help: write "optional" or "required"

    gateway.toml:9:20: "Host" cannot be such a header
      |
    9 | headers = { Host = "subject", X-A = "subject", X_A = "serial", X-B = "dns", X-C = 1 }
      |                    ^^^^^^^^^
      = help: the gateway or HTTP itself gives this header another meaning; take a name such as "X-Client-Subject"

    gateway.toml:9:54: the header "x_a" is there already as "x-a"
      |
    9 | headers = { Host = "subject", X-A = "subject", X_A = "serial", X-B = "dns", X-C = 1 }
      |                                                      ^^^^^^^^
      = help: to many servers all names are the same that differ only in case, "-" and "_"

    gateway.toml:9:70: unknown value "dns"
      |
    9 | headers = { Host = "subject", X-A = "subject", X_A = "serial", X-B = "dns", X-C = 1 }
      |                                                                      ^^^^^
      = help: write "subject", "subject_cn", "san_dns", "san_email", "san_uri", "serial" or "fingerprint"

    gateway.toml:9:83: "X-C" must be a string, not an integer
      |
    9 | headers = { Host = "subject", X-A = "subject", X_A = "serial", X-B = "dns", X-C = 1 }
      |                                                                                   ^

    12 problems found
    "##);
}

#[test]
fn a_redirect_needs_tls_and_a_port_of_its_own() {
    let redirect =
        |text: &str| with(&format!("server.http_redirect = \"{text}\"\n{PAIR}")).server.http_redirect;
    assert_eq!(redirect(""), None);
    assert_eq!(redirect("127.0.0.1:80"), Some("127.0.0.1:80".parse().unwrap()));
    let told = |text: &str, more: &str| messages(&format!("server.http_redirect = \"{text}\"\n{more}"));
    assert_eq!(told("127.0.0.1:80", ""), ["1:24: \"http_redirect\" needs [tls]"]);
    assert!(parsed(&format!("server.http_redirect = \"\"\n{SMALLEST}")).is_ok());
    assert_eq!(told("127.0.0.1:8080", PAIR), ["1:24: \"127.0.0.1:8080\" is in \"listen\" too"]);
    assert_eq!(told("127.0.0.1:9911", PAIR), ["1:24: \"127.0.0.1:9911\" is the address of \"admin\" too"]);
}

#[test]
fn tls_of_an_upstream_is_read_and_fits_its_targets() {
    let upstream = |target: &str, tls: &str| {
        let lines = format!("tls = {tls}\ntargets");
        SMALLEST.replace("targets", &lines).replace("http://127.0.0.1:9000", target)
    };
    let all = "{ ca = \"ca.pem\", server_name = \"Billing.internal\", client_cert = \"c.pem\", client_key = \"/k.pem\" }";
    let config = parsed(&upstream("https://10.0.0.5", all)).unwrap();
    let expected = UpstreamTls {
        ca: Some("/etc/tollgate/ca.pem".into()),
        server_name: Some("billing.internal".to_owned()),
        client: Some(ClientCertificate { cert: "/etc/tollgate/c.pem".into(), key: "/k.pem".into() }),
    };
    assert_eq!(config.upstreams[0].tls, expected);
    assert_eq!(
        targets(&config.upstreams[0]),
        [Target::Https(Authority { host: "10.0.0.5".into(), port: 443 })]
    );
    for (target, tls, message) in [
        ("http://a", "{}", "\"tls\" is of no use here: no target begins with https://"),
        ("unix:/a", "{ ca = \"ca.pem\" }", "\"tls\" is of no use here: no target begins with https://"),
        ("https://a", "{ client_cert = \"c\" }", "\"client_cert\" is of no use without \"client_key\""),
        ("https://a", "{ client_key = \"k\" }", "\"client_key\" is of no use without \"client_cert\""),
        ("https://a", "{ server_name = \"*.a\" }", "\"*.a\" is not a host name"),
        ("https://a", "{ verify = false }", "unknown key \"verify\" in [upstreams.api.tls]"),
        ("https://a", "true", "\"tls\" must be a table, not a boolean"),
    ] {
        let failure = parsed(&upstream(target, tls)).unwrap_err();
        let [problem] = failure.problems() else { panic!("{failure}") };
        assert_eq!(problem.message, message);
        assert!(problem.hint.is_some(), "{failure}");
    }
}

fn targets(upstream: &Upstream) -> Vec<Target> {
    upstream.targets.iter().map(|one| one.target.clone()).collect()
}

/// The one upstream of the smallest file with these lines.
fn upstream_with(lines: &str) -> Result<Upstream, Failure> {
    parsed(&SMALLEST.replace("targets", &format!("{lines}\ntargets")))
        .map(|config| config.upstreams[0].clone())
}

#[test]
fn an_upstream_is_kept_available_without_being_told_how() {
    let upstream = upstream_with("").unwrap();
    let ejection = Ejection {
        failures: NonZeroU32::new(5),
        duration: Duration::from_secs(1),
        max_duration: Duration::from_mins(1),
        max_ejected_percent: 100,
        statuses: Vec::new(),
    };
    let expected = Availability {
        queue_timeout: Duration::from_secs(5),
        max_requests: None,
        retry_budget_percent: 10,
        slow_start: Duration::from_secs(10),
        resolve_interval: Duration::from_secs(30),
        health_check: None,
        ejection,
    };
    assert_eq!(upstream.availability, expected);
    assert_eq!(upstream.targets[0].weight.get(), 1);
}

#[test]
fn an_upstream_says_how_it_is_kept_available() {
    let text = r#"
balance = "hash"
hash_on = "cookie:sid"
queue_timeout = "1s"
max_requests = 7
retry_budget = "20%"
slow_start = "0s"
resolve_interval = "5s"
health_check = { path = "/up", interval = "1s", timeout = "500ms", healthy = 1, unhealthy = 4, expect = "200-399", host = "app.internal", fail_open = true }
ejection = { failures = 0, duration = "2s", max_duration = "1s", max_ejected = "50%", statuses = [502, 503] }
"#;
    let upstream = upstream_with(text).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(upstream.balance, Balance::Hash(HashKey::Cookie("sid".into())));
    let availability = upstream.availability;
    assert_eq!(availability.max_requests.map(NonZeroUsize::get), Some(7));
    assert_eq!((availability.retry_budget_percent, availability.slow_start), (20, Duration::ZERO));
    let check = availability.health_check.unwrap();
    assert_eq!((check.path.as_str(), check.host.as_deref()), ("/up", Some("app.internal")));
    assert_eq!((check.healthy.get(), check.unhealthy.get(), check.expect), (1, 4, (200, 399)));
    assert!(check.fail_open);
    let ejection = availability.ejection;
    assert_eq!((ejection.failures, ejection.max_ejected_percent), (None, 50));
    // The longest is never shorter than the first one.
    assert_eq!(ejection.max_duration, Duration::from_secs(2));
    assert_eq!(ejection.statuses, [502, 503]);
    // A check names the host that requests name.
    let fixed = upstream_with("host_header = \"a.internal\"\nhealth_check.path = \"/\"").unwrap();
    assert_eq!(fixed.availability.health_check.unwrap().host.as_deref(), Some("a.internal"));
}

#[test]
fn targets_have_weights() {
    let text = SMALLEST.replace(
        "targets = [\"http://127.0.0.1:9000\"]",
        "targets = [\"http://a\", { url = \"http://b:81\", weight = 3 }, { url = \"unix:/c\" }]",
    );
    let config = parsed(&text).unwrap_or_else(|failure| panic!("{failure}"));
    let seen: Vec<_> =
        config.upstreams[0].targets.iter().map(|one| (one.target.to_string(), one.weight.get())).collect();
    let expected = [("http://a:80", 1), ("http://b:81", 3), ("unix:/c", 1)];
    assert_eq!(seen, expected.map(|(url, weight)| (url.to_owned(), weight)));
}

#[test]
fn what_keeps_an_upstream_available_is_checked() {
    for (lines, message, hint) in [
        ("balance = \"hash\"", "[upstreams.api] has no \"hash_on\"", "add hash_on = \"user\""),
        ("health_check = {}", "[upstreams.api.health_check] has no \"path\"", "add path"),
        ("health_check = { path = \"x\" }", "\"x\" is not a path", "begins with"),
        (
            "health_check = { path = \"/\", expect = \"2xx\" }",
            "\"2xx\" is not a range of statuses",
            "200-399",
        ),
        (
            "health_check = { path = \"/\", intervall = \"1s\" }",
            "unknown key \"intervall\" in [upstreams.api.health_check]",
            "did you mean \"interval\"?",
        ),
        ("retry_budget = \"10\"", "\"10\" is not a share", "did you mean \"10%\"?"),
        ("ejection = { statuses = [200] }", "\"statuses\" must be integers from 400 to 599", ""),
        ("max_requests = 0", "\"max_requests\" must be from 1 to 1000000", ""),
        ("queue_timeout = \"0s\"", "a duration of zero", "switched off"),
    ] {
        let failure = upstream_with(lines).unwrap_err();
        let [problem] = failure.problems() else { panic!("{failure}") };
        assert_eq!(problem.message, message, "{failure}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{failure}");
    }
    let text =
        SMALLEST.replace("[\"http://127.0.0.1:9000\"]", "[{ weight = 0 }, { url = \"a\", wieght = 1 }, 5]");
    let failure = parsed(&text).unwrap_err();
    let messages: Vec<&str> = failure.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages.len(), 5, "{failure}");
}

#[test]
fn every_key_of_the_contract_has_its_meaning() {
    let directory = Directory::new(&[("keys/2026-11.pem", b"PEM")]);
    // Its route compares a claim with a parameter that its path does not have.
    let contract = CONTRACT.replace("\"/billing/invoices\"", "\"/billing/invoices/{id}\"");
    let config = parse(&contract, "gateway.toml", &directory.0, &environment());
    let config = config.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((config.routes.len(), config.tests.len()), (1, 1));
}

#[test]
fn unbuilt_keys_and_values_outside_the_example_are_refused_by_name() {
    let failure = parsed(&format!("server.admin = \"unix:/x\"\n{SMALLEST}")).unwrap_err();
    let [problem] = failure.problems() else { panic!("{failure}") };
    assert_eq!(problem.message, "\"unix:\" is not supported in this version");
}

/// `[limits.a]` with these lines, and `limit` of the route.
fn limited(lines: &str, limit: &str) -> String {
    format!("[limits.a]\n{lines}\n[limits.b]\nkey = 'ip'\nrate = '1/m'\n{SMALLEST}limit = {limit}\n")
}

#[test]
fn a_limit_has_its_burst_in_the_shortest_rate() {
    let config = parsed(&limited("key = 'user'\nrate = ['9/d', '8/s', '7/h']\nburst = 20", "['b', 'a']"));
    let config = config.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(config.routes[0].limits, [1, 0]);
    let rates: Vec<_> =
        config.limits[0].rates.iter().map(|rate| (rate.count.get(), rate.burst.get())).collect();
    assert_eq!(rates, [(8, 20), (7, 7), (9, 9)]);
    assert_eq!(config.tokens.limits, [2]);
}

#[test]
fn limits_that_nobody_could_keep_are_refused_with_their_place() {
    let (key, rate) = ("key = 'user'", "rate = '1/s'");
    for (lines, limit, expected) in [
        (format!("{key}\nrate = '0/s'"), "'a'", "3:8: a rate of zero"),
        (format!("{key}\nrate = '-1/s'"), "'a'", "3:8: \"-1/s\" is not a rate"),
        (format!("{key}\nrate = '1/w'"), "'a'", "3:8: \"1/w\" is not a rate"),
        (format!("{key}\nrate = '5'"), "'a'", "3:8: \"5\" has no unit"),
        (format!("{key}\nrate = 5"), "'a'", "3:8: \"rate\" must be a string, not an integer"),
        (format!("{key}\nrate = []"), "'a'", "3:8: \"rate\" is an empty list"),
        (format!("{key}\nrate = ['1/s', '2/s']"), "'a'", "3:16: two rates for each second"),
        (format!("{key}\nrate = '1000000001/s'"), "'a'", "3:8: \"1000000001/s\" is too high"),
        (key.to_owned(), "'a'", "1:1: [limits.a] has no \"rate\""),
        (rate.to_owned(), "'a'", "1:1: [limits.a] has no \"key\""),
        (format!("key = 'usr'\n{rate}"), "'a'", "2:7: unknown value \"usr\""),
        (format!("key = 'header:'\n{rate}"), "'a'", "2:7: \"\" is not the name of a header field"),
        (format!("key = 'header:a b'\n{rate}"), "'a'", "2:7: \"a b\" is not the name of a header field"),
        (
            format!("key = 'header:X-Forwarded-For'\n{rate}"),
            "'a'",
            "2:7: \"X-Forwarded-For\" says what its sender wants it to",
        ),
        (format!("key = 'cookie:x'\n{rate}"), "'a'", "2:7: \"cookie:\" is not supported in this version"),
        (format!("{key}\n{rate}\nburst = 0"), "'a'", "4:9: \"burst\" must be from 1 to 1000000000"),
        (format!("{key}\n{rate}\nburst = -1"), "'a'", "4:9: \"burst\" must be from 1 to 1000000000"),
        (
            format!("{key}\nrate = '1/d'\nburst = 367"),
            "'a'",
            "4:9: this burst takes longer than \"366d\" to come back",
        ),
        (format!("{key}\n{rate}\nscope = 'all'"), "'a'", "4:9: unknown value \"all\""),
        (
            format!("{key}\n{rate}\nscope = 'cluster'"),
            "'a'",
            "4:9: there is no [limits_store] to count through",
        ),
        (format!("{key}\n{rate}\nrates = 1"), "'a'", "4:1: unknown key \"rates\" in [limits.a]"),
        (format!("{key}\n{rate}"), "'c'", "15:9: no limit is named \"c\""),
        (format!("{key}\n{rate}"), "''", "15:9: no limit is named \"\""),
        (format!("{key}\n{rate}"), "['a', 'a']", "15:15: \"a\" is listed twice"),
        (format!("{key}\n{rate}"), "[]", "15:9: \"limit\" is an empty list"),
        (format!("{key}\n{rate}"), "5", "15:9: \"limit\" must be a string, not an integer"),
    ] {
        let failure = parsed(&limited(&lines, limit)).unwrap_err();
        let [problem] = failure.problems() else { panic!("{lines}: {failure}") };
        let told = format!("{}:{}: {}", problem.line, problem.column, problem.message);
        assert_eq!(told, expected);
        assert!(problem.hint.is_some() || expected.contains("burst"), "{failure}");
    }
    assert!(told("tokens.limit = 'none'").contains("no limit is named \"none\""));
    for (store, expected) in [
        ("", "[limits_store] has no \"url\""),
        ("url = 'http://hunter2@a'", "not the URL of a Redis or Valkey server"),
        ("url = 'redis://:hunter2@a?x=1'", "the URL of the limits store has parameters"),
        ("url = 'redis://a'\nca = 'b'", "\"ca\" is for TLS"),
        ("url = 'redis://a'\nurl_env = 'B'", "the database has both \"url\" and \"url_env\""),
    ] {
        let told = told(&format!("[limits_store]\n{store}"));
        assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
    }
    assert!(told("[limits.'a b']\nkey = 'ip'\nrate = '1/s'").contains("\"a b\" is not a name"));
    let many: Vec<String> = "abc"
        .chars()
        .map(|name| format!("[limits.{name}]\nkey = 'ip'\nrate = ['1/s', '1/m', '1/h']"))
        .collect();
    let text = format!("tokens.limit = ['a', 'b', 'c']\n{}", many.join("\n"));
    assert!(told(&text).contains("these limits have 9 rates together"));
}

#[test]
fn rates_of_requests_that_are_nearly_right_are_put_right() {
    for (text, meant) in [
        ("100/sec", "100/s"),
        ("5/min", "5/m"),
        ("10r/s", "10/s"),
        ("10 per hour", "10/h"),
        ("10 / Day", "10/d"),
        ("60req/m", "60/m"),
    ] {
        let hint = units::requests(text).unwrap_err().hint.unwrap();
        assert_eq!(hint, format!("did you mean \"{meant}\"?"), "{text}");
    }
    for text in ["", "/s", "1/ms", "1.5/s", "10/2s", "10/", "100 s"] {
        assert!(units::requests(text).unwrap_err().hint.unwrap().starts_with("a rate is"), "{text}");
    }
}

#[test]
fn the_limit_of_the_token_routes_can_be_named_replaced_and_switched_off() {
    assert!(with("tokens.limit = ''").tokens.limits.is_empty());
    assert!(with("tokens.limit = ''").limits.is_empty());
    let named = with("tokens.limit = 'token-routes'");
    assert_eq!((named.limits.len(), named.tokens.limits.as_slice()), (1, &[0][..]));
    let replaced = with("[limits.token-routes]\nkey = 'ip'\nrate = '5/m'");
    assert_eq!((replaced.limits.len(), replaced.limits[0].rates[0].count.get()), (1, 5));
    assert_eq!(replaced.tokens.limits, [0]);
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Err(failure) = parsed(&text) {
            prop_assert!(!failure.to_string().is_empty());
        }
    }

    #[test]
    fn no_damaged_file_panics(at in 0_usize..CONTRACT.len(), length in 0_usize..40, new in "[\\[\\]{}\"'=\\n.a0-]{0,4}|\\PC{0,4}") {
        let mut text = CONTRACT.to_owned();
        let end = (at + length).min(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(end) {
            text.replace_range(at..end, &new);
        }
        if let Err(failure) = parsed(&text) {
            prop_assert!(failure.to_string().ends_with(" found"));
            for problem in failure.problems() {
                prop_assert!(problem.line >= 1 && problem.column >= 1);
            }
        }
    }
}

/// The example of the product's contract, in full.
const CONTRACT: &str = r#"[server]
listen          = ["127.0.0.1:8080"]          # "host:port", or "unix:/run/tollgate.sock"
http_redirect   = ""                          # "0.0.0.0:80": answers 308 to https
admin           = "127.0.0.1:9911"            # /healthz /readyz /metrics and what follows; "" = off
trusted_proxies = []                          # CIDRs whose X-Forwarded-* and PROXY protocol are believed
workers         = "auto"                      # one per core
drain_timeout   = "30s"

[server.limits]                               # every limit has a safe default
max_connections  = 20000
max_header_bytes = "32KiB"
max_headers      = 100
max_body         = "16MiB"                    # per route too; 0 = no limit
header_timeout   = "10s"
body_timeout     = "30s"                      # between two reads of a request body
min_rate         = "128B/s"                   # of a body sent or a response read, over 10 s: slower ones are ended
idle_timeout     = "75s"                      # between requests, and for a connection that says nothing

[tls]                                         # present = TLS on `listen`
min_version = "1.2"
[[tls.certificates]]                          # chosen by SNI; watched and reloaded
hosts = ["api.example.com", "*.example.com"]
cert  = "tls/fullchain.pem"
key   = "tls/key.pem"
[tls.client_auth]                             # mutual TLS
ca   = "tls/clients.pem"
mode = "optional"                             # optional | required

[store]                                       # users, sessions, revocations, lockouts
url = "sqlite://data/tollgate.db"             # made on first start; later also postgres://

[tokens]
issuer           = ""                         # set = written as iss and required
audience         = []                         # set = written as aud and one of them required
access_lifetime  = "30m"
refresh_lifetime = "1d"
session_lifetime = "0s"                       # absolute end of a session however often it is refreshed; 0 = none
rotate_refresh   = false
reuse_grace      = "30s"                      # with rotation: a retried refresh gets the same successor
leeway           = "0s"
user_id_claim    = "user_id"
claims           = []                         # user fields copied into the access token: "email", "groups", …
path             = "/api/token"               # prefix of the token routes
realm            = "api"
[[tokens.keys]]                               # the first one signs, all verify; none = an EdDSA key is made in data/keys/
kid  = "2026-11"
alg  = "EdDSA"                                # EdDSA ES256 ES384 RS256/384/512 PS256/384/512 HS256/384/512
file = "keys/2026-11.pem"                     # or secret / secret_file / secret_env for HS*
# verify_until = 2026-12-15T00:00:00Z         # a retiring key

[users]
source = "store"                              # store | file | django (others come later)
[users.file]
path = "users.toml"                           # or an htpasswd file; watched
[users.django]                                # read only: the login of an existing Django application
url   = "sqlite://srv/app/db.sqlite3"         # or postgres://, mysql://
table = "auth_user"                           # username_column, id_column, groups from auth_user_groups
hashers = ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "scrypt"]
[users.hashing]                               # argon2id, for new passwords and upgrades
memory     = "19MiB"
iterations = 2
max_memory = "256MiB"                         # budget: how many hashes run at once
max_queue  = 256                              # beyond it: 503 and Retry-After
[users.lockout]
attempts = 10
window   = "10m"
duration = "10m"

[upstreams.billing]
targets  = ["http://10.0.0.5:9000", "https://10.0.0.6:9000"]  # http:// https:// h2c:// unix:
balance  = "least_request"                    # least_request (power of two choices) | round_robin | hash
hash_on  = "user"                             # for hash: user | ip | header:NAME | cookie:NAME
connect_timeout  = "5s"
response_timeout = "60s"                      # to the response head; a stream may last longer
idle_timeout     = "60s"
max_connections  = 512                        # per target
max_queue        = 1024
retries          = 1                          # only where nothing was sent or the method is idempotent
host_header      = "preserve"                 # preserve | target | "name"
identity         = "default"                  # preset, see section 5
health_check = { path = "/health", interval = "5s", timeout = "2s", healthy = 2, unhealthy = 3 }
tls = { ca = "ca.pem", server_name = "billing.internal", client_cert = "c.pem", client_key = "k.pem" }

[[routes]]
name     = "invoices"
host     = "api.example.com"                  # exact, "*.example.com", or left out
path     = "/billing/invoices"                # prefix in whole segments; "=/x" exact; "/users/{id}" one segment
methods  = ["GET", "POST"]                    # left out = any
auth     = "required"                         # required | optional | public; no default
allow    = { groups = ["finance", "admin"], scopes = ["invoices"], claims = { tenant = "acme" }, match = { user_id = "{id}" } }
upstream = "billing"
strip_prefix = "/billing"
max_body = "64MiB"
timeout  = "10s"
accept   = []                                 # "encoded_slash", "semicolon", "empty_segment": see section 6
limit    = "per-user"                         # names a [limits.*]
enforce  = "enforce"                          # enforce | report: count what would be refused, let it pass
cors     = { origins = ["https://app.example.com"], credentials = true }
request_headers  = { set = { "X-Env" = "prod" }, remove = ["X-Debug"] }
response_headers = { set = {}, remove = ["Server"] }

[limits.per-user]
key  = "user"                                 # user | ip | header:NAME
rate = ["100/s", "10000/h"]
burst = 50

[log]
level  = "info"
format = "json"                               # json | pretty
access = true

[[tests]]                                     # run by `tollgate check`
request = "GET https://api.example.com/billing/invoices/7"
as      = { user = "alice", groups = ["finance"] }
expect  = { route = "invoices", status = 200, upstream_path = "/invoices/7" }
"#;
