//! From the error of a stage to a refusal: one exhaustive match each.

use crate::authn::AuthnError;
use crate::authz::AuthzError;
use crate::base::proxy_error::ProxyError;
use crate::base::reason::Reason;
use crate::http::problem::Refusal;
use crate::identity::SealError;
use crate::limits::rates::Exceeded;
use crate::net::deadline::{BodyFault, Overdue};
use crate::request::IntakeError;
use crate::routing::RoutingError;
use crate::tokens::TokenFault;
use crate::upgrade::AnswerFault;
use crate::upstream::UpstreamError;

impl From<IntakeError> for Refusal {
    #[cold]
    fn from(error: IntakeError) -> Self {
        let refusal = Self::new(error.reason(), error.detail());
        match error {
            // Where the message ends is not certain, so nothing after it is read.
            IntakeError::FramingAmbiguous(_) | IntakeError::HostInvalid(_) | IntakeError::MethodForbidden => {
                refusal.closing()
            }
            IntakeError::TargetTooLong
            | IntakeError::TargetMalformed
            | IntakeError::TooManyFields
            | IntakeError::FieldMalformed(_)
            | IntakeError::OpeningMalformed(_)
            | IntakeError::PathAmbiguous(_)
            | IntakeError::ExpectationFailed => refusal,
        }
    }
}

impl From<RoutingError> for Refusal {
    #[cold]
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::NotFound => Self::new(Reason::RouteNotFound, "Not found."),
            RoutingError::MethodNotAllowed(allow) => {
                Self::new(Reason::MethodNotAllowed, "This method is not allowed here.").with_allow(allow)
            }
            RoutingError::PathAmbiguous(fault) => Self::new(Reason::PathAmbiguous, fault.text()),
        }
    }
}

impl From<AuthnError> for Refusal {
    #[cold]
    fn from(error: AuthnError) -> Self {
        let reason = error.reason();
        match error {
            AuthnError::HeaderMalformed => {
                Self::new(reason, "Authorization header must contain two space-delimited values")
                    .with_code("bad_authorization_header")
            }
            AuthnError::Token(fault @ TokenFault::MissingUser) => {
                Self::new(reason, fault.message()).with_code("token_not_valid").with_cause(fault.cause())
            }
            AuthnError::Token(fault) => Self::new(reason, "Given token not valid for any token type")
                .with_code("token_not_valid")
                .with_message(fault.message())
                .with_cause(fault.cause()),
            AuthnError::Revoked => Self::new(reason, "Given token not valid for any token type")
                .with_code("token_not_valid")
                .with_message("Token is blacklisted"),
            AuthnError::UserNotFound => Self::new(reason, "User not found").with_code("user_not_found"),
            AuthnError::UserInactive => Self::new(reason, "User is inactive").with_code("user_inactive"),
            AuthnError::StoreUnavailable => Self::new(reason, "Users cannot be looked up at the moment."),
        }
    }
}

impl From<AuthzError<'_>> for Refusal {
    #[cold]
    fn from(error: AuthzError<'_>) -> Self {
        match error {
            AuthzError::CredentialsMissing => {
                Self::new(error.reason(), "Authentication credentials were not provided.")
            }
            AuthzError::Policy(rule, verdicts) => {
                // In the words of Django REST framework.
                let detail = "You do not have permission to perform this action.";
                let refusal = Self::new(rule.reason(), detail).with_code("permission_denied");
                let refusal = refusal.with_verdicts(verdicts);
                match rule.needed_scopes() {
                    Some(scopes) => refusal.with_scopes(scopes),
                    None => refusal,
                }
            }
            AuthzError::RateLimited(exceeded) => Self::from(exceeded),
        }
    }
}

impl From<Exceeded> for Refusal {
    /// In the words of Django REST framework's throttling.
    #[cold]
    fn from(Exceeded { retry_after_seconds: seconds }: Exceeded) -> Self {
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let detail = format!("Request was throttled. Expected available in {seconds} {unit}.");
        Self::new(Reason::RateLimited, detail).with_retry_after(seconds)
    }
}

impl From<SealError> for Refusal {
    #[cold]
    fn from(error: SealError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<UpstreamError> for Refusal {
    #[cold]
    fn from(error: UpstreamError) -> Self {
        let refusal = Self::new(error.reason(), error.detail()).with_proxy_error(error.proxy_error());
        refusal.with_cause(error.to_string())
    }
}

impl From<AnswerFault> for Refusal {
    #[cold]
    fn from(fault: AnswerFault) -> Self {
        Self::new(fault.reason(), fault.detail()).with_proxy_error(ProxyError::HttpUpgradeFailed)
    }
}

impl From<BodyFault> for Refusal {
    #[cold]
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge => {
                Self::new(Reason::BodyTooLarge, "The request body is too large.").closing()
            }
            BodyFault::Broken => {
                Self::new(Reason::RequestMalformed, "The request body is malformed.").closing()
            }
        }
    }
}

impl From<Overdue> for Refusal {
    #[cold]
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::Answer => Self::new(Reason::UpstreamTimeout, "The upstream did not answer in time.")
                .with_proxy_error(ProxyError::HttpResponseTimeout),
            Overdue::Idle | Overdue::Head | Overdue::Body | Overdue::Read => {
                Self::new(Reason::RequestTimeout, "The request did not come in time.").closing()
            }
        }
    }
}
