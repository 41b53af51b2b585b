//! The users with their sessions: who logs in, refreshes and logs out while the load runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::http1::Http1;
use crate::ledger::{Count, Ledger, Way};

pub(crate) const USERS: usize = 500;
pub(crate) const PASSWORD: &str = "the password of all of them";
/// Ended sessions of which tokens are still tried.
const REMEMBERED: usize = 64;
/// Of so many requests one has a token of an ended session.
const TRY_ENDED: u64 = 40;
/// Of so many requests one has an answer that the gateway does not copy.
const LARGE: u64 = 128;
/// Of so many turns of a keeper one logs a user out; the others refresh.
const LOG_OUT: u64 = 3;
/// How often a keeper has a turn.
const TURN: Duration = Duration::from_millis(20);

const LIVE: u8 = 0;
const ENDING: u8 = 1;
const ENDED: u8 = 2;

/// A login of a user with its newest tokens.
pub(crate) struct Session {
    /// The user's id in the store, which the upstream has to see.
    id: String,
    name: String,
    access: String,
    refresh: String,
    /// All tokens of a session share it.
    state: Arc<AtomicU8>,
}

impl Session {
    /// Whether its end was asked for.
    pub(crate) fn ends(&self) -> bool {
        self.state.load(Ordering::SeqCst) != LIVE
    }

    fn ended(&self) -> bool {
        self.state.load(Ordering::SeqCst) == ENDED
    }

    pub(crate) fn access(&self) -> &str {
        &self.access
    }
}

/// A request that is about to be sent, with all that its answer is judged by.
pub(crate) struct Ticket {
    pub(crate) nonce: String,
    pub(crate) session: Arc<Session>,
    /// The session's end had been answered before the request was sent.
    pub(crate) ended_before: bool,
    pub(crate) tls: bool,
    pub(crate) way: Way,
    /// How often the upstream repeats its line, so that answers differ in length.
    pub(crate) lines: usize,
}

impl Ticket {
    /// What the upstream answers when it saw this request as this user's.
    pub(crate) fn expected(&self) -> String {
        line(&self.nonce, &self.session.id, &self.session.name).repeat(self.lines)
    }

    /// The body of the request, which the upstream looks at.
    pub(crate) fn body(&self) -> String {
        format!("{}\n", self.nonce).repeat(self.lines * 4)
    }

    pub(crate) fn describe(&self) -> String {
        let Self { nonce, session, ended_before, tls, way, .. } = self;
        format!(
            "{way:?} (TLS: {tls}) as {} ({}), nonce {nonce}, ended before: {ended_before}",
            session.name, session.id
        )
    }

    /// What an answer on a WebSocket says.
    pub(crate) fn message(&self, number: usize) -> String {
        format!("{number} {}", line(&self.nonce, &self.session.id, &self.session.name))
    }
}

/// The line that an upstream answers with.
pub(crate) fn line(nonce: &str, id: &str, name: &str) -> String {
    format!("{nonce} {id} {name}\n")
}

/// The users of one gateway.
pub(crate) struct People {
    current: Vec<Mutex<Arc<Session>>>,
    ended: Mutex<VecDeque<Arc<Session>>>,
    /// Logouts are taken for answered without being sent. Only to see whether that is found.
    pub(crate) forget_logouts: AtomicBool,
}

/// The number of the next request.
static NONCE: AtomicU64 = AtomicU64::new(1);

impl People {
    /// Logs everybody in.
    pub(crate) async fn log_in(gateway: &Gateway) -> Self {
        let mut sessions = Vec::new();
        let mut http = Http1::connect(gateway).await.expect("the gateway serves");
        for user in 0..USERS {
            sessions.push(Mutex::new(Arc::new(log_in(&mut http, user).await.expect("a login succeeds"))));
        }
        Self { current: sessions, ended: Mutex::default(), forget_logouts: AtomicBool::new(false) }
    }

    /// A request as somebody, now and then with a token that must not pass any more.
    pub(crate) fn ticket(&self, dice: &mut Dice, tls: bool, way: Way) -> Ticket {
        let session = if dice.one_in(TRY_ENDED) { self.an_ended_one(dice) } else { None };
        let session = session.unwrap_or_else(|| self.of(dice.below(USERS)));
        let lines = match (dice.one_in(LARGE), dice.one_in(8)) {
            (true, _) => 8_000 + dice.below(12_000),
            (false, true) => 1 + dice.below(400),
            (false, false) => 1 + dice.below(4),
        };
        Self::ticket_of(session, tls, way, lines)
    }

    fn ticket_of(session: Arc<Session>, tls: bool, way: Way, lines: usize) -> Ticket {
        let nonce = format!("{:016x}", NONCE.fetch_add(1, Ordering::Relaxed));
        Ticket { nonce, ended_before: session.ended(), session, tls, way, lines }
    }

    fn of(&self, user: usize) -> Arc<Session> {
        Arc::clone(&self.current[user].lock().unwrap())
    }

    fn an_ended_one(&self, dice: &mut Dice) -> Option<Arc<Session>> {
        let ended = self.ended.lock().unwrap();
        let place = dice.below(ended.len().max(1));
        ended.get(place).map(Arc::clone)
    }

    /// Forgets which sessions have ended.
    pub(crate) fn forget_ended(&self) {
        self.ended.lock().unwrap().clear();
    }

    /// Refreshes and logs out one user after the other, of every `of` the one at `place`, until it is told to stop.
    pub(crate) async fn keep(
        &self,
        gateway: &Gateway,
        ledger: &Ledger,
        place: usize,
        of: usize,
        stop: &AtomicBool,
    ) {
        let mut dice = Dice::new();
        let mut turns = tokio::time::interval(TURN);
        let mut http = Http1::connect(gateway).await.expect("the gateway serves");
        while !stop.load(Ordering::Relaxed) {
            turns.tick().await;
            let user = dice.below(USERS / of) * of + place;
            let turn = async {
                if dice.one_in(LOG_OUT) {
                    self.log_out(&mut http, ledger, user).await
                } else {
                    self.refresh(&mut http, ledger, user).await
                }
            };
            if let Err(error) = turn.await {
                ledger.fault(Count::Unexpected, || format!("a token route: {error}"));
                http = Http1::connect(gateway).await.expect("the gateway serves");
                // Nobody is left with a session that counts as ended.
                if self.of(user).ends() {
                    let again = log_in(&mut http, user).await.expect("a login succeeds");
                    *self.current[user].lock().unwrap() = Arc::new(again);
                }
            }
        }
    }

    async fn refresh(&self, http: &mut Http1, ledger: &Ledger, user: usize) -> Result<(), String> {
        let before = self.of(user);
        let answer = http.post("/api/token/refresh/", &json!({ "refresh": before.refresh })).await?;
        let session = Session {
            id: before.id.clone(),
            name: before.name.clone(),
            access: text(&answer, "access")?,
            refresh: text(&answer, "refresh")?,
            state: Arc::clone(&before.state),
        };
        if user_of(&session.access).as_ref() != Some(&session.id) {
            ledger.fault(Count::Wrong, || {
                format!("a refresh of {} gave a token of somebody else", session.name)
            });
        }
        *self.current[user].lock().unwrap() = Arc::new(session);
        ledger.add(Count::Refreshed);
        Ok(())
    }

    /// Ends a session, tries its token at once, and logs in again.
    async fn log_out(&self, http: &mut Http1, ledger: &Ledger, user: usize) -> Result<(), String> {
        let session = self.of(user);
        session.state.store(ENDING, Ordering::SeqCst);
        if !self.forget_logouts.load(Ordering::SeqCst) {
            http.post("/api/token/blacklist/", &json!({ "refresh": session.refresh })).await?;
        }
        session.state.store(ENDED, Ordering::SeqCst);
        ledger.add(Count::Revoked);
        let ticket = Self::ticket_of(Arc::clone(&session), http.tls, Way::KeepAlive, 1);
        http.send(Http1::request(&ticket, false).as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = http.answer().await.map_err(|error| format!("a request after a logout: {error}"))?;
        ledger.judge(&ticket, &answer);
        let again = log_in(http, user).await?;
        if again.id != session.id {
            ledger.fault(Count::Wrong, || format!("a login of {} is somebody else's", session.name));
        }
        *self.current[user].lock().unwrap() = Arc::new(again);
        let mut ended = self.ended.lock().unwrap();
        ended.push_back(session);
        if ended.len() > REMEMBERED {
            ended.pop_front();
        }
        Ok(())
    }
}

pub(crate) fn name_of(user: usize) -> String {
    format!("user-{user:03}")
}

async fn log_in(http: &mut Http1, user: usize) -> Result<Session, String> {
    let name = name_of(user);
    let answer = http.post("/api/token/", &json!({ "username": name, "password": PASSWORD })).await?;
    let (access, refresh) = (text(&answer, "access")?, text(&answer, "refresh")?);
    let id = user_of(&access).ok_or("a token without a user")?;
    Ok(Session { id, name, access, refresh, state: Arc::new(AtomicU8::new(LIVE)) })
}

fn text(answer: &Value, member: &str) -> Result<String, String> {
    answer[member].as_str().map(str::to_owned).ok_or_else(|| format!("an answer without {member}"))
}

/// The user whom a token names.
fn user_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["user_id"].as_str().map(str::to_owned)
}

/// Numbers at random, as far as a load needs it (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("random bytes");
        Self(u64::from_ne_bytes(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}
