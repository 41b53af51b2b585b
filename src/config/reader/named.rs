//! Strings under names that the file chooses.

use super::{Located, Table};
use crate::config::complaint::{Complaint, quoted};
use crate::config::kind::name_of;

impl Table<'_> {
    /// Strings under names that the file chooses, each expanded and parsed together with its name, in the order of the
    /// names; those with faults are left out.
    pub(in crate::config) fn named_values<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &str) -> Result<T, Complaint>,
    ) -> Vec<Located<T>> {
        let table = self.table(key);
        let mut values = Vec::new();
        for (name, value) in table.entries.into_iter().flatten() {
            let name = name.get_ref().as_ref();
            let Some(text) = value.get_ref().as_str() else {
                let kind = name_of(value.get_ref());
                let message = format!("{} must be a string, not {kind}", quoted(name));
                self.reader.report(&value.span(), Complaint::new(message));
                continue;
            };
            values.extend(table.parse(text, value.span(), |text| parse(name, text)));
        }
        values
    }
}
