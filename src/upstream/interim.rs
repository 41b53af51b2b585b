//! Answers that come before the answer, such as 103 (RFC 8297).

use std::fmt;
use std::rc::Rc;

use http::{StatusCode, header};

use crate::http::hop;
use crate::http::message::ResponseHead;

/// Told of every informational answer (RFC 9110 section 15.2) of an upstream, before the final one. Fields that were
/// meant for the upstream's connection are removed.
#[derive(Clone)]
pub struct Interim(Rc<dyn Fn(ResponseHead)>);

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

impl Interim {
    /// Calls this for each.
    pub fn new(told: impl Fn(ResponseHead) + 'static) -> Self {
        Self(Rc::new(told))
    }

    pub(super) fn tell(&self, mut answer: ResponseHead) {
        // The client's expectation was met here and not sent on; a switch of protocols is no interim answer.
        if matches!(answer.status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        hop::remove_from_response(&mut answer.headers);
        // It has no body, and must not declare one (RFC 9110 section 8.6).
        answer.headers.remove(header::CONTENT_LENGTH);
        (self.0)(answer);
    }
}
