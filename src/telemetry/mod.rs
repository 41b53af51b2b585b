//! What the gateway says of itself: one line for every request, and lines about its own doings, in one stream.

pub mod access;
pub mod escape;
pub mod events;
pub mod reloads;
pub mod reported;
pub mod sink;
