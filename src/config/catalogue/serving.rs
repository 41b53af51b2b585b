//! `[server]`, `[tls]`, `[store]`, `[log]`.

use super::Shape::{Boolean, Choice, Either, FormOrZero, Integer, Names, Ratio, Table, Tables, Text};
use super::Unset::{Nothing, Required, Value};
use super::{DURATION, Entry, SIZE, SIZE_OR_NONE, TEXTS, key, table};

/// The parts of a client certificate.
const PARTS: &[&str] = &["subject", "subject_cn", "san_dns", "san_email", "san_uri", "serial", "fingerprint"];

/// The keys of these sections.
#[rustfmt::skip] // One line a key.
pub(super) const KEYS: &[Entry] = &[
    table("server", Table, "Listeners, threads and limits."),
    key("server.listen", TEXTS, Value(r#"["127.0.0.1:8080"]"#), r#"["0.0.0.0:8443", "[::]:8443"]"#, "Where clients connect."),
    key("server.http_redirect", Text, Value(r#""""#), r#""0.0.0.0:80""#, "Plain HTTP, every request of which is sent to HTTPS."),
    key("server.admin", Text, Value(r#""127.0.0.1:9911""#), r#""""#, "Health, readiness and what else is for operators; \"\" switches it off."),
    key("server.admin_token_file", Text, Nothing, r#""admin-token""#, "A file with the token of the admin page."),
    key("server.admin_token_env", Text, Nothing, r#""ADMIN_TOKEN""#, "An environment variable with the token of the admin page."),
    key("server.admin_hosts", TEXTS, Value("[]"), r#"["gate.internal"]"#, "Names under which browsers may reach the admin listener."),
    key("server.trusted_proxies", TEXTS, Value("[]"), r#"["10.0.0.0/8", "fd00::/8"]"#, "Peers whose forwarding headers and PROXY protocol are believed."),
    key("server.workers", Either(&[Choice(&["auto"]), Integer(1, 1024)]), Value(r#""auto""#), "4", "Data-plane threads; \"auto\" is one per core."),
    key("server.watch_config", Boolean, Value("true"), "false", "Whether this file is read again when it changes."),
    key("server.drain_timeout", DURATION, Value(r#""30s""#), r#""1m""#, "How long requests in flight may take after the signal to stop."),
    table("server.limits", Table, "What one client may take."),
    key("server.limits.max_connections", Integer(1, 1_000_000), Value("20000"), "50000", "Client connections of the whole process."),
    key("server.limits.max_connections_per_network", Integer(0, 1_000_000), Value("10000"), "1000", "Client connections of one network; 0 is no limit."),
    key("server.limits.max_header_bytes", SIZE, Value(r#""32KiB""#), r#""64KiB""#, "A request's head, from 8KiB to 1MiB."),
    key("server.limits.max_headers", Integer(1, 1000), Value("100"), "200", "Header fields of a request."),
    key("server.limits.max_body", SIZE_OR_NONE, Value(r#""16MiB""#), r#""1GiB""#, "A request's body; \"0\" is no limit."),
    key("server.limits.header_timeout", DURATION, Value(r#""10s""#), r#""5s""#, "From the first byte of a head to its last."),
    key("server.limits.body_timeout", DURATION, Value(r#""30s""#), r#""1m""#, "Between two reads of a request body."),
    key("server.limits.min_rate", FormOrZero(r"0|[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)/s"), Value(r#""128B/s""#), r#""1KiB/s""#, "Of a body that is sent or an answer that is read; slower clients are ended. \"0\" is no limit."),
    key("server.limits.idle_timeout", DURATION, Value(r#""75s""#), r#""5m""#, "Between requests, and for a connection that says nothing."),
    table("tls", Table, "When it is there, TLS is spoken on every address of `listen`."),
    key("tls.min_version", Choice(&["1.2", "1.3"]), Value(r#""1.2""#), r#""1.3""#, "The oldest version of TLS that is spoken."),
    table("tls.certificates", Tables, "Certificates, chosen by the name that a client asks for."),
    key("tls.certificates[].hosts", TEXTS, Required, r#"["api.example.com", "*.example.com"]"#, "The hosts that the certificate is for."),
    key("tls.certificates[].cert", Text, Required, r#""tls/fullchain.pem""#, "A PEM file with the certificate and its chain."),
    key("tls.certificates[].key", Text, Required, r#""tls/key.pem""#, "A PEM file with its private key."),
    table("tls.client_auth", Table, "Clients show a certificate too."),
    key("tls.client_auth.ca", Text, Required, r#""tls/clients.pem""#, "A PEM file with the authorities whose certificates are accepted."),
    key("tls.client_auth.mode", Choice(&["optional", "required"]), Value(r#""required""#), r#""optional""#, "What becomes of clients without a certificate."),
    key("tls.client_auth.user", Choice(PARTS), Nothing, r#""subject_cn""#, "The part of the certificate that is a user's name."),
    key("tls.client_auth.headers", Names, Value("{}"), r#"{ X-Client-Subject = "subject" }"#, "Request headers that tell of the certificate, each with a part of it."),
    table("store", Table, "Users, sessions, revocations and lockouts."),
    key("store.url", Text, Value(r#""sqlite://data/tollgate.db""#), r#""sqlite:///var/lib/tollgate/tollgate.db""#, "A SQLite file, made at the first start, or a PostgreSQL database of several gateways."),
    key("store.url_file", Text, Nothing, r#""store-url""#, "A file that holds the URL."),
    key("store.url_env", Text, Nothing, r#""DATABASE_URL""#, "The variable that holds the URL."),
    key("store.max_connections", Integer(1, 1000), Value("10"), "20", "Connections of this gateway to a PostgreSQL database."),
    key("store.statement_timeout", DURATION, Value(r#""2s""#), r#""1s""#, "What a statement in a PostgreSQL database may take."),
    key("store.stale_policy", Choice(&["serve", "refuse"]), Value(r#""serve""#), r#""refuse""#, "What happens to tokens that are known while the store cannot be read."),
    key("store.stale_after", DURATION, Value(r#""30s""#), r#""10s""#, "How long it is until that is done."),
    table("log", Table, "What is logged, and how."),
    key("log.level", Choice(&["error", "warn", "info", "debug", "trace"]), Value(r#""info""#), r#""debug""#, "What is logged of the gateway's own doings."),
    key("log.format", Choice(&["json", "pretty"]), Value(r#""json""#), r#""pretty""#, "In which form."),
    key("log.access", Boolean, Value("true"), "false", "One record for every request."),
    key("log.server_timing", Boolean, Value("false"), "true", "Whether every answer says how long it took, in Server-Timing."),
    table("log.otlp", Table, "A collector of OpenTelemetry, to which spans are exported."),
    key("log.otlp.endpoint", Text, Required, r#""http://127.0.0.1:4318""#, "Where it takes OTLP over HTTP."),
    key("log.otlp.sample", Ratio, Value("1.0"), "0.1", "Which part of the traces that begin here is recorded."),
    key("log.otlp.service_name", Text, Value(r#""tollgate""#), r#""billing-gateway""#, "What the gateway is called in traces."),
    key("log.otlp.headers_file", Text, Nothing, r#""otlp-headers""#, "A file with header fields for the collector."),
    key("log.otlp.headers_env", Text, Nothing, r#""OTEL_EXPORTER_OTLP_HEADERS""#, "An environment variable with header fields for the collector."),
];
