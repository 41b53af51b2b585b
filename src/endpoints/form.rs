//! Bodies of HTML forms: `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578).

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;

use super::body::{BodyFault, Field};
use crate::base::bounds;

type List = Vec<(String, Field)>;

/// How the bytes of a form stand for characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
}

/// Reads `a=b&c=d`. The parameter `charset=iso-8859-1` is honoured, as Django does; bytes that are no UTF-8 become U+FFFD.
pub(super) fn read_urlencoded(content_type: &str, body: &[u8]) -> Result<List, BodyFault> {
    let charset = charset(content_type);
    let mut list = List::new();
    for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        if list.len() >= bounds::MAX_FORM_FIELDS {
            return Err(BodyFault::TooManyFields);
        }
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let name = decode(halves.next().unwrap_or_default(), charset);
        let value = decode(halves.next().unwrap_or_default(), charset);
        list.push((name, Field::Text(value)));
    }
    Ok(list)
}

/// Reads a multipart body. A part with a file name is a file, which no field here may be.
pub(super) async fn read_multipart(content_type: &str, body: Bytes) -> Result<List, BodyFault> {
    let malformed = BodyFault::Multipart("the body is malformed");
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| BodyFault::Multipart("Invalid boundary in multipart: None"))?;
    let whole = stream::iter([Ok::<Bytes, Infallible>(body)]);
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut list = List::new();
    while let Some(part) = parts.next_field().await.map_err(|_| malformed.clone())? {
        if list.len() >= bounds::MAX_FORM_FIELDS {
            return Err(BodyFault::TooManyFields);
        }
        let name = part.name().unwrap_or_default().to_owned();
        let is_file = part.file_name().is_some();
        let bytes = part.bytes().await.map_err(|_| malformed.clone())?;
        let text = || Field::Text(String::from_utf8_lossy(&bytes).into_owned());
        list.push((name, if is_file { Field::NotText } else { text() }));
    }
    Ok(list)
}

fn charset(content_type: &str) -> Charset {
    let named = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let is_latin1 = |value: &str| {
        let value = value.trim().trim_matches('"');
        ["iso-8859-1", "latin-1", "latin1"].iter().any(|known| known.eq_ignore_ascii_case(value))
    };
    if charsets.next().is_some_and(|(_, value)| is_latin1(value)) { Charset::Latin1 } else { Charset::Utf8 }
}

/// Decodes `+` and `%XY`. A percent sign without two digits stands for itself, as in every browser's forms.
fn decode(text: &[u8], charset: Charset) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, tail @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    rest = tail;
                }
                (Some(_) | None, _) => bytes.push(b'%'),
            },
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    match charset {
        Charset::Utf8 => String::from_utf8_lossy(&bytes).into_owned(),
        Charset::Latin1 => bytes.into_iter().map(char::from).collect(),
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
