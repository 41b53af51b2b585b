//! What another configuration changes, in words: for the log, and for whoever asks before it is applied. What makes a
//! difference to who may do what comes first. No secret is in it.

mod routes;
mod settings;

use std::fmt;

use crate::config::Config;
use crate::keys::KeyRing;

/// Names that are listed in one line; of more it is said how many there are.
const MAX_NAMES: usize = 20;

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub weight: Weight,
    /// The change, in one line.
    pub text: String,
}

/// How much a change matters to security; the first matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something can be reached without a token that could not, or the other way round.
    Exposure,
    /// Whose word is taken: keys, users, certificates, proxies, what a token must say.
    Trust,
    /// Everything else.
    Other,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A configuration and the keys that were loaded for it.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) config: &'a Config,
    /// `None` where a key would be made.
    pub(super) ring: Option<&'a KeyRing>,
}

/// What changes from one to the other.
pub(super) fn between(before: Side<'_>, after: Side<'_>) -> Vec<Change> {
    let mut changes = Changes::default();
    routes::compare(before.config, after.config, &mut changes);
    settings::compare(before, after, &mut changes);
    let mut changes = changes.0;
    changes.sort_by_key(|change| change.weight);
    changes
}

/// The changes so far.
#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, weight: Weight, text: impl Into<String>) {
        self.0.push(Change { weight, text: text.into() });
    }

    /// Says of a setting that it is another one.
    fn setting<T: PartialEq>(&mut self, weight: Weight, name: &str, before: &T, after: &T) {
        if before != after {
            self.add(weight, format!("{name} changes"));
        }
    }

    /// The same with both values, where they are short and no secrets.
    fn value<T: PartialEq + fmt::Display>(&mut self, weight: Weight, name: &str, before: &T, after: &T) {
        if before != after {
            self.add(weight, format!("{name} becomes {after} (was {before})"));
        }
    }

    /// Says that a section is another one where nothing else was said of it since there were so many changes.
    fn rest<T: PartialEq>(&mut self, said: usize, weight: Weight, name: &str, before: &T, after: &T) {
        if self.0.len() == said && before != after {
            self.add(weight, format!("{name}: settings change"));
        }
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

/// What is only in one of two lists, each time by what tells two elements apart.
fn only_in<'a, T, K: PartialEq>(
    these: &'a [T],
    others: &[T],
    key: impl Fn(&T) -> K + Copy,
) -> impl Iterator<Item = &'a T> {
    let known: Vec<K> = others.iter().map(key).collect();
    these.iter().filter(move |one| !known.contains(&key(one)))
}

/// Elements of both lists that are told apart by the same, but are not the same.
fn pairs<'a, T, K: PartialEq>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&T) -> K + Copy,
) -> impl Iterator<Item = (&'a T, &'a T)> {
    after
        .iter()
        .filter_map(move |now| before.iter().find(|then| key(then) == key(now)).map(|then| (then, now)))
}

/// Names in one line.
fn listed<T: fmt::Display>(names: &[T]) -> String {
    let mut shown: Vec<String> = names.iter().take(MAX_NAMES).map(ToString::to_string).collect();
    if names.len() > MAX_NAMES {
        shown.push(format!("and {} more", names.len() - MAX_NAMES));
    }
    shown.join(", ")
}

/// `1 route`, `2 routes`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests;
