//! Why a request was refused: one word list for the response, the access log, metrics and the documentation.

use std::fmt;

/// The reason of a refusal. Its name is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is not well-formed HTTP, or one of its parts has no single meaning.
    RequestMalformed,
    /// `Host` is missing, repeated, malformed, or differs from the target.
    HostInvalid,
    /// The path has more than one reading.
    PathAmbiguous,
    /// The message's length has more than one reading.
    FramingAmbiguous,
    /// The request target is too long.
    TargetTooLong,
    /// The header section is too large.
    HeaderTooLarge,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The client took too long to send its request.
    RequestTimeout,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// The host is none that this TLS connection is for.
    MisdirectedRequest,
    /// A WebSocket of another version than 13.
    UpgradeRequired,
    /// The body's type is not one that the token routes read.
    MediaTypeUnsupported,
    /// No route matches.
    RouteNotFound,
    /// A route matches, but not with this method.
    MethodNotAllowed,
    /// No credentials where some are needed.
    CredentialsMissing,
    /// Credentials that are not one Bearer token.
    HeaderMalformed,
    /// Wrong user name or password, or an inactive user.
    CredentialsInvalid,
    /// Too many logins have failed.
    LockedOut,
    /// More requests than a limit allows.
    RateLimited,
    /// A token that does not pass.
    TokenInvalid,
    /// A token whose time is over.
    TokenExpired,
    /// A token whose time has not come.
    TokenNotYetValid,
    /// A token of another kind than is needed here.
    TokenWrongType,
    /// A token that was revoked.
    TokenRevoked,
    /// The token's user is switched off.
    UserInactive,
    /// The token's user does not exist.
    UserNotFound,
    /// The caller is in none of the groups that the route is for.
    GroupMissing,
    /// The token lacks a scope.
    ScopeMissing,
    /// A claim of the token has not the value that it has to have.
    ClaimMismatch,
    /// The caller has something that the route is not for.
    PolicyDenied,
    /// An identity value cannot stand in a header.
    IdentityUnfit,
    /// Identity headers are larger than the upstream takes.
    IdentityTooLarge,
    /// The upstream refused the connection, broke off, or answered what is not HTTP.
    UpstreamRefused,
    /// The upstream took too long.
    UpstreamTimeout,
    /// No upstream connection is to be had.
    UpstreamUnavailable,
    /// The gateway has too much to do.
    Overloaded,
    /// The user store cannot be read or written.
    StoreUnavailable,
    /// A fault of the gateway.
    InternalError,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 38] = [
        Self::RequestMalformed,
        Self::HostInvalid,
        Self::PathAmbiguous,
        Self::FramingAmbiguous,
        Self::TargetTooLong,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::ExpectationFailed,
        Self::MisdirectedRequest,
        Self::UpgradeRequired,
        Self::MediaTypeUnsupported,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::CredentialsMissing,
        Self::HeaderMalformed,
        Self::CredentialsInvalid,
        Self::LockedOut,
        Self::RateLimited,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenWrongType,
        Self::TokenRevoked,
        Self::UserInactive,
        Self::UserNotFound,
        Self::GroupMissing,
        Self::ScopeMissing,
        Self::ClaimMismatch,
        Self::PolicyDenied,
        Self::IdentityUnfit,
        Self::IdentityTooLarge,
        Self::UpstreamRefused,
        Self::UpstreamTimeout,
        Self::UpstreamUnavailable,
        Self::Overloaded,
        Self::StoreUnavailable,
        Self::InternalError,
    ];

    /// Whether it is a decision about who sent the request: who that is, whether that can be told, and what they may.
    pub fn is_about_the_caller(self) -> bool {
        match self {
            Self::CredentialsMissing
            | Self::HeaderMalformed
            | Self::CredentialsInvalid
            | Self::LockedOut
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenWrongType
            | Self::TokenRevoked
            | Self::UserInactive
            | Self::UserNotFound
            | Self::GroupMissing
            | Self::ScopeMissing
            | Self::ClaimMismatch
            | Self::PolicyDenied
            | Self::StoreUnavailable => true,
            Self::RequestMalformed
            | Self::HostInvalid
            | Self::PathAmbiguous
            | Self::FramingAmbiguous
            | Self::TargetTooLong
            | Self::HeaderTooLarge
            | Self::BodyTooLarge
            | Self::RequestTimeout
            | Self::ExpectationFailed
            | Self::MisdirectedRequest
            | Self::UpgradeRequired
            | Self::MediaTypeUnsupported
            | Self::RouteNotFound
            | Self::MethodNotAllowed
            | Self::RateLimited
            | Self::IdentityUnfit
            | Self::IdentityTooLarge
            | Self::UpstreamRefused
            | Self::UpstreamTimeout
            | Self::UpstreamUnavailable
            | Self::Overloaded
            | Self::InternalError => false,
        }
    }

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::RequestMalformed => "request_malformed",
            Self::HostInvalid => "host_invalid",
            Self::PathAmbiguous => "path_ambiguous",
            Self::FramingAmbiguous => "framing_ambiguous",
            Self::TargetTooLong => "target_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::ExpectationFailed => "expectation_failed",
            Self::MisdirectedRequest => "misdirected_request",
            Self::UpgradeRequired => "upgrade_required",
            Self::MediaTypeUnsupported => "media_type_unsupported",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::CredentialsMissing => "credentials_missing",
            Self::HeaderMalformed => "header_malformed",
            Self::CredentialsInvalid => "credentials_invalid",
            Self::LockedOut => "locked_out",
            Self::RateLimited => "rate_limited",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenWrongType => "token_wrong_type",
            Self::TokenRevoked => "token_revoked",
            Self::UserInactive => "user_inactive",
            Self::UserNotFound => "user_not_found",
            Self::GroupMissing => "group_missing",
            Self::ScopeMissing => "scope_missing",
            Self::ClaimMismatch => "claim_mismatch",
            Self::PolicyDenied => "policy_denied",
            Self::IdentityUnfit => "identity_unfit",
            Self::IdentityTooLarge => "identity_too_large",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable => "store_unavailable",
            Self::InternalError => "internal_error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_different() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
