//! What is known of somebody, as the value of a header: unchanged, in one of three encodings, or refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::base::claim::ClaimValue;
use crate::config::IdentityEncoding;

/// Bytes of text in one encoded word, which may have 75 characters (RFC 2047 section 2).
const ENCODED_WORD_BYTES: usize = 45;

/// No header can say it so that every reader understands the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit;

/// A text; `None` when it is empty.
pub(super) fn of_text(text: &str, encoding: IdentityEncoding) -> Result<Option<HeaderValue>, Unfit> {
    let Some(encoded) = encode(text, encoding)? else { return Ok(None) };
    HeaderValue::try_from(encoded.into_bytes()).map(Some).map_err(|_| Unfit)
}

/// Several texts with commas between them; `None` when there are none.
pub(super) fn of_list<'a>(
    items: impl IntoIterator<Item = &'a str>,
    encoding: IdentityEncoding,
) -> Result<Option<HeaderValue>, Unfit> {
    let mut joined = String::new();
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            joined.push(',');
        }
        // One that is empty would be seen by some readers only.
        joined.push_str(&encode(one(item)?, encoding)?.ok_or(Unfit)?);
    }
    if joined.is_empty() {
        return Ok(None);
    }
    HeaderValue::try_from(joined.into_bytes()).map(Some).map_err(|_| Unfit)
}

/// The value of a claim, which has one or several values; `None` when it has none. What cannot be compared, such as an
/// object, has no form in a header.
pub(super) fn of_claim(value: &ClaimValue, encoding: IdentityEncoding) -> Result<Option<HeaderValue>, Unfit> {
    match value {
        ClaimValue::List(items) => of_list(items.iter().map(AsRef::as_ref), encoding),
        // With a comma it would look like several.
        ClaimValue::Text(text) => of_text(one(text)?, encoding),
        ClaimValue::Boolean(value) => of_text(if *value { "true" } else { "false" }, encoding),
        ClaimValue::Unclear => Err(Unfit),
    }
}

/// A value that does not look like several.
fn one(text: &str) -> Result<&str, Unfit> {
    if text.contains(',') { Err(Unfit) } else { Ok(text) }
}

/// The text in an encoding; `None` when it is empty.
fn encode(text: &str, encoding: IdentityEncoding) -> Result<Option<String>, Unfit> {
    // Readers of headers remove what is blank at the ends.
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(Unfit);
    }
    Ok((!text.is_empty()).then(|| match encoding {
        IdentityEncoding::Utf8 => text.to_owned(),
        IdentityEncoding::Percent => percent(text),
        IdentityEncoding::Rfc2047 => encoded_words(text),
    }))
}

/// RFC 3986 section 2.1 for what is not ASCII, and for the percent sign, so that decoding always gives the text.
fn percent(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii() && byte != b'%' {
            encoded.push(char::from(byte));
            continue;
        }
        encoded.push('%');
        for digit in [byte >> 4, byte & 0xf] {
            encoded.push(DIGITS.get(usize::from(digit)).map_or('0', |digit| char::from(*digit)));
        }
    }
    encoded
}

/// RFC 2047: words in base64, each with whole characters. Text in ASCII stays, unless it looks like such a word.
fn encoded_words(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.floor_char_boundary(ENCODED_WORD_BYTES));
        words.push(format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::IdentityEncoding::{Percent, Rfc2047, Utf8};
    use super::*;

    fn text(value: Result<Option<HeaderValue>, Unfit>) -> Result<Option<String>, Unfit> {
        value.map(|value| value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
    }

    fn claim(value: &Value) -> Result<Option<String>, Unfit> {
        text(of_claim(&ClaimValue::of(value), Utf8))
    }

    #[test]
    fn text_is_unchanged_or_in_one_of_the_encodings() {
        for (encoding, plain, beyond) in [
            (Utf8, "50% a=?b", "Zoë"),
            (Percent, "50%25 a=?b", "Zo%C3%AB"),
            (Rfc2047, "=?UTF-8?B?NTAlIGE9P2I=?=", "=?UTF-8?B?Wm/Dqw==?="),
        ] {
            assert_eq!(text(of_text("50% a=?b", encoding)), Ok(Some(plain.to_owned())), "{encoding:?}");
            assert_eq!(text(of_text("Zoë", encoding)), Ok(Some(beyond.to_owned())), "{encoding:?}");
            assert_eq!(text(of_text("", encoding)), Ok(None));
        }
        assert_eq!(text(of_list(["Zoë", "b"], Percent)), Ok(Some("Zo%C3%AB,b".to_owned())));
        assert_eq!(text(of_text("alice smith", Rfc2047)), Ok(Some("alice smith".to_owned())));
    }

    #[test]
    fn a_claim_has_one_value_or_several() {
        assert_eq!(claim(&json!("acme")), Ok(Some("acme".to_owned())));
        assert_eq!(claim(&json!(7)), Ok(Some("7".to_owned())));
        assert_eq!(claim(&json!(true)), Ok(Some("true".to_owned())));
        assert_eq!(claim(&json!(["a", 2, false])), Ok(Some("a,2,false".to_owned())));
        for nothing in [json!(""), json!([])] {
            assert_eq!(claim(&nothing), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for value in [
            json!("a,b"),
            json!("a\nb"),
            json!("a\u{0}"),
            json!("a\u{85}b"),
            json!(" a"),
            json!("a\u{a0}"),
            json!(["a,b"]),
            json!(["a", ""]),
            json!(["a", null]),
            json!([["a"]]),
            json!({ "a": 1 }),
            json!(1.5),
            json!([{ "a": 1 }]),
            json!(["a", "b\r\nx: y"]),
        ] {
            for encoding in [Utf8, Percent, Rfc2047] {
                assert_eq!(of_claim(&ClaimValue::of(&value), encoding), Err(Unfit), "{value} {encoding:?}");
            }
        }
        // A name has one value whatever is in it.
        assert_eq!(text(of_text("Doe, Jane", Utf8)), Ok(Some("Doe, Jane".to_owned())));
    }

    fn decoded_words(text: &str) -> String {
        let words = text.split(' ').map(|word| {
            assert!(word.len() <= 75, "{word}");
            let word = word.strip_prefix("=?UTF-8?B?").and_then(|word| word.strip_suffix("?="));
            String::from_utf8(STANDARD.decode(word.unwrap()).unwrap()).unwrap()
        });
        words.collect()
    }

    fn decoded_percent(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_sent_can_be_read_back(said in "[ -~äß€😀%=?]{0,200}") {
            for encoding in [Utf8, Percent, Rfc2047] {
                let Ok(Some(sent)) = text(of_text(&said, encoding)) else {
                    prop_assert!(said.trim() != said || said.is_empty());
                    continue;
                };
                let read = match encoding {
                    Percent => decoded_percent(&sent),
                    Rfc2047 if sent.starts_with("=?") => decoded_words(&sent),
                    Utf8 | Rfc2047 => sent.clone(),
                };
                prop_assert!(encoding == Utf8 || sent.is_ascii());
                prop_assert_eq!(&read, &said);
            }
        }

        #[test]
        fn a_list_has_as_many_items_as_it_had(items in prop::collection::vec("[a-zé,\r ]{0,4}", 0..5)) {
            let list = items.iter().map(String::as_str);
            if let Ok(Some(sent)) = text(of_list(list, Utf8)) {
                prop_assert_eq!(sent.split(',').collect::<Vec<_>>(), items);
            }
        }
    }
}
