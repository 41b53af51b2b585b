//! Everything that is counted, put together when somebody asks.

use std::sync::atomic::Ordering;

use super::{Admin, process};
use crate::endpoints::Endpoint;
use crate::net::tls::TlsServer;
use crate::telemetry::metrics::Counts;
use crate::telemetry::metrics::counts::EndpointCounts;
use crate::telemetry::metrics::exposition::{Format, Page};
use crate::telemetry::metrics::families::{self as family, Family};
use crate::telemetry::trace::SpanSink;
use crate::upstream::{TargetReading, UpstreamReading};

/// The buckets of requests that are told: their ends are from 128 microseconds to 67 seconds.
const DURATIONS: (usize, usize) = (7, 26);
/// The buckets of the gateway's own time: their ends are from 4 microseconds to 1 second.
const OVERHEADS: (usize, usize) = (2, 20);

/// A family, and what of a reading is its value.
type Read<T> = (&'static Family, fn(&T) -> u64);

/// The page of metrics.
pub(super) fn page(admin: &Admin, format: Format) -> String {
    let total = admin.snapshot().metrics.as_ref().map(|metrics| metrics.total()).unwrap_or_default();
    let mut page = Page::new(format);
    requests(&mut page, &total);
    refusals(&mut page, &total);
    tokens(&mut page, &total);
    control(&mut page, admin);
    upstreams(&mut page, admin, &total);
    connections(&mut page, admin, &total);
    process(&mut page, admin);
    page.finish()
}

fn requests(page: &mut Page, total: &Counts) {
    let routes = total.routes();
    page.family(&family::REQUESTS);
    for (name, route) in &routes {
        for (method, code, count) in route.requests() {
            page.sample(&family::REQUESTS, &[("route", name), ("method", method), ("code", code)], count);
        }
    }
    page.family(&family::REQUEST_DURATION);
    for (name, route) in &routes {
        page.histogram(&family::REQUEST_DURATION, &[("route", name)], &route.duration, DURATIONS);
    }
    page.family(&family::OVERHEAD);
    page.histogram(&family::OVERHEAD, &[], &total.overhead, OVERHEADS);
    page.family(&family::IN_FLIGHT);
    page.sample(&family::IN_FLIGHT, &[], total.begun.get().saturating_sub(total.ended.get()));
}

fn refusals(page: &mut Page, total: &Counts) {
    let routes = total.routes();
    page.family(&family::REFUSALS);
    for (name, route) in &routes {
        for (reason, count) in route.refusals.iter() {
            page.sample(&family::REFUSALS, &[("route", name), ("reason", reason.word())], count);
        }
    }
    page.family(&family::REPORTED);
    for (name, route) in &routes {
        for (reason, count) in route.reported.iter() {
            page.sample(&family::REPORTED, &[("route", name), ("reason", reason.word())], count);
        }
    }
    page.family(&family::AUTH_DECISIONS);
    page.sample(&family::AUTH_DECISIONS, &[("decision", "allowed")], total.allowed.get());
    page.sample(&family::AUTH_DECISIONS, &[("decision", "anonymous")], total.anonymous.get());
    for (reason, count) in total.unauthorised.iter() {
        let labels = [("decision", "refused"), ("reason", reason.word())];
        page.sample(&family::AUTH_DECISIONS, &labels, count);
    }
}

fn tokens(page: &mut Page, total: &Counts) {
    let results = |counts: &EndpointCounts| {
        let refused = counts.refused.iter().map(|(reason, count)| (reason.word(), count));
        [("ok", counts.served.get())].into_iter().chain(refused).collect::<Vec<_>>()
    };
    page.family(&family::LOGINS);
    if let Some(counts) = total.endpoint(Endpoint::Login as usize) {
        for (result, count) in results(counts) {
            page.sample(&family::LOGINS, &[("result", result)], count);
        }
    }
    page.family(&family::TOKEN_REQUESTS);
    for endpoint in Endpoint::ALL {
        let Some(counts) = total.endpoint(endpoint as usize) else { continue };
        for (result, count) in results(counts) {
            page.sample(&family::TOKEN_REQUESTS, &[("endpoint", endpoint.name()), ("result", result)], count);
        }
    }
}

/// What the control plane knows: sessions, revocations, hashes, limits.
fn control(page: &mut Page, admin: &Admin) {
    let snapshot = admin.snapshot();
    let sessions = &snapshot.authentication.sessions;
    let revocations = sessions.revocations();
    let queue = snapshot.authentication.directory.hash_queue();
    for (family, value) in [
        (&family::REFRESH_REUSE, sessions.reuses()),
        (&family::REVOCATIONS, revocations.epoch().load(Ordering::Relaxed)),
        (&family::REVOCATIONS_HELD, number(revocations.len())),
        (&family::STORE_BEHIND, u64::try_from(sessions.behind().as_millis()).unwrap_or(u64::MAX)),
        (&family::HASH_QUEUE, number(queue.waiting)),
        (&family::HASHES_REFUSED, queue.rejected),
        (&family::LOG_LINES_DROPPED, snapshot.sink.dropped_lines()),
    ] {
        page.family(family);
        page.sample(family, &[], value);
    }
    if let Some(spans) = snapshot.spans.as_ref().map(SpanSink::spans) {
        for (family, value) in
            [(&family::SPANS_EXPORTED, spans.exported()), (&family::SPANS_DROPPED, spans.dropped())]
        {
            page.family(family);
            page.sample(family, &[], value);
        }
    }
    let reloads = &admin.parts.reloads;
    page.family(&family::RELOADS);
    page.sample(&family::RELOADS, &[("result", "applied")], reloads.applied());
    page.sample(&family::RELOADS, &[("result", "refused")], reloads.refused());
    let applied = u64::try_from(reloads.applied_unix_ms().div_euclid(1000)).unwrap_or(0);
    page.family(&family::CONFIG_APPLIED);
    page.sample(&family::CONFIG_APPLIED, &[], applied);
    page.family(&family::RATE_LIMITED);
    for (limit, count) in snapshot.rates.refused() {
        page.sample(&family::RATE_LIMITED, &[("limit", limit)], count);
    }
    if snapshot.config.limits_store.is_some() {
        let reading = snapshot.rates.cluster().reading();
        for (family, value) in [
            (&family::LIMITS_STORE_UP, u64::from(reading.is_up)),
            (&family::LIMITS_GATEWAYS, u64::from(reading.gateways)),
            (&family::LIMITS_STORE_EXCHANGES, reading.exchanges),
            (&family::LIMITS_STORE_FAILURES, reading.failures),
            (&family::LIMITS_STORE_WAITS, reading.waits),
            (&family::LIMITS_STORE_TIMEOUTS, reading.timeouts),
        ] {
            page.family(family);
            page.sample(family, &[], value);
        }
    }
}

fn upstreams(page: &mut Page, admin: &Admin, total: &Counts) {
    let used = total.upstreams();
    page.family(&family::UPSTREAM_REQUESTS);
    for (name, upstream) in &used {
        for (code, count) in upstream.requests() {
            page.sample(&family::UPSTREAM_REQUESTS, &[("upstream", name), ("code", code)], count);
        }
    }
    page.family(&family::UPSTREAM_DURATION);
    for (name, upstream) in &used {
        page.histogram(&family::UPSTREAM_DURATION, &[("upstream", name)], &upstream.duration, DURATIONS);
    }
    let readings: Vec<UpstreamReading> =
        admin.snapshot().upstreams.iter().map(|upstream| upstream.reading()).collect();
    let counters: [Read<UpstreamReading>; 4] = [
        (&family::UPSTREAM_RETRIES, |reading| reading.retries),
        (&family::UPSTREAM_FAILOVERS, |reading| reading.failovers),
        (&family::UPSTREAM_OVER_BUDGET, |reading| reading.retries_over_budget),
        (&family::UPSTREAM_EJECTIONS, |reading| reading.ejections),
    ];
    for (family, value) in counters {
        page.family(family);
        for reading in &readings {
            page.sample(family, &[("upstream", &reading.upstream)], value(reading));
        }
    }
    let targets: [Read<TargetReading>; 7] = [
        (&family::TARGET_HEALTHY, |target| u64::from(target.healthy)),
        (&family::TARGET_EJECTED, |target| u64::from(target.ejected)),
        (&family::TARGET_CONNECTIONS, |target| number(target.connections)),
        (&family::TARGET_IN_FLIGHT, |target| number(target.in_flight)),
        (&family::TARGET_WAITING, |target| number(target.queued)),
        (&family::TARGET_CONNECTS, |target| target.connects),
        (&family::TARGET_CONNECT_FAILURES, |target| target.connect_failures),
    ];
    for (family, value) in targets {
        page.family(family);
        for reading in &readings {
            // A target that an upstream names twice is one here.
            let mut told = Vec::new();
            for target in reading.targets.iter().filter(|target| !target.target.is_empty()) {
                if !told.contains(&&target.target) {
                    told.push(&target.target);
                    let labels = [("upstream", reading.upstream.as_str()), ("target", &target.target)];
                    page.sample(family, &labels, value(target));
                }
            }
        }
    }
}

/// What clients have open, and until when they will believe who they talk to.
fn connections(page: &mut Page, admin: &Admin, total: &Counts) {
    page.family(&family::CLIENT_CONNECTIONS);
    page.sample(&family::CLIENT_CONNECTIONS, &[], number(admin.parts.connections.load(Ordering::Relaxed)));
    page.family(&family::OPEN_STREAMS);
    for (kind, count) in total.open_streams() {
        page.sample(&family::OPEN_STREAMS, &[("kind", kind)], count);
    }
    page.family(&family::CERTIFICATE_EXPIRY);
    let tls = admin.snapshot().tls.clone();
    for certificate in tls.iter().flat_map(TlsServer::certificates) {
        let hosts: Vec<String> = certificate.hosts.iter().map(ToString::to_string).collect();
        let expiry = u64::try_from(certificate.not_after).unwrap_or(0);
        let path = certificate.path.display().to_string();
        page.sample(&family::CERTIFICATE_EXPIRY, &[("hosts", &hosts.join(",")), ("path", &path)], expiry);
    }
}

fn process(page: &mut Page, admin: &Admin) {
    page.family(&family::BUILD);
    page.sample(&family::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family(&family::WORKERS);
    page.sample(&family::WORKERS, &[], number(admin.snapshot().config.server.workers.get()));
    page.family(&family::PROCESS_START);
    page.sample(&family::PROCESS_START, &[], u64::try_from(admin.began).unwrap_or(0));
    page.family(&family::PROCESS_CPU);
    page.fraction(&family::PROCESS_CPU, &[], process::processor_seconds());
    for (family, value) in [
        (&family::PROCESS_MEMORY, process::resident_bytes()),
        (&family::PROCESS_FDS, process::open_descriptors()),
        (&family::PROCESS_MAX_FDS, process::most_descriptors()),
    ] {
        let Some(value) = value else { continue };
        page.family(family);
        page.sample(family, &[], value);
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
