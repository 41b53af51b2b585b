//! What each upstream is told, compiled: nothing of the configuration is looked up for a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};

use super::SealError;
use super::values::{self, Unfit};
use crate::authn::Known;
use crate::base::claim::ClaimPath;
use crate::base::user::{Attribute, UserField};
use crate::config::{self, Assertion, Config, Credentials, IdentityEncoding, IdentitySource};
use crate::routing::{AskedClaims, ClaimPlace};

/// Numbers for sorts of upstreams.
static NEXT_SORT: AtomicU64 = AtomicU64::new(0);

/// What upstreams of one sort are told.
#[derive(Debug)]
pub(super) struct Plan {
    /// Unlike that of every other plan of this process, also of one that a reload has replaced.
    pub(super) sort: u64,
    headers: Vec<(HeaderName, Source)>,
    encoding: IdentityEncoding,
    max_bytes: usize,
    /// A signed statement besides.
    pub(super) assertion: Option<Assertion>,
    /// Whether the client's `Authorization` is passed on.
    pub(super) forward_token: bool,
    /// The gateway's own credentials.
    pub(super) credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    User(Attribute),
    /// One of the claims that are kept of a token.
    Claim(usize),
}

/// The plans of all upstreams. Upstreams that are told the same share one.
#[derive(Debug, Default)]
pub struct Plans(Vec<Arc<Plan>>);

impl Plans {
    /// Compiles what the upstreams of a configuration are told. The claims that it takes are asked for already.
    pub fn new(config: &Config, asked: &AskedClaims) -> Self {
        let upstreams = &config.upstreams;
        let find = |path: &ClaimPath| asked.find(path, &config.tokens.user_id_claim);
        let mut plans: Vec<Arc<Plan>> = Vec::with_capacity(upstreams.len());
        for (place, upstream) in upstreams.iter().enumerate() {
            let same = upstreams.iter().take(place).position(|other| other.identity == upstream.identity);
            let shared = same.and_then(|same| plans.get(same).map(Arc::clone));
            plans.push(shared.unwrap_or_else(|| Arc::new(Plan::new(&upstream.identity, find))));
        }
        Self(plans)
    }

    /// The plan of an upstream, by its place in the configuration.
    pub(super) fn of(&self, upstream: usize) -> Option<&Plan> {
        self.0.get(upstream).map(AsRef::as_ref)
    }
}

impl Plan {
    fn new(identity: &config::Identity, find: impl Fn(&ClaimPath) -> Option<ClaimPlace>) -> Self {
        let source = |source: &IdentitySource| match source {
            IdentitySource::User(attribute) => Source::User(*attribute),
            IdentitySource::Claim(path) => match find(path) {
                // What the record has counts, and not what the token says of it.
                Some(ClaimPlace::UserId) => Source::User(Attribute::Id),
                Some(ClaimPlace::User(UserField::Username)) => Source::User(Attribute::Name),
                Some(ClaimPlace::User(UserField::Email)) => Source::User(Attribute::Email),
                Some(ClaimPlace::User(UserField::Groups)) => Source::User(Attribute::Groups),
                Some(ClaimPlace::Held(place)) => Source::Claim(place),
                // No token has anything at this place.
                None => Source::Claim(usize::MAX),
            },
        };
        Self {
            sort: NEXT_SORT.fetch_add(1, Ordering::Relaxed),
            headers: identity
                .headers
                .iter()
                .map(|header| (header.name.clone(), source(&header.source)))
                .collect(),
            encoding: identity.encoding,
            max_bytes: usize::try_from(identity.max_bytes).unwrap_or(usize::MAX),
            assertion: identity.assertion.clone(),
            forward_token: identity.forward_token,
            credentials: identity.credentials.clone(),
        }
    }

    /// Whether nothing is said of callers.
    pub(super) fn is_silent(&self) -> bool {
        self.headers.is_empty() && self.assertion.is_none()
    }

    /// The headers that tell of somebody.
    pub(super) fn fields(&self, known: &Known) -> Result<Vec<(HeaderName, HeaderValue)>, SealError> {
        let user = known.principal.user();
        let mut fields = Vec::with_capacity(self.headers.len() + 1);
        for (name, source) in &self.headers {
            let (value, what) = match source {
                Source::User(Attribute::Id) => (values::of_text(&user.id, self.encoding), "id"),
                Source::User(Attribute::Name) => (values::of_text(&user.name, self.encoding), "name"),
                Source::User(Attribute::Email) => {
                    let email = user.email.as_deref().unwrap_or_default();
                    (values::of_text(email, self.encoding), "e-mail address")
                }
                Source::User(Attribute::Groups) => {
                    let groups = user.groups.iter().map(String::as_str);
                    (values::of_list(groups, self.encoding), "list of groups")
                }
                Source::Claim(place) => {
                    let value = known.claims.as_ref().and_then(|claims| claims.value(*place));
                    let value = value.map(|value| values::of_claim(value, self.encoding));
                    (value.unwrap_or(Ok(None)), "claim")
                }
            };
            let value = value.map_err(|Unfit| {
                tracing::debug!(header = %name, "a value does not fit its identity header");
                match source {
                    Source::User(_) => SealError::Unfit(what),
                    Source::Claim(_) => SealError::ClaimUnfit,
                }
            })?;
            fields.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(fields)
    }

    /// Sees that the fields take no more than they may.
    pub(super) fn check_size(&self, fields: &[(HeaderName, HeaderValue)]) -> Result<(), SealError> {
        // Each is a line with ": " in it and two bytes for its end.
        let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes <= self.max_bytes {
            return Ok(());
        }
        tracing::debug!(bytes, max_bytes = self.max_bytes, "identity headers are too large");
        Err(SealError::TooLarge)
    }
}
