//! `traceparent` (W3C Trace Context section 3.2).

use http::HeaderValue;

use super::TRACEPARENT;
use crate::base::field_list::FieldList;

/// Length of a value of version 00, in bytes.
const LENGTH: usize = 55;

/// The place of a request in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace; never 0.
    pub trace: u128,
    /// The span that the request belongs to; never 0.
    pub span: u64,
    /// Whether the caller records it.
    pub sampled: bool,
}

impl Parent {
    /// Reads a value. What a later version adds is not looked at.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = digits(value.get(..2)?)?;
        let longer = value.get(LENGTH).is_some_and(|byte| version > 0 && *byte == b'-');
        if version == 0xff || (value.len() != LENGTH && !longer) {
            return None;
        }
        for dash in [2, 35, 52] {
            if value.get(dash) != Some(&b'-') {
                return None;
            }
        }
        let trace = digits(value.get(3..35)?).filter(|trace| *trace != 0)?;
        let span = u64::try_from(digits(value.get(36..52)?)?).ok().filter(|span| *span != 0)?;
        let flags = digits(value.get(53..LENGTH)?)?;
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The value that says this.
    pub fn value(self) -> HeaderValue {
        let Self { trace, span, sampled } = self;
        let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The one place that header fields name; `None` when they name none, several, or one that cannot be.
pub(super) fn parent(headers: &FieldList) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT);
    let value = values.next()?;
    if values.next().is_some() { None } else { Parent::parse(value.as_bytes()) }
}

/// A number in lower-case hexadecimal digits, of which there are no more than 32.
fn digits(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number: u128, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let parent = Parent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((parent.span, parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
        let later = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-the-future-will-be-like";
        assert!(!Parent::parse(later).unwrap().sampled);
    }

    #[test]
    fn what_is_none_is_not_read() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(value.as_bytes()), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let parent = Parent { trace, span, sampled };
            prop_assert_eq!(Parent::parse(parent.value().as_bytes()), Some(parent));
        }

        #[test]
        fn nothing_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _parent = Parent::parse(&value);
        }
    }
}
