//! Numbers from 0 to 1.

use toml::de::DeValue;

use super::super::complaint::Complaint;
use super::Table;

impl Table<'_> {
    /// A number from 0 to 1, with or without a fraction, in millionths.
    pub(in crate::config) fn millionths(&mut self, key: &'static str) -> Option<u32> {
        let entry = self.take(key)?;
        let number = match entry.value {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let Some(number) = number.filter(|number| (0.0..=1.0).contains(number)) else {
            let complaint = Complaint::new(format!("\"{key}\" must be a number from 0 to 1"));
            self.reader.report(&entry.span, complaint.hint(format!("write {key} = 0.1 for one in ten")));
            return None;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        Some((number * 1e6).round() as u32)
    }
}
