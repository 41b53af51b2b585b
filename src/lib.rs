//! Tollgate: a reverse-proxy authentication gateway.

pub mod admin;
pub mod app;
pub mod authn;
pub mod authz;
pub mod base;
pub mod cli;
pub mod config;
pub mod endpoints;
pub mod http;
pub mod identity;
pub mod keys;
pub mod last_words;
pub mod lifecycle;
pub mod net;
pub mod pipeline;
pub mod refusals;
pub mod request;
pub mod response;
pub mod routing;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod upstream;
pub mod users;
pub mod worker;
