//! How hard a shared secret is to guess: an estimate from above, which knows runs, repetitions and words.

/// The fewest bits that are not told of: half of what the weakest algorithm has (RFC 7518 section 3.2).
pub(super) const FEWEST_BITS: u32 = 128;

/// The length of a text that counts as repeated when it has stood before.
const REPEATED: usize = 4;
/// From this length on, letters of one case are taken for a word.
const WORD: usize = 5;

/// The bits of a secret, at the most.
pub(super) fn bits(secret: &[u8]) -> u32 {
    let alphabet = alphabet_bits(secret);
    let mut bits = 0.0;
    for at in 0..secret.len() {
        bits += if is_predictable(secret, at) {
            1.0
        } else if is_in_word(secret, at) {
            // What letters of English words are said to have, generously.
            2.0
        } else {
            alphabet
        };
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such a cast saturates")]
    let bits = bits as u32;
    bits
}

/// The bits of one byte, if each were drawn from the kinds of characters that there are.
fn alphabet_bits(secret: &[u8]) -> f64 {
    let has = |is: fn(&u8) -> bool, size: f64| if secret.iter().any(is) { size } else { 0.0 };
    let letters = if secret.iter().all(u8::is_ascii_hexdigit) { 6.0 } else { 26.0 };
    let size = has(u8::is_ascii_digit, 10.0)
        + has(u8::is_ascii_lowercase, letters)
        + has(u8::is_ascii_uppercase, letters)
        + has(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric(), 33.0)
        + has(|byte| !byte.is_ascii(), 128.0);
    size.max(2.0).log2()
}

/// Whether a byte goes on with a run (`abc`, `321`, `aaa`), or with what stood before.
fn is_predictable(secret: &[u8], at: usize) -> bool {
    let byte = |back: usize| at.checked_sub(back).and_then(|at| secret.get(at)).copied().map(i16::from);
    let steps = byte(0).zip(byte(1)).map(|(now, before)| now - before);
    let earlier = byte(1).zip(byte(2)).map(|(now, before)| now - before);
    if steps.is_some_and(|step| (-1..=1).contains(&step)) && steps == earlier {
        return true;
    }
    let Some(begin) = (at + 1).checked_sub(REPEATED) else { return false };
    let tail = secret.get(begin..=at).unwrap_or_default();
    secret.get(..at).unwrap_or_default().windows(REPEATED).any(|window| window == tail)
}

/// Whether a byte is one of many letters of the same case in a row.
fn is_in_word(secret: &[u8], at: usize) -> bool {
    let Some(own) = secret.get(at) else { return false };
    let alike = |byte: &&u8| {
        (own.is_ascii_lowercase() && byte.is_ascii_lowercase())
            || (own.is_ascii_uppercase() && byte.is_ascii_uppercase())
    };
    let before = secret.get(..at).unwrap_or_default().iter().rev().take_while(alike).count();
    let after = secret.get(at..).unwrap_or_default().iter().take_while(alike).count();
    before + after >= WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_make_up_is_weak_and_what_is_drawn_is_not() {
        for weak in [
            &b"0123456789abcdef0123456789abcdef"[..],
            b"contract-secret-key-0123456789abcdef-0123456789",
            b"secret-secret-secret-secret-secret-secret",
            b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            b"please-change-me-to-something-secret!",
            b"django-insecure-django-insecure-django-insecure",
            b"Tr0ub4dor&3Tr0ub4dor&3Tr0ub4dor&3Tr0ub4dor&3",
            &[0; 32],
        ] {
            assert!(bits(weak) < FEWEST_BITS, "{} {}", String::from_utf8_lossy(weak), bits(weak));
        }
        for strong in [
            &b"e8b1f2a95d3c0746bb27f91e5a8d40c2"[..],
            b"7Qx0VdRk3mZt9LwB2uYpJ5hNcE8sGfA1",
            b"pD3+9kQz/T1xVbW7mYc0RrJ2hLs8NfE5uGa4KiX6oMw=",
            &[0x9f, 0x3a, 0xc1, 0x07, 0x5e, 0xe2, 0x88, 0x14, 0xd6, 0x71, 0x2b, 0xf0, 0x4c, 0x99, 0x35, 0xaa],
            &[
                0x9f, 0x3a, 0xc1, 0x07, 0x5e, 0xe2, 0x88, 0x14, 0xd6, 0x71, 0x2b, 0xf0, 0x4c, 0x99, 0x35,
                0xaa, 0x13, 0x6d, 0xb4, 0x42, 0xfe, 0x08, 0x90, 0x57, 0xcb, 0x2f, 0xe9, 0x76, 0x1d, 0xa3,
                0x84, 0x60,
            ],
        ]
        .into_iter()
        .filter(|secret| secret.len() >= 32)
        {
            assert!(bits(strong) >= FEWEST_BITS, "{} {}", String::from_utf8_lossy(strong), bits(strong));
        }
    }
}
