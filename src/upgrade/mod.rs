//! The life of a WebSocket: what a request has to say to open one, where its frames end, and the tunnel for them.
//!
//! Nothing here decides who may open one: the request passes the same stages as every other. The token may come in
//! `Sec-WebSocket-Protocol`, because a browser lets no script set `Authorization` for a WebSocket.
//!
//! ```text
//! Asked::of, Offer::of_extended_connect  ->  Offer       what the client asks for; its token is taken out
//! Offer::request_fields                                  what an HTTP/1.1 upstream is asked
//! Offer::check_answer                    ->  Answer      what the upstream agreed to
//! Switched::client_fields                                what the client is told
//! tunnel::run                            ->  Ended       both ways, until both are done or one has to end
//! ```

pub mod answer;
pub mod frames;
pub mod handshake;
mod list;
mod one_way;
pub mod tunnel;

pub use self::answer::{Answer, AnswerFault, Switched};
pub use self::handshake::{Asked, Offer, UpgradeFault};
