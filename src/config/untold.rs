//! What no message tells: values of the environment. Any of them may be a secret, also one that was put in the wrong place.

use std::cell::RefCell;

use super::complaint::{Complaint, quoted};
use super::environment::{Environment, variables};

/// Shorter values are told: they are ports and the like, and may be a part of any word.
const SHORTEST: usize = 6;

/// Strings of the file that name variables, with what became of them.
#[derive(Default)]
pub(super) struct Expansions {
    list: RefCell<Vec<Expansion>>,
}

struct Expansion {
    written: String,
    expanded: String,
}

impl Expansions {
    /// Notes what has become of a string.
    pub(super) fn note(&self, written: &str, expanded: &str) {
        if written != expanded {
            let expansion = Expansion { written: written.to_owned(), expanded: expanded.to_owned() };
            self.list.borrow_mut().push(expansion);
        }
    }

    /// The complaint with what is written in the file in place of what the environment made of it.
    pub(super) fn untold(&self, complaint: Complaint, environment: &Environment) -> Complaint {
        let list = self.list.borrow();
        let as_written = |text: String| {
            list.iter().fold(text, |text, expansion| {
                text.replace(&quoted(&expansion.expanded), &quoted(&expansion.written))
            })
        };
        let values: Vec<String> = list
            .iter()
            .flat_map(|expansion| variables(&expansion.written))
            .filter_map(|name| environment.variable(name))
            .filter(|value| value.len() >= SHORTEST)
            .map(str::to_lowercase)
            .collect();
        let is_told = |text: &str| {
            let text = text.to_lowercase();
            values.iter().any(|value| text.contains(value))
        };
        let message = as_written(complaint.message);
        let hint = complaint.hint.map(as_written).filter(|hint| !is_told(hint));
        if is_told(&message) {
            let message = "what the variables hold does not fit here".to_owned();
            return Complaint { message, hint };
        }
        Complaint { message, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untold(message: &str, hint: &str) -> (String, Option<String>) {
        let environment = Environment::from_pairs([("SECRET", "hunter2-hunter2"), ("PORT", "9000")]);
        let expansions = Expansions::default();
        expansions.note("tcp ${SECRET}:${PORT:-1}", "tcp hunter2-hunter2:9000");
        expansions.note("plain", "plain");
        let complaint = expansions.untold(Complaint::new(message).hint(hint), &environment);
        (complaint.message, complaint.hint)
    }

    #[test]
    fn a_value_of_the_environment_is_shown_as_it_is_written() {
        let (message, hint) = untold("\"tcp hunter2-hunter2:9000\" is no address", "write \"9000\"");
        assert_eq!(message, "\"tcp ${SECRET}:${PORT:-1}\" is no address");
        assert_eq!(hint.as_deref(), Some("write \"9000\""));
    }

    #[test]
    fn a_part_of_it_is_not_shown_at_all() {
        let (message, hint) = untold("\"Hunter2-HUNTER2\" is no name", "write \"hunter2-hunter2\"");
        assert_eq!(message, "what the variables hold does not fit here");
        assert_eq!(hint, None);
    }

    #[test]
    fn other_complaints_are_as_they_were() {
        let (message, hint) = untold("\"plain\" is no address", "write another");
        assert_eq!((message.as_str(), hint.as_deref()), ("\"plain\" is no address", Some("write another")));
    }
}
