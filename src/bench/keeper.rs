//! Logs everybody in, and keeps the tokens fresh beside the load, on a thread of its own.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::dial::{Dialer, Protocol};
use super::exchange::{Answer, Keep, Outgoing};
use super::fault::Failed;
use super::people::Person;
use super::sessions::{Refused, Sessions};
use super::tokens::Tokens;
use crate::base::clock::Clock;
use crate::base::secret::Secret;

/// Logins and refreshes at a time.
pub const MAX_PARALLEL: usize = 8;

/// How long it is tried again after 429 and 503 before it is given up.
pub const MAX_DEFERRAL: Duration = Duration::from_mins(5);

/// A session has its next token when a fifth of the life of this one is left.
const FRESH_SHARE: f64 = 0.8;

/// How long a refresh that failed is put off.
const SECOND_TRY: Duration = Duration::from_secs(1);

/// The token routes of a run.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Takes `username` and `password`.
    pub login: Dialer,
    /// Takes `refresh`.
    pub refresh: Dialer,
    /// How long one request may take.
    pub timeout: Duration,
}

/// Why a login failed. The text of an answer is not repeated.
#[derive(Debug)]
pub struct LoginError {
    /// Whose login.
    pub name: String,
    /// What was asked.
    pub url: String,
    /// What came of it.
    pub why: Why,
}

/// What came of a request to a token route.
#[derive(Debug)]
pub enum Why {
    /// No answer.
    Failed(Failed),
    /// An answer of this status.
    Status(StatusCode),
    /// A good answer without tokens in it.
    NoTokens,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the login of {} at {} failed: ", self.name.escape_debug(), self.url)?;
        match &self.why {
            Why::Failed(failed) => failed.fmt(f),
            Why::Status(status) => write!(f, "the answer was {status}"),
            Why::NoTokens => f.write_str("there is no access token in the answer"),
        }
    }
}

impl std::error::Error for LoginError {}

/// A session with what keeps it alive.
#[derive(Debug)]
pub struct Kept {
    person: Arc<Person>,
    refresh: Option<Secret>,
    lifetime: Option<Duration>,
    begun: Instant,
}

/// Logs in for so many sessions, whose users take turns. `told` hears how many are done.
///
/// # Errors
///
/// The first login that fails for good.
pub async fn log_in(
    routes: &Routes,
    people: &[Arc<Person>],
    sessions: usize,
    deferrals: &AtomicU64,
    mut told: impl FnMut(usize),
) -> Result<Vec<(Kept, HeaderValue)>, LoginError> {
    let logins = (0..sessions).zip(people.iter().cycle());
    let logins = logins.map(|(_, person)| login(routes, Arc::clone(person), deferrals));
    let mut logins = stream::iter(logins).buffered(MAX_PARALLEL);
    let mut done = Vec::with_capacity(sessions);
    while let Some(session) = logins.next().await {
        done.push(session?);
        told(done.len());
    }
    Ok(done)
}

async fn login(
    routes: &Routes,
    person: Arc<Person>,
    deferrals: &AtomicU64,
) -> Result<(Kept, HeaderValue), LoginError> {
    let password = String::from_utf8_lossy(person.password.expose());
    let body = json!({ "username": person.name, "password": password });
    let asked = ask(&routes.login, &body, routes.timeout, deferrals).await;
    let tokens = asked.map_err(|why| LoginError {
        name: person.name.clone(),
        url: routes.login.endpoint().to_string(),
        why,
    })?;
    let Tokens { authorization, refresh, lifetime } = tokens;
    Ok((Kept { person, refresh, lifetime, begun: Instant::now() }, authorization))
}

/// Keeps the sessions fresh until nobody can report a refusal any more.
pub async fn keep(
    routes: Routes,
    mut kept: Vec<Kept>,
    sessions: Arc<Sessions>,
    mut refused: UnboundedReceiver<Refused>,
) {
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    due.extend(
        kept.iter().enumerate().filter_map(|(number, kept)| Some(Reverse((kept.due(number)?, number)))),
    );
    let mut renewing = FuturesUnordered::new();
    let mut asked = HashSet::new();
    loop {
        let next = due.peek().map(|Reverse((moment, _))| *moment);
        let has_room = renewing.len() < MAX_PARALLEL;
        tokio::select! {
            () = until(next), if has_room && next.is_some() => {
                let Some(Reverse((_, number))) = due.pop() else { continue };
                if let Some(kept) = kept.get(number).filter(|_| asked.insert(number)) {
                    renewing.push(renewal(&routes, number, kept, &sessions));
                }
            }
            report = refused.recv() => {
                let Some(Refused { session, generation }) = report else { return };
                // A token that has been replaced meanwhile is no reason to replace the next one.
                if sessions.generation(session) == Some(generation) && !asked.contains(&session) {
                    due.push(Reverse((Instant::now(), session)));
                }
            }
            Some((number, renewed)) = renewing.next() => {
                asked.remove(&number);
                let Some(kept) = kept.get_mut(number) else { continue };
                let again = kept.take(renewed, number, &sessions);
                // What is left of earlier plans comes too early then, and is harmless.
                due.retain(|Reverse((_, other))| *other != number);
                due.extend(again.map(|moment| Reverse((moment, number))));
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}

type Renewed = Result<Tokens, Why>;

/// A refresh, or a login where there is no refresh token or it is not taken any more. It owns what it needs.
fn renewal(
    routes: &Routes,
    number: usize,
    kept: &Kept,
    sessions: &Arc<Sessions>,
) -> impl Future<Output = (usize, Renewed)> + use<> {
    let (routes, sessions) = (routes.clone(), Arc::clone(sessions));
    let (person, refresh) = (Arc::clone(&kept.person), kept.refresh.clone());
    async move {
        let counts = &sessions.counts;
        if let Some(refresh) = refresh {
            let body = json!({ "refresh": String::from_utf8_lossy(refresh.expose()) });
            match ask(&routes.refresh, &body, routes.timeout, &counts.deferrals).await {
                Ok(tokens) => {
                    counts.refreshes.fetch_add(1, Ordering::Relaxed);
                    let rotated = u64::from(tokens.refresh.is_some());
                    counts.rotations.fetch_add(rotated, Ordering::Relaxed);
                    return (number, Ok(tokens));
                }
                // The session has ended, or the route is none: a login begins another one.
                Err(Why::Status(status)) if status.is_client_error() => {}
                Err(why) => return (number, Err(why)),
            }
        }
        let body = json!({
            "username": person.name, "password": String::from_utf8_lossy(person.password.expose()),
        });
        let tokens = ask(&routes.login, &body, routes.timeout, &counts.deferrals).await;
        counts.logins.fetch_add(u64::from(tokens.is_ok()), Ordering::Relaxed);
        (number, tokens)
    }
}

impl Kept {
    /// When its next token is to be fetched. Sessions that began together do not do that together.
    fn due(&self, number: usize) -> Option<Instant> {
        const SPREAD: [f64; 8] = [1.0, 0.92, 0.96, 0.88, 0.98, 0.9, 0.94, 0.86];
        let spread = SPREAD.get(number % SPREAD.len()).copied().unwrap_or(1.0);
        self.begun.checked_add(self.lifetime?.mul_f64(FRESH_SHARE * spread))
    }

    /// Takes what a renewal brought; returns when the next one is due.
    fn take(&mut self, renewed: Renewed, number: usize, sessions: &Sessions) -> Option<Instant> {
        let Ok(Tokens { authorization, refresh, lifetime }) = renewed else {
            sessions.counts.failures.fetch_add(1, Ordering::Relaxed);
            return Some(Instant::now() + SECOND_TRY);
        };
        // Without rotation the refresh token stays what it is.
        self.refresh = refresh.or_else(|| self.refresh.take());
        (self.lifetime, self.begun) = (lifetime, Instant::now());
        sessions.renew(number, authorization);
        self.due(number)
    }
}

/// Asks a token route, again after 429 and 503 when it says so.
async fn ask(
    dialer: &Dialer,
    body: &serde_json::Value,
    timeout: Duration,
    deferrals: &AtomicU64,
) -> Result<Tokens, Why> {
    let mut fields = HeaderMap::new();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let body = Bytes::from(body.to_string());
    let outgoing = Outgoing::new(Method::POST, dialer.endpoint().clone(), fields, body);
    let began = Instant::now();
    loop {
        let exchange = tokio::time::timeout(timeout, once(dialer, &outgoing)).await;
        let answer = exchange.unwrap_or_else(|_| Err(Failed::timeout())).map_err(Why::Failed)?;
        let status = answer.head.status;
        if status.is_success() {
            return Tokens::read(&answer.body, Clock::System.now_unix_seconds()).ok_or(Why::NoTokens);
        }
        let wait = retry_after(&answer.head.headers);
        if !matches!(status.as_u16(), 429 | 503) || began.elapsed() + wait > MAX_DEFERRAL {
            return Err(Why::Status(status));
        }
        deferrals.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(wait).await;
    }
}

/// Seconds (RFC 9110 section 10.2.3); one where there are none, or a date.
fn retry_after(fields: &HeaderMap) -> Duration {
    let value = fields.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Duration::from_secs(value.and_then(|value| value.trim().parse().ok()).unwrap_or(1))
}

/// One request on a connection of its own.
///
/// # Errors
///
/// Why there is no whole answer.
pub async fn once(dialer: &Dialer, outgoing: &Outgoing) -> Result<Answer, Failed> {
    let received = Rc::new(Cell::new(0));
    match dialer.protocol() {
        Protocol::Http1 => dialer.http1(&received).await?.exchange(outgoing, None, Keep::Body).await,
        Protocol::Http2 => dialer.http2(&received).await?.exchange(outgoing, None, Keep::Body).await,
    }
}
