//! Looks at a configuration as a careful operator would.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::entropy;
use super::findings::{Code, Finding};
use crate::base::path;
use crate::base::pattern::{HostPattern, PathEnd, PathPattern, Segment};
use crate::config::{Auth, Config, Enforce, KeyMaterial, OriginPattern, Origins, Route};
use crate::endpoints::Endpoint;
use crate::keys::KeyRing;
use crate::net::tls::Certificate;

/// Everything that is to be said about keys.
pub(super) fn keys(config: &Config, ring: Option<&KeyRing>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in &config.tokens.keys {
        let KeyMaterial::Secret(secret) = &key.material else { continue };
        let bits = entropy::bits(secret.expose());
        if bits < entropy::FEWEST_BITS {
            findings.push(Finding::new(
                Code::WeakSecret,
                &key.kid,
                format!("the secret of key \"{}\" can be guessed: it has at most {bits} bits of chance", key.kid),
                "whoever guesses it makes tokens for everybody; \"tollgate key generate --alg HS256\" makes a good one",
            ));
        }
    }
    if let Some(secret) = &config.tokens.key_encryption_key {
        let bits = entropy::bits(secret.expose());
        if bits < entropy::FEWEST_BITS {
            findings.push(Finding::new(
                Code::WeakSecret,
                "key_encryption_key",
                format!("the key-encryption key can be guessed: it has at most {bits} bits of chance"),
                "whoever has the store guesses it, and with it all keys; \"openssl rand -base64 48\" makes a good one",
            ));
        }
    }
    for key in ring.into_iter().flat_map(KeyRing::keys).filter(|key| key.is_exposed()) {
        findings.push(Finding::new(
            Code::ExposedKey,
            key.kid(),
            format!("everybody on this machine may read the private key \"{}\"", key.kid()),
            "chmod 600 its file, and change the key if others have accounts here",
        ));
    }
    findings
}

/// Everything that is to be said about routes.
pub(super) fn routes(config: &Config, certificates: &[Arc<Certificate>]) -> Vec<Finding> {
    config.routes.iter().flat_map(|route| of_route(config, certificates, route)).collect()
}

fn of_route(config: &Config, certificates: &[Arc<Certificate>], route: &Route) -> Vec<Finding> {
    let name = &route.name;
    let mut findings = Vec::new();
    if route.auth == Auth::Public {
        findings.push(Finding::new(
            Code::PublicRoute,
            name,
            format!("route \"{name}\" is for everybody: {}", route.path),
            "if it is meant to be, ignore this for this route",
        ));
    }
    if route.policy.enforce == Enforce::Report {
        findings.push(Finding::new(
            Code::ReportOnly,
            name,
            format!("route \"{name}\" refuses nobody, it only reports"),
            "remove enforce = \"report\" once the log tells of nobody any more",
        ));
    }
    if route.auth == Auth::Optional && route.policy.deny.is_some() && route.policy.allow.is_none() {
        findings.push(Finding::new(
            Code::DenyOptional,
            name,
            format!("whoever route \"{name}\" denies passes without a token"),
            "write auth = \"required\", or remove \"deny\"",
        ));
    }
    if let Some(origins) = wildcard_with_credentials(route) {
        findings.push(Finding::new(
            Code::CorsWildcard,
            name,
            format!("scripts of every host of {origins} may use route \"{name}\" with credentials"),
            "name the origins: whoever takes over one of these hosts acts for everybody who is logged in",
        ));
    }
    if let Some(why) = never_reached(config, certificates, route) {
        let help = "change its path or its host, or remove it";
        let message = format!("no request takes route \"{name}\": {why}");
        findings.push(Finding::new(Code::RouteNeverReached, name, message, help));
    }
    findings
}

/// The origins with a wildcard whose scripts send credentials along. The wildcard for all origins and credentials exclude each
/// other in the configuration already.
fn wildcard_with_credentials(route: &Route) -> Option<String> {
    let cors = route.cors.as_ref().filter(|cors| cors.credentials)?;
    let Origins::Only(origins) = &cors.origins else { return None };
    origins.iter().find_map(|origin| match origin {
        OriginPattern::Exact(_) => None,
        OriginPattern::Suffix { scheme, rest } => Some(format!("{scheme}*{rest}")),
    })
}

/// Why no request can take a route.
fn never_reached(config: &Config, certificates: &[Arc<Certificate>], route: &Route) -> Option<String> {
    let literal = literal_path(&route.path);
    if let Some(endpoint) = literal.and_then(|path| Endpoint::at(&config.tokens.path, &path)) {
        return Some(format!(
            "its path is that of the token route \"{}\", which goes first",
            endpoint.name()
        ));
    }
    let HostPattern::Exact(host) = &route.host else { return None };
    let covered = certificates.is_empty() || certificates.iter().any(|certificate| certificate.covers(host));
    (!covered).then(|| format!("no certificate is for {host}, so clients refuse the connection"))
}

/// The one path of a pattern, where it has only one.
fn literal_path(pattern: &PathPattern) -> Option<String> {
    if pattern.end == PathEnd::Prefix {
        return None;
    }
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Some(format!("/{}", path::escaped(text))),
        Segment::Parameter(_) => None,
    };
    let segments: Option<String> = pattern.segments.iter().map(segment).collect();
    segments.map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

/// Everything that is to be said about limits and upstreams that nobody names.
pub(super) fn unused(config: &Config) -> Vec<Finding> {
    let limits = config.limits.iter().enumerate().filter(|(index, _)| {
        !config.tokens.limits.contains(index)
            && !config.routes.iter().any(|route| route.limits.contains(index))
    });
    let limits = limits.map(|(_, limit)| {
        let message = format!("limit \"{}\" limits nothing: no route names it", limit.name);
        Finding::new(Code::LimitUnused, &limit.name, message, "name it in \"limit\" of a route, or remove it")
    });
    let upstreams = config.upstreams.iter().enumerate();
    let upstreams = upstreams
        .filter(|(index, _)| !config.routes.iter().any(|route| route.action.upstream() == Some(*index)));
    let upstreams = upstreams.map(|(_, upstream)| {
        let message = format!("nothing goes to upstream \"{}\": no route names it", upstream.name);
        Finding::new(Code::UpstreamUnused, &upstream.name, message, "name it in a route, or remove it")
    });
    limits.chain(upstreams).collect()
}

/// Everything that is to be said about who reaches the listeners.
pub(super) fn listeners(config: &Config) -> Vec<Finding> {
    let server = &config.server;
    let mut findings = Vec::new();
    if let Some(admin) = server.admin.filter(is_reached_by_others) {
        findings.push(Finding::new(
            Code::AdminExposed,
            admin.to_string(),
            format!("other machines reach the admin listener on {admin}, which asks for no password"),
            "write admin = \"127.0.0.1:9911\", or see that only those who may reach it",
        ));
    }
    // Behind a proxy that is trusted, TLS is usually ended there.
    if config.tls.is_none() && server.trusted_proxies.is_empty() {
        for listen in server.listen.iter().filter(|address| is_reached_by_others(address)) {
            findings.push(Finding::new(
                Code::PlainHttp,
                listen.to_string(),
                format!("passwords and tokens come to {listen} in the clear"),
                "add [tls], or name the proxy in front that ends TLS in server.trusted_proxies",
            ));
        }
    }
    for network in server.trusted_proxies.iter().filter(|network| network.prefix_bits == 0) {
        let subject = format!("{}/0", network.address);
        findings.push(Finding::new(
            Code::TrustsEverybody,
            &subject,
            format!("everybody is a trusted proxy ({subject}), so every client says which address it has"),
            "name the networks of your proxies only",
        ));
    }
    findings
}

/// Whether an address is more than this machine's own.
fn is_reached_by_others(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback(),
    }
}
