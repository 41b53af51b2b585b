//! `[upstreams.*]`.

use std::time::Duration;

use super::address;
use super::availability::{self, WeightedTarget};
use super::complaint::{Complaint, quoted};
use super::identity::identity;
use super::kind::Kind;
use super::reader::{Located, Table};
use super::server::{MAX_CONNECTIONS, non_zero, usize_from};
use super::units;
use super::{ClientCertificate, HostHeader, Tls, Tokens, Upstream, UpstreamTls};

/// Reads every upstream, in the order of the names. One with a problem is in the list all the same, for the sake
/// of the routes that name it.
pub(super) fn upstreams(root: &mut Table<'_>, tokens: &Tokens, tls: Option<&Tls>) -> Vec<Upstream> {
    let tables = root.named_tables("upstreams").into_iter();
    tables.map(|(name, table)| upstream(name, table, tokens, tls)).collect()
}

/// Whether a text can be the name of an upstream or a route, which stands in logs and metrics.
pub(super) fn check_name(name: &str) -> Result<String, Complaint> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !name.is_empty() && name.bytes().all(sound) {
        return Ok(name.to_owned());
    }
    Err(Complaint::new(format!("{} is not a name", quoted(name)))
        .hint("a name has letters, digits, \"_\", \".\" and \"-\""))
}

fn upstream(
    name: Located<String>,
    mut table: Table<'_>,
    tokens: &Tokens,
    client_tls: Option<&Tls>,
) -> Upstream {
    table.reader.accept(&name.span, check_name(&name.value));
    let targets = availability::targets(&mut table);
    let balance = availability::balance(&mut table);
    let mut duration = |key| table.parsed(key, Kind::Duration, units::duration);
    let connect_timeout = duration("connect_timeout").unwrap_or(Duration::from_secs(5));
    let response_timeout = duration("response_timeout").unwrap_or(Duration::from_mins(1));
    let idle_timeout = duration("idle_timeout").unwrap_or(Duration::from_mins(1));
    let max_connections = table.integer("max_connections", 1..=MAX_CONNECTIONS);
    let max_queue = table.integer("max_queue", 0..=MAX_CONNECTIONS);
    let retries = table.integer("retries", 0..=10);
    let host_header = table.parsed("host_header", Kind::Text, address::host_header);
    let identity = identity(&mut table, &name.value, tokens, client_tls);
    let availability = availability::availability(&mut table, host_header.as_ref());
    let tls = tls(&mut table, &targets);
    table.finish();
    Upstream {
        name: name.value,
        targets,
        balance,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_connections: non_zero(max_connections.unwrap_or(512)),
        max_queue: usize_from(max_queue.unwrap_or(1024)),
        retries: retries.unwrap_or(1),
        host_header: host_header.unwrap_or(HostHeader::Preserve),
        identity,
        tls,
        availability,
    }
}

/// `tls`, which says something about targets that are reached over TLS only.
fn tls(upstream: &mut Table<'_>, targets: &[WeightedTarget]) -> UpstreamTls {
    let place = upstream.key_span("tls");
    let mut table = upstream.table("tls");
    let reader = table.reader;
    let mut file = |key| table.text(key).map(|path| reader.resolve(&path.value));
    let (ca, cert, key) = (file("ca"), file("client_cert"), file("client_key"));
    let server_name = table.parsed("server_name", Kind::Text, address::server_name);
    if let Some(place) = place {
        if !targets.is_empty() && !targets.iter().any(|one| one.target.is_tls()) {
            let complaint = Complaint::new("\"tls\" is of no use here: no target begins with https://");
            reader.report(
                &place,
                complaint.hint("write \"https://\" in front of the targets, or remove \"tls\""),
            );
        }
        for (one, other) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
            if let Some(place) = table.key_span(one).filter(|_| !table.has(other)) {
                let complaint = Complaint::new(format!("\"{one}\" is of no use without \"{other}\""));
                reader.report(&place, complaint.hint("name both files, or neither"));
            }
        }
    }
    table.finish();
    let client = cert.zip(key).map(|(cert, key)| ClientCertificate { cert, key });
    UpstreamTls { ca, server_name, client }
}
