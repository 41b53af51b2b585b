//! What legacy paths have and other paths may not: an encoded slash, a semicolon, an empty segment. Where a route accepts
//! one it is data to the gateway; what else it may be to others is said by [`readings`].

use super::PathFault;

/// Something that not every server reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// `%2f`.
    EncodedSlash,
    /// `;`, plain or encoded.
    Semicolon,
    /// Two slashes in a row, but not in front.
    EmptySegment,
}

/// Some of the [`Oddity`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities(u8);

impl Oddity {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::EncodedSlash, Self::Semicolon, Self::EmptySegment];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::EncodedSlash => "encoded_slash",
            Self::Semicolon => "semicolon",
            Self::EmptySegment => "empty_segment",
        }
    }

    /// What is said where it is not accepted.
    fn fault(self) -> PathFault {
        match self {
            Self::EncodedSlash => PathFault::ForeignSeparator,
            Self::Semicolon => PathFault::Semicolon,
            Self::EmptySegment => PathFault::EmptySegment,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::EncodedSlash => 1,
            Self::Semicolon => 2,
            Self::EmptySegment => 4,
        }
    }
}

impl Oddities {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub fn has(self, oddity: Oddity) -> bool {
        self.0 & oddity.bit() != 0
    }

    /// Whether all of the others are among them.
    pub fn has_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// These and the others.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What is said of a path that has these where they are not accepted.
    pub fn fault(self) -> Option<PathFault> {
        Oddity::ALL.into_iter().find(|oddity| self.has(*oddity)).map(Oddity::fault)
    }

    /// Notes one that was met, if it is among those that are allowed.
    pub(super) fn meet(&mut self, oddity: Oddity, allowed: Self) -> Result<(), PathFault> {
        if !allowed.has(oddity) {
            return Err(oddity.fault());
        }
        self.0 |= oddity.bit();
        Ok(())
    }
}

impl FromIterator<Oddity> for Oddities {
    fn from_iter<I: IntoIterator<Item = Oddity>>(oddities: I) -> Self {
        Self(oddities.into_iter().fold(0, |bits, oddity| bits | oddity.bit()))
    }
}

impl std::fmt::Debug for Oddities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(Oddity::ALL.iter().filter(|oddity| self.has(**oddity))).finish()
    }
}

/// Looks at the pieces between what may separate segments in some reading: none is a dot segment, and no segment becomes an
/// empty one when its parameters are cut off. `decoded` has its escapes decoded, and begins with a slash.
pub(super) fn check_pieces(
    decoded: &str,
    allowed: Oddities,
    found: &mut Oddities,
    check_segment: impl Fn(&str) -> Result<(), PathFault>,
) -> Result<(), PathFault> {
    let inner = decoded.strip_prefix('/').ok_or(PathFault::NotAbsolute)?;
    let last = inner.matches('/').count();
    for (index, segment) in inner.split('/').enumerate() {
        let (bare, _parameters) = segment.split_once(';').unwrap_or((segment, ""));
        if bare.is_empty() && index < last {
            // "//host/path" is another host's path to some.
            let allowed = if index == 0 { Oddities::NONE } else { allowed };
            found.meet(Oddity::EmptySegment, allowed)?;
        }
        segment.split(';').try_for_each(&check_segment)?;
    }
    Ok(())
}

/// Most ways of reading one path.
const MAX_READINGS: usize = 64;

/// All that a path in normal form may mean to servers that do one or more of these, in any order: take an encoded slash for
/// a slash, take an encoded semicolon for a semicolon, cut parameters off each segment, cut everything off after the first
/// semicolon, drop empty segments. The path as it stands is the first one.
///
/// # Errors
///
/// When there are more than anybody can look at.
pub fn readings(path: &str) -> Result<Vec<String>, PathFault> {
    const STEPS: [fn(&str) -> String; 5] = [
        |path| path.replace("%2F", "/"),
        |path| path.replace("%3B", ";"),
        |path| path.split('/').map(without_parameters).collect::<Vec<_>>().join("/"),
        |path| without_parameters(path).to_owned(),
        without_empty_segments,
    ];
    let mut all = vec![path.to_owned()];
    let mut next = 0;
    while let Some(reading) = all.get(next) {
        let more = STEPS.map(|step| step(reading));
        for reading in more {
            if !all.contains(&reading) {
                all.push(reading);
            }
        }
        if all.len() > MAX_READINGS {
            return Err(PathFault::ForeignSeparator);
        }
        next += 1;
    }
    Ok(all)
}

fn without_parameters(text: &str) -> &str {
    text.split(';').next().unwrap_or_default()
}

fn without_empty_segments(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !text.ends_with('/') {
            text.push(letter);
        }
    }
    text
}
