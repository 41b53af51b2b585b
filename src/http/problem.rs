//! Refusals on the wire: one body that clients of simplejwt and of RFC 9457 both understand.
//!
//! This is the only place of the data path that names status codes of 400 and above.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::grpc;
use crate::base::field_list::FieldList;
use crate::base::grounds::{Grounds, Verdict};
use crate::base::proxy_error::ProxyError;
use crate::base::reason::Reason;

/// RFC 9209 section 2.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// In which form a client understands a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A status and a body of RFC 9457.
    Problem,
    /// gRPC: status 200, and what matters in `grpc-status`.
    Grpc,
}

impl Dialect {
    /// The form for a request with these fields.
    pub fn of(headers: &FieldList) -> Self {
        match headers.get(header::CONTENT_TYPE) {
            Some(value) if grpc::is_grpc(value) => Self::Grpc,
            Some(_) | None => Self::Problem,
        }
    }
}

/// A refusal: what the client is told, and what is logged. It is on the heap, so that those who pass need no room for it.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Facts>);

#[derive(Clone, Debug)]
struct Facts {
    reason: Reason,
    detail: Cow<'static, str>,
    code: Option<&'static str>,
    message: Option<&'static str>,
    retry_after_seconds: Option<u64>,
    proxy_error: Option<ProxyError>,
    closes: bool,
    scopes: Option<Box<str>>,
    allow: Vec<Method>,
    /// The client is not told this, and neither what follows.
    cause: Option<Cow<'static, str>>,
    verdicts: Vec<Verdict>,
}

impl Refusal {
    /// A refusal with a text for the client. The text holds nothing that the client did not send or may not know.
    #[cold]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Facts {
            reason,
            detail: detail.into(),
            code: None,
            message: None,
            retry_after_seconds: None,
            proxy_error: None,
            closes: false,
            scopes: None,
            allow: Vec::new(),
            cause: None,
            verdicts: Vec::new(),
        }))
    }

    /// Adds simplejwt's machine-readable code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Adds simplejwt's list of messages, one for the one kind of token that is tried.
    #[must_use]
    pub fn with_message(mut self, message: &'static str) -> Self {
        self.0.message = Some(message);
        self
    }

    /// Says which scopes are needed, with blanks between them (RFC 6750 section 3).
    #[must_use]
    pub fn with_scopes(mut self, scopes: &str) -> Self {
        self.0.scopes = Some(scopes.into());
        self
    }

    /// Adds the methods that are allowed (RFC 9110 section 10.2.1).
    #[must_use]
    pub fn with_allow(mut self, allow: Vec<Method>) -> Self {
        self.0.allow = allow;
        self
    }

    /// Says when to come again (RFC 9110 section 10.2.3), in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Says what went wrong with the upstream (RFC 9209 section 2.3).
    #[must_use]
    pub fn with_proxy_error(mut self, error: ProxyError) -> Self {
        self.0.proxy_error = Some(error);
        self
    }

    /// Says what was found, for those who operate the gateway. The client is not told.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Says the same of the rules of a policy.
    #[must_use]
    pub fn with_verdicts(mut self, verdicts: Vec<Verdict>) -> Self {
        self.0.verdicts = verdicts;
        self
    }

    /// Ends the connection after the answer: what follows on it cannot be trusted.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.closes = true;
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Why, for those who operate the gateway.
    pub fn grounds(&self) -> Grounds {
        let Facts { detail, cause, verdicts, .. } = &*self.0;
        Grounds { detail: detail.clone(), cause: cause.clone(), verdicts: verdicts.clone() }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        status(self.0.reason)
    }

    /// The answer's status, header fields and body in a dialect.
    pub fn render_in(
        &self,
        dialect: Dialect,
        request_id: &str,
        realm: &str,
    ) -> (StatusCode, FieldList, Bytes) {
        match dialect {
            Dialect::Problem => {
                let (headers, body) = self.render(request_id, realm);
                (self.status(), headers, body)
            }
            Dialect::Grpc => {
                let mut headers = grpc::trailers_only(self.status(), &self.0.detail);
                headers.extend(self.retry_after().map(|after| (header::RETRY_AFTER, after)));
                headers.extend(self.proxy_status().map(|status| (PROXY_STATUS, status)));
                (StatusCode::OK, headers, Bytes::new())
            }
        }
    }

    /// The answer's header fields and body.
    pub fn render(&self, request_id: &str, realm: &str) -> (FieldList, Bytes) {
        let body = Bytes::from(Value::Object(self.members(request_id)).to_string());
        let mut headers = FieldList::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(self.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Ok(challenge) = HeaderValue::from_str(&self.challenge(realm))
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.0.reason == Reason::MethodNotAllowed {
            let allow = self.0.allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            headers.extend(HeaderValue::from_str(&allow).ok().map(|allow| (header::ALLOW, allow)));
        }
        if self.0.reason == Reason::UpgradeRequired {
            // RFC 6455 section 4.4: which version is spoken here.
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        headers.extend(self.retry_after().map(|after| (header::RETRY_AFTER, after)));
        headers.extend(self.proxy_status().map(|status| (PROXY_STATUS, status)));
        if self.0.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        (headers, body)
    }

    /// `Retry-After`; what the gateway cannot do now it can do in a second.
    fn retry_after(&self) -> Option<HeaderValue> {
        let unavailable = self.status() == StatusCode::SERVICE_UNAVAILABLE;
        self.0.retry_after_seconds.or(unavailable.then_some(1)).map(HeaderValue::from)
    }

    /// `Proxy-Status`, on every answer that stands in the place of an upstream's.
    fn proxy_status(&self) -> Option<HeaderValue> {
        let in_its_place = matches!(self.status().as_u16(), 502..=504);
        let error = self.0.proxy_error.or(in_its_place.then_some(ProxyError::ProxyInternalResponse))?;
        Some(HeaderValue::from_static(error.field_value()))
    }

    fn members(&self, request_id: &str) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("detail".to_owned(), self.0.detail.as_ref().into());
        if let Some(code) = self.0.code {
            members.insert("code".to_owned(), code.into());
        }
        if let Some(message) = self.0.message {
            let tried = json!([{"token_class": "AccessToken", "token_type": "access", "message": message}]);
            members.insert("messages".to_owned(), tried);
        }
        add_problem_members(&mut members, self.status(), self.0.reason);
        members.insert("request_id".to_owned(), request_id.into());
        members
    }

    /// The challenge of RFC 6750 section 3: an error is named only when there were credentials.
    fn challenge(&self, realm: &str) -> String {
        let error = match Blame::of(self.0.reason) {
            Blame::Nothing => return format!("Bearer realm=\"{realm}\""),
            Blame::Rights => {
                let scope = self.0.scopes.as_ref();
                let scope = scope.map_or_else(String::new, |scopes| format!(", scope=\"{scopes}\""));
                return format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\"{scope}");
            }
            Blame::Header => "invalid_request",
            Blame::Token => "invalid_token",
        };
        let description = self.0.message.unwrap_or(&self.0.detail);
        // A description is printable ASCII without quotes and backslashes (RFC 6750 section 3).
        let plain: String = description
            .chars()
            .filter(|letter| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\'))
            .collect();
        format!("Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{plain}\"")
    }
}

/// What a challenge blames (RFC 6750 section 3.1).
enum Blame {
    /// There were no credentials to blame.
    Nothing,
    /// The header.
    Header,
    /// The token.
    Token,
    /// What the token, or its user, may do.
    Rights,
}

impl Blame {
    fn of(reason: Reason) -> Self {
        if matches!(reason, Reason::CredentialsMissing | Reason::CredentialsInvalid) {
            Self::Nothing
        } else if reason == Reason::HeaderMalformed {
            Self::Header
        } else if status(reason) == StatusCode::FORBIDDEN {
            Self::Rights
        } else {
            Self::Token
        }
    }
}

/// Adds the members of RFC 9457 to a body: `type`, `title`, `status`, and the reason.
fn add_problem_members(members: &mut Map<String, Value>, status: StatusCode, reason: Reason) {
    members.insert("type".to_owned(), "about:blank".into());
    members.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
    members.insert("status".to_owned(), status.as_u16().into());
    members.insert("reason".to_owned(), reason.word().into());
}

/// The status code of a reason.
pub fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::RequestMalformed | Reason::HostInvalid | Reason::PathAmbiguous | Reason::FramingAmbiguous => {
            StatusCode::BAD_REQUEST
        }
        Reason::CredentialsMissing
        | Reason::HeaderMalformed
        | Reason::CredentialsInvalid
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenWrongType
        | Reason::TokenRevoked
        | Reason::UserInactive
        | Reason::UserNotFound => StatusCode::UNAUTHORIZED,
        Reason::GroupMissing | Reason::ScopeMissing | Reason::ClaimMismatch | Reason::PolicyDenied => {
            StatusCode::FORBIDDEN
        }
        Reason::RouteNotFound => StatusCode::NOT_FOUND,
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::TargetTooLong => StatusCode::URI_TOO_LONG,
        Reason::MediaTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Reason::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        Reason::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
        Reason::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::LockedOut | Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        Reason::IdentityUnfit | Reason::IdentityTooLarge | Reason::UpstreamRefused => StatusCode::BAD_GATEWAY,
        Reason::UpstreamUnavailable | Reason::Overloaded | Reason::StoreUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Reason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(refusal: &Refusal) -> String {
        let (headers, _) = refusal.render("id", "api");
        headers.get(header::WWW_AUTHENTICATE).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn every_reason_is_an_error() {
        for reason in Reason::ALL {
            assert!(status(reason).is_client_error() || status(reason).is_server_error(), "{reason}");
        }
    }

    #[test]
    fn a_body_holds_the_members_of_both_worlds() {
        let refusal = Refusal::new(Reason::TokenExpired, "Given token not valid for any token type")
            .with_code("token_not_valid")
            .with_message("Token is expired");
        let (headers, body) = refusal.render("0123", "api");
        let expected = json!({
            "detail": "Given token not valid for any token type", "code": "token_not_valid",
            "messages": [{"token_class": "AccessToken", "token_type": "access", "message": "Token is expired"}],
            "type": "about:blank", "title": "Unauthorized", "status": 401, "reason": "token_expired", "request_id": "0123",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        assert_eq!(headers.at(header::CONTENT_TYPE), "application/problem+json");
        assert_eq!(
            challenge(&refusal),
            "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"Token is expired\""
        );
    }

    #[test]
    fn who_may_not_is_told_which_scopes_are_needed() {
        let refusal = Refusal::new(Reason::ScopeMissing, "x").with_scopes("invoices write");
        assert_eq!(
            challenge(&refusal),
            "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"invoices write\""
        );
        assert_eq!(
            challenge(&Refusal::new(Reason::GroupMissing, "x")),
            "Bearer realm=\"api\", error=\"insufficient_scope\""
        );
    }

    #[test]
    fn a_challenge_without_credentials_names_no_error() {
        assert_eq!(challenge(&Refusal::new(Reason::CredentialsMissing, "x")), "Bearer realm=\"api\"");
    }

    #[test]
    fn allowed_methods_are_listed_also_when_there_are_none() {
        let refusal = Refusal::new(Reason::MethodNotAllowed, "x").with_allow(vec![Method::GET, Method::PUT]);
        assert_eq!(refusal.render("id", "api").0.at(header::ALLOW), "GET, PUT");
        assert_eq!(Refusal::new(Reason::MethodNotAllowed, "x").render("id", "api").0.at(header::ALLOW), "");
    }
}
