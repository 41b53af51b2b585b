//! How long a body is, whichever version of HTTP carries it.

use http::Version;
use http_body::Body as _;

use super::IntakeError;
use crate::base::field_list::FieldList;
pub use crate::http::framing::BodyLength;
use crate::http::framing::{declared, is_declared};
use crate::http::incoming::Incoming;
use crate::http::lines::Malformed;

/// Reads the framing headers.
///
/// # Errors
///
/// [`IntakeError::FramingAmbiguous`] for everything but one plain `Content-Length` or one `chunked`.
pub(super) fn body_length(
    headers: &FieldList,
    version: Version,
    body: &Incoming,
) -> Result<BodyLength, IntakeError> {
    if !is_declared(headers) {
        // In HTTP/2 the end of the stream is the end of the body (RFC 9113 section 8.1).
        let framed_by_stream = version == Version::HTTP_2 && !body.is_end_stream();
        return Ok(if framed_by_stream { BodyLength::Chunked } else { BodyLength::None });
    }
    declared(headers, version).map_err(|Malformed(what)| IntakeError::FramingAmbiguous(what))
}
