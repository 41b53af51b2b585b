//! What HTTP asks of a gateway: hop-by-hop fields, refusals, bodies.

pub mod body;
pub mod hop;
pub mod problem;
