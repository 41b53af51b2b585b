//! Lists whose elements are not all strings.

use std::ops::RangeInclusive;

use super::{Entry, Table, child_of};
use crate::config::complaint::Complaint;
use crate::config::kind::{Kind, name_of};

impl<'a> Table<'a> {
    /// A list of strings and tables, each read in its own way; those with faults are left out. An empty list is a fault.
    pub(in crate::config) fn filled_mixed<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
        mut read: impl FnMut(Table<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let path = self.child_path(key);
        let Entry { value, span, .. } = self.take(key)?;
        let entry = Entry { key_span: span.clone(), span, value };
        let Some(elements) = value.as_array() else { return self.wrong_kind(key, Kind::List, &entry) };
        if elements.is_empty() {
            let complaint = Complaint::new(format!("\"{key}\" is an empty list"));
            self.reader.report(&entry.span, complaint.hint(hint));
        }
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            let span = element.span();
            if let Some(text) = element.get_ref().as_str() {
                values.extend(self.parse(text, span, &parse).map(|located| located.value));
            } else if let Some(entries) = element.get_ref().as_table() {
                let shape = child_of(&self.shape, key) + "[]";
                let table = Table::new(self.reader, span, Some(entries), [path.clone(), shape]);
                values.extend(read(Table { repeats: true, ..table }));
            } else {
                let kind = name_of(element.get_ref());
                let message = format!("\"{key}\" must be a list of strings, this is {kind}");
                let hint = self.in_quotes("", element.get_ref(), &span, &parse);
                self.reader.report(&span, Complaint { message, hint });
            }
        }
        Some(values)
    }

    /// A list of integers within a range; those with faults are left out.
    pub(in crate::config) fn integers<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<Vec<T>>
    where
        T: TryFrom<u32>,
    {
        let entry = self.take(key)?;
        let Some(elements) = entry.value.as_array() else { return self.wrong_kind(key, Kind::List, &entry) };
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            let number = element.get_ref().as_integer();
            let number = number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
            let value =
                number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
            if value.is_none() {
                let message = format!("\"{key}\" must be integers from {} to {}", range.start(), range.end());
                self.reader.report(&element.span(), Complaint::new(message));
            }
            values.extend(value);
        }
        Some(values)
    }
}
