//! Tollgate: a reverse-proxy authentication gateway.

pub mod base;
pub mod cli;
pub mod config;
pub mod store;
pub mod users;
