//! The whole gateway from outside: raw bytes in, raw bytes out, and what the log says of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]
#![expect(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "it is short, and nothing here has to be fast"
)]

mod support;

mod actions;
mod admin;
mod authn;
mod availability;
mod bench;
mod client_certificates;
mod cluster;
mod contract;
mod corpora;
mod cors;
mod database_tls;
mod django;
mod grpc;
mod http2;
mod http2_limits;
mod identity;
mod identity_headers;
mod intake;
mod large_answers;
mod limits;
mod login;
mod metrics;
mod panics;
mod policies;
mod postgres;
mod proxy_protocol;
mod proxying;
mod rates;
mod refused;
mod reload;
mod rotation;
mod routing;
mod sessions;
mod stalls;
mod streams;
mod tidy;
mod tls;
mod tokens;
mod traces;
mod upstreams;
mod versions;
mod websocket;
mod websocket_http2;
