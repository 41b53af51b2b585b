//! The hash pool: every password hash runs here, under a budget of memory and processors, with a bounded queue.
//!
//! One semaphore holds both bounds. It has a permit for each KiB of the memory budget; a hash takes as many as it needs,
//! but at least one processor's share of them all. A hash that its thread cannot go on with is run by another one; then
//! the first run goes on beside the budget, and there are never more of these than fit into the budget once.
//!
//! A login takes its turn before anybody is looked up: as many have one as hashes can run, and one more, so that the next
//! hash is ready when a thread is. Of a flood, which comes within some milliseconds, only that much is worked on at once,
//! and the rest waits without work.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::base::bounds;
use crate::base::ids::{self, RandomnessUnavailable};
use crate::base::secret::Secret;
use crate::config::Hashing;

use super::hash::{Cost, HashFault, StoredHash};
use super::threads::Threads;

/// Most that one stored argon2 hash may write, in KiB: 4 GiB, a few seconds. What is configured may always run.
const MAX_ARGON2_WORK_KIB: u64 = 4 * 1024 * 1024;
/// Highest cost of a stored bcrypt hash that is run: htpasswd makes none above. Each step doubles the time.
const MAX_BCRYPT_COST: u32 = 17;

/// Most rounds of a stored PBKDF2 hash that are run: ten times what Django takes.
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
/// Most rounds of a stored SHA-512-crypt hash that are run, a few seconds.
const MAX_SHA_CRYPT_ROUNDS: u32 = 5_000_000;

/// Runs password hashes on threads of their own. Cheap to clone; clones share the budget.
#[derive(Clone, Debug)]
pub struct HashPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    budget: Arc<Semaphore>,
    /// All permits of the budget.
    total: u32,
    /// What a hash takes at least, so that no more run than there are processors.
    share: u32,
    waiting: AtomicUsize,
    /// Those that found too many waiting.
    rejected: AtomicU64,
    max_queue: usize,
    turns: Arc<Semaphore>,
    usual: Cost,
    threads: Threads,
}

/// Who waits to be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashQueue {
    /// Logins and hashes that wait now.
    pub waiting: usize,
    /// Those that were refused since the start, because too many waited.
    pub rejected: u64,
}

/// Whether the right password is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Active,
    /// The user does not exist or is inactive; the hash is computed for the sake of its time.
    Barred,
}

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password fits and the user is active.
    Accepted,
    /// Anything else.
    Refused,
}

/// Why a hash was not computed.
#[derive(Debug)]
pub enum HashError {
    /// The queue is full.
    Overloaded,
    /// The stored hash needs more memory than the whole budget, or would run for minutes.
    TooCostly,
    /// The stored hash is none.
    Fault(HashFault),
    /// The operating system gave no salt.
    Randomness(RandomnessUnavailable),
    /// The configured parameters are not possible.
    Parameters(argon2::password_hash::Error),
    /// The runtime is stopping.
    Stopped,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("too many passwords are waiting to be hashed"),
            Self::TooCostly => f.write_str("the hash needs more memory or time than one may have"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Randomness(error) => error.fmt(f),
            Self::Parameters(error) => write!(f, "the hashing parameters are not possible: {error}"),
            Self::Stopped => f.write_str("the process is stopping"),
        }
    }
}

impl std::error::Error for HashError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Overloaded | Self::TooCostly | Self::Stopped => None,
            Self::Fault(fault) => Some(fault),
            Self::Randomness(error) => Some(error),
            Self::Parameters(error) => Some(error),
        }
    }
}

/// Why a password cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// It has no bytes.
    Empty,
    /// It is longer than [`bounds::MAX_PASSWORD_BYTES`].
    TooLong,
    /// It is not UTF-8, as every password that comes in JSON is.
    NotUtf8,
}

impl fmt::Display for PasswordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the password is empty"),
            Self::TooLong => {
                write!(f, "the password is longer than {} bytes", bounds::MAX_PASSWORD_BYTES)
            }
            Self::NotUtf8 => f.write_str("the password is not UTF-8 text"),
        }
    }
}

impl std::error::Error for PasswordFault {}

/// Checks a new password. It is neither trimmed nor cut.
///
/// # Errors
///
/// A [`PasswordFault`].
pub fn check_new_password(password: &Secret) -> Result<(), PasswordFault> {
    if password.is_empty() {
        return Err(PasswordFault::Empty);
    }
    if password.len() > bounds::MAX_PASSWORD_BYTES {
        return Err(PasswordFault::TooLong);
    }
    if std::str::from_utf8(password.expose()).is_err() {
        return Err(PasswordFault::NotUtf8);
    }
    Ok(())
}

impl HashPool {
    /// A pool with the configured budget, which leaves one processor free if there are several.
    pub fn new(hashing: &Hashing) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // One is left to those who wait for nothing but a proxied answer.
        let processors = NonZeroUsize::new(processors.saturating_sub(1)).unwrap_or(NonZeroUsize::MIN);
        Self::with_threads(hashing, processors, Threads::new(processors))
    }

    fn with_threads(hashing: &Hashing, processors: NonZeroUsize, threads: Threads) -> Self {
        let total = hashing.max_memory_kib.max(hashing.memory_kib);
        let processors = u32::try_from(processors.get()).unwrap_or(u32::MAX);
        let at_once = processors.min(total / hashing.memory_kib.max(1)).max(1);
        // The one that waits with its turn is one of those that may wait.
        let next = hashing.max_queue.min(1);
        let inner = Inner {
            budget: Arc::new(Semaphore::new(total as usize)),
            total,
            share: (total / processors).max(1),
            waiting: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            max_queue: hashing.max_queue,
            turns: Arc::new(Semaphore::new(at_once as usize + next)),
            usual: Cost::usual(hashing.memory_kib, hashing.iterations.get()),
            threads,
        };
        Self { inner: Arc::new(inner) }
    }

    /// How many wait for a turn or for memory, and how many were refused since the start because too many waited.
    pub fn queue(&self) -> HashQueue {
        HashQueue {
            waiting: self.inner.waiting.load(Ordering::Relaxed),
            rejected: self.inner.rejected.load(Ordering::Relaxed),
        }
    }

    /// Whether as many wait as may, so that whoever comes now is refused, and is counted as such.
    pub fn refuses(&self) -> bool {
        let is_full = self.inner.waiting.load(Ordering::Relaxed) >= self.inner.max_queue.saturating_sub(1)
            && self.inner.turns.available_permits() == 0;
        if is_full {
            self.inner.rejected.fetch_add(1, Ordering::Relaxed);
        }
        is_full
    }

    /// The cost of new hashes.
    pub fn usual_cost(&self) -> Cost {
        self.inner.usual
    }

    /// Whether a hash of this cost may be run at all.
    ///
    /// # Errors
    ///
    /// [`HashError::TooCostly`].
    pub fn check_cost(&self, cost: Cost) -> Result<(), HashError> {
        let bearable = match cost {
            Cost::Bcrypt { log_rounds } => log_rounds <= MAX_BCRYPT_COST,
            Cost::Argon2 { memory_kib, .. } => {
                memory_kib <= self.inner.total
                    && cost.work() <= MAX_ARGON2_WORK_KIB.max(self.inner.usual.work())
            }
            Cost::Pbkdf2 { iterations, .. } => iterations.get() <= MAX_PBKDF2_ITERATIONS,
            Cost::Scrypt { .. } => {
                // A unit of its work is 128 bytes.
                cost.memory_kib() <= self.inner.total && cost.work() / 8 <= MAX_ARGON2_WORK_KIB
            }
            Cost::ShaCrypt { rounds } => rounds <= MAX_SHA_CRYPT_ROUNDS,
            Cost::Md5 => true,
        };
        if bearable { Ok(()) } else { Err(HashError::TooCostly) }
    }

    /// Waits for a turn to verify a password.
    ///
    /// # Errors
    ///
    /// [`HashError::Overloaded`] at once, when as many wait as may.
    pub async fn turn(&self) -> Result<Turn, HashError> {
        let turns = Arc::clone(&self.inner.turns);
        match Arc::clone(&turns).try_acquire_owned() {
            Ok(permit) => return Ok(Turn { _permit: permit }),
            Err(TryAcquireError::NoPermits) => {}
            Err(TryAcquireError::Closed) => return Err(HashError::Stopped),
        }
        let _place = Place::take(&self.inner, self.inner.max_queue.saturating_sub(1))?;
        let permit = turns.acquire_owned().await.map_err(|_| HashError::Stopped)?;
        Ok(Turn { _permit: permit })
    }

    /// Hashes a new password, which the caller has checked.
    ///
    /// # Errors
    ///
    /// A [`HashError`].
    pub async fn hash(&self, password: &Secret) -> Result<StoredHash, HashError> {
        let Cost::Argon2 { memory_kib, passes, .. } = self.inner.usual else {
            return Err(HashError::TooCostly);
        };
        let salt = ids::random_bytes::<16>().map_err(HashError::Randomness)?;
        let password = password.clone();
        let job = move || StoredHash::create(password.expose(), memory_kib, passes, salt);
        self.run(memory_kib, job).await?.map_err(HashError::Parameters)
    }

    /// Whether `password` fits `stored`, and that is enough. A refusal takes the time that a hash of the `reference`
    /// cost takes, also where `stored` is a cheaper one of the same kind.
    ///
    /// # Errors
    ///
    /// A [`HashError`]; never for a wrong password.
    pub async fn verify(
        &self,
        _turn: &Turn,
        password: &Secret,
        stored: &StoredHash,
        standing: Standing,
        reference: Cost,
    ) -> Result<Verdict, HashError> {
        self.check_cost(stored.cost())?;
        self.check_cost(reference)?;
        let memory_kib = stored.cost().memory_kib().max(reference.memory_kib());
        let (password, stored) = (password.clone(), stored.clone());
        let job = move || {
            let fits = stored.fits(password.expose())?;
            if fits && standing == Standing::Active {
                return Ok(Verdict::Accepted);
            }
            stored.cost().make_up(reference);
            Ok(Verdict::Refused)
        };
        let budget = Arc::clone(&self.inner.budget);
        let permits = budget.acquire_many_owned(memory_kib.max(self.inner.share)).await;
        let permit = permits.map_err(|_| HashError::Stopped)?;
        self.inner.threads.run(permit, job).await.ok_or(HashError::Stopped)?.map_err(HashError::Fault)
    }

    async fn run<T: Send + 'static>(
        &self,
        memory_kib: u32,
        job: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<T, HashError> {
        // The permit goes with the job, which runs to its end also when nobody waits for it any more.
        let permit = self.admit(memory_kib.max(self.inner.share)).await?;
        self.inner.threads.run(permit, job).await.ok_or(HashError::Stopped)
    }

    async fn admit(&self, permits: u32) -> Result<OwnedSemaphorePermit, HashError> {
        let budget = Arc::clone(&self.inner.budget);
        match Arc::clone(&budget).try_acquire_many_owned(permits) {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::NoPermits) => {}
            Err(TryAcquireError::Closed) => return Err(HashError::Stopped),
        }
        let _place = Place::take(&self.inner, self.inner.max_queue)?;
        budget.acquire_many_owned(permits).await.map_err(|_| HashError::Stopped)
    }
}

/// Leave to verify a password, given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// A place in the queue; it is given back when the wait ends, also by cancellation.
struct Place<'a>(&'a Inner);

impl<'a> Place<'a> {
    fn take(inner: &'a Inner, most: usize) -> Result<Self, HashError> {
        let step = |waiting: usize| (waiting < most).then_some(waiting.saturating_add(1));
        if inner.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok() {
            return Ok(Self(inner));
        }
        inner.rejected.fetch_add(1, Ordering::Relaxed);
        Err(HashError::Overloaded)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    /// Hashing that is as cheap as it gets.
    pub(crate) fn cheap_hashing() -> Hashing {
        Hashing { memory_kib: 64, iterations: NonZeroU32::MIN, max_memory_kib: 1024, max_queue: 64 }
    }

    fn pool(max_memory_kib: u32, max_queue: usize, processors: usize) -> HashPool {
        let hashing = Hashing { max_memory_kib, max_queue, ..cheap_hashing() };
        let processors = NonZeroUsize::new(processors).unwrap();
        HashPool::with_threads(&hashing, processors, Threads::unmeasured(processors))
    }

    /// Jobs that report their start and then wait for a word.
    struct Gate {
        started: mpsc::Receiver<()>,
        go: mpsc::Sender<()>,
        job: Arc<dyn Fn() + Send + Sync>,
    }

    fn gate() -> Gate {
        let (start, started) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let job = Arc::new(move || {
            start.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        });
        Gate { started, go, job }
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// Starts `count` jobs that take `memory_kib` and says how many were let run.
    async fn running(pool: &HashPool, memory_kib: u32, count: usize) -> usize {
        let Gate { started, go, job } = gate();
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let (pool, job) = (pool.clone(), Arc::clone(&job));
                tokio::spawn(async move { pool.run(memory_kib, move || job()).await })
            })
            .collect();
        settle().await;
        let permits = pool.inner.budget.available_permits();
        let admitted = count - pool.inner.waiting.load(Ordering::Relaxed);
        assert!(permits < memory_kib.max(pool.inner.share) as usize, "nobody waits while there is room");
        for _ in 0..admitted {
            started.recv().unwrap();
        }
        assert!(started.try_recv().is_err(), "nobody runs without a permit");
        for _ in 0..count {
            go.send(()).unwrap();
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(started.try_iter().count(), count - admitted);
        assert_eq!(pool.inner.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(pool.inner.budget.available_permits(), pool.inner.total as usize);
        admitted
    }

    #[tokio::test]
    async fn the_memory_budget_is_kept() {
        assert_eq!(running(&pool(256, 100, 64), 64, 10).await, 4);
        assert_eq!(running(&pool(256, 100, 64), 100, 10).await, 2);
        assert_eq!(running(&pool(256, 100, 64), 256, 3).await, 1);
    }

    #[tokio::test]
    async fn no_more_hashes_run_than_there_are_processors() {
        assert_eq!(running(&pool(1000, 100, 3), 4, 10).await, 3);
        assert_eq!(running(&pool(1024, 100, 1), 4, 10).await, 1);
    }

    #[tokio::test]
    async fn a_full_queue_sheds_at_once_and_forgets_who_left() {
        let pool = pool(64, 1, 1);
        let Gate { started, go, job } = gate();
        let first = tokio::spawn({
            let (pool, job) = (pool.clone(), Arc::clone(&job));
            async move { pool.run(64, move || job()).await }
        });
        settle().await;
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(64, || ()).await }
        });
        settle().await;
        let secret = Secret::new("x");
        assert!(matches!(pool.hash(&secret).await, Err(HashError::Overloaded)));
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let third = tokio::spawn({
            let pool = pool.clone();
            async move { pool.hash(&secret).await }
        });
        settle().await;
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        third.await.unwrap().unwrap();
        assert_eq!(started.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_pool_says_that_it_refuses_exactly_when_it_does() {
        for (max_queue, processors) in [(0, 1), (1, 1), (3, 2), (8, 1)] {
            let pool = pool(1024, max_queue, processors);
            let mut logins = Vec::new();
            while !pool.refuses() {
                assert_eq!(pool.queue().rejected, 0);
                let (pool, (stay, stayed)) = (pool.clone(), tokio::sync::oneshot::channel::<()>());
                let login = tokio::spawn(async move {
                    let turn = pool.turn().await;
                    let _left = stayed.await;
                    turn.map(drop)
                });
                logins.push((stay, login));
                settle().await;
            }
            assert_eq!(pool.queue().rejected, 1);
            assert!(matches!(pool.turn().await, Err(HashError::Overloaded)));
            for (stay, login) in logins {
                drop(stay);
                login.await.unwrap().unwrap();
            }
            assert!(!pool.refuses());
        }
    }

    #[tokio::test]
    async fn as_many_have_a_turn_as_can_be_served_and_as_many_wait_as_may() {
        for (max_queue, processors, have) in [(0, 1, 1), (1, 1, 2), (3, 2, 3), (3, 64, 17)] {
            let pool = pool(1024, max_queue, processors);
            let mut turns = Vec::new();
            for _ in 0..have {
                turns.push(pool.turn().await.unwrap());
            }
            let waiting: Vec<_> = (1..max_queue)
                .map(|_| {
                    let pool = pool.clone();
                    tokio::spawn(async move { pool.turn().await.map(drop) })
                })
                .collect();
            settle().await;
            assert!(matches!(pool.turn().await, Err(HashError::Overloaded)), "{max_queue} {processors}");
            assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
            turns.clear();
            for waiting in waiting {
                waiting.await.unwrap().unwrap();
            }
            assert!(pool.turn().await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_cancelled_job_keeps_its_permit_until_it_ends() {
        let pool = pool(64, 0, 1);
        let Gate { started, go, job } = gate();
        let task = tokio::spawn({
            let (pool, job) = (pool.clone(), Arc::clone(&job));
            async move { pool.run(64, move || job()).await }
        });
        settle().await;
        task.abort();
        let _ = task.await;
        if started.recv().is_ok() {
            assert!(matches!(pool.run(64, || ()).await, Err(HashError::Overloaded)));
            go.send(()).unwrap();
        }
        let _ = pool.inner.budget.acquire_many(64).await.unwrap();
    }

    #[tokio::test]
    async fn verification_tells_right_from_wrong_and_barred() {
        let pool = HashPool::new(&cheap_hashing());
        let (right, wrong) = (Secret::new("right"), Secret::new("wrong"));
        let stored = pool.hash(&right).await.unwrap();
        let dear = Cost::usual(128, 2);
        for reference in [pool.usual_cost(), dear] {
            let cases = [
                (&right, Standing::Active, Verdict::Accepted),
                (&right, Standing::Barred, Verdict::Refused),
                (&wrong, Standing::Active, Verdict::Refused),
                (&wrong, Standing::Barred, Verdict::Refused),
            ];
            for (password, standing, verdict) in cases {
                let turn = pool.turn().await.unwrap();
                let verified = pool.verify(&turn, password, &stored, standing, reference).await;
                assert_eq!(verified.unwrap(), verdict);
            }
        }
        let other = pool.hash(&right).await.unwrap();
        assert_ne!(other.expose(), stored.expose(), "salts differ");
    }

    #[tokio::test]
    async fn hashes_that_cost_too_much_are_not_run() {
        let pool = HashPool::new(&cheap_hashing());
        let costs = [
            Cost::usual(1025, 1),
            Cost::usual(1024, u32::MAX),
            Cost::Bcrypt { log_rounds: 18 },
            Cost::Bcrypt { log_rounds: 31 },
        ];
        for cost in costs {
            let stored = StoredHash::dummy(cost).unwrap();
            let turn = pool.turn().await.unwrap();
            let (password, reference) = (Secret::new("x"), pool.usual_cost());
            let outcome = pool.verify(&turn, &password, &stored, Standing::Active, reference).await;
            assert!(matches!(outcome, Err(HashError::TooCostly)), "{cost:?}");
        }
        assert!(pool.check_cost(Cost::usual(1024, 100)).is_ok());
        assert!(pool.check_cost(Cost::Bcrypt { log_rounds: 17 }).is_ok());
    }

    #[test]
    fn new_passwords_are_checked() {
        assert_eq!(check_new_password(&Secret::new("")), Err(PasswordFault::Empty));
        assert_eq!(check_new_password(&Secret::new([b'x'; 1024])), Ok(()));
        assert_eq!(check_new_password(&Secret::new([b'x'; 1025])), Err(PasswordFault::TooLong));
        assert_eq!(check_new_password(&Secret::new([0xff])), Err(PasswordFault::NotUtf8));
        assert_eq!(check_new_password(&Secret::new(" ")), Ok(()));
    }
}
