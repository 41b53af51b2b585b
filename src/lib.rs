//! Tollgate: a reverse-proxy authentication gateway. It issues JSON Web Tokens at its token routes, validates the Bearer
//! token on every other request, and forwards what passes with identity headers that a client cannot forge.
//!
//! # Two worlds
//!
//! The *data plane* is one thread per core ([`worker`]), each with its own listeners, upstream connections and memory of
//! verified tokens. A request never leaves its thread, and keeps to one [`worker::Generation`] of the configuration. The
//! *control plane* is one ordinary runtime beside it: the store, password hashing, the token routes, the watching of users,
//! the admin listener. The data plane works from one immutable [`snapshot`].
//!
//! # The life of a request is a chain of types
//!
//! Each stage takes the proof of the one before, made in the stage's own module with private fields, so that a stage
//! cannot be left out:
//!
//! ```text
//! TcpStream  -http::http1-> Request      heads, deadlines and last words              400 408 414 431
//!   -request::intake->       Exchange    host, path and framing have one meaning      400 405 414 417
//!   -routing->               Routed      host, path, method                           404 405 413
//!   -admission->             Admitted    within the limits by network and by header         429
//!   -authn->                 Identified  the token, and the user as it is now         401 503
//!   -authz->                 Permitted   the one decision, and the limits by user     401 403 429
//!   -identity::Sealer->      UpstreamRequest  what the gateway owns is removed, then set   502
//!   -upstream->              UpstreamResponse                                         502 503 504
//!   -response->              the answer, with exactly one access record, also when it is cut off
//! ```
//!
//! [`pipeline`] strings them together on one screen. Requests to the token routes leave the chain after the intake and
//! are answered by [`endpoints`] on the control plane.
//!
//! # The map
//!
//! | module | what it is for |
//! |---|---|
//! | [`base`] | clock, ids, secrets, named limits, the normal form of paths, patterns, reasons: no I/O |
//! | [`config`] | from the text of `gateway.toml` to a [`config::Config`] that cannot be wrong |
//! | [`telemetry`] | the access log, events, the sink that never blocks |
//! | [`keys`], [`tokens`] | the key ring; verifying and issuing |
//! | [`store`], [`users`] | the SQLite file or PostgreSQL database; who may log in, hashing under a budget |
//! | [`sessions`] | what a login begins, what a refresh is exchanged for, what is revoked |
//! | [`limits`] | failed logins and what they lock; how many requests may come |
//! | [`net`], [`http`] | listeners, peers, deadlines; hop-by-hop fields, bodies, refusals on the wire |
//! | [`request`], [`routing`], [`admission`], [`authn`], [`authz`], [`identity`], [`upstream`], [`response`] | the stages above |
//! | [`fixed`] | what routes without an upstream answer: redirects and fixed responses |
//! | [`upgrade`] | The life of a WebSocket: its opening, its frames, the tunnel |
//! | [`endpoints`], [`admin`] | what the gateway answers itself |
//! | [`pipeline`], [`refusals`], [`last_words`], [`worker`], [`snapshot`] | the stages strung together, on a thread |
//! | [`rehearsal`], [`proof`] | that thread in memory, without sockets; the proof at the start that nobody can forge an identity |
//! | [`trial`] | requests that people think up, sent through a rehearsal: for `explain` and `[[tests]]` |
//! | [`service`], [`handover`] | what a service manager gives and is told; sockets for the process that follows |
//! | [`reload`] | the next configuration: read, opened and proved beside the running one, then handed to the threads |
//! | [`app`] | the composition root: opens, binds, then serves |
//! | [`bench`] | load on a URL, by clients, for `tollgate bench`; no part of the gateway |
//! | [`lifecycle`], [`cli`] | signals and the two-stage end; the command line |
//!
//! Modules use only what stands above them in this table or beside them. `docs/architecture.md` has the reasons.

pub mod admin;
pub mod admission;
pub mod app;
pub mod authn;
pub mod authz;
pub mod base;
pub mod bench;
pub mod cli;
pub mod config;
pub mod connection;
pub mod endpoints;
pub mod fixed;
pub mod handover;
pub mod http;
pub mod identity;
pub mod keys;
pub mod last_words;
pub mod lifecycle;
pub mod limits;
pub mod net;
pub mod pipeline;
pub mod proof;
pub mod refusals;
pub mod rehearsal;
pub mod reload;
pub mod request;
pub mod response;
pub mod routing;
pub mod service;
pub mod sessions;
pub mod snapshot;
pub mod store;
pub mod streams;
pub mod telemetry;
pub mod tokens;
pub mod trial;
pub mod upgrade;
pub mod upstream;
pub mod users;
pub mod worker;
