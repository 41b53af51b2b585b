//! Random identifiers: request ids, token ids, session ids.

use http::HeaderName;

/// The header that tells a request's id to the client and to the upstream. Every answer of the gateway has it, by which
/// an answer that the HTTP library wrote by itself is told apart.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Randomness was not to be had from the operating system.
#[derive(Debug)]
pub struct RandomnessUnavailable;

impl std::fmt::Display for RandomnessUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for RandomnessUnavailable {}

/// `N` random bytes from the operating system.
///
/// # Errors
///
/// When the operating system gives none; nothing may be issued then.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], RandomnessUnavailable> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| RandomnessUnavailable)?;
    Ok(bytes)
}

/// 128 random bits as 32 lower-case hexadecimal digits: the form of a `jti` and a `sid`.
///
/// # Errors
///
/// As [`random_bytes`].
pub fn random_id() -> Result<String, RandomnessUnavailable> {
    let bytes = random_bytes::<16>()?;
    let digits = hex(u128::from_be_bytes(bytes));
    Ok(digits.iter().map(|&digit| char::from(digit)).collect())
}

/// Request ids of one thread: unique through a random start, cheap because the rest is arithmetic.
#[derive(Debug)]
pub struct RequestIds {
    next: u128,
    step: u128,
}

impl RequestIds {
    /// Starts at a random place.
    ///
    /// # Errors
    ///
    /// As [`random_bytes`].
    pub fn new() -> Result<Self, RandomnessUnavailable> {
        let next = u128::from_be_bytes(random_bytes::<16>()?);
        // An odd step visits every 128-bit value before one comes again.
        let step = u128::from_be_bytes(random_bytes::<16>()?) | 1;
        Ok(Self { next, step })
    }

    /// The next id: 32 lower-case hexadecimal digits.
    pub fn next_id(&mut self) -> [u8; 32] {
        hex(self.next_number())
    }

    /// The next id as a number.
    pub fn next_number(&mut self) -> u128 {
        self.next = self.next.wrapping_add(self.step);
        self.next
    }
}

fn hex(value: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    let bytes = value.to_be_bytes();
    for (place, four) in digits.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        *place = eight_digits(u32::from_be_bytes(*four));
    }
    digits
}

/// Eight digits at once: a request id is made for every request.
fn eight_digits(value: u32) -> [u8; 8] {
    // Each half of a byte gets a byte of its own.
    let mut halves = u64::from(value);
    halves = (halves | (halves << 16)) & 0x0000_ffff_0000_ffff;
    halves = (halves | (halves << 8)) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | (halves << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // One for each that is ten or more, and so a letter.
    let letters = ((halves + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (halves + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_form_and_differ() {
        let first = random_id().unwrap();
        assert_eq!(first.len(), 32);
        assert!(first.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_ne!(first, random_id().unwrap());
        let mut ids = RequestIds::new().unwrap();
        assert_ne!(ids.next_id(), ids.next_id());
    }

    #[test]
    fn hexadecimal_is_padded() {
        assert_eq!(&hex(0xab), b"000000000000000000000000000000ab");
    }

    #[test]
    fn every_digit_is_in_its_place() {
        assert_eq!(&hex(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210), b"0123456789abcdeffedcba9876543210");
        for place in 0..32 {
            for digit in 0..16_u128 {
                let value = digit << (place * 4);
                assert_eq!(hex(value).as_slice(), format!("{value:032x}").as_bytes());
            }
        }
    }
}
