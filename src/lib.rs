//! Tollgate: a reverse-proxy authentication gateway.

pub mod base;
pub mod config;
pub mod endpoints;
pub mod keys;
pub mod tokens;
