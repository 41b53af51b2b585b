//! Strings under names that the file chooses.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

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

/// A value under names that the file chooses: the names that lead to it, and what it holds, as texts.
pub(in crate::config) struct NamedTexts {
    pub(in crate::config) names: Vec<Located<String>>,
    pub(in crate::config) texts: Vec<Located<String>>,
}

impl Table<'_> {
    /// Strings, whole numbers and booleans, or lists of them, under names that the file chooses, in the order of the names.
    /// A table under a name holds more of them. What has a fault is left out.
    pub(in crate::config) fn named_texts(&mut self, key: &'static str) -> Vec<NamedTexts> {
        let table = self.table(key);
        let mut values = Vec::new();
        if let Some(entries) = table.entries {
            table.collect_texts(entries, &[], &mut values);
        }
        values
    }

    fn collect_texts(&self, entries: &DeTable<'_>, outer: &[Located<String>], values: &mut Vec<NamedTexts>) {
        for (name, value) in entries {
            let mut names = outer.to_vec();
            names.push(Located { value: name.get_ref().clone().into_owned(), span: name.span() });
            if let Some(entries) = value.get_ref().as_table() {
                self.collect_texts(entries, &names, values);
                continue;
            }
            let texts = match value.get_ref().as_array() {
                Some(elements) => {
                    if elements.is_empty() {
                        let complaint =
                            Complaint::new(format!("{} is an empty list", quoted(name.get_ref())));
                        let hint = "write the values of which one is needed";
                        self.reader.report(&value.span(), complaint.hint(hint));
                    }
                    elements.iter().filter_map(|element| self.plain_text(name.get_ref(), element)).collect()
                }
                None => self.plain_text(name.get_ref(), value).into_iter().collect(),
            };
            values.push(NamedTexts { names, texts });
        }
    }

    fn plain_text(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Located<String>> {
        let span = value.span();
        let text = match value.get_ref() {
            DeValue::String(text) => return self.parse(text, span, |text| Ok(text.to_owned())),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.ok().map(|number| number.to_string())
            }
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        if text.is_none() {
            let kind = name_of(value.get_ref());
            let message =
                format!("{} must be a string, a whole number, true or false, not {kind}", quoted(name));
            self.reader.report(&span, Complaint::new(message));
        }
        text.map(|value| Located { value, span })
    }
}
