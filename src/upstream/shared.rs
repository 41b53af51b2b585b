//! What all threads know of upstreams and their targets.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use tokio::sync::Notify;

use super::StartError;
use super::memory::Memory;
use super::tls::{self, TargetTls, TlsClient, TlsError};
use crate::config::{self, Target};

/// What all threads know of an upstream.
#[derive(Debug)]
pub struct SharedUpstream {
    pub(super) settings: config::Upstream,
    /// What the files held that its TLS was made of.
    files: TlsFiles,
    pub(super) first: Arc<SharedTarget>,
    pub(super) others: Vec<Arc<SharedTarget>>,
}

/// What all threads know of a target. It is touched when a connection opens or closes, never per request.
#[derive(Debug)]
pub struct SharedTarget {
    pub(super) target: Target,
    pub(super) authority: HeaderValue,
    pub(super) tls: Option<TargetTls>,
    /// Where its connections go in a rehearsal, instead of to its address.
    pub(super) memory: Option<Memory>,
    pub(super) open: AtomicUsize,
    /// Requests of all threads that wait for a connection.
    pub(super) wanted: AtomicUsize,
}

/// Digests of the files of `tls`; `None` for one that cannot be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct TlsFiles(Vec<Option<[u8; 32]>>);

impl TlsFiles {
    fn of(settings: &config::Upstream) -> Self {
        let config::UpstreamTls { ca, client, server_name: _ } = &settings.tls;
        let client = client.iter().flat_map(|client| [&client.cert, &client.key]);
        Self(ca.iter().chain(client).map(|path| tls::digest(path)).collect())
    }
}

impl SharedUpstream {
    /// An upstream without connections. The certificates that it needs are read.
    ///
    /// # Errors
    ///
    /// [`StartError`], which names the upstream.
    pub fn new(settings: &config::Upstream) -> Result<Self, StartError> {
        let failed = |cause| StartError { upstream: settings.name.clone(), cause };
        let files = TlsFiles::of(settings);
        let needed = settings.targets.iter().any(Target::is_tls);
        let tls = needed.then(|| TlsClient::load(&settings.tls)).transpose().map_err(failed)?;
        let mut targets = settings.targets.iter().map(|target| SharedTarget::new(target, tls.as_ref()));
        // No checked configuration has an upstream without a target.
        let none = || failed(TlsError::Name(String::new()));
        let first = targets.next().ok_or_else(none)?.map_err(failed)?;
        let others = targets.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { settings: settings.clone(), files, first, others })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether an upstream with these settings would be this one: also the files that they name hold the same. Blocks.
    pub fn is_of(&self, settings: &config::Upstream) -> bool {
        self.settings == *settings && self.files == TlsFiles::of(settings)
    }
}

impl SharedUpstream {
    /// Its targets, in the order of the configuration.
    pub fn targets(&self) -> impl Iterator<Item = &SharedTarget> {
        [&self.first].into_iter().chain(&self.others).map(AsRef::as_ref)
    }

    /// The same upstream with one target, which is in this process and speaks HTTP/1.1. The address of the first target is
    /// only what requests may name.
    #[must_use]
    pub fn in_memory(settings: &config::Upstream, memory: &Memory) -> Self {
        let authority = settings.targets.first().map_or_else(|| "localhost".to_owned(), Target::authority);
        let first = SharedTarget {
            authority: HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("localhost")),
            target: Target::Unix("memory".into()),
            tls: None,
            memory: Some(memory.clone()),
            open: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
        };
        Self {
            settings: settings.clone(),
            files: TlsFiles::default(),
            first: Arc::new(first),
            others: Vec::new(),
        }
    }
}

impl SharedTarget {
    /// The target, as the configuration writes it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Connections to it that are open.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection to it.
    pub fn waiting_requests(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    fn new(target: &Target, tls: Option<&TlsClient>) -> Result<Arc<Self>, TlsError> {
        let authority = target.authority();
        let authority = HeaderValue::from_str(&authority).map_err(|_| TlsError::Name(authority))?;
        let tls = match (target, tls) {
            (Target::Https(at), Some(tls)) => Some(tls.target(&at.host)?),
            (Target::Http(_) | Target::Https(_) | Target::H2c(_) | Target::Unix(_), _) => None,
        };
        let (open, wanted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Arc::new(Self { target: target.clone(), authority, tls, memory: None, open, wanted }))
    }
}

/// A place among the connections that a target may have; given back when the connection is gone. Then one who waits for it
/// on the same thread is told.
#[derive(Debug)]
pub(super) struct Place {
    target: Arc<SharedTarget>,
    freed: Rc<Notify>,
}

impl Place {
    pub(super) fn take(target: &Arc<SharedTarget>, most: usize, freed: &Rc<Notify>) -> Option<Self> {
        let more = |open: usize| (open < most).then_some(open + 1);
        target.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self { target: Arc::clone(target), freed: Rc::clone(freed) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.target.open.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_one();
    }
}
