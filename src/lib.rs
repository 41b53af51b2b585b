//! Tollgate: a reverse-proxy authentication gateway.

pub mod base;
pub mod config;
pub mod http;
pub mod net;
pub mod request;
pub mod routing;
