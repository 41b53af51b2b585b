//! What a client is told of its limits.

use std::fmt::Write as _;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};

use super::gcra::Standing;
use crate::base::field_list::FieldList;

/// What the policy is, and how much of it is left (draft-ietf-httpapi-ratelimit-headers, sections 3 and 4).
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What the client is told of its limits, whatever becomes of its request.
#[derive(Debug, Default)]
pub struct Told<'a> {
    pub(super) policy: Option<&'a HeaderValue>,
    standing: BytesMut,
}

impl Told<'_> {
    /// Adds how a rate stands: `"per-user";r=49;t=1`. While something is left, `t` says when all of it is back, and
    /// otherwise when one request may come, as `Retry-After` does.
    pub(super) fn add(&mut self, label: &str, standing: Standing) {
        let separator = if self.standing.is_empty() { "" } else { ", " };
        let (left, until_ns) = match standing.left {
            0 => (0, standing.next_ns),
            left => (left, standing.whole_ns),
        };
        // Writing into memory cannot fail.
        let _written = write!(self.standing, "{separator}{label};r={left};t={}", seconds(until_ns));
    }

    /// Adds the fields to an answer. What an upstream tells of its own limits stays beside them.
    pub fn write(self, headers: &mut FieldList) {
        let Some(policy) = self.policy else { return };
        headers.append(RATELIMIT_POLICY, policy.clone());
        if let Ok(standing) = HeaderValue::from_maybe_shared(self.standing.freeze())
            && !standing.is_empty()
        {
            headers.append(RATELIMIT, standing);
        }
    }
}

/// Whole seconds, rounded up, so that who waits as long is not too early.
pub(super) fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}
