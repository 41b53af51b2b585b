//! Answers of the token routes: the members of simplejwt first, word for word, then the gateway's own.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};

use super::PeopleError;
use super::body::BodyFault;
use crate::base::field_list::FieldList;
use crate::base::reason::Reason;
use crate::limits::Blocked;
use crate::sessions::SessionError;
use crate::tokens::json::Members;
use crate::tokens::{IssueError, TokenFault};

/// What goes back to the client, and what the access log wants to know.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`, `Cache-Control`, and by status `WWW-Authenticate`, `Allow`, `Retry-After`.
    pub headers: FieldList,
    /// The body.
    pub body: Body,
    /// Why the request was refused.
    pub reason: Option<Reason>,
    /// The id of the user, when one was authenticated.
    pub user: Option<String>,
}

/// The body of an [`Answer`].
#[derive(Clone, PartialEq)]
pub enum Body {
    /// An object that may get further members, such as `request_id`.
    Json(Members),
    /// Bytes that are sent as they are, because clients know exactly these members.
    Raw(Bytes),
}

impl Answer {
    /// Status, header fields and body as they are sent. A refusal names the request.
    pub fn render(self, request_id: &str) -> (StatusCode, FieldList, Bytes) {
        let body = match self.body {
            Body::Json(members) => Bytes::from(members.with("request_id", request_id).to_string()),
            Body::Raw(bytes) => bytes,
        };
        (self.status, self.headers, body)
    }
}

impl fmt::Debug for Body {
    /// Without the content, which may be tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json(_) => "Json(..)",
            Self::Raw(_) => "Raw(..)",
        })
    }
}

/// 200 with exactly these members.
pub(super) fn success(members: &Members, user: &str) -> Answer {
    let mut answer = raw(StatusCode::OK, members, None);
    answer.user = Some(user.to_owned());
    answer
}

/// 400 with a list of messages per field, exactly as simplejwt has it.
pub(super) fn field_errors(errors: &Members) -> Answer {
    raw(StatusCode::BAD_REQUEST, errors, Some(Reason::RequestMalformed))
}

/// 401 for a login. It is the same whatever was wrong.
pub(super) fn credentials_refused(realm: &str) -> Answer {
    let members = Members::new().with("detail", "No active account found with the given credentials");
    unauthorised(members, Reason::CredentialsInvalid, &format!("Bearer realm=\"{realm}\""))
}

/// 401 for a token that does not pass.
pub(super) fn token_refused(fault: TokenFault, realm: &str) -> Answer {
    let members = Members::new().with("detail", fault.message()).with("code", "token_not_valid");
    unauthorised(members, fault.reason(), &format!("Bearer realm=\"{realm}\", error=\"invalid_token\""))
}

/// 401 for a token that passes, but whose user may not have another.
pub(super) fn account_refused(reason: Reason, realm: &str) -> Answer {
    let members = Members::new().with("detail", "No active account found for the given token.");
    unauthorised(members, reason, &format!("Bearer realm=\"{realm}\""))
}

/// 401 for a token whose session has ended, 503 when that cannot be found out.
pub(super) fn session_refused(error: &SessionError, realm: &str) -> Answer {
    match error {
        SessionError::Revoked => {
            let members =
                Members::new().with("detail", "Token is blacklisted").with("code", "token_not_valid");
            let challenge = format!("Bearer realm=\"{realm}\", error=\"invalid_token\"");
            unauthorised(members, Reason::TokenRevoked, &challenge)
        }
        SessionError::Expired => token_refused(TokenFault::Expired, realm),
        SessionError::Unavailable(error) => {
            tracing::error!(%error, "sessions cannot be read or written");
            people_unavailable(PeopleError::Unavailable)
        }
        SessionError::Randomness(error) => {
            tracing::error!(%error, "no session was begun");
            failed()
        }
        SessionError::Clock(error) => {
            tracing::error!(%error, "no token is issued");
            failed()
        }
    }
}

/// Longest name of a method that is repeated to who used it, in bytes; registered ones have 17 at most.
const MAX_METHOD_BYTES: usize = 32;

/// 405 with the methods that would do.
pub(super) fn method_not_allowed(method: &Method, allow: &'static str) -> Answer {
    // What is no name of a method may be anything, a token too, and is not repeated.
    let is_name = method.as_str().len() <= MAX_METHOD_BYTES
        && method.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let detail =
        if is_name { format!("Method \"{method}\" not allowed.") } else { "Method not allowed.".to_owned() };
    let members = Members::new().with("detail", detail);
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, members, Reason::MethodNotAllowed);
    answer.headers.insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// 400 or 415 for a body that cannot be read.
pub(super) fn body_refused(fault: BodyFault) -> Answer {
    let detail = match fault {
        BodyFault::NotAnObject(message) => {
            return field_errors(&Members::new().with("non_field_errors", vec![message]));
        }
        BodyFault::MediaType(text) => {
            let detail = format!("Unsupported media type \"{text}\" in request.");
            let members = Members::new().with("detail", detail);
            return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, members, Reason::MediaTypeUnsupported);
        }
        BodyFault::Json(words) => format!("JSON parse error - {words}"),
        BodyFault::Multipart(words) => format!("Multipart form parse error - {words}"),
        BodyFault::TooManyFields => "The form has too many fields.".to_owned(),
    };
    problem(StatusCode::BAD_REQUEST, Members::new().with("detail", detail), Reason::RequestMalformed)
}

/// 429 for a login that may not be tried now, in the words of Django REST framework's throttling.
pub(super) fn blocked(blocked: Blocked) -> Answer {
    let seconds = match blocked {
        Blocked::Overloaded => return people_unavailable(PeopleError::Overloaded),
        Blocked::Locked { retry_after_seconds } => retry_after_seconds,
    };
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let detail = format!("Request was throttled. Expected available in {seconds} {unit}.");
    let members = Members::new().with("detail", detail);
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, members, Reason::LockedOut);
    answer.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// 503 when nobody could be asked for the user.
pub(super) fn people_unavailable(error: PeopleError) -> Answer {
    let reason = match error {
        PeopleError::Unavailable => Reason::StoreUnavailable,
        PeopleError::Overloaded => Reason::Overloaded,
    };
    let members = Members::new().with("detail", "Service temporarily unavailable, try again later.");
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, members, reason);
    answer.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// 500 when no token could be made.
pub(super) fn not_issued(error: &IssueError) -> Answer {
    tracing::error!(%error, "token not issued");
    failed()
}

fn failed() -> Answer {
    let members = Members::new().with("detail", "A server error occurred.");
    problem(StatusCode::INTERNAL_SERVER_ERROR, members, Reason::InternalError)
}

fn unauthorised(members: Members, reason: Reason, challenge: &str) -> Answer {
    let mut answer = problem(StatusCode::UNAUTHORIZED, members, reason);
    // The configuration lets no realm through that does not fit a header.
    let challenge = HeaderValue::from_str(challenge).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    answer.headers.insert(WWW_AUTHENTICATE, challenge);
    answer
}

/// A refusal with `detail`, to which the members of RFC 9457 are added.
fn problem(status: StatusCode, members: Members, reason: Reason) -> Answer {
    let members = members
        .with("type", "about:blank")
        .with("title", status.canonical_reason().unwrap_or("Error"))
        .with("status", status.as_u16())
        .with("reason", reason.word());
    Answer { status, headers: headers(), body: Body::Json(members), reason: Some(reason), user: None }
}

fn raw(status: StatusCode, members: &Members, reason: Option<Reason>) -> Answer {
    let body = Body::Raw(Bytes::from(members.to_string()));
    Answer { status, headers: headers(), body, reason, user: None }
}

fn headers() -> FieldList {
    FieldList::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ])
}
