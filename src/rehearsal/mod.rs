//! The whole path of a request in memory: a client's bytes go through the connection, the stages and the upstream's
//! writer as they always do, but there are no sockets and no data-plane threads. For the proof at the start and for tests.
//!
//! A [`Rehearsal`] is a data-plane thread of a configuration, whose upstreams are replaced by one that records what it
//! sees and answers every request with an empty 200. It has a store in memory without users, so that users are who their
//! tokens say, and a key of its own, with which [`Rehearsal::token`] signs. TLS towards clients is left out, and nothing
//! is logged. Nobody looks at deadlines.
//!
//! On a [`Stage`] of one's own, it is the configured users and keys that count, and what is logged can be read.

mod recorder;
mod walk;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf};
use tokio::runtime::{Handle, LocalOptions, LocalRuntime};
use tracing::subscriber::NoSubscriber;

pub use self::recorder::{Field, Seen, SeenRequest};
pub use self::walk::Walk;
use crate::base::algorithm::Algorithm;
use crate::base::clock::{Clock, EARLIEST_UNIX_MS};
use crate::base::ids::{RandomnessUnavailable, random_bytes};
use crate::base::secret::Secret;
use crate::base::user::{User, UserField};
use crate::config::{self, Config, Key, KeyMaterial, UserSource};
use crate::connection::{self, Purpose};
use crate::identity::Firewall;
use crate::net::transport::Transport;
use crate::snapshot::{AssemblyError, Opened, Snapshot};
use crate::store::{Store, StoreError};
use crate::telemetry::sink::{Sink, Writer};
use crate::tokens::{Expected, IssueError, Issuer};
use crate::upstream::{Memory, SharedUpstream};
use crate::worker::{Seat, Worker};

/// Bytes that either side of the client's connection may write ahead of the other.
const CONNECTION_BYTES: usize = 64 * 1024;

/// How many turns of all tasks may bring nothing before nothing more is expected of them.
const QUIET_TURNS: u32 = 64;

/// How long one sleeps while other threads are waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the log may take to be written, which is memory.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Life of a token, in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 3600;

/// What a rehearsal is surrounded by.
pub struct Stage {
    /// What is removed from requests.
    pub firewall: Arc<Firewall>,
    /// The time.
    pub clock: Clock,
    /// Which keys sign and verify tokens.
    pub keys: Keys,
    /// The store; without one it is in memory and empty.
    pub store: Option<config::Store>,
    /// Where requests are logged to, if the configuration logs them.
    pub output: Box<dyn io::Write + Send>,
}

/// Which keys sign and verify tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One of the rehearsal's own, which signs; those that are configured verify beside it.
    Own,
    /// Those of the configuration only.
    Configured,
}

/// A client that sends its bytes as fast as they are taken.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Where it seems to come from; this decides whether it is a trusted proxy.
    pub address: SocketAddr,
    /// How long it waits for an answer that other threads work on, such as that of a token route, or for one that needs
    /// more bytes than it sends.
    pub patience: Duration,
}

/// What came of a client's bytes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the client got.
    pub answer: Vec<u8>,
    /// What the upstream saw meanwhile, in the order in which it was complete.
    pub seen: Vec<Seen>,
    /// Who ended the connection.
    pub ended: Ended,
}

/// Who ended the connection of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// The client, after everything was answered, or nothing more was to be expected.
    #[default]
    ByClient,
    /// The gateway, while the client might have sent more.
    ByGateway,
}

/// Why there is no rehearsal.
#[derive(Debug)]
pub enum RehearsalError {
    /// There was no randomness.
    Randomness(RandomnessUnavailable),
    /// There was no store in memory.
    Store(StoreError),
    /// The parts could not be put together.
    Assembly(AssemblyError),
    /// No token could be signed.
    Token(IssueError),
    /// The system refused a runtime or a thread.
    System(io::Error),
}

impl fmt::Display for RehearsalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Randomness(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Assembly(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
            Self::System(error) => write!(f, "the system refused a thread: {error}"),
        }
    }
}

impl std::error::Error for RehearsalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Randomness(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Assembly(error) => Some(error),
            Self::Token(error) => Some(error),
            Self::System(error) => Some(error),
        }
    }
}

/// A data-plane thread in memory. It belongs to the thread that made it, and is not to be used inside another runtime.
pub struct Rehearsal {
    worker: Rc<Worker>,
    issuer: Issuer,
    clock: Clock,
    log: Writer,
    seen: Rc<RefCell<Vec<Seen>>>,
    /// Last, so that it outlives what its tasks hold.
    runtime: LocalRuntime,
}

impl Rehearsal {
    /// A rehearsal of a configuration, behind the firewall that the configuration asks for.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`]; none of them is a fault of the configuration.
    pub fn new(config: Config) -> Result<Self, RehearsalError> {
        let firewall = Firewall::new(&config);
        Self::behind(Arc::new(firewall), config)
    }

    /// The same behind a given firewall.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`].
    pub fn behind(firewall: Arc<Firewall>, mut config: Config) -> Result<Self, RehearsalError> {
        config.tokens.keys = Vec::new();
        config.tokens.claims = UserField::ALL.to_vec();
        config.users.source = UserSource::Store;
        config.log.access = false;
        let output = Box::new(io::sink());
        Self::on(Stage { firewall, clock: Self::clock(), keys: Keys::Own, store: None, output }, config)
    }

    /// The same on a given stage.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`].
    pub fn on(stage: Stage, mut config: Config) -> Result<Self, RehearsalError> {
        let Stage { firewall, clock, keys, store, output } = stage;
        if keys == Keys::Own {
            config.tokens.keys.insert(0, own_key()?);
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default());
        let runtime = runtime.map_err(RehearsalError::System)?;
        // The sink's thread ends with its last user.
        let (sink, log) = Sink::start(output).map_err(RehearsalError::System)?;
        let seen = Rc::new(RefCell::default());
        let (recording, time) = (Rc::clone(&seen), clock.clone());
        let (worker, issuer) = runtime.block_on(async move {
            let (memory, target) = Memory::new();
            tokio::task::spawn_local(recorder::serve(target, recording));
            let upstreams = config.upstreams.iter();
            let upstreams = upstreams.map(|settings| Arc::new(SharedUpstream::in_memory(settings, &memory)));
            let upstreams = upstreams.collect();
            let store = match store {
                Some(settings) => Store::connect(&settings).await,
                None => Store::in_memory().await,
            };
            let store = store.map_err(RehearsalError::Store)?;
            let (metrics, refusals, spans) = (None, None, None);
            let (tls, https_port) = (None, 443);
            let opened = Opened { store, upstreams, firewall, tls, https_port, metrics, refusals, spans };
            let tokens = config.tokens.clone();
            let snapshot = Snapshot::assemble(config, time, sink, opened).await;
            let snapshot = snapshot.map_err(RehearsalError::Assembly)?;
            let issuer = Issuer::new(Arc::clone(&snapshot.ring), &tokens);
            let (control, seat) = (Handle::current(), Seat::alone());
            let worker = Worker::new(&snapshot, control, Arc::default(), Arc::default(), seat);
            Ok((Rc::new(worker.map_err(RehearsalError::Randomness)?), issuer))
        })?;
        Ok(Self { worker, issuer, clock, log, seen, runtime })
    }

    /// A clock that stands, because that of the machine may be wrong, and the proof does not depend on it.
    fn clock() -> Clock {
        Clock::manual(EARLIEST_UNIX_MS).0
    }

    /// An access token for a user, who is what it says.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Token`].
    pub fn token(&self, user: &User) -> Result<String, RehearsalError> {
        self.token_with(user, Vec::new())
    }

    /// The same with more claims.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Token`].
    pub fn token_with(&self, user: &User, claims: Vec<(String, Value)>) -> Result<String, RehearsalError> {
        let now = self.clock.now_unix_seconds();
        let times = (now, now.saturating_add(TOKEN_LIFETIME_SECONDS));
        let minted = self.issuer.mint(Expected::Access, user, times, claims);
        minted.map(|minted| minted.text).map_err(RehearsalError::Token)
    }

    /// Sends a client's bytes on a connection of its own, closes the client's side once nothing more is to be expected,
    /// and tells what came of it. Connections to the upstream are kept from one client to the next, as they always are.
    pub fn send(&self, client: Client, bytes: &[u8]) -> Outcome {
        // What would be logged tells of requests that nobody sent.
        let outcome = tracing::subscriber::with_default(NoSubscriber::default(), || {
            self.runtime.block_on(self.converse(client, bytes))
        });
        self.worker.flush_log();
        self.log.flush(LOG_PATIENCE);
        outcome
    }

    async fn converse(&self, client: Client, bytes: &[u8]) -> Outcome {
        let (near, far) = tokio::io::duplex(CONNECTION_BYTES);
        let (reading, mut writing) = tokio::io::split(near);
        let connection = Transport::memory(far);
        let worker = Rc::clone(&self.worker);
        let serving = connection::serve(worker, connection, client.address, Purpose::Serve);
        let serving = tokio::task::spawn_local(serving);
        let mut conversation = Conversation { reading, answer: Vec::new(), patience: client.patience };
        let ended = {
            // A gateway that has closed the connection takes no more, which is seen when it is read from.
            let sending = pin!(async { writing.write_all(bytes).await.unwrap_or_default() });
            conversation.until_quiet(&self.worker, sending).await
        };
        if ended == Ended::ByClient {
            let closing = pin!(async { writing.shutdown().await.unwrap_or_default() });
            conversation.until_quiet(&self.worker, closing).await;
        }
        let answer = std::mem::take(&mut conversation.answer);
        drop((conversation, writing));
        // Whatever of it goes on for a client that is gone shows in the next turns.
        for _ in 0..QUIET_TURNS {
            tokio::task::yield_now().await;
        }
        serving.abort();
        Outcome { answer, seen: self.seen.take(), ended }
    }
}

/// A key that nobody else knows.
fn own_key() -> Result<Key, RehearsalError> {
    let secret = random_bytes::<32>().map_err(RehearsalError::Randomness)?;
    Ok(Key {
        kid: "rehearsal".to_owned(),
        algorithm: Algorithm::HS256,
        material: KeyMaterial::Secret(Secret::new(secret)),
        verify_until: None,
    })
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rehearsal")
    }
}

/// The client's side of a connection.
struct Conversation {
    reading: ReadHalf<DuplexStream>,
    answer: Vec<u8>,
    /// What is left of it.
    patience: Duration,
}

/// What a look at the connection has brought.
enum Look {
    Something,
    Nothing,
    End,
}

impl Conversation {
    /// Goes on with writing and reads, until the gateway ends the connection or nothing more is to be expected.
    async fn until_quiet<F: Future<Output = ()> + Unpin>(
        &mut self,
        worker: &Worker,
        mut writing: F,
    ) -> Ended {
        let (mut quiet, mut written) = (0, false);
        while quiet < QUIET_TURNS {
            if !written {
                let wrote = std::future::poll_fn(|cx| {
                    Poll::Ready(std::pin::Pin::new(&mut writing).poll(cx).is_ready())
                });
                written = wrote.await;
            }
            match self.look().await {
                Look::End => return Ended::ByGateway,
                Look::Something => quiet = 0,
                Look::Nothing => quiet += 1,
            }
            if quiet == QUIET_TURNS && worker.is_waiting() && !self.patience.is_zero() {
                self.patience = self.patience.saturating_sub(PAUSE);
                tokio::time::sleep(PAUSE).await;
                quiet = 0;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ended::ByClient
    }

    /// Takes what there is.
    async fn look(&mut self) -> Look {
        let mut piece = [0; 4096];
        let Self { reading, answer, .. } = self;
        std::future::poll_fn(move |cx| {
            let mut buffer = ReadBuf::new(&mut piece);
            Poll::Ready(match std::pin::Pin::new(&mut *reading).poll_read(cx, &mut buffer) {
                Poll::Pending => Look::Nothing,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    answer.extend_from_slice(buffer.filled());
                    Look::Something
                }
                Poll::Ready(Ok(()) | Err(_)) => Look::End,
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests;
