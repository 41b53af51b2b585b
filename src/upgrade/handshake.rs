//! The opening of a WebSocket (RFC 6455 section 4.2.1, and over HTTP/2 RFC 8441 section 5): what the client asks for, and
//! what the upstream is asked.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Version, header};

use super::list;
use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::base::ids::{self, RandomnessUnavailable};
use crate::base::reason::Reason;

/// The only version of the protocol (RFC 6455 section 4.1).
pub const VERSION: HeaderValue = HeaderValue::from_static("13");

/// How many bytes a key encodes (RFC 6455 section 4.1).
const KEY_BYTES: usize = 16;

/// The protocol before the token in the client's list.
const BEARER: &[u8] = b"bearer";

/// The fields that only an opening has.
const FIELDS: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// What a request wants to become of its connection.
#[derive(Debug)]
pub enum Asked {
    /// It is an ordinary request. A change to a protocol that the gateway does not know may be ignored (RFC 9110 section
    /// 7.8); its `Connection` and `Upgrade` fields end at the gateway with the other fields of the connection.
    Nothing,
    /// A WebSocket.
    WebSocket(Box<Offer>),
}

/// The client's side of an opening, complete and sound. The fields of it that the request had are taken out, so that
/// what an upstream sees of them comes from here only.
#[derive(Debug)]
pub struct Offer {
    pub(super) carrier: Carrier,
    /// The client's, or a new one where the client's protocol has none.
    pub(super) key: HeaderValue,
    pub(super) extensions: Vec<HeaderValue>,
    /// Without `bearer` and the token.
    pub(super) protocols: Vec<HeaderValue>,
    /// `bearer` as the client spelled it.
    pub(super) bearer: Option<HeaderValue>,
    token: Option<HeaderValue>,
}

/// What the client's side of the tunnel runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// The connection itself.
    Http1,
    /// One stream of a connection.
    Http2,
}

/// Why an opening is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeFault {
    /// The method is not GET.
    Method,
    /// `Connection` does not list `upgrade`.
    Connection,
    /// There is a body, which would run into the frames.
    Body,
    /// There is not exactly one `Sec-WebSocket-Key` of 16 bytes in base64.
    Key,
    /// `Sec-WebSocket-Version` is missing, given more than once, or no number.
    VersionMalformed,
    /// Another version than 13: answered by 426 with `Sec-WebSocket-Version: 13` (RFC 6455 section 4.4).
    VersionUnsupported,
    /// An extended CONNECT for something that is no WebSocket.
    ProtocolUnknown,
    /// `Sec-WebSocket-Extensions` is no value of a field.
    ExtensionsMalformed,
    /// `Sec-WebSocket-Protocol` lists what is no protocol's name.
    ProtocolsMalformed,
    /// In `Sec-WebSocket-Protocol`, `bearer` has no token behind it, or comes twice.
    TokenMalformed,
    /// A token in `Sec-WebSocket-Protocol` beside an `Authorization` field: which one counts?
    CredentialsTwice,
    /// No key could be made for the upstream.
    RandomnessUnavailable,
}

impl UpgradeFault {
    /// The stable reason.
    pub fn reason(self) -> Reason {
        match self {
            Self::Method
            | Self::Connection
            | Self::Body
            | Self::Key
            | Self::VersionMalformed
            | Self::ProtocolUnknown
            | Self::ExtensionsMalformed
            | Self::ProtocolsMalformed => Reason::RequestMalformed,
            Self::VersionUnsupported => Reason::UpgradeRequired,
            Self::TokenMalformed | Self::CredentialsTwice => Reason::HeaderMalformed,
            Self::RandomnessUnavailable => Reason::InternalError,
        }
    }

    /// What is wrong, for the client.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Method => "A WebSocket is opened by GET.",
            Self::Connection => "Upgrade is given, and Connection does not list \"upgrade\".",
            Self::Body => "A request that opens a WebSocket has no body.",
            Self::Key => "Sec-WebSocket-Key is not exactly one value of 16 bytes in base64.",
            Self::VersionMalformed => "Sec-WebSocket-Version is not exactly one number.",
            Self::VersionUnsupported => "Only version 13 of the WebSocket protocol is served.",
            Self::ProtocolUnknown => "Only the protocol \"websocket\" is served by an extended CONNECT.",
            Self::ExtensionsMalformed => "Sec-WebSocket-Extensions is malformed.",
            Self::ProtocolsMalformed => "Sec-WebSocket-Protocol is not a list of names.",
            Self::TokenMalformed => {
                "Sec-WebSocket-Protocol must contain \"bearer\" once, with the token as the next item."
            }
            Self::CredentialsTwice => {
                "There is a token in Sec-WebSocket-Protocol and an Authorization header."
            }
            Self::RandomnessUnavailable => "The gateway cannot open a WebSocket at the moment.",
        }
    }
}

impl fmt::Display for UpgradeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for UpgradeFault {}

impl Asked {
    /// Reads what a request asks for and takes the fields of the opening out of its head.
    ///
    /// # Errors
    ///
    /// An [`UpgradeFault`] for a request that asks for a WebSocket in a way that RFC 6455 section 4.2.1 does not allow.
    pub fn of(method: &Method, version: Version, headers: &mut FieldList) -> Result<Self, UpgradeFault> {
        // Most requests ask for nothing; going through the names costs less than looking up two that are not there.
        let is_telling =
            |name: &HeaderName| *name == header::UPGRADE || *name == header::SEC_WEBSOCKET_PROTOCOL;
        if !headers.keys().any(is_telling) {
            return Ok(Self::Nothing);
        }
        // Only HTTP/1.1 has this field: HTTP/1.0 must be ignored here (RFC 9110 section 7.8), HTTP/2 asks otherwise.
        if version != Version::HTTP_11 || !list::is_only(headers, &header::UPGRADE, b"websocket") {
            // A token may be among them, which no upstream may see.
            remove_fields(headers);
            return Ok(Self::Nothing);
        }
        if method != Method::GET {
            return Err(UpgradeFault::Method);
        }
        if !list::has(headers, &header::CONNECTION, b"upgrade") {
            return Err(UpgradeFault::Connection);
        }
        let key = key_of(headers)?;
        Offer::of(Carrier::Http1, key, headers).map(Box::new).map(Self::WebSocket)
    }
}

impl Offer {
    /// Reads an extended CONNECT of HTTP/2, with the value of its `:protocol`, and takes the fields of the opening out of
    /// its head. It has no key; one is made for the upstream.
    ///
    /// # Errors
    ///
    /// An [`UpgradeFault`] for another protocol or an opening that RFC 8441 section 5 does not allow.
    pub fn of_extended_connect(protocol: &str, headers: &mut FieldList) -> Result<Self, UpgradeFault> {
        if !protocol.eq_ignore_ascii_case("websocket") {
            return Err(UpgradeFault::ProtocolUnknown);
        }
        let key = new_key().map_err(|RandomnessUnavailable| UpgradeFault::RandomnessUnavailable)?;
        Self::of(Carrier::Http2, key, headers)
    }

    fn of(carrier: Carrier, key: HeaderValue, headers: &mut FieldList) -> Result<Self, UpgradeFault> {
        if has_body(headers) {
            return Err(UpgradeFault::Body);
        }
        check_version(headers)?;
        let extensions = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).map(FieldValue::to_header_value);
        let extensions =
            extensions.collect::<Result<_, _>>().map_err(|_| UpgradeFault::ExtensionsMalformed)?;
        let mut offer = Self { carrier, key, extensions, protocols: Vec::new(), bearer: None, token: None };
        offer.read_protocols(headers)?;
        if offer.token.is_some() && headers.contains_key(header::AUTHORIZATION) {
            return Err(UpgradeFault::CredentialsTwice);
        }
        remove_fields(headers);
        Ok(offer)
    }

    /// Takes the token out that came as a protocol, if one did. It does not print itself.
    pub fn take_token(&mut self) -> Option<HeaderValue> {
        self.token.take()
    }

    /// Sets the fields that ask an HTTP/1.1 upstream for the same WebSocket: to be called last, after the fields of the
    /// client's connection were removed. The method has to be GET, whatever the client's was.
    pub fn request_fields(&self, headers: &mut FieldList) {
        remove_fields(headers);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
        for extensions in &self.extensions {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, extensions.clone());
        }
        // Not every upstream reads several lines.
        let protocols = self.protocols.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        if !protocols.is_empty()
            && let Ok(protocols) = HeaderValue::from_bytes(&protocols)
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
    }

    /// Reads the client's protocols, with the token apart.
    fn read_protocols(&mut self, headers: &FieldList) -> Result<(), UpgradeFault> {
        let mut items = list::items(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        while let Some(item) = items.next() {
            let name = name_value(item).ok_or(UpgradeFault::ProtocolsMalformed)?;
            if !item.eq_ignore_ascii_case(BEARER) {
                self.protocols.push(name);
                continue;
            }
            let token = items.next().filter(|token| !token.eq_ignore_ascii_case(BEARER));
            let mut token = token.and_then(name_value).ok_or(UpgradeFault::TokenMalformed)?;
            token.set_sensitive(true);
            if self.bearer.replace(name).is_some() {
                return Err(UpgradeFault::TokenMalformed);
            }
            self.token = Some(token);
        }
        Ok(())
    }
}

/// Removes the fields of an opening from a head.
pub(super) fn remove_fields(headers: &mut FieldList) {
    for name in &FIELDS {
        headers.remove(name);
    }
}

/// An item of a list as a value of its own, when it may be one.
fn name_value(item: &[u8]) -> Option<HeaderValue> {
    if list::is_token(item) { HeaderValue::from_bytes(item).ok() } else { None }
}

fn has_body(headers: &FieldList) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).any(|length| length.as_bytes() != b"0")
}

fn key_of(headers: &FieldList) -> Result<HeaderValue, UpgradeFault> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY);
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(UpgradeFault::Key) };
    match STANDARD.decode(key.as_bytes()) {
        Ok(bytes) if bytes.len() == KEY_BYTES => key.to_header_value().map_err(|_| UpgradeFault::Key),
        Ok(_) | Err(_) => Err(UpgradeFault::Key),
    }
}

fn new_key() -> Result<HeaderValue, RandomnessUnavailable> {
    let key = STANDARD.encode(ids::random_bytes::<KEY_BYTES>()?);
    // Base64 is always a value.
    HeaderValue::from_str(&key).map_err(|_| RandomnessUnavailable)
}

fn check_version(headers: &FieldList) -> Result<(), UpgradeFault> {
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION);
    let (Some(version), None) = (versions.next(), versions.next()) else {
        return Err(UpgradeFault::VersionMalformed);
    };
    match version.as_bytes() {
        b"13" => Ok(()),
        [] => Err(UpgradeFault::VersionMalformed),
        digits if digits.iter().all(u8::is_ascii_digit) => Err(UpgradeFault::VersionUnsupported),
        _ => Err(UpgradeFault::VersionMalformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const UPGRADE: (&str, &str) = ("upgrade", "websocket");
    const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
    const THIRTEEN: (&str, &str) = ("sec-websocket-version", "13");

    fn head(fields: &[(&'static str, &'static str)]) -> FieldList {
        let mut headers = FieldList::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    /// An opening with these fields besides.
    fn opening(fields: &[(&'static str, &'static str)]) -> FieldList {
        head(&[&[UPGRADE, CONNECTION, KEY, THIRTEEN], fields].concat())
    }

    fn offer(headers: &mut FieldList) -> Result<Box<Offer>, UpgradeFault> {
        match Asked::of(&Method::GET, Version::HTTP_11, headers)? {
            Asked::WebSocket(offer) => Ok(offer),
            Asked::Nothing => panic!("a WebSocket was asked for"),
        }
    }

    fn fault(fields: &[(&'static str, &'static str)]) -> UpgradeFault {
        offer(&mut head(fields)).unwrap_err()
    }

    fn values(headers: &FieldList, name: &str) -> Vec<String> {
        headers.get_all(name).map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn an_opening_is_passed_on() {
        let mut headers = opening(&[
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
            ("sec-websocket-extensions", "x-other"),
            ("sec-websocket-protocol", "chat, superchat"),
            ("origin", "https://app.example.com"),
        ]);
        let mut offer = offer(&mut headers).unwrap();
        assert_eq!(offer.take_token(), None);
        headers.remove("connection");
        headers.remove("upgrade");
        offer.request_fields(&mut headers);
        assert_eq!(values(&headers, "connection"), ["Upgrade"]);
        assert_eq!(values(&headers, "upgrade"), ["websocket"]);
        assert_eq!(values(&headers, "sec-websocket-key"), [KEY.1]);
        assert_eq!(values(&headers, "sec-websocket-version"), ["13"]);
        assert_eq!(values(&headers, "sec-websocket-protocol"), ["chat, superchat"]);
        assert_eq!(
            values(&headers, "sec-websocket-extensions"),
            ["permessage-deflate; client_max_window_bits", "x-other"]
        );
        assert_eq!(values(&headers, "origin"), ["https://app.example.com"]);
    }

    #[test]
    fn no_other_upgrade_is_one() {
        for fields in [
            &[][..],
            &[("connection", "upgrade")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[CONNECTION, ("upgrade", "websocket, h2c"), KEY, THIRTEEN],
            &[CONNECTION, UPGRADE, UPGRADE, KEY, THIRTEEN],
            &[CONNECTION, ("upgrade", "websocket/13"), KEY, THIRTEEN],
            &[CONNECTION, ("upgrade", ""), KEY, THIRTEEN],
        ] {
            let asked = Asked::of(&Method::GET, Version::HTTP_11, &mut head(fields));
            assert!(matches!(asked, Ok(Asked::Nothing)), "{fields:?}");
        }
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let asked = Asked::of(&Method::GET, version, &mut opening(&[]));
            assert!(matches!(asked, Ok(Asked::Nothing)), "{version:?}");
        }
    }

    #[test]
    fn a_token_in_an_ordinary_request_goes_nowhere() {
        let mut headers = head(&[("sec-websocket-protocol", "bearer, a.b.c"), ("accept", "*/*")]);
        let asked = Asked::of(&Method::GET, Version::HTTP_11, &mut headers);
        assert!(matches!(asked, Ok(Asked::Nothing)));
        assert_eq!(headers, head(&[("accept", "*/*")]));
    }

    #[test]
    fn what_a_websocket_needs_is_there_exactly_once() {
        let key = |value| [CONNECTION, UPGRADE, ("sec-websocket-key", value), THIRTEEN];
        for value in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZS0=", "x y", "*"]
        {
            assert_eq!(fault(&key(value)), UpgradeFault::Key, "{value:?}");
        }
        assert_eq!(fault(&[CONNECTION, UPGRADE, THIRTEEN]), UpgradeFault::Key);
        assert_eq!(fault(&[CONNECTION, UPGRADE, THIRTEEN, KEY, KEY]), UpgradeFault::Key);
        assert_eq!(fault(&[UPGRADE, THIRTEEN, KEY]), UpgradeFault::Connection);
        assert_eq!(fault(&[("connection", "close"), UPGRADE, THIRTEEN, KEY]), UpgradeFault::Connection);
        let version = |value| [CONNECTION, UPGRADE, ("sec-websocket-version", value), KEY];
        for value in ["8", "0", "14", "013"] {
            assert_eq!(fault(&version(value)), UpgradeFault::VersionUnsupported, "{value:?}");
        }
        for value in ["", "13, 8", "x"] {
            assert_eq!(fault(&version(value)), UpgradeFault::VersionMalformed, "{value:?}");
        }
        assert_eq!(fault(&[CONNECTION, UPGRADE, KEY]), UpgradeFault::VersionMalformed);
        assert_eq!(fault(&[CONNECTION, UPGRADE, KEY, THIRTEEN, THIRTEEN]), UpgradeFault::VersionMalformed);
        for method in [Method::POST, Method::HEAD, Method::PUT] {
            let asked = Asked::of(&method, Version::HTTP_11, &mut opening(&[]));
            assert_eq!(asked.unwrap_err(), UpgradeFault::Method, "{method}");
        }
    }

    #[test]
    fn an_opening_has_no_body() {
        for field in [("content-length", "1"), ("content-length", "x"), ("transfer-encoding", "chunked")] {
            assert_eq!(offer(&mut opening(&[field])).unwrap_err(), UpgradeFault::Body, "{field:?}");
        }
        assert!(offer(&mut opening(&[("content-length", "0")])).is_ok());
    }

    #[test]
    fn the_token_is_taken_out_of_the_protocols() {
        for (sent, left) in [
            (&["bearer, a.b.c"][..], ""),
            (&["Bearer,a.b.c"], ""),
            (&["bearer, a.b.c, chat"], "chat"),
            (&["chat,bearer,,a.b.c", "v2"], "chat, v2"),
            (&["chat, bearer", "a.b.c, v2"], "chat, v2"),
        ] {
            let mut headers = opening(&[]);
            for value in sent {
                headers.append(
                    HeaderName::from_static("sec-websocket-protocol"),
                    HeaderValue::from_static(value),
                );
            }
            let mut offer = offer(&mut headers).unwrap();
            assert!(!headers.contains_key("sec-websocket-protocol"), "{sent:?}");
            offer.request_fields(&mut headers);
            assert!(!format!("{offer:?} {headers:?}").contains("a.b.c"), "{sent:?}");
            assert_eq!(values(&headers, "sec-websocket-protocol").join(""), left, "{sent:?}");
            let token = offer.take_token().unwrap();
            assert_eq!(token, "a.b.c", "{sent:?}");
            assert!(token.is_sensitive());
            assert_eq!(offer.take_token(), None);
        }
    }

    #[test]
    fn there_is_one_token_or_none() {
        for value in [
            "bearer",
            "chat, bearer",
            "bearer, bearer",
            "bearer, bearer, a",
            "bearer, a, bearer, b",
            "bearer, a b",
            "bearer, \"a\"",
        ] {
            let outcome = offer(&mut opening(&[("sec-websocket-protocol", value)]));
            assert_eq!(outcome.unwrap_err(), UpgradeFault::TokenMalformed, "{value:?}");
        }
        for value in ["a b", "\"chat\"", "chat; q=1"] {
            let outcome = offer(&mut opening(&[("sec-websocket-protocol", value)]));
            assert_eq!(outcome.unwrap_err(), UpgradeFault::ProtocolsMalformed, "{value:?}");
        }
        for authorization in ["Bearer a.b.c", "Basic dTpw", ""] {
            let fields = [("sec-websocket-protocol", "bearer, a.b.c"), ("authorization", authorization)];
            assert_eq!(offer(&mut opening(&fields)).unwrap_err(), UpgradeFault::CredentialsTwice);
        }
        let fields = [("sec-websocket-protocol", "chat"), ("authorization", "Bearer a.b.c")];
        assert!(offer(&mut opening(&fields)).is_ok());
    }

    #[test]
    fn an_extended_connect_gets_a_key_for_the_upstream() {
        let ask = |protocol: &str, fields: &[(&'static str, &'static str)]| {
            let mut headers = head(fields);
            let offer = Offer::of_extended_connect(protocol, &mut headers)?;
            offer.request_fields(&mut headers);
            Ok::<_, UpgradeFault>(headers)
        };
        let headers = ask("WebSocket", &[THIRTEEN]).unwrap();
        let key = headers.at("sec-websocket-key").to_header_value().unwrap();
        assert_eq!(STANDARD.decode(key.as_bytes()).unwrap().len(), KEY_BYTES);
        assert_eq!(headers.at("upgrade"), "websocket");
        assert_ne!(ask("websocket", &[THIRTEEN]).unwrap().at("sec-websocket-key"), key);
        assert_ne!(ask("websocket", &[THIRTEEN, KEY]).unwrap().at("sec-websocket-key"), KEY.1);
        for protocol in ["", "connect-udp", "websocket, h2c"] {
            assert_eq!(
                ask(protocol, &[THIRTEEN]).unwrap_err(),
                UpgradeFault::ProtocolUnknown,
                "{protocol:?}"
            );
        }
        assert_eq!(ask("websocket", &[]).unwrap_err(), UpgradeFault::VersionMalformed);
        assert_eq!(
            ask("websocket", &[("sec-websocket-version", "8")]).unwrap_err(),
            UpgradeFault::VersionUnsupported
        );
    }
}
