//! What a client's certificate says, as text that fits a header or is reported as unfit. Nothing is cut or replaced.

use std::fmt;

use aws_lc_rs::digest;
use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::subject;
use crate::config::{CertificateHeader, CertificatePart};

/// A client certificate that passed.
#[derive(Debug)]
pub struct ClientCertificate {
    subject: Part,
    subject_cn: Part,
    san_dns: Part,
    san_email: Part,
    san_uri: Part,
    serial: Part,
    fingerprint: Part,
    not_after: i64,
    headers: Result<Vec<(HeaderName, HeaderValue)>, UnfitPart>,
}

/// A part as text, `None` when the certificate has none.
type Part = Result<Option<String>, Unfit>;

/// Why a part of a certificate cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It holds a control character, such as NUL or a line break.
    ControlCharacter,
    /// A value holds a comma, which separates values.
    Separator,
    /// It is in no encoding that is certainly understood.
    NotText,
    /// It begins or ends with a blank, which readers of headers remove.
    Blank,
    /// There are several where only one has a meaning.
    Several,
}

/// The part of a client certificate that does not fit its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitPart {
    /// Which part.
    pub part: CertificatePart,
    /// Why.
    pub unfit: Unfit,
}

impl fmt::Display for UnfitPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = CertificatePart::ALL.iter().find(|(_, part)| *part == self.part);
        let part = part.map_or("certificate", |(word, _)| word);
        let why = match self.unfit {
            Unfit::ControlCharacter => "holds a control character",
            Unfit::Separator => "has a value with a comma, which separates values",
            Unfit::NotText => "is in an encoding that is not certainly understood",
            Unfit::Blank => "begins or ends with a blank",
            Unfit::Several => "has several values where only one has a meaning",
        };
        write!(f, "{part} of the client certificate {why}")
    }
}

impl std::error::Error for UnfitPart {}

impl ClientCertificate {
    /// Reads a certificate; `None` when it is damaged, which the verification before has excluded.
    pub(super) fn parse(der: &CertificateDer<'_>, headers: &[CertificateHeader]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = alternative_names(&parsed);
        let mut certificate = Self {
            subject: subject::text(parsed.subject()).map(|text| Some(text).filter(|text| !text.is_empty())),
            subject_cn: common_name(&parsed),
            san_dns: joined(&names, 2),
            san_email: joined(&names, 1),
            san_uri: joined(&names, 6),
            serial: Ok(Some(serial(parsed.raw_serial()))),
            fingerprint: Ok(Some(hex(digest::digest(&digest::SHA256, der).as_ref()))),
            not_after: parsed.validity().not_after.timestamp(),
            headers: Ok(Vec::new()),
        };
        certificate.headers = certificate.header_values(headers);
        Some(certificate)
    }

    /// A part as text; `None` when the certificate has none.
    ///
    /// # Errors
    ///
    /// [`UnfitPart`], when it cannot stand in a header.
    pub fn part(&self, part: CertificatePart) -> Result<Option<&str>, UnfitPart> {
        let value = match part {
            CertificatePart::Subject => &self.subject,
            CertificatePart::SubjectCn => &self.subject_cn,
            CertificatePart::SanDns => &self.san_dns,
            CertificatePart::SanEmail => &self.san_email,
            CertificatePart::SanUri => &self.san_uri,
            CertificatePart::Serial => &self.serial,
            CertificatePart::Fingerprint => &self.fingerprint,
        };
        value.as_ref().map(Option::as_deref).map_err(|unfit| UnfitPart { part, unfit: *unfit })
    }

    /// The configured headers of which the certificate has a value.
    ///
    /// # Errors
    ///
    /// [`UnfitPart`], when one of them cannot be told: then no request may be forwarded.
    pub fn headers(&self) -> Result<&[(HeaderName, HeaderValue)], UnfitPart> {
        self.headers.as_deref().map_err(|unfit| *unfit)
    }

    /// Until when it is valid, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    fn header_values(
        &self,
        headers: &[CertificateHeader],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, UnfitPart> {
        let mut values = Vec::with_capacity(headers.len());
        for CertificateHeader { name, part } in headers {
            let Some(text) = self.part(*part)? else { continue };
            // What is no control character is a sound value; this is the second look.
            let value = HeaderValue::from_bytes(text.as_bytes());
            let value = value.map_err(|_| UnfitPart { part: *part, unfit: Unfit::ControlCharacter })?;
            values.push((name.clone(), value));
        }
        Ok(values)
    }
}

/// The alternative names; `Err` when the certificate has them in a form that is not understood.
fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a [GeneralName<'a>], Unfit> {
    let extension = certificate.subject_alternative_name().map_err(|_| Unfit::NotText)?;
    Ok(extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default())
}

/// The names of one kind, which is the tag that they have in RFC 5280 section 4.2.1.6.
fn joined(names: &Result<&[GeneralName<'_>], Unfit>, kind: u32) -> Part {
    let names = (*names)?;
    let mut found = Vec::new();
    for name in names {
        #[expect(clippy::wildcard_enum_match_arm, reason = "names of another kind are not asked for")]
        match name {
            GeneralName::RFC822Name(text) if kind == 1 => found.push(*text),
            GeneralName::DNSName(text) if kind == 2 => found.push(*text),
            GeneralName::URI(text) if kind == 6 => found.push(*text),
            GeneralName::Invalid(tag, _) if tag.0 == kind => return Err(Unfit::NotText),
            _ => {}
        }
    }
    for text in &found {
        if text.contains(char::is_control) {
            return Err(Unfit::ControlCharacter);
        }
        // They are of the type IA5String, which is ASCII, and none of them has a blank in it.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(if text.is_ascii() { Unfit::Blank } else { Unfit::NotText });
        }
        // Also one value alone would look like two.
        if text.contains(',') {
            return Err(Unfit::Separator);
        }
    }
    Ok(Some(found.join(",")).filter(|text| !text.is_empty()))
}

fn common_name(certificate: &X509Certificate<'_>) -> Part {
    let mut names = certificate.subject().iter_common_name();
    let Some(name) = names.next() else { return Ok(None) };
    if names.next().is_some() {
        return Err(Unfit::Several);
    }
    let name = name.as_str().map_err(|_| Unfit::NotText)?;
    if name.contains(char::is_control) {
        return Err(Unfit::ControlCharacter);
    }
    if name != name.trim() {
        return Err(Unfit::Blank);
    }
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

/// As `openssl x509 -serial` prints it, but in lower case: without the byte that only says that the number is positive.
fn serial(bytes: &[u8]) -> String {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        _ => hex(bytes),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
