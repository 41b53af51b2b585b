//! What of a configuration is never shown: secrets, also where they stand under a name that is not known, in a comment,
//! or in a text that cannot be parsed.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::excerpt::{Source, Span};
use super::vocabulary;

/// The longest number that is no secret, as it is written.
const MAX_NUMBER: usize = 6;

/// Hides a value with all that is in it, but for small numbers and what is true or false.
pub(super) fn hide_value(source: &Source<'_>, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::Table(inner) => inner.iter().for_each(|(_, value)| hide_value(source, value)),
        DeValue::Array(elements) => elements.iter().for_each(|element| hide_value(source, element)),
        DeValue::Integer(_) if value.span().len() <= MAX_NUMBER => {}
        DeValue::Boolean(_) => {}
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
            source.hide(value.span());
        }
    }
}

/// Hides the values of all keys that are secret by their name, wherever they stand, and what comments say of such keys.
pub(super) fn hide_secrets(source: &Source<'_>, document: &DeTable<'_>) {
    hide_in_table(source, document);
    hide_in_comments(source);
}

fn hide_in_table(source: &Source<'_>, table: &DeTable<'_>) {
    for (key, value) in table {
        if vocabulary::is_secret(key.get_ref()) {
            source.hide(value.span());
            hide_value(source, value);
        } else if vocabulary::may_hold_secrets(key.get_ref()) {
            hide_value(source, value);
        }
        match value.get_ref() {
            DeValue::Table(inner) => hide_in_table(source, inner),
            DeValue::Array(elements) => {
                for inner in elements.iter().filter_map(|element| element.get_ref().as_table()) {
                    hide_in_table(source, inner);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// Hides a comment that gives a value to a secret key, which was perhaps switched off with it.
fn hide_in_comments(source: &Source<'_>) {
    for (start, line) in lines(source.text()) {
        let Some(at) = comment(line) else { continue };
        let text = line.get(at + 1..).unwrap_or_default();
        let assigns = text.contains(['=', ':']);
        if assigns && text.split(is_no_part_of_a_key).any(may_be_secret) {
            source.hide(start + at + 1..start + line.len());
        }
    }
}

fn may_be_secret(key: &str) -> bool {
    vocabulary::is_secret(key) || vocabulary::may_hold_secrets(key)
}

/// Where the comment of a line begins.
fn comment(line: &str) -> Option<usize> {
    let mut quote = None;
    line.char_indices().find_map(|(at, letter)| {
        match (quote, letter) {
            (None, '#') => return Some(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
        None
    })
}

/// Hides what may be a secret in a text that cannot be parsed: every value of a key that is secret or not known, and every
/// line that does not begin with a key.
pub(super) fn hide_unparsed(source: &Source<'_>) {
    let text = source.text();
    for (equals, _) in text.match_indices('=') {
        let before = source.slice(&(0..equals)).trim_end_matches([' ', '\t', '"', '\'']);
        if !before.rsplit(is_no_part_of_a_key).next().is_some_and(vocabulary::is_plain) {
            source.hide(value_from(text, equals + 1));
        }
    }
    for (start, line) in lines(text) {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if words.is_empty() || words.starts_with('#') || is_header(words) {
            continue;
        }
        let word: String = words.chars().take_while(|letter| !is_no_part_of_a_key(*letter)).collect();
        let rest = words.get(word.len()..).unwrap_or_default();
        let from = match rest.trim_start().chars().next() {
            Some('=') => continue,
            Some(_) if !word.is_empty() && rest.starts_with([':', ' ', '\t']) => indent + word.len(),
            Some(_) | None => indent,
        };
        if from == indent || !vocabulary::is_plain(&word) {
            source.hide(start + from..start + line.len());
        }
    }
    hide_in_comments(source);
}

/// The value that begins behind an equals sign. A text over several lines goes on to its end, which may be missing.
fn value_from(text: &str, start: usize) -> Span {
    let after = text.get(start..).unwrap_or_default();
    let blank = after.len() - after.trim_start_matches([' ', '\t']).len();
    let value = after.get(blank..).unwrap_or_default();
    let length = match value.get(..3) {
        Some(quotes @ ("\"\"\"" | "'''")) => {
            value.get(3..).and_then(|rest| rest.find(quotes)).map_or(value.len(), |end| end + 6)
        }
        Some(_) | None => value.find(['\r', '\n']).unwrap_or(value.len()),
    };
    start + blank..start + blank + length
}

/// Whether a line is the name of a table, such as `[tokens]`, as far as it goes.
fn is_header(line: &str) -> bool {
    let name = line.split('#').next().unwrap_or_default().trim();
    name.starts_with('[')
        && name.chars().all(|letter| !is_no_part_of_a_key(letter) || ['[', ']', '.', ' '].contains(&letter))
}

fn is_no_part_of_a_key(letter: char) -> bool {
    !letter.is_alphanumeric() && letter != '_' && letter != '-'
}

/// Each line without its end, and where it begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line.trim_end_matches(['\r', '\n']))
    })
}
