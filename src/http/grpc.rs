//! Refusals as gRPC has them: a status of its own in a field, under the status 200 of HTTP.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status of gRPC, as far as a gateway has one to give (grpc/grpc, doc/statuscodes.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a media type is gRPC's: `application/grpc`, with a message format or without, and gRPC-Web.
pub fn is_grpc(content_type: FieldValue<'_>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.as_bytes().split_at_checked(GRPC.len()).is_some_and(|(begin, rest)| {
        // Most media types end otherwise here, and are not looked at letter by letter.
        matches!(begin, [.., b'c' | b'C'])
            && begin.eq_ignore_ascii_case(GRPC)
            && matches!(rest, [] | [b'+' | b'-' | b';' | b' ', ..])
    })
}

/// The fields of an answer that consists of nothing else.
pub(super) fn trailers_only(status: StatusCode, message: &str) -> FieldList {
    let mut fields = FieldList::with_capacity(4);
    fields.extend(status_fields(grpc_status(status), message));
    fields.append(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields
}

/// The trailers of a stream that ends because its token does.
pub fn unauthenticated(message: &str) -> HeaderMap {
    status_fields(Status::Unauthenticated, message).collect()
}

fn status_fields(status: Status, message: &str) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let message = HeaderValue::from_str(&percent_encoded(message)).ok();
    let status = (GRPC_STATUS, HeaderValue::from(status as u16));
    [Some(status), message.map(|message| (GRPC_MESSAGE, message))].into_iter().flatten()
}

/// The status of gRPC that says the same. Where there is none, as gRPC itself reads a status of HTTP
/// (doc/http-grpc-status-mapping.md).
fn grpc_status(status: StatusCode) -> Status {
    match status.as_u16() {
        400 | 411 | 414 | 415 | 417 | 421 => Status::InvalidArgument,
        401 => Status::Unauthenticated,
        403 => Status::PermissionDenied,
        404 | 405 => Status::Unimplemented,
        408 | 504 => Status::DeadlineExceeded,
        413 | 429 | 431 => Status::ResourceExhausted,
        502 | 503 => Status::Unavailable,
        _ => Status::Internal,
    }
}

/// `grpc-message` is printable ASCII without `%` as it is, and everything else in escapes.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f..=0xff => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded
                        .extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
                }
            }
            b' '..=b'~' => encoded.push(char::from(byte)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_grpc_are_known() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc-web",
            "application/grpc;x=1",
        ] {
            assert!(is_grpc(FieldValue::from(&HeaderValue::from_static(yes))), "{yes}");
        }
        for no in ["application/json", "application/grpcx", "application/grp", "text/plain", ""] {
            assert!(!is_grpc(FieldValue::from(&HeaderValue::from_static(no))), "{no}");
        }
    }

    #[test]
    fn a_refusal_has_a_status_and_a_message_that_fits_a_header() {
        let fields = trailers_only(StatusCode::UNAUTHORIZED, "50 % of \u{e9}");
        assert_eq!(fields.at("grpc-status"), "16");
        assert_eq!(fields.at("grpc-message"), "50 %25 of %C3%A9");
        assert_eq!(fields.at("content-type"), "application/grpc");
        assert_eq!(trailers_only(StatusCode::FORBIDDEN, "").at("grpc-status"), "7");
        assert_eq!(trailers_only(StatusCode::GATEWAY_TIMEOUT, "").at("grpc-status"), "4");
        assert_eq!(trailers_only(StatusCode::IM_A_TEAPOT, "").at("grpc-status"), "13");
    }
}
