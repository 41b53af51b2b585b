//! What a client is told of its limits.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::gcra::Standing;
use crate::base::field_list::FieldList;

/// What the policy is, and how much of it is left (draft-ietf-httpapi-ratelimit-headers, sections 3 and 4).
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How much longer than the policy room is made for how its rates stand, in bytes.
const LONGER_BYTES: usize = 16;

/// What the client is told of its limits, whatever becomes of its request.
#[derive(Debug, Default)]
pub struct Told<'a> {
    pub(super) policy: Option<&'a HeaderValue>,
    standing: Vec<u8>,
}

impl Told<'_> {
    /// Adds how a rate stands: `"per-user";r=49;t=1`. While something is left, `t` says when all of it is back, and
    /// otherwise when one request may come, as `Retry-After` does.
    pub(super) fn add(&mut self, label: &str, standing: Standing) {
        let (left, until_ns) = match standing.left {
            0 => (0, standing.next_ns),
            left => (left, standing.whole_ns),
        };
        if self.standing.is_empty() {
            // It is hardly ever longer than the policy, which names the same rates.
            self.standing.reserve(self.policy.map_or(0, HeaderValue::len) + LONGER_BYTES);
        } else {
            self.standing.extend_from_slice(b", ");
        }
        let mut digits = itoa::Buffer::new();
        self.standing.extend_from_slice(label.as_bytes());
        self.standing.extend_from_slice(b";r=");
        self.standing.extend_from_slice(digits.format(left).as_bytes());
        self.standing.extend_from_slice(b";t=");
        self.standing.extend_from_slice(digits.format(seconds(until_ns)).as_bytes());
    }

    /// Adds the fields to an answer. What an upstream tells of its own limits stays beside them.
    pub fn write(self, headers: &mut FieldList) {
        let Some(policy) = self.policy else { return };
        headers.append(RATELIMIT_POLICY, policy.clone());
        if let Ok(standing) = HeaderValue::from_maybe_shared(Bytes::from(self.standing))
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
