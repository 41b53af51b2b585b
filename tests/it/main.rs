//! The whole gateway from outside: raw bytes in, raw bytes out, and what the log says of them.

mod support;

mod authn;
mod identity;
mod intake;
mod limits;
mod proxying;
mod tokens;
