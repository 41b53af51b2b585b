//! The command line: one file for each verb.

pub mod hash_password;
pub mod user;
