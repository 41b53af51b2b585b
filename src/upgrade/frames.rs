//! Where the frames of one direction begin and end (RFC 6455 section 5.2).

use std::fmt;

/// The opcode of a frame that ends its direction (RFC 6455 section 5.5.1).
const OPCODE_CLOSE: u8 = 0x8;

/// Follows the frames of one direction, in slices of any length. It copies nothing and does not look at what frames carry.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    state: State,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing of the next frame has come.
    Between,
    /// The first byte has come.
    Begun,
    /// So many more bytes of the extended length are to come; then comes a key, or not.
    Length { missing: u8, length: u64, masked: bool },
    /// So many more bytes of the frame are to come, a key included. Never 0.
    Rest(u64),
}

/// A frame has a length that no frame may have: its highest bit is set (RFC 6455 section 5.2). From here on nobody knows
/// where frames begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthMalformed;

impl fmt::Display for LengthMalformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a frame has a length that no frame may have")
    }
}

impl std::error::Error for LengthMalformed {}

impl Default for Frames {
    fn default() -> Self {
        Self { state: State::Between, closed: false }
    }
}

impl Frames {
    /// Whether another frame may be put in here.
    pub fn is_between(&self) -> bool {
        match self.state {
            State::Between => true,
            State::Begun | State::Length { .. } | State::Rest(_) => false,
        }
    }

    /// Whether a close frame has come: nothing may come after it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Follows all of the bytes.
    ///
    /// # Errors
    ///
    /// [`LengthMalformed`] for a frame that cannot be followed.
    pub fn follow(&mut self, mut bytes: &[u8]) -> Result<(), LengthMalformed> {
        while !bytes.is_empty() {
            let used = self.follow_one(bytes)?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Follows the bytes to the end of the frame that is under way or begins with them, and tells how many these were: all
    /// of them, when the frame does not end with them.
    ///
    /// # Errors
    ///
    /// As [`Self::follow`].
    pub fn follow_one(&mut self, bytes: &[u8]) -> Result<usize, LengthMalformed> {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            match self.state {
                State::Between => {
                    self.closed |= byte & 0x0f == OPCODE_CLOSE;
                    self.state = State::Begun;
                    rest = after;
                }
                State::Begun => {
                    let masked = byte & 0x80 != 0;
                    self.state = match byte & 0x7f {
                        126 => State::Length { missing: 2, length: 0, masked },
                        127 => State::Length { missing: 8, length: 0, masked },
                        length => after_length(u64::from(length), masked),
                    };
                    rest = after;
                }
                State::Length { missing, length, masked } => {
                    let length = length << 8 | u64::from(*byte);
                    if missing == 8 && byte & 0x80 != 0 {
                        return Err(LengthMalformed);
                    }
                    self.state = match missing {
                        0 | 1 => after_length(length, masked),
                        missing => State::Length { missing: missing - 1, length, masked },
                    };
                    rest = after;
                }
                State::Rest(missing) => {
                    let here = usize::try_from(missing).unwrap_or(usize::MAX).min(rest.len());
                    self.state = rest_of(missing - here as u64);
                    rest = rest.get(here..).unwrap_or_default();
                }
            }
            if self.is_between() {
                break;
            }
        }
        Ok(bytes.len() - rest.len())
    }
}

/// What comes after the length. A length has 63 bits, so that a key's bytes can be added.
fn after_length(length: u64, masked: bool) -> State {
    rest_of(length + if masked { 4 } else { 0 })
}

fn rest_of(missing: u64) -> State {
    if missing == 0 { State::Between } else { State::Rest(missing) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with its length in the shortest form.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask + u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(mask + 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask + 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0xff; 4].iter().filter(|_| masked));
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    /// After which of the bytes, fed one by one, another frame may come.
    fn boundaries(bytes: &[u8]) -> Vec<usize> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            frames.follow(&[*byte]).unwrap();
            if frames.is_between() {
                found.push(at + 1);
            }
        }
        found
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let bytes = frame(2, length, masked);
                assert_eq!(boundaries(&bytes), [bytes.len()], "{length} {masked}");
            }
        }
    }

    #[test]
    fn a_length_with_the_highest_bit_is_none() {
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&[0x82, 127, 0x80]), Err(LengthMalformed));
        let mut frames = Frames::default();
        frames.follow(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).unwrap();
        frames.follow(&[0; 1000]).unwrap();
        assert!(!frames.is_between());
        // Only a length of 64 bits has no highest bit.
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&[0x82, 126, 0x80, 0]), Ok(()));
    }

    #[test]
    fn a_close_frame_is_noticed_and_what_frames_carry_is_not_looked_at() {
        let mut frames = Frames::default();
        frames.follow(&frame(1, 300, true)).unwrap();
        frames.follow(&frame(9, 0, true)).unwrap();
        assert!(frames.is_between() && !frames.is_closed());
        frames.follow(&frame(8, 2, true)).unwrap();
        assert!(frames.is_between() && frames.is_closed());
    }

    #[test]
    fn one_frame_at_a_time_is_followed() {
        let (first, second) = (frame(1, 200, false), frame(2, 3, true));
        let both = [&first[..], &second].concat();
        let mut frames = Frames::default();
        assert_eq!(frames.follow_one(&both[..10]), Ok(10));
        assert_eq!(frames.follow_one(&both[10..]), Ok(first.len() - 10));
        assert!(frames.is_between());
        assert_eq!(frames.follow_one(&second), Ok(second.len()));
    }

    proptest! {
        #[test]
        fn boundaries_are_the_same_however_bytes_are_cut(
            sizes in proptest::collection::vec((0_usize..400, any::<bool>(), 0_u8..16), 1..8),
            large in 65_000_usize..66_000,
            cuts in proptest::collection::vec(1_usize..300, 1..40),
        ) {
            let mut bytes = frame(2, large, true);
            let mut ends = vec![bytes.len()];
            for (length, masked, opcode) in sizes {
                bytes.extend(frame(opcode, length, masked));
                ends.push(bytes.len());
            }
            prop_assert_eq!(&boundaries(&bytes), &ends);
            let mut frames = Frames::default();
            let mut at = 0;
            for cut in cuts.into_iter().cycle() {
                let piece = &bytes[at..bytes.len().min(at + cut)];
                let mut ahead = frames;
                let used = ahead.follow_one(piece).unwrap();
                prop_assert_eq!(ahead.is_between(), ends.contains(&(at + used)));
                frames.follow(piece).unwrap();
                at += piece.len();
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
                if at == bytes.len() {
                    break;
                }
            }
        }
    }
}
