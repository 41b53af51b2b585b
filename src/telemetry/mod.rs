//! What the gateway says of itself: one line for every request and lines about its own doings, in one stream; and numbers.

pub mod access;
pub mod account;
pub mod escape;
pub mod events;
mod members;
pub mod metrics;
pub mod refused;
pub mod reloads;
pub mod reported;
pub mod sink;
pub mod trace;
