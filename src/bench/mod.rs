//! `tollgate bench`: load on a URL, through the gateway and past it, with figures that can be believed.
//!
//! A plan ([`Plan`]) says what is done. Everybody logs in ([`keeper`]), and their tokens are kept fresh on a thread of their
//! own. The threads of load ([`worker`]) share nothing but these tokens: each has a runtime, its connections ([`line`]), and
//! at a fixed rate its share of a schedule ([`pace`], [`tickets`]). What they count ([`tally`]) is put together every second
//! ([`run`]) and told at the end ([`report`], [`text`], [`document`], [`page`]).
//!
//! **Coordinated omission.** At a fixed rate a request is due at a moment that nothing moves. A server that stalls makes
//! requests wait for a connection, and that wait is part of their time. What is due and never sent, and what is not answered
//! in time, counts with the time that was waited. Without a rate a report says that its times are service times.

pub mod dial;
pub mod document;
pub mod endpoint;
pub mod exchange;
pub mod fault;
pub mod figures;
pub mod keeper;
pub mod line;
pub mod machine;
pub mod pace;
pub mod page;
pub mod people;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod report;
pub mod rows;
pub mod run;
pub mod sessions;
pub mod stream;
pub mod tally;
pub mod text;
pub mod tickets;
pub mod timer;
pub mod timing;
pub mod tokens;
pub mod trust;
pub mod worker;

pub use self::dial::Protocol;
pub use self::endpoint::{Endpoint, EndpointError};
pub use self::pace::{Pace, Rate};
pub use self::people::{ListError, Person};
pub use self::plan::{Callers, Plan};
pub use self::progress::Progress;
pub use self::report::Report;
pub use self::run::{BenchError, Told, run};
pub use self::trust::Trust;
