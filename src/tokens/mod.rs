//! Tokens: what they say, whether they pass, and how new ones are made.
//!
//! A token is the compact form of a JSON Web Signature (RFC 7515 section 7.1) over a set of claims (RFC 7519). Everything
//! that is not exactly that is refused. The library is used for signatures only: its own checks of claims have a leeway,
//! skip `nbf`, `iat` and `crit`, and read the clock themselves.

pub mod assertion;
mod claims;
mod compact;
pub mod issue;
pub mod json;
pub mod verify;

pub use assertion::{Asserter, Statement};
pub use claims::Claims;
pub use issue::{Grant, IssueError, Issuer, Minted, NewRefresh, TokenPair};
pub use verify::{Expected, TokenFault, VerifiedBy, Verifier};

#[cfg(test)]
pub(crate) mod tests;
