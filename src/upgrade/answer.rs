//! The upstream's answer to an opening (RFC 6455 section 4.2.2): what it may agree to, and what the client is told.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};

use super::handshake::{Carrier, Offer, remove_fields};
use super::list;
use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::base::reason::Reason;

/// What every accept value is made with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the upstream says to an opening.
#[derive(Debug)]
pub enum Answer {
    /// Its connection carries frames from now on.
    Switched(Switched),
    /// It opens no WebSocket; this is an ordinary answer, to be passed on as such.
    Declined,
}

/// What was agreed on.
#[derive(Debug)]
pub struct Switched {
    carrier: Carrier,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

/// Why an answer is none that may be passed on. The client gets a bad gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// Success without a change of protocol, which a client of HTTP/2 would take for an open WebSocket.
    NotSwitched,
    /// `Upgrade` is not `websocket`, or `Connection` does not list `upgrade`.
    Upgrade,
    /// `Sec-WebSocket-Accept` does not go with the key.
    Accept,
    /// A protocol that was not offered, or more than one.
    Protocol,
    /// An extension that was not offered.
    Extension,
}

impl AnswerFault {
    /// The stable reason.
    pub fn reason(self) -> Reason {
        match self {
            Self::NotSwitched | Self::Upgrade | Self::Accept | Self::Protocol | Self::Extension => {
                Reason::UpstreamRefused
            }
        }
    }

    /// What is wrong, for the log and the client.
    pub fn detail(self) -> &'static str {
        match self {
            Self::NotSwitched => "The upstream answered an opening of a WebSocket without opening one.",
            Self::Upgrade => "The upstream switched to something that is no WebSocket.",
            Self::Accept => "The upstream's Sec-WebSocket-Accept is wrong.",
            Self::Protocol => "The upstream chose a protocol that was not offered.",
            Self::Extension => "The upstream chose an extension that was not offered.",
        }
    }
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for AnswerFault {}

impl Offer {
    /// Checks the upstream's answer, before the fields of its connection are removed (RFC 6455 section 4.1, what a client
    /// must check).
    ///
    /// # Errors
    ///
    /// An [`AnswerFault`] for a 101 that agrees to something else than was asked for. What comes after it on the
    /// upstream's connection goes to nobody.
    pub fn check_answer(&self, status: StatusCode, headers: &FieldList) -> Result<Answer, AnswerFault> {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return match self.carrier {
                // 200 means that the tunnel is open there (RFC 8441 section 4).
                Carrier::Http2 if status.is_success() => Err(AnswerFault::NotSwitched),
                Carrier::Http1 | Carrier::Http2 => Ok(Answer::Declined),
            };
        }
        if !list::is_only(headers, &header::UPGRADE, b"websocket")
            || !list::has(headers, &header::CONNECTION, b"upgrade")
        {
            return Err(AnswerFault::Upgrade);
        }
        let accept = self.check_accept(headers)?;
        let protocol = self.chosen_protocol(headers)?.or_else(|| self.bearer.clone());
        let extensions = self.chosen_extensions(headers)?;
        Ok(Answer::Switched(Switched { carrier: self.carrier, accept, protocol, extensions }))
    }

    fn check_accept(&self, headers: &FieldList) -> Result<HeaderValue, AnswerFault> {
        let mut values = headers.get_all(header::SEC_WEBSOCKET_ACCEPT);
        let (Some(value), None) = (values.next(), values.next()) else { return Err(AnswerFault::Accept) };
        if value.as_bytes() == accept_for(self.key.as_bytes()).as_bytes() {
            value.to_header_value().map_err(|_| AnswerFault::Accept)
        } else {
            Err(AnswerFault::Accept)
        }
    }

    fn chosen_protocol(&self, headers: &FieldList) -> Result<Option<HeaderValue>, AnswerFault> {
        let mut values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            // The names are compared as they are (RFC 6455 section 4.1).
            (Some(chosen), None) => {
                let offered = self.protocols.iter().find(|offered| chosen == *offered);
                offered.cloned().map(Some).ok_or(AnswerFault::Protocol)
            }
            (Some(_), Some(_)) => Err(AnswerFault::Protocol),
        }
    }

    fn chosen_extensions(&self, headers: &FieldList) -> Result<Vec<HeaderValue>, AnswerFault> {
        let offered = |name: &[u8]| {
            let lists = self.extensions.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            lists.map(extension_name).any(|other| other.eq_ignore_ascii_case(name))
        };
        let chosen = |item: &[u8]| {
            let name = extension_name(item);
            list::is_token(name) && offered(name)
        };
        if !list::items(headers, &header::SEC_WEBSOCKET_EXTENSIONS).all(chosen) {
            return Err(AnswerFault::Extension);
        }
        let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).map(FieldValue::to_header_value);
        values.collect::<Result<_, _>>().map_err(|_| AnswerFault::Extension)
    }
}

impl Switched {
    /// The status of the answer to the client.
    pub fn status(&self) -> StatusCode {
        match self.carrier {
            Carrier::Http1 => StatusCode::SWITCHING_PROTOCOLS,
            Carrier::Http2 => StatusCode::OK,
        }
    }

    /// Sets the fields that tell the client what was agreed on, in the upstream's head, of which the fields of the
    /// upstream's connection were removed. Nothing in it says how long it is.
    pub fn client_fields(&self, headers: &mut FieldList) {
        remove_fields(headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        match self.carrier {
            Carrier::Http1 => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
            }
            Carrier::Http2 => {
                headers.remove(header::CONNECTION);
                headers.remove(header::UPGRADE);
            }
        }
        if let Some(protocol) = &self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        for extensions in &self.extensions {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, extensions.clone());
        }
    }
}

/// The name of an extension, which its parameters follow (RFC 6455 section 9.1).
fn extension_name(item: &[u8]) -> &[u8] {
    item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// What the upstream has to answer to a key (RFC 6455 section 4.2.2). SHA-1 protects nothing here: it shows that the
/// upstream knows the protocol.
pub(super) fn accept_for(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method, Version};

    use super::super::handshake::Asked;
    use super::*;

    /// The example of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
    const CONNECTION: (&str, &str) = ("connection", "Upgrade");

    fn head(fields: &[(&'static str, &'static str)]) -> FieldList {
        let mut headers = FieldList::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn offer(fields: &[(&'static str, &'static str)]) -> Offer {
        let opening = [UPGRADE, CONNECTION, ("sec-websocket-key", KEY), ("sec-websocket-version", "13")];
        let mut headers = head(&[&opening, fields].concat());
        match Asked::of(&Method::GET, Version::HTTP_11, &mut headers).unwrap() {
            Asked::WebSocket(offer) => *offer,
            Asked::Nothing => panic!("a WebSocket was asked for"),
        }
    }

    fn check(offer: &Offer, fields: &[(&'static str, &'static str)]) -> Result<Switched, AnswerFault> {
        match offer.check_answer(StatusCode::SWITCHING_PROTOCOLS, &head(fields))? {
            Answer::Switched(switched) => Ok(switched),
            Answer::Declined => panic!("a 101 declines nothing"),
        }
    }

    /// What the client is told, when the upstream says this besides a plain yes.
    fn told(offer: &Offer, fields: &[(&'static str, &'static str)]) -> Result<FieldList, AnswerFault> {
        let fields = [&[UPGRADE, CONNECTION, ACCEPT], fields].concat();
        let switched = check(offer, &fields)?;
        let mut headers = head(&fields);
        switched.client_fields(&mut headers);
        Ok(headers)
    }

    #[test]
    fn a_yes_is_passed_on() {
        let headers = told(&offer(&[]), &[("set-cookie", "a=b"), ("content-length", "0")]).unwrap();
        let expected = head(&[("set-cookie", "a=b"), CONNECTION, ("upgrade", "websocket"), ACCEPT]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn only_a_websocket_is_a_yes() {
        let offer = offer(&[]);
        assert!(check(&offer, &[UPGRADE, CONNECTION, ACCEPT]).is_ok());
        for fields in [
            &[CONNECTION, ACCEPT][..],
            &[("upgrade", "h2c"), CONNECTION, ACCEPT],
            &[("upgrade", "websocket, h2c"), CONNECTION, ACCEPT],
            &[UPGRADE, ACCEPT],
            &[UPGRADE, ("connection", "close"), ACCEPT],
        ] {
            assert_eq!(check(&offer, fields).unwrap_err(), AnswerFault::Upgrade, "{fields:?}");
        }
    }

    #[test]
    fn a_wrong_accept_is_refused() {
        let offer = offer(&[]);
        for accept in ["", KEY, "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo"] {
            let fields = [UPGRADE, CONNECTION, ("sec-websocket-accept", accept)];
            assert_eq!(check(&offer, &fields).unwrap_err(), AnswerFault::Accept, "{accept:?}");
        }
        assert_eq!(check(&offer, &[UPGRADE, CONNECTION]).unwrap_err(), AnswerFault::Accept);
        assert_eq!(check(&offer, &[UPGRADE, CONNECTION, ACCEPT, ACCEPT]).unwrap_err(), AnswerFault::Accept);
    }

    #[test]
    fn a_protocol_must_have_been_offered() {
        let offer = offer(&[("sec-websocket-protocol", "bearer, a.b.c, chat, v2")]);
        for chosen in ["chat", "v2"] {
            let headers = told(&offer, &[("sec-websocket-protocol", chosen)]).unwrap();
            assert_eq!(headers.at("sec-websocket-protocol"), chosen);
        }
        for chosen in ["Chat", "chat, v2", "", "bearer", "a.b.c", "other"] {
            let outcome = told(&offer, &[("sec-websocket-protocol", chosen)]);
            assert_eq!(outcome.unwrap_err(), AnswerFault::Protocol, "{chosen:?}");
        }
        let twice = [("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")];
        assert_eq!(told(&offer, &twice).unwrap_err(), AnswerFault::Protocol);
    }

    #[test]
    fn bearer_is_echoed_as_it_was_spelled_when_nothing_else_is_chosen() {
        let headers = told(&offer(&[("sec-websocket-protocol", "Bearer, a.b.c, chat")]), &[]).unwrap();
        assert_eq!(headers.at("sec-websocket-protocol"), "Bearer");
        let headers = told(&offer(&[("sec-websocket-protocol", "chat")]), &[]).unwrap();
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn an_extension_must_have_been_offered() {
        let offered =
            offer(&[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-a")]);
        for chosen in ["permessage-deflate", "x-a, permessage-deflate; server_no_context_takeover", ""] {
            let headers = told(&offered, &[("sec-websocket-extensions", chosen)]).unwrap();
            assert_eq!(headers.at("sec-websocket-extensions"), chosen);
        }
        for chosen in ["x-b", "permessage-deflate, x-b", "client_max_window_bits", ";x-a"] {
            let outcome = told(&offered, &[("sec-websocket-extensions", chosen)]);
            assert_eq!(outcome.unwrap_err(), AnswerFault::Extension, "{chosen:?}");
        }
        let outcome = told(&offer(&[]), &[("sec-websocket-extensions", "permessage-deflate")]);
        assert_eq!(outcome.unwrap_err(), AnswerFault::Extension);
    }

    #[test]
    fn every_other_status_declines() {
        let offer = offer(&[]);
        for status in [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::FOUND] {
            let answer = offer.check_answer(status, &FieldList::new());
            assert!(matches!(answer, Ok(Answer::Declined)), "{status}");
        }
    }

    #[test]
    fn over_http_2_the_client_is_told_by_200_and_by_nothing_else() {
        let mut headers = head(&[("sec-websocket-version", "13"), ("sec-websocket-protocol", "bearer, a")]);
        let offer = Offer::of_extended_connect("websocket", &mut headers).unwrap();
        let declined = offer.check_answer(StatusCode::FORBIDDEN, &FieldList::new());
        assert!(matches!(declined, Ok(Answer::Declined)));
        for status in [StatusCode::OK, StatusCode::NO_CONTENT] {
            let answer = offer.check_answer(status, &FieldList::new());
            assert_eq!(answer.unwrap_err(), AnswerFault::NotSwitched, "{status}");
        }
        let mut answer = head(&[UPGRADE, CONNECTION, ("x-up", "1")]);
        let accept = accept_for(offer.key.as_bytes());
        answer
            .insert(HeaderName::from_static("sec-websocket-accept"), HeaderValue::from_str(&accept).unwrap());
        let Ok(Answer::Switched(switched)) = offer.check_answer(StatusCode::SWITCHING_PROTOCOLS, &answer)
        else {
            panic!("the upstream agreed")
        };
        switched.client_fields(&mut answer);
        assert_eq!(switched.status(), StatusCode::OK);
        assert_eq!(answer, head(&[("x-up", "1"), ("sec-websocket-protocol", "bearer")]));
    }
}
