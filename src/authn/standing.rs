//! Whether what was known once still holds: for what goes on after its request, and while little is known of revocations.

use std::sync::atomic::Ordering;

use super::{Authenticator, AuthnError, Standing, TokenLife};

impl Authenticator {
    /// Whether a token still holds that passed before. It may end so many milliseconds later than it says; what is
    /// revoked ends now.
    pub fn standing(&self, token: &mut TokenLife, grace_ms: i64) -> Standing {
        if token.binding.verified_by.as_ref().is_some_and(|key| !self.verifier.still_trusts(key)) {
            return Standing::Revoked;
        }
        let revocations = self.revocations_epoch.load(Ordering::Acquire);
        if token.revocations_seen != revocations {
            if self.revocations.has(&token.binding) {
                return Standing::Revoked;
            }
            // What is open goes on, and is looked at again when more is known.
            if self.revocations.is_stale() {
                return self.unless_expired(token, grace_ms);
            }
            token.revocations_seen = revocations;
        }
        self.unless_expired(token, grace_ms)
    }

    fn unless_expired(&self, token: &TokenLife, grace_ms: i64) -> Standing {
        let has_expired = token.valid_until_ms.saturating_add(grace_ms) <= self.clock.now_unix_ms();
        if has_expired { Standing::Expired } else { Standing::Good }
    }

    /// Refuses everybody while too little is known of what others have revoked.
    pub(super) fn unless_stale(&self) -> Result<(), AuthnError> {
        if self.revocations.is_stale() { Err(AuthnError::StoreUnavailable) } else { Ok(()) }
    }
}
