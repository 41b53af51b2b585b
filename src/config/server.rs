//! `[server]`, `[server.limits]` and `[log]`.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::address;
use super::complaint::{Complaint, choose, quoted};
use super::kind::Kind;
use super::otlp::otlp;
use super::reader::{Located, Table, values};
use super::secrets;
use super::units;
use super::{Limits, Log, LogFormat, LogLevel, Otlp, Server};
use crate::base::secret::Secret;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9911);
const MAX_WORKERS: u32 = 1024;
/// The shortest token of the admin page, in bytes: 128 bits in hexadecimal digits.
const MIN_ADMIN_TOKEN_BYTES: usize = 32;
/// The largest count of connections that a setting may state.
pub(super) const MAX_CONNECTIONS: u32 = 1_000_000;

/// Reads `[server]`.
pub(super) fn server(root: &mut Table<'_>) -> Server {
    let has_tls = root.has("tls");
    let mut table = root.table("server");
    let listen = listen(&mut table);
    let admin = one_address(
        &mut table,
        "admin",
        Some(DEFAULT_ADMIN),
        &listen,
        "give health and readiness a port of their own, or \"\" for none",
    );
    let admin_token = admin_token(&mut table);
    let admin_hosts = table.list("admin_hosts", admin_host);
    let http_redirect = http_redirect(&mut table, &listen, admin, has_tls);
    let trusted_proxies = table.list("trusted_proxies", address::network);
    let workers = workers(&mut table);
    let drain_timeout = table.parsed("drain_timeout", Kind::Duration, units::duration);
    let watch_config = table.boolean("watch_config");
    let limits = limits(&mut table);
    table.finish();
    Server {
        listen,
        http_redirect,
        admin,
        admin_token,
        admin_hosts: values(admin_hosts.unwrap_or_default()),
        trusted_proxies: values(trusted_proxies.unwrap_or_default()),
        workers,
        drain_timeout: drain_timeout.unwrap_or(Duration::from_secs(30)),
        watch_config: watch_config.unwrap_or(true),
        limits,
    }
}

/// Reads `[log]`.
pub(super) fn log(root: &mut Table<'_>) -> (Log, Option<Otlp>) {
    let mut table = root.table("log");
    let level = table.parsed("level", Kind::Text, |text| {
        choose(
            text,
            &[
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ],
        )
    });
    let format = table.parsed("format", Kind::Text, |text| {
        choose(text, &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)])
    });
    let access = table.boolean("access");
    let server_timing = table.boolean("server_timing");
    let otlp = otlp(&mut table);
    table.finish();
    let log = Log {
        level: level.unwrap_or(LogLevel::Info),
        format: format.unwrap_or(LogFormat::Json),
        access: access.unwrap_or(true),
        server_timing: server_timing.unwrap_or(false),
    };
    (log, otlp)
}

fn listen(table: &mut Table<'_>) -> Vec<SocketAddr> {
    let hint = "name at least one address, such as \"127.0.0.1:8080\"";
    let Some(list) = table.filled_list("listen", hint, address::listen) else { return vec![DEFAULT_LISTEN] };
    let mut addresses = Vec::with_capacity(list.len());
    for Located { value, span } in list {
        if value.port() != 0 && addresses.contains(&value) {
            let complaint =
                Complaint::new(format!("\"{value}\" is listed twice")).hint("remove one of the two");
            table.reader.report(&span, complaint);
        }
        addresses.push(value);
    }
    addresses
}

/// An address that is none of `listen`; `""` is none at all.
fn one_address(
    table: &mut Table<'_>,
    key: &'static str,
    default: Option<SocketAddr>,
    listen: &[SocketAddr],
    hint: &str,
) -> Option<SocketAddr> {
    let given = table.located(key, Kind::Text, |text| {
        if text.is_empty() { Ok(None) } else { address::listen(text).map(Some) }
    });
    let Some(Located { value, span }) = given else { return default };
    if let Some(address) = value.filter(|address| address.port() != 0 && listen.contains(address)) {
        let complaint = Complaint::new(format!("\"{address}\" is in \"listen\" too"));
        table.reader.report(&span, complaint.hint(hint));
    }
    value
}

/// The token of the admin page, long enough that nobody guesses it.
fn admin_token(table: &mut Table<'_>) -> Option<Secret> {
    let token = secrets::file_or_variable(table, "admin_token_file", "admin_token_env")?;
    let printable = token.value.expose().iter().all(u8::is_ascii_graphic);
    if printable && token.value.len() >= MIN_ADMIN_TOKEN_BYTES {
        return Some(token.value);
    }
    let message = format!(
        "the admin token is not at least {MIN_ADMIN_TOKEN_BYTES} letters, digits and signs without blanks"
    );
    table
        .reader
        .report(&token.span, Complaint::new(message).hint("\"openssl rand -hex 32\" makes a good one"));
    None
}

fn admin_host(text: &str) -> Result<String, Complaint> {
    address::as_host_name(text).ok_or_else(|| {
        Complaint::new(format!("{} is not a host name", quoted(text)))
            .hint("write the name in the browser's address, without scheme and port")
    })
}

fn http_redirect(
    table: &mut Table<'_>,
    listen: &[SocketAddr],
    admin: Option<SocketAddr>,
    has_tls: bool,
) -> Option<SocketAddr> {
    let hint = "plain HTTP needs a port of its own, such as \"0.0.0.0:80\", or \"\" for none";
    let address = one_address(table, "http_redirect", None, listen, hint)?;
    let span = table.value("http_redirect")?.span();
    if admin == Some(address) && address.port() != 0 {
        let complaint = Complaint::new(format!("\"{address}\" is the address of \"admin\" too"));
        table.reader.report(&span, complaint.hint(hint));
    }
    if !has_tls {
        let complaint = Complaint::new("\"http_redirect\" needs [tls]");
        let hint =
            "add [tls] with a certificate, or \"\" here: there is no HTTPS that clients could be sent to";
        table.reader.report(&span, complaint.hint(hint));
    }
    Some(address)
}

fn workers(table: &mut Table<'_>) -> NonZeroUsize {
    let given: Option<NonZeroUsize> =
        if table.value("workers").is_some_and(|value| value.get_ref().is_integer()) {
            table.integer("workers", 1..=MAX_WORKERS).and_then(|count: u16| NonZeroUsize::new(count.into()))
        } else {
            table.parsed("workers", Kind::Workers, |text| match text {
                "auto" => Ok(()),
                _ => Err(Complaint::new(format!("unknown value {}", quoted(text))).hint(format!(
                    "write \"auto\" for one per core, or a number from 1 to {MAX_WORKERS} without quotes"
                ))),
            });
            None
        };
    let one_per_core = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    given.unwrap_or_else(one_per_core)
}

fn limits(server: &mut Table<'_>) -> Limits {
    let mut table = server.table("limits");
    let max_connections = table.integer::<u32>("max_connections", 1..=MAX_CONNECTIONS);
    let per_network = table.integer::<u32>("max_connections_per_network", 0..=MAX_CONNECTIONS);
    let max_header_bytes = table.parsed("max_header_bytes", Kind::Size, header_bytes);
    let max_headers = table.integer::<u32>("max_headers", 1..=1000);
    let max_body = table.parsed_or_zero("max_body", Kind::Size, units::size_limit);
    let mut duration = |key| table.parsed(key, Kind::Duration, units::duration);
    let header_timeout = duration("header_timeout").unwrap_or(Duration::from_secs(10));
    let body_timeout = duration("body_timeout").unwrap_or(Duration::from_secs(30));
    let idle_timeout = duration("idle_timeout").unwrap_or(Duration::from_secs(75));
    let min_rate = table.parsed_or_zero("min_rate", Kind::Rate, units::rate);
    table.finish();
    Limits {
        max_connections: non_zero(max_connections.unwrap_or(20_000)),
        max_connections_per_network: NonZeroUsize::new(usize_from(per_network.unwrap_or(10_000))),
        max_header_bytes: max_header_bytes.unwrap_or(32 * 1024),
        max_headers: usize_from(max_headers.unwrap_or(100)),
        max_body: max_body.unwrap_or(NonZeroU64::new(16 * 1024 * 1024)),
        header_timeout,
        body_timeout,
        min_rate: min_rate.unwrap_or(128),
        idle_timeout,
    }
}

fn header_bytes(text: &str) -> Result<usize, Complaint> {
    let bytes = units::size(text)?.get();
    usize::try_from(bytes).ok().filter(|bytes| (8 * 1024..=1024 * 1024).contains(bytes)).ok_or_else(|| {
        Complaint::new(format!("{} is out of range", quoted(text)))
            .hint("a request's head may be limited to between \"8KiB\" and \"1MiB\"")
    })
}

/// A count that the reader has checked to be at least 1.
pub(super) fn non_zero(count: u32) -> NonZeroUsize {
    NonZeroUsize::new(usize_from(count)).unwrap_or(NonZeroUsize::MIN)
}

/// A count as the standard library wants it. No count of this crate is beyond 32 bits.
pub(super) fn usize_from(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
