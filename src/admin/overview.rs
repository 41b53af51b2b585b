//! What the page shows, as JSON: the configuration's routes and upstreams with what is counted of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::Admin;
use crate::base::pattern::{HostPattern, PathEnd, PathPattern, Segment};
use crate::config::{Action, Auth, Config, Enforce, Route, Terms};
use crate::net::tls::TlsServer;
use crate::telemetry::metrics::counts::{RouteCounts, UpstreamCounts};
use crate::upstream::{SharedUpstream, TargetReading};

/// The whole overview.
pub(super) fn overview(admin: &Admin) -> Value {
    let snapshot = admin.snapshot();
    let config = &snapshot.config;
    let total = snapshot.metrics.as_ref().map(|metrics| metrics.total()).unwrap_or_default();
    let mut used: BTreeMap<Box<str>, Arc<RouteCounts>> = total.routes().into_iter().collect();
    let mut routes: Vec<Value> = config
        .routes
        .iter()
        .map(|route| self::route(config, route, used.remove(route.name.as_str())))
        .collect();
    // The token routes, and what has no route.
    routes.extend(used.into_iter().map(|(name, counts)| own_route(config, &name, &counts)));
    let used: BTreeMap<Box<str>, Arc<UpstreamCounts>> = total.upstreams().into_iter().collect();
    let upstreams: Vec<Value> = snapshot
        .upstreams
        .iter()
        .map(|upstream| self::upstream(upstream, used.get(upstream.name())))
        .collect();
    let certificates = snapshot.tls.iter().flat_map(TlsServer::certificates).map(|certificate| {
        let hosts: Vec<String> = certificate.hosts.iter().map(ToString::to_string).collect();
        json!({"hosts": hosts.join(", "), "not_after": certificate.not_after})
    });
    let certificates: Vec<Value> = certificates.collect();
    let streams: Map<String, Value> =
        total.open_streams().map(|(kind, count)| (kind.to_owned(), Value::from(count))).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": admin.is_ready(),
        "began": admin.began,
        "now_ms": snapshot.clock.now_unix_ms(),
        "workers": config.server.workers,
        "sessions": config.server.admin_token.is_some(),
        "routes": routes,
        "upstreams": upstreams,
        "overhead": total.overhead.buckets(),
        "in_flight": total.begun.get().saturating_sub(total.ended.get()),
        "connections": admin.parts.connections.load(Ordering::Relaxed),
        "streams": streams,
        "certificates": certificates,
    })
}

fn route(config: &Config, route: &Route, counts: Option<Arc<RouteCounts>>) -> Value {
    let (auth, exposure) = exposure(route);
    let upstream = match &route.action {
        Action::Forward(forward) => {
            config.upstreams.get(forward.upstream).map(|upstream| upstream.name.as_str())
        }
        Action::Redirect(_) => Some("(redirect)"),
        Action::Respond(_) => Some("(respond)"),
    };
    let mut shown = counted(&route.name, &counts.unwrap_or_default());
    for (name, value) in [
        ("host", host(&route.host)),
        ("path", path(&route.path)),
        ("methods", route.methods.as_ref().map_or_else(|| "any".to_owned(), |methods| methods.join(" "))),
        ("auth", auth.to_owned()),
        ("exposure", exposure),
        ("upstream", upstream.unwrap_or_default().to_owned()),
    ] {
        shown.insert(name.to_owned(), value.into());
    }
    shown.into()
}

/// What the gateway answers itself.
fn own_route(config: &Config, name: &str, counts: &RouteCounts) -> Value {
    let mut shown = counted(name, counts);
    let path = if name.is_empty() { "" } else { config.tokens.path.as_str() };
    for (name, value) in [
        ("host", "any"),
        ("path", path),
        ("methods", ""),
        ("auth", ""),
        ("exposure", "gateway"),
        ("upstream", ""),
    ] {
        shown.insert(name.to_owned(), value.into());
    }
    shown.into()
}

fn counted(name: &str, counts: &RouteCounts) -> Map<String, Value> {
    let mut requests = BTreeMap::<&str, u64>::new();
    for (_, code, count) in counts.requests() {
        *requests.entry(code).or_default() += count;
    }
    let refusals: BTreeMap<&str, u64> =
        counts.refusals.iter().map(|(reason, count)| (reason.word(), count)).collect();
    Map::from_iter([
        ("name".to_owned(), Value::from(name)),
        ("requests".to_owned(), json!(requests)),
        ("refusals".to_owned(), json!(refusals)),
        ("buckets".to_owned(), json!(counts.duration.buckets())),
    ])
}

fn upstream(upstream: &SharedUpstream, counts: Option<&Arc<UpstreamCounts>>) -> Value {
    let requests: BTreeMap<&str, u64> = counts.map(|counts| counts.requests().collect()).unwrap_or_default();
    let buckets = counts.map(|counts| counts.duration.buckets()).unwrap_or_default();
    let targets = upstream.reading().targets.into_iter().map(|target| {
        let health = match (target.healthy, target.ejected) {
            (false, _) => "unhealthy",
            (true, true) => "ejected",
            (true, false) => "healthy",
        };
        let TargetReading { target, connections, queued, in_flight, .. } = target;
        json!({
            "target": target, "connections": connections, "waiting": queued, "in_flight": in_flight, "health": health,
        })
    });
    let targets: Vec<Value> = targets.collect();
    json!({"name": upstream.name(), "requests": requests, "buckets": buckets, "targets": targets})
}

/// Who may use a route: one word, and what it comes to.
fn exposure(route: &Route) -> (&'static str, String) {
    let word = match route.auth {
        Auth::Required => "required",
        Auth::Optional => "optional",
        Auth::Public => "public",
    };
    let whom = match route.auth {
        Auth::Required => "users",
        Auth::Optional => "everybody, users by name",
        Auth::Public => "everybody",
    };
    let allowed = route.policy.allow.as_ref().map(|terms| format!(" with {}", terms_of(terms)));
    let denied = route.policy.deny.as_ref().map(|terms| format!(" but those with {}", terms_of(terms)));
    let reports = match route.policy.enforce {
        Enforce::Enforce => "",
        Enforce::Report => " (only reported)",
    };
    (word, format!("{whom}{}{}{reports}", allowed.unwrap_or_default(), denied.unwrap_or_default()))
}

/// What a policy names, in short. Values of claims are left out.
fn terms_of(terms: &Terms) -> String {
    let mut parts = Vec::new();
    if !terms.groups.is_empty() {
        parts.push(format!("group {}", terms.groups.join(" or ")));
    }
    if !terms.scopes.is_empty() {
        parts.push(format!("scope {}", terms.scopes.join(" ")));
    }
    if !terms.claims.is_empty() || !terms.matches.is_empty() {
        parts.push("certain claims".to_owned());
    }
    parts.join(", ")
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Any => "any".to_owned(),
    }
}

/// As the configuration writes it.
fn path(pattern: &PathPattern) -> String {
    let exact = match pattern.end {
        PathEnd::Exact => "=",
        PathEnd::Prefix => "",
    };
    let segments: Vec<String> = pattern
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => text.to_string(),
            Segment::Parameter(name) => format!("{{{name}}}"),
        })
        .collect();
    format!("{exact}/{}", segments.join("/"))
}
