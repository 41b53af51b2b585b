//! What is wrong with a value, before it has a place in the file, and the words that complaints share.

use std::fmt::Write as _;

/// What is wrong, and what would be right. The place is added by the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// One line in lower case, without a full stop.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same about a value in which variables were replaced: without what they hold, which may be a secret.
    pub(super) fn about_variables(self, written: &str, expanded: &str) -> Self {
        if written == expanded {
            return self;
        }
        let held = |text: &String| {
            let mut words = expanded.split(|letter: char| !letter.is_alphanumeric());
            words.any(|word| word.len() >= SHORTEST_HELD && !written.contains(word) && text.contains(word))
        };
        let message = if held(&self.message) {
            "what the variables hold does not fit here".to_owned()
        } else {
            self.message
        };
        Self { message, hint: self.hint.filter(|hint| !held(hint)) }
    }

    /// The one form in which a word of the contract is refused that this version does not have yet.
    pub(super) fn not_supported(what: &str) -> Self {
        Self::new(format!("\"{what}\" is not supported in this version"))
    }
}

/// The shortest word of a variable that no message repeats, in bytes.
const SHORTEST_HELD: usize = 4;
/// The longest value that a message repeats, in characters.
const MAX_QUOTED: usize = 80;

/// A value in quotes: control characters are escaped, and a long one is cut.
pub(super) fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}", format!("{}…", value.get(..end).unwrap_or_default())),
        None => format!("{value:?}"),
    }
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let separator = match index {
            0 => "",
            _ if index + 1 == words.len() => " or ",
            _ => ", ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}\"{word}\"");
    }
    text
}

/// The word that was probably meant: equal but for the case, or few typing errors away.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic in the length, and no candidate is long.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The value of one of a few words.
pub(super) fn choose<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words = || choices.iter().map(|(word, _)| *word);
    let hint = match nearest(text, words()) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("write {}", alternatives(words())),
    };
    Err(Complaint::new(format!("unknown value {}", quoted(text))).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let words = ["retries", "max_queue", "kid"];
        for (word, expected) in [
            ("retrys", Some("retries")),
            ("RETRIES", Some("retries")),
            ("kdi", Some("kid")),
            ("maxqueue", Some("max_queue")),
            ("k", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
        assert_eq!(nearest(&"r".repeat(1_000_000), words), None);
    }

    #[test]
    fn values_are_quoted_and_cut() {
        assert_eq!(quoted("a\"b\u{1b}"), "\"a\\\"b\\u{1b}\"");
        assert_eq!(quoted(&"ä".repeat(81)).chars().count(), 83);
        assert_eq!(alternatives(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
        assert_eq!(alternatives(["a"]), "\"a\"");
    }
}
