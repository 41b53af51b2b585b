//! `[upstreams.*]`, `[[routes]]`, `[limits.*]`.

use super::Shape::{
    Boolean, Choice, Either, Form, Integer, List, NamedTables, Names, Table, Tables, Text, TextOrTable,
};
use super::Unset::{Nothing, Required, Value};
use super::{DURATION, Entry, SIZE_OR_NONE, Shape, TEXT_OR_TEXTS, TEXTS, key, table};

/// A rate of requests.
const REQUESTS: Shape = Form(r"[0-9]+/(s|m|h|d)");

/// The keys of these sections.
#[rustfmt::skip] // One line a key.
pub(super) const KEYS: &[Entry] = &[
    table("upstreams", NamedTables, "Where requests go, each under a name."),
    key("upstreams.*.targets", TEXTS, Required, r#"["http://10.0.0.5:9000", "https://billing.internal"]"#, "http://, https://, h2c:// or unix:; at least one."),
    key("upstreams.*.balance", Choice(&["least_request", "round_robin"]), Value(r#""least_request""#), r#""round_robin""#, "How a target is chosen."),
    key("upstreams.*.connect_timeout", DURATION, Value(r#""5s""#), r#""1s""#, "For a new connection."),
    key("upstreams.*.response_timeout", DURATION, Value(r#""60s""#), r#""5m""#, "To the head of the answer."),
    key("upstreams.*.idle_timeout", DURATION, Value(r#""60s""#), r#""30s""#, "How long an unused connection is kept."),
    key("upstreams.*.max_connections", Integer(1, 1_000_000), Value("512"), "64", "Connections per target, of the whole process."),
    key("upstreams.*.max_queue", Integer(0, 1_000_000), Value("1024"), "100", "Requests that may wait for a connection, per target."),
    key("upstreams.*.retries", Integer(0, 10), Value("1"), "2", "How often a request is sent again, where that is safe."),
    key("upstreams.*.host_header", Text, Value(r#""preserve""#), r#""target""#, "The `Host` that the upstream sees: \"preserve\", \"target\" or a name."),
    key("upstreams.*.identity", Choice(&["default", "none"]), Value(r#""default""#), r#""none""#, "Which identity headers the upstream gets."),
    table("upstreams.*.tls", Table, "How targets with https:// are verified."),
    key("upstreams.*.tls.ca", Text, Nothing, r#""ca.pem""#, "The certificates that sign the target's; without it those that the system trusts."),
    key("upstreams.*.tls.server_name", Text, Nothing, r#""billing.internal""#, "The name in the target's certificate."),
    key("upstreams.*.tls.client_cert", Text, Nothing, r#""client.pem""#, "The certificate that the gateway shows."),
    key("upstreams.*.tls.client_key", Text, Nothing, r#""client.key""#, "Its private key."),
    table("limits", NamedTables, "How many requests may come, each under a name."),
    key("limits.*.key", Text, Required, r#""user""#, "Whose requests are counted together: \"user\", \"ip\" or \"header:NAME\"."),
    key("limits.*.rate", Either(&[REQUESTS, List(&REQUESTS)]), Required, r#"["100/s", "10000/h"]"#, "How many may come."),
    key("limits.*.burst", Integer(1, 1_000_000_000), Nothing, "50", "How many may come at once after a pause, in the rate with the shortest unit."),
    table("routes", Tables, "Which requests go where, and who may send them. The most specific wins."),
    key("routes[].name", Text, Nothing, r#""invoices""#, "For the log; unique."),
    key("routes[].host", Text, Nothing, r#""api.example.com""#, "A host, or \"*.example.com\"; without it any."),
    key("routes[].path", Text, Required, r#""/billing/{id}""#, "A prefix in whole segments; \"=/x\" is exactly this path, \"{id}\" any one segment."),
    key("routes[].methods", TEXTS, Nothing, r#"["GET", "POST"]"#, "Without it any."),
    key("routes[].headers", Names, Value("{}"), r#"{ X-Version = "2" }"#, "Fields that a request must have; \"*\" is any value."),
    key("routes[].auth", Choice(&["required", "optional", "public"]), Required, r#""required""#, "Who may pass."),
    key("routes[].upstream", Text, Nothing, r#""billing""#, "The name of an upstream."),
    key("routes[].strip_prefix", Text, Nothing, r#""/billing""#, "The beginning of the path that the upstream does not see."),
    key("routes[].rewrite", Text, Nothing, r#""/v2/users/{id}""#, "The path that the upstream sees."),
    key("routes[].redirect", TextOrTable, Nothing, r#""https://new.example.com/{id}""#, "Where clients are sent."),
    key("routes[].redirect.to", Text, Required, r#""/new/{id}""#, "A URL, or a path on the same host."),
    key("routes[].redirect.status", Integer(301, 308), Value("308"), "302", "301, 302, 303, 307 or 308."),
    table("routes[].respond", Table, "A fixed answer."),
    key("routes[].respond.status", Integer(200, 599), Value("200"), "404", "Its status."),
    key("routes[].respond.body", Text, Value(r#""""#), r#""gone""#, "Its body."),
    key("routes[].respond.headers", Names, Value("{}"), r#"{ Cache-Control = "no-store" }"#, "Its header fields."),
    key("routes[].max_body", SIZE_OR_NONE, Nothing, r#""64MiB""#, "A request's body, in place of server.limits.max_body; \"0\" is no limit."),
    key("routes[].timeout", DURATION, Nothing, r#""10s""#, "To the head of the answer, in place of the upstream's response_timeout."),
    key("routes[].limit", TEXT_OR_TEXTS, Nothing, r#""per-user""#, "Which limits a request has to keep, all of them together."),
    table("routes[].request_headers", Table, "What is changed in a request on its way to the upstream."),
    key("routes[].request_headers.set", Names, Value("{}"), r#"{ X-Env = "prod" }"#, "In place of what is there, in every spelling."),
    key("routes[].request_headers.add", Names, Value("{}"), r#"{ X-Via = "gateway" }"#, "Beside what is there."),
    key("routes[].request_headers.remove", TEXTS, Value("[]"), r#"["X-Debug"]"#, "Taken away, in every spelling."),
    table("routes[].response_headers", Table, "What is changed in an answer."),
    key("routes[].response_headers.set", Names, Value("{}"), r#"{ Strict-Transport-Security = "max-age=31536000" }"#, "In place of what is there."),
    key("routes[].response_headers.add", Names, Value("{}"), r#"{ Link = "</style.css>; rel=preload" }"#, "Beside what is there."),
    key("routes[].response_headers.remove", TEXTS, Value("[]"), r#"["Server"]"#, "Taken away."),
    table("routes[].cors", Table, "Which scripts of other origins may use the route."),
    key("routes[].cors.origins", TEXTS, Required, r#"["https://app.example.com"]"#, "Whose scripts; [\"*\"] is everybody."),
    key("routes[].cors.methods", TEXTS, Nothing, r#"["GET", "POST"]"#, "What scripts may do; without it the methods of the route."),
    key("routes[].cors.headers", TEXTS, Value(r#"["Authorization", "Content-Type"]"#), r#"["*"]"#, "What scripts may send; [\"*\"] is whatever they ask for."),
    key("routes[].cors.expose", TEXTS, Value("[]"), r#"["X-Request-Id"]"#, "Fields of answers that scripts may read."),
    key("routes[].cors.max_age", DURATION, Value(r#""10m""#), r#""1h""#, "How long browsers may keep the answer to a preflight."),
    key("routes[].cors.credentials", Boolean, Value("false"), "true", "Whether browsers send cookies and client certificates along."),
    key("routes[].accept", List(&Choice(&["encoded_slash", "semicolon", "empty_segment"])), Value("[]"), r#"["encoded_slash"]"#, "What paths may have that is refused elsewhere."),
];
