//! What the fuzz targets do: each takes any bytes and panics when something that must hold does not. The targets in
//! `fuzz_targets` hand them what libFuzzer makes up; the test `corpora` hands them what is kept in `corpus`.

mod answers;
mod config;
mod escape;
mod frames;
mod h2;
mod headers;
mod http1;
mod login;
mod path;
mod proxy_header;
mod readings;
mod stack;
mod token;
mod websocket;

/// What a target does with an input.
pub type Body = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Body); 12] = [
    ("answers", answers::run),
    ("config", config::run),
    ("escape", escape::run),
    ("frames", frames::run),
    ("h2", h2::run),
    ("headers", headers::run),
    ("http1", http1::run),
    ("login", login::run),
    ("path", path::run),
    ("proxy_header", proxy_header::run),
    ("token", token::run),
    ("websocket", websocket::run),
];

/// Gives one input to a target.
///
/// # Panics
///
/// When something does not hold, and when there is no such target.
pub fn run(target: &str, data: &[u8]) {
    let known = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = known.expect("a target of this name");
    body(data);
}
