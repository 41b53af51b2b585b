//! Bodies of requests to the token routes: JSON, a form, or multipart, read into fields as Django REST framework does.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;

use super::form;
use crate::tokens::json::Members;

/// Longest `Content-Type` that is repeated to the client.
const MAX_REPEATED_TYPE_BYTES: usize = 100;

/// Why a body cannot be read. The words never hold a part of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// No such bodies are read; the text is the `Content-Type`.
    MediaType(String),
    /// The JSON is malformed.
    Json(String),
    /// The multipart body is malformed.
    Multipart(&'static str),
    /// The form has more than [`crate::base::bounds::MAX_FORM_FIELDS`] fields.
    TooManyFields,
    /// The JSON is something else than an object.
    NotAnObject(&'static str),
}

/// The value of a field. It may be a password, so it cannot be printed.
pub enum Field {
    /// Text, or a number as text.
    Text(String),
    /// JSON's null.
    Null,
    /// A boolean, list, object or file.
    NotText,
}

/// The fields of a body.
#[derive(Default)]
pub struct Fields {
    /// In the order of the body, names possibly repeated.
    list: Vec<(String, Field)>,
    /// Whether the JSON had surrogates without partners; see [`shift_lone_surrogates`].
    shifted: bool,
}

/// Reads a body by its type. An empty body has no fields, whatever its type.
///
/// # Errors
///
/// A [`BodyFault`] for a body of another type, and for one that is malformed.
pub async fn read(content_type: Option<&HeaderValue>, body: Bytes) -> Result<Fields, BodyFault> {
    if body.is_empty() {
        return Ok(Fields::default());
    }
    let header = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = header.split(';').next().unwrap_or("").trim();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    if is("application/json") {
        return read_json(&body);
    }
    let list = if is("application/x-www-form-urlencoded") {
        form::read_urlencoded(header, &body)?
    } else if is("multipart/form-data") {
        form::read_multipart(header, body).await?
    } else {
        return Err(BodyFault::MediaType(repeatable(header).to_owned()));
    };
    Ok(Fields { list, shifted: false })
}

impl Fields {
    /// The text of a field, as sent. What is wrong with it is added to the errors instead, in the words of Django REST
    /// framework. Of several fields with one name the last counts.
    pub fn text(&self, name: &'static str, errors: &mut Members) -> Option<String> {
        let field = self.list.iter().rev().find(|(known, _)| known == name).map(|(_, field)| field);
        let messages = match field {
            None => vec!["This field is required.".to_owned()],
            Some(Field::Null) => vec!["This field may not be null.".to_owned()],
            Some(Field::NotText) => vec!["Not a valid string.".to_owned()],
            Some(Field::Text(text)) if text.trim().is_empty() => {
                vec!["This field may not be blank.".to_owned()]
            }
            Some(Field::Text(text)) => {
                let messages = self.forbidden_characters(text);
                if messages.is_empty() {
                    return Some(text.clone());
                }
                messages
            }
        };
        errors.push(name, messages);
        None
    }

    fn forbidden_characters(&self, text: &str) -> Vec<String> {
        let mut messages = Vec::new();
        if text.contains('\0') {
            messages.push("Null characters are not allowed.".to_owned());
        }
        let surrogate = text.chars().map(u32::from).find(|code| SHIFTED_SURROGATES.contains(code));
        if let Some(code) = surrogate.filter(|_| self.shifted) {
            messages.push(format!("Surrogate characters are not allowed: U+{:X}.", code - SURROGATE_SHIFT));
        }
        messages
    }
}

fn read_json(body: &[u8]) -> Result<Fields, BodyFault> {
    let text = std::str::from_utf8(body).map_err(|_| BodyFault::Json("the body is not UTF-8".to_owned()))?;
    let text = shift_lone_surrogates(text);
    let shifted = matches!(text, Cow::Owned(_));
    // serde_json's words say what was expected and where, never what was found.
    let value: Value = serde_json::from_str(&text).map_err(|error| BodyFault::Json(error.to_string()))?;
    let object = match value {
        Value::Object(object) => object,
        Value::Null => return Err(BodyFault::NotAnObject("No data provided")),
        Value::Array(_) => {
            return Err(not_a_dictionary("Invalid data. Expected a dictionary, but got list."));
        }
        Value::String(_) => {
            return Err(not_a_dictionary("Invalid data. Expected a dictionary, but got str."));
        }
        Value::Bool(_) => return Err(not_a_dictionary("Invalid data. Expected a dictionary, but got bool.")),
        Value::Number(number) if number.is_f64() => {
            return Err(not_a_dictionary("Invalid data. Expected a dictionary, but got float."));
        }
        Value::Number(_) => {
            return Err(not_a_dictionary("Invalid data. Expected a dictionary, but got int."));
        }
    };
    let field = |value| match value {
        Value::String(text) => Field::Text(text),
        Value::Number(number) => Field::Text(number.to_string()),
        Value::Null => Field::Null,
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Field::NotText,
    };
    Ok(Fields { list: object.into_iter().map(|(name, value)| (name, field(value))).collect(), shifted })
}

fn not_a_dictionary(message: &'static str) -> BodyFault {
    BodyFault::NotAnObject(message)
}

/// Where surrogates without partners are moved to: private characters at the end of the last plane.
const SURROGATE_SHIFT: u32 = 0x10_0000;
const SHIFTED_SURROGATES: std::ops::RangeInclusive<u32> = 0x10_d800..=0x10_dfff;

/// Rewrites escapes of surrogates without partners (`\ud800`), which Python reads and Rust's strings cannot hold.
///
/// They become private characters, so that the field that has them can be named in the answer. Nobody logs in with such
/// a text: a field with these characters is refused whenever anything was rewritten.
fn shift_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut shifted = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        let start = at + found;
        let Some(code) = escaped_unit(text, start) else {
            // Another escape: the backslash and one character. That character may be longer than one byte.
            let skipped =
                text.get(start + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            at = start + 1 + skipped;
            continue;
        };
        at = start + 6;
        let has_partner =
            is_high(code) && escaped_unit(text, at).is_some_and(|next| (0xdc00..=0xdfff).contains(&next));
        if has_partner {
            at += 6;
        } else if (0xd800..=0xdfff).contains(&code) {
            shifted.push_str(text.get(copied..start).unwrap_or(""));
            shifted.extend(char::from_u32(code + SURROGATE_SHIFT));
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    shifted.push_str(text.get(copied..).unwrap_or(""));
    Cow::Owned(shifted)
}

fn is_high(code: u32) -> bool {
    (0xd800..=0xdbff).contains(&code)
}

/// The code of an escape `\uXXXX` that stands here.
fn escaped_unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// A `Content-Type` that may be repeated to the client: nothing that could be more than a media type.
fn repeatable(header: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/;= *\"".contains(&byte);
    let is_type = header.contains('/') && header.bytes().all(plain);
    if is_type && header.len() <= MAX_REPEATED_TYPE_BYTES { header } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_without_partners_are_shifted_and_nothing_else_is() {
        for unchanged in
            ["", r"\ud83d\ude00", r"\\ud800", r"\u00e9\n", "\\", "\\u", r"\ud80", "\\é", r#"{"a":"\u0041"}"#]
        {
            assert!(matches!(shift_lone_surrogates(unchanged), Cow::Borrowed(_)), "{unchanged}");
        }
        assert_eq!(shift_lone_surrogates(r"a\ud800b"), "a\u{10d800}b");
        assert_eq!(shift_lone_surrogates(r"\ud800\ud83d\ude00\udfff"), "\u{10d800}\\ud83d\\ude00\u{10dfff}");
        assert_eq!(shift_lone_surrogates(r"\ude00\ud83d"), "\u{10de00}\u{10d83d}");
    }

    #[test]
    fn only_media_types_are_repeated() {
        assert_eq!(repeatable("text/plain; charset=utf-8"), "text/plain; charset=utf-8");
        for hidden in [
            "",
            "eyJhbGciOiJIUzI1NiJ9.e30.x",
            "text/<script>",
            "a/b\u{1b}",
            &format!("a/{}", "b".repeat(200)),
        ] {
            assert_eq!(repeatable(hidden), "");
        }
    }
}
