//! A request as it came in, checked: from here on, every part has one meaning.

mod framing;
mod host;
mod http2;
mod target;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::http::incoming::Incoming;
use crate::http::message::RequestHead;
use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderValue, Method, Version, header};

pub use self::framing::BodyLength;
pub use self::host::Host;
pub use self::target::NormalPath;
use crate::base::path::{Oddities, PathFault};
use crate::base::reason::Reason;
use crate::upgrade::{Asked, Offer, UpgradeFault};

/// A request whose host, path and framing are sound. Only [`intake`] makes one.
///
/// It is on the heap because it passes through every stage: moving a pointer costs less than moving the whole.
#[derive(Debug)]
pub struct Exchange(Box<Pieces>);

impl Exchange {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// The host that was asked for.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The path and the query, which the upstream will see unchanged.
    pub fn path(&self) -> &NormalPath {
        &self.0.path
    }

    /// The client's header fields.
    pub fn headers(&self) -> &FieldList {
        &self.0.headers
    }

    /// How long the body is.
    pub fn length(&self) -> BodyLength {
        self.0.length
    }

    /// Whether it opens a WebSocket.
    pub fn opens_websocket(&self) -> bool {
        self.0.opening.is_some()
    }

    /// Takes it apart, for the stage that makes the upstream's request of it.
    pub fn into_pieces(self) -> Box<Pieces> {
        self.0
    }
}

/// The parts of an [`Exchange`].
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are those of Exchange")]
pub struct Pieces {
    pub method: Method,
    pub host: Host,
    pub path: NormalPath,
    pub headers: FieldList,
    pub body: Incoming,
    pub length: BodyLength,
    /// What an opening of a WebSocket asks for. Then the method is GET.
    pub opening: Option<Box<Offer>>,
}

/// Why a request is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeError {
    /// CONNECT or TRACE.
    MethodForbidden,
    /// The target is longer than [`crate::base::bounds::MAX_TARGET_BYTES`].
    TargetTooLong,
    /// The target is no path, or no URL with one.
    TargetMalformed,
    /// `Host` is missing, repeated or malformed, or differs from the target.
    HostInvalid(&'static str),
    /// The path has more than one reading.
    PathAmbiguous(PathFault),
    /// `Content-Length` or `Transfer-Encoding` has more than one reading.
    FramingAmbiguous(&'static str),
    /// There are more header fields than are allowed.
    TooManyFields,
    /// A header field that has no one meaning.
    FieldMalformed(&'static str),
    /// An opening of a WebSocket that is none.
    OpeningMalformed(UpgradeFault),
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    ExpectationFailed,
}

impl IntakeError {
    /// The stable reason.
    pub fn reason(self) -> Reason {
        match self {
            Self::MethodForbidden => Reason::MethodNotAllowed,
            Self::TargetTooLong => Reason::TargetTooLong,
            Self::TargetMalformed | Self::FieldMalformed(_) => Reason::RequestMalformed,
            Self::TooManyFields => Reason::HeaderTooLarge,
            Self::OpeningMalformed(fault) => fault.reason(),
            Self::HostInvalid(_) => Reason::HostInvalid,
            Self::PathAmbiguous(_) => Reason::PathAmbiguous,
            Self::FramingAmbiguous(_) => Reason::FramingAmbiguous,
            Self::ExpectationFailed => Reason::ExpectationFailed,
        }
    }

    /// What is wrong, for the client.
    pub fn detail(self) -> Cow<'static, str> {
        match self {
            Self::MethodForbidden => "CONNECT and TRACE are not served.".into(),
            Self::TargetTooLong => "The request target is too long.".into(),
            Self::TargetMalformed => "The request target is not a path.".into(),
            Self::HostInvalid(text) | Self::FramingAmbiguous(text) | Self::FieldMalformed(text) => {
                text.into()
            }
            Self::TooManyFields => "There are too many header fields.".into(),
            Self::OpeningMalformed(fault) => fault.detail().into(),
            Self::PathAmbiguous(fault) => fault.text().into(),
            Self::ExpectationFailed => "Only the expectation 100-continue is met.".into(),
        }
    }
}

impl fmt::Display for IntakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail())
    }
}

impl std::error::Error for IntakeError {}

/// Takes a request in, or refuses it. Nothing is repaired: what has two readings is refused.
///
/// # Errors
///
/// An [`IntakeError`] that names what is wrong.
pub fn intake(head: Box<RequestHead>, body: Incoming, max_headers: usize) -> Result<Exchange, IntakeError> {
    intake_allowing(head, body, max_headers, Oddities::NONE)
}

/// As [`intake`], but takes paths that some route may accept. Whoever reads the path of such a request has to look at what
/// is odd in it.
///
/// # Errors
///
/// An [`IntakeError`] that names what is wrong.
pub fn intake_allowing(
    head: Box<RequestHead>,
    body: Incoming,
    max_headers: usize,
    allowed: Oddities,
) -> Result<Exchange, IntakeError> {
    let RequestHead { mut method, uri, version, mut headers, protocol } = *head;
    if headers.len() > max_headers {
        return Err(IntakeError::TooManyFields);
    }
    if version == Version::HTTP_2 {
        http2::check(&method, &uri, &mut headers, &body)?;
    }
    let opening = opening(&mut method, version, &mut headers, protocol.as_ref())?;
    // CONNECT opens a tunnel and TRACE reflects headers; neither may reach a decision that is made for other methods.
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(IntakeError::MethodForbidden);
    }
    let length = framing::body_length(&headers, version, &body)?;
    let host = Host::of(&headers, &uri, version)?;
    let path = NormalPath::allowing(uri, allowed)?;
    check_expectation(&headers)?;
    Ok(Exchange(Box::new(Pieces { method, host, path, headers, body, length, opening })))
}

/// What an opening of a WebSocket asks for. Its token stands in `Authorization` from here on, and its method is GET, so
/// that it passes the same stages under the same policy over either version of HTTP.
fn opening(
    method: &mut Method,
    version: Version,
    headers: &mut FieldList,
    protocol: Option<&Protocol>,
) -> Result<Option<Box<Offer>>, IntakeError> {
    let protocol = protocol.filter(|_| version == Version::HTTP_2 && *method == Method::CONNECT);
    let mut offer = match protocol {
        Some(protocol) => {
            *method = Method::GET;
            Offer::of_extended_connect(protocol.as_str(), headers).map(Box::new)
        }
        None => match Asked::of(method, version, headers) {
            Ok(Asked::Nothing) => return Ok(None),
            Ok(Asked::WebSocket(offer)) => Ok(offer),
            Err(fault) => Err(fault),
        },
    }
    .map_err(IntakeError::OpeningMalformed)?;
    if let Some(token) = offer.take_token() {
        let credentials = [b"Bearer ", token.as_bytes()].concat();
        let mut credentials = HeaderValue::from_maybe_shared(Bytes::from(credentials))
            .map_err(|_| IntakeError::OpeningMalformed(UpgradeFault::TokenMalformed))?;
        credentials.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, credentials);
    }
    Ok(Some(offer))
}

fn check_expectation(headers: &FieldList) -> Result<(), IntakeError> {
    let met = |value: FieldValue<'_>| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(header::EXPECT).all(met) { Ok(()) } else { Err(IntakeError::ExpectationFailed) }
}

/// Whether a declared length is within a limit; `None` is no limit.
pub fn fits(length: BodyLength, max_body: Option<NonZeroU64>) -> bool {
    match (length, max_body) {
        (BodyLength::Exactly(bytes), Some(most)) => bytes <= most.get(),
        (BodyLength::Exactly(_) | BodyLength::Chunked | BodyLength::None, _) => true,
    }
}
