//! What HTTP asks of a gateway: hop-by-hop fields, refusals, bodies.

pub mod body;
pub mod chunks;
pub mod date;
pub mod framing;
pub mod grpc;
pub mod hop;
pub mod http1;
pub mod incoming;
pub mod lines;
pub mod message;
pub mod outgoing;
pub mod problem;
pub mod read_size;
pub mod spliced;
