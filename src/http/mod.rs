//! What HTTP asks of a gateway: hop-by-hop fields, refusals, bodies.

pub mod body;
pub mod date;
pub mod grpc;
pub mod hop;
pub mod incoming;
pub mod outgoing;
pub mod problem;
