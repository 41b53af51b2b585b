//! What browsers are told about scripts of other origins (Fetch standard, section "CORS protocol").

use http::{HeaderName, HeaderValue, Method, header};

use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::config::{Cors, Origins};

/// The longest list of header names that is sent back as allowed, in bytes.
const MAX_ASKED_BYTES: usize = 1024;

/// What an answer tells of the origin that asked.
#[derive(Clone, Debug)]
pub(super) struct Grant<'a> {
    cors: &'a Cors,
    /// The origin, if it is one of those that are allowed.
    origin: Option<HeaderValue>,
}

impl<'a> Grant<'a> {
    /// What the sender of a request with these fields is granted.
    pub(super) fn of(cors: &'a Cors, headers: &FieldList) -> Self {
        let origin = only(headers, &header::ORIGIN).filter(|origin| is_allowed(&cors.origins, *origin));
        Self { cors, origin: origin.and_then(|origin| origin.to_header_value().ok()) }
    }

    /// Writes the fields of an answer, in place of those of an upstream.
    pub(super) fn write(&self, headers: &mut FieldList) {
        headers.retain(|name| !name.as_str().starts_with("access-control-"));
        if let Origins::Only(_) = self.cors.origins {
            add_vary(headers, "origin");
        }
        if self.write_origin(headers)
            && let Some(expose) = &self.cors.expose
        {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// Writes who may read the answer; says whether the one who asked may.
    fn write_origin(&self, headers: &mut FieldList) -> bool {
        let value = match (&self.cors.origins, &self.origin) {
            (Origins::Any, _) => HeaderValue::from_static("*"),
            (Origins::Only(_), Some(origin)) => origin.clone(),
            (Origins::Only(_), None) => return false,
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        if self.cors.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }

    /// The fields of the answer to a preflight. An origin that is not allowed gets none of them.
    pub(super) fn preflight(&self, asked: &FieldList) -> FieldList {
        let mut headers = FieldList::with_capacity(8);
        let varies = "origin, access-control-request-method, access-control-request-headers";
        headers.insert(header::VARY, HeaderValue::from_static(varies));
        if !self.write_origin(&mut headers) {
            return headers;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.cors.methods.clone());
        let names = match &self.cors.headers {
            Some(names) => Some(names.clone()),
            None => only(asked, &header::ACCESS_CONTROL_REQUEST_HEADERS)
                .filter(|asked| is_list_of_names(asked.as_bytes()))
                .and_then(|asked| asked.to_header_value().ok()),
        };
        headers.extend(names.map(|names| (header::ACCESS_CONTROL_ALLOW_HEADERS, names)));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.cors.max_age.clone());
        headers
    }
}

/// The method that a preflight asks for; `None` for every other request.
pub(super) fn asked_method(method: &Method, headers: &FieldList) -> Option<Method> {
    if *method != Method::OPTIONS {
        return None;
    }
    only(headers, &header::ORIGIN)?;
    let asked = only(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let asked = Method::from_bytes(asked.as_bytes()).ok()?;
    (asked != Method::CONNECT && asked != Method::TRACE).then_some(asked)
}

/// The value of a field that is there exactly once.
fn only<'a>(headers: &'a FieldList, name: &HeaderName) -> Option<FieldValue<'a>> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        (Some(_) | None, _) => None,
    }
}

fn is_allowed(origins: &Origins, origin: FieldValue<'_>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    match origins {
        Origins::Any => true,
        Origins::Only(patterns) => patterns.iter().any(|pattern| pattern.has(origin)),
    }
}

fn is_list_of_names(value: &[u8]) -> bool {
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    value.len() <= MAX_ASKED_BYTES && value.split(|byte| *byte == b',').all(is_name)
}

/// Notes that an answer depends on a field of its request (RFC 9110 section 12.5.5).
fn add_vary(headers: &mut FieldList, name: &'static str) {
    let has = |value: FieldValue<'_>| {
        let mut names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|other| other == b"*" || other.eq_ignore_ascii_case(name.as_bytes()))
    };
    if !headers.get_all(header::VARY).any(has) {
        headers.append(header::VARY, HeaderValue::from_static(name));
    }
}
