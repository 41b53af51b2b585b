//! Every family of metrics: its name, what kind it is, and what it means. `docs/operations.md` lists the same.

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How often something took how long.
    Histogram,
    /// Always 1; the labels say something.
    Info,
}

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without the suffix of its samples.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The unit, with which the name ends.
    pub unit: Option<&'static str>,
    /// What it means.
    pub help: &'static str,
}

impl Family {
    const fn new(name: &'static str, kind: Kind, unit: Option<&'static str>, help: &'static str) -> Self {
        Self { name, kind, unit, help }
    }

    /// What the name of its samples has at the end.
    pub fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }
}

/// Declares the families and the list of all of them.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = ($text:literal, $kind:ident, $unit:expr, $help:literal);)*) => {
        $($(#[$doc])* pub const $name: Family = Family::new($text, Kind::$kind, $unit, $help);)*

        /// Every family.
        pub const ALL: &[Family] = &[$($name),*];
    };
}

families! {
    /// Labels: `route`, `method`, `code`.
    REQUESTS = ("tollgate_requests", Counter, None, "Requests that have ended, by route, method and class of the status.");
    /// Label: `route`.
    REQUEST_DURATION = ("tollgate_request_duration_seconds", Histogram, Some("seconds"), "From the head of a request to the end of its answer; streams are left out.");
    /// No label.
    OVERHEAD = ("tollgate_gateway_overhead_seconds", Histogram, Some("seconds"), "What the gateway adds: from the head of a request to its sending to the upstream.");
    /// No label.
    IN_FLIGHT = ("tollgate_requests_in_flight", Gauge, None, "Requests that have begun and not ended.");
    /// Labels: `route`, `reason`.
    REFUSALS = ("tollgate_refusals", Counter, None, "Requests that were refused, by route and reason.");
    /// Labels: `route`, `reason`.
    REPORTED = ("tollgate_reported_refusals", Counter, None, "Requests that a route with enforce = \"report\" let pass and would have refused.");
    /// Labels: `decision`, `reason`.
    AUTH_DECISIONS = ("tollgate_auth_decisions", Counter, None, "Decisions about who may pass: allowed, anonymous or refused, with the reason.");
    /// Label: `result`.
    LOGINS = ("tollgate_logins", Counter, None, "Logins by result: ok, or the reason of the refusal.");
    /// Labels: `endpoint`, `result`.
    TOKEN_REQUESTS = ("tollgate_token_requests", Counter, None, "Requests to the token routes by result: ok, or the reason of the refusal.");
    /// No label.
    REFRESH_REUSE = ("tollgate_refresh_reuse", Counter, None, "Refresh tokens that were used again after their time, which ended their sessions.");
    /// No label.
    REVOCATIONS = ("tollgate_revocations", Counter, None, "Changes of what is revoked.");
    /// No label.
    REVOCATIONS_HELD = ("tollgate_revocations_held", Gauge, None, "Revocations that are held in memory until what they revoke has expired.");
    /// No label.
    STORE_BEHIND = ("tollgate_store_behind_milliseconds", Gauge, None, "How long ago the store last said what others have revoked.");
    /// No label.
    HASH_QUEUE = ("tollgate_hash_queue_length", Gauge, None, "Logins and password hashes that wait.");
    /// No label.
    HASHES_REFUSED = ("tollgate_hash_queue_rejected", Counter, None, "Logins and password hashes that were refused because too many waited.");
    /// Label: `result`.
    RELOADS = ("tollgate_reloads", Counter, None, "Configurations that were read again, by result: applied or refused.");
    /// No label.
    CONFIG_APPLIED = ("tollgate_config_applied_timestamp_seconds", Gauge, Some("seconds"), "Since when the configuration is served by, in seconds since 1970.");
    /// Label: `limit`.
    RATE_LIMITED = ("tollgate_rate_limited", Counter, None, "Requests that a limit has refused.");
    /// No label.
    LIMITS_STORE_UP = ("tollgate_limits_store_up", Gauge, None, "1 while limits of the cluster are counted by all gateways together, 0 while this one counts alone.");
    /// No label.
    LIMITS_GATEWAYS = ("tollgate_limits_gateways", Gauge, None, "Gateways that count together.");
    /// No label.
    LIMITS_STORE_EXCHANGES = ("tollgate_limits_store_exchanges", Counter, None, "Round trips to the limits store.");
    /// No label.
    LIMITS_STORE_FAILURES = ("tollgate_limits_store_failures", Counter, None, "Round trips to the limits store, and connections, that came to nothing.");
    /// No label.
    LIMITS_STORE_WAITS = ("tollgate_limits_store_waits", Counter, None, "Requests that waited for the limits store.");
    /// No label.
    LIMITS_STORE_TIMEOUTS = ("tollgate_limits_store_wait_timeouts", Counter, None, "Requests that waited for the limits store in vain, and were counted by the gateway alone.");
    /// Labels: `upstream`, `code`.
    UPSTREAM_REQUESTS = ("tollgate_upstream_requests", Counter, None, "Requests that were permitted to go to an upstream, by what their clients were answered.");
    /// Label: `upstream`.
    UPSTREAM_DURATION = ("tollgate_upstream_duration_seconds", Histogram, Some("seconds"), "From sending a request to an upstream to the head of its answer.");
    /// Label: `upstream`.
    UPSTREAM_RETRIES = ("tollgate_upstream_retries", Counter, None, "Requests that were sent once more after a target may have seen them or refused them.");
    /// Label: `upstream`.
    UPSTREAM_FAILOVERS = ("tollgate_upstream_failovers", Counter, None, "Requests that went to another target because the first one took no connection.");
    /// Label: `upstream`.
    UPSTREAM_OVER_BUDGET = ("tollgate_upstream_retries_over_budget", Counter, None, "Requests that would have been tried again if the budget had allowed it.");
    /// Label: `upstream`.
    UPSTREAM_EJECTIONS = ("tollgate_upstream_ejections", Counter, None, "How often a target was ejected.");
    /// Labels: `upstream`, `target`.
    TARGET_HEALTHY = ("tollgate_upstream_target_healthy", Gauge, None, "1 when the health checks of a target pass or there are none, 0 otherwise.");
    /// Labels: `upstream`, `target`.
    TARGET_EJECTED = ("tollgate_upstream_target_ejected", Gauge, None, "1 while a target rests because it has failed too often in a row.");
    /// Labels: `upstream`, `target`.
    TARGET_CONNECTIONS = ("tollgate_upstream_connections", Gauge, None, "Connections to a target that are open.");
    /// Labels: `upstream`, `target`.
    TARGET_IN_FLIGHT = ("tollgate_upstream_requests_in_flight", Gauge, None, "Requests to a target that are under way, those included that wait.");
    /// Labels: `upstream`, `target`.
    TARGET_WAITING = ("tollgate_upstream_requests_waiting", Gauge, None, "Requests that wait for a connection to a target.");
    /// Labels: `upstream`, `target`.
    TARGET_CONNECTS = ("tollgate_upstream_connects", Counter, None, "Connections to a target that were tried.");
    /// Labels: `upstream`, `target`.
    TARGET_CONNECT_FAILURES = ("tollgate_upstream_connect_failures", Counter, None, "Connections to a target that came to nothing.");
    /// No label.
    CLIENT_CONNECTIONS = ("tollgate_client_connections", Gauge, None, "Connections of clients that are open.");
    /// Label: `kind`.
    OPEN_STREAMS = ("tollgate_open_streams", Gauge, None, "Streams that are open: WebSockets, server-sent events, gRPC.");
    /// Labels: `hosts`, `path`.
    CERTIFICATE_EXPIRY = ("tollgate_certificate_expiry_timestamp_seconds", Gauge, Some("seconds"), "When a certificate that is shown to clients expires, in seconds since 1970.");
    /// No label.
    LOG_LINES_DROPPED = ("tollgate_log_lines_dropped", Counter, None, "Lines of the log that were dropped because its reader was too slow.");
    /// No label.
    SPANS_EXPORTED = ("tollgate_spans_exported", Counter, None, "Spans that the collector has taken.");
    /// No label.
    SPANS_DROPPED = ("tollgate_spans_dropped", Counter, None, "Spans that were lost because too many waited, or the collector did not take them.");
    /// Labels: `version`.
    BUILD = ("tollgate_build", Info, None, "Which version this is.");
    /// No label.
    WORKERS = ("tollgate_workers", Gauge, None, "Data-plane threads.");
    /// No label.
    PROCESS_START = ("process_start_time_seconds", Gauge, Some("seconds"), "When the process began to serve, in seconds since 1970.");
    /// No label.
    PROCESS_CPU = ("process_cpu_seconds", Counter, Some("seconds"), "Processor time that the process has used.");
    /// No label.
    PROCESS_MEMORY = ("process_resident_memory_bytes", Gauge, Some("bytes"), "Memory of the process that is resident.");
    /// No label.
    PROCESS_FDS = ("process_open_fds", Gauge, None, "File descriptors that are open.");
    /// No label.
    PROCESS_MAX_FDS = ("process_max_fds", Gauge, None, "File descriptors that may be open.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_formats_want_them() {
        for (place, family) in ALL.iter().enumerate() {
            let sound = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(family.name.bytes().all(sound), "{}", family.name);
            assert!(!family.name.ends_with("_total") && !family.name.ends_with("_info"), "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(family.name.ends_with(&format!("_{unit}")), "{}", family.name);
            }
            assert!(!family.help.contains(['\n', '\\']), "{}", family.name);
            let again = ALL.iter().skip(place + 1).any(|other| other.name == family.name);
            assert!(!again, "{} stands there twice", family.name);
        }
    }
}
