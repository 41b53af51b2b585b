//! Keys that nobody asked for. What they hold may be a secret under a wrong name, and is then not shown.

use super::super::complaint::{Complaint, quoted};
use super::super::hidden;
use super::super::vocabulary;
use super::Table;

impl Table<'_> {
    /// Hides the values of all keys that were not asked for, since one of them may be a misspelt secret.
    pub(in super::super) fn hide_unknown(&self) {
        for (key, value) in self.entries.into_iter().flatten() {
            if !self.knows(key.get_ref()) {
                hidden::hide_value(self.reader.source, value);
            }
        }
    }

    /// Notes every key that was not asked for. Its value is shown only where it is known which key was meant, and never what is
    /// in a table: those of header fields and of claims may hold anything.
    pub(in super::super) fn finish(self) {
        for (key, value) in self.entries.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !self.knows(name) {
                if value.get_ref().is_table() || !vocabulary::is_understood(name, &self.known) {
                    hidden::hide_value(self.reader.source, value);
                }
                let place = if self.path.is_empty() { "at" } else { "in" };
                let message = format!("unknown key {} {place} {}", quoted(name), self.label());
                let hint = vocabulary::hint(name, &self.label(), &self.known);
                self.reader.report(&key.span(), Complaint::new(message).hint(hint));
            }
        }
    }

    fn knows(&self, key: &str) -> bool {
        self.known.contains(&key)
    }
}
