//! Requests on their way to a target.

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};

use crate::base::field_list::FieldList;
use crate::http::body::RequestBody;

/// A request as a target gets it, whichever version of HTTP carries it. Its host and its framing are no fields here: they
/// are made when it is written, and come from nowhere else.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) host: HeaderValue,
    pub(super) headers: FieldList,
    /// The client has said that there is a body and that it is empty. Some servers want to be told so (411).
    pub(super) declares_nothing: bool,
    pub(super) body: RequestBody,
}

impl Outgoing {
    /// Takes the body away.
    pub(super) fn take_body(&mut self) -> RequestBody {
        std::mem::replace(&mut self.body, RequestBody::Empty)
    }

    /// A request without fields and without a body.
    pub(super) fn bare(method: Method) -> Self {
        Self {
            method,
            target: PathAndQuery::from_static("/"),
            host: HeaderValue::from_static("localhost"),
            headers: FieldList::new(),
            declares_nothing: false,
            body: RequestBody::Empty,
        }
    }
}
