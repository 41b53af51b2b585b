//! Names, group names and e-mail addresses: one normal form, so that two spellings of a name are one user.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::base::bounds;

/// Longest e-mail address, in bytes (RFC 5321 section 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL_BYTES: usize = 254;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// It has no characters.
    Empty,
    /// It is longer than [`bounds::MAX_USERNAME_BYTES`] in its normal form.
    TooLong,
    /// It has a control character.
    ControlCharacter,
    /// It begins or ends with white space.
    OuterWhiteSpace,
    /// A group name has a comma, which separates groups in a header.
    Comma,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => write!(f, "it is longer than {} bytes", bounds::MAX_USERNAME_BYTES),
            Self::ControlCharacter => f.write_str("it has a control character"),
            Self::OuterWhiteSpace => f.write_str("it begins or ends with white space"),
            Self::Comma => f.write_str("it has a comma"),
        }
    }
}

impl std::error::Error for NameFault {}

/// An e-mail address that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmailFault;

impl fmt::Display for EmailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it must have one \"@\", no white space or control characters, and at most {MAX_EMAIL_BYTES} bytes"
        )
    }
}

impl std::error::Error for EmailFault {}

/// Brings a user name to its normal form: NFKC, case kept.
///
/// # Errors
///
/// A [`NameFault`]; what is checked is the normal form.
pub fn normal_name(name: &str) -> Result<String, NameFault> {
    let mut normal = String::new();
    for character in name.nfkc() {
        if character.is_control() {
            return Err(NameFault::ControlCharacter);
        }
        normal.push(character);
        if normal.len() > bounds::MAX_USERNAME_BYTES {
            return Err(NameFault::TooLong);
        }
    }
    if normal.is_empty() {
        return Err(NameFault::Empty);
    }
    if normal.trim().len() != normal.len() {
        return Err(NameFault::OuterWhiteSpace);
    }
    Ok(normal)
}

/// Brings a group name to its normal form: that of a user name, without commas.
///
/// # Errors
///
/// A [`NameFault`].
pub fn normal_group(name: &str) -> Result<String, NameFault> {
    let normal = normal_name(name)?;
    if normal.contains(',') { Err(NameFault::Comma) } else { Ok(normal) }
}

/// Checks an e-mail address, which is kept as it is.
///
/// # Errors
///
/// [`EmailFault`].
pub fn check_email(email: &str) -> Result<(), EmailFault> {
    let parts = email.split_once('@');
    let sound = parts.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@') && email.len() <= MAX_EMAIL_BYTES
    });
    let odd = |character: char| character.is_control() || character.is_whitespace();
    if sound && !email.contains(odd) { Ok(()) } else { Err(EmailFault) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_name_are_one() {
        assert_eq!(normal_name("ﬁ").unwrap(), "fi");
        assert_eq!(normal_name("Ａlice").unwrap(), "Alice");
        assert_eq!(normal_name("e\u{301}").unwrap(), normal_name("é").unwrap());
        assert_ne!(normal_name("Alice").unwrap(), normal_name("alice").unwrap());
        assert_eq!(normal_name("a b").unwrap(), "a b");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(normal_name(""), Err(NameFault::Empty));
        for name in [" a", "a ", "\u{a0}a", "a\u{3000}"] {
            assert_eq!(normal_name(name), Err(NameFault::OuterWhiteSpace), "{name:?}");
        }
        for name in ["a\0", "a\nb", "\u{85}", "\u{7f}"] {
            assert_eq!(normal_name(name), Err(NameFault::ControlCharacter), "{name:?}");
        }
        assert_eq!(normal_name(&"a".repeat(255)).unwrap().len(), 255);
        assert_eq!(normal_name(&"a".repeat(256)), Err(NameFault::TooLong));
        // One character of three bytes that becomes eighteen characters.
        assert_eq!(normal_name(&"\u{fdfa}".repeat(10)), Err(NameFault::TooLong));
        // Full-width letters shrink.
        assert_eq!(normal_name(&"ａ".repeat(200)).unwrap().len(), 200);
    }

    #[test]
    fn a_group_has_no_comma_in_any_form() {
        assert_eq!(normal_group("finance").unwrap(), "finance");
        assert_eq!(normal_group("a,b"), Err(NameFault::Comma));
        assert_eq!(normal_group("a，b"), Err(NameFault::Comma));
    }

    #[test]
    fn addresses_are_checked_a_little() {
        for good in ["a@b", "alice@example.com", "ä@exämple.com"] {
            assert_eq!(check_email(good), Ok(()), "{good}");
        }
        let long = format!("{}@b", "a".repeat(253));
        for bad in ["", "@", "a@", "@b", "a", "a@b@c", "a b@c", "a@b\n", "a\u{a0}@b", "a@b\0", &long] {
            assert_eq!(check_email(bad), Err(EmailFault), "{bad:?}");
        }
        assert_eq!(check_email(long.get(1..).unwrap()), Ok(()));
    }

    proptest! {
        #[test]
        fn a_normal_name_stays_as_it_is(name in "\\PC{1,40}") {
            if let Ok(normal) = normal_name(&name) {
                prop_assert_eq!(normal_name(&normal), Ok(normal));
            }
        }
    }
}
