//! What kind of value a key has, and what is said when it has another.

use toml::de::{DeInteger, DeValue};

use super::complaint::Complaint;

/// The kinds of values in `gateway.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string without a form of its own.
    Text,
    /// `"auto"` or a whole number.
    Workers,
    /// A string such as `"30s"`.
    Duration,
    /// A string such as `"1MiB"`.
    Size,
    /// A string such as `"128B/s"`.
    Rate,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A date with a time and an offset.
    Time,
    /// A list of strings.
    List,
    /// A table.
    Table,
    /// A table for each of several things, that stands as often as there are things.
    Tables,
}

impl Kind {
    /// What is said about a value of another kind. `literal` is the value as the file writes it.
    pub(super) fn expected(self, key: &str, path: &str, value: &DeValue<'_>, literal: &str) -> Complaint {
        let complaint = Complaint::new(format!("\"{key}\" must be {}, not {}", self.name(), name_of(value)));
        match self.correction(key, path, value, literal) {
            Some(correction) => complaint.hint(correction),
            None => complaint,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Workers => "\"auto\" or an integer",
            Self::Duration => "a duration in quotes",
            Self::Size => "a size in quotes",
            Self::Rate => "a rate in quotes",
            Self::Integer => "an integer",
            Self::Boolean => "true or false",
            Self::Time => "a date and time",
            Self::List => "a list",
            Self::Table => "a table",
            Self::Tables => "a list of tables",
        }
    }

    fn correction(self, key: &str, path: &str, value: &DeValue<'_>, literal: &str) -> Option<String> {
        let literal = Some(literal).filter(|literal| literal.len() <= 80 && !literal.contains(['\n', '\r']));
        let number = value.as_integer().map(DeInteger::as_str).filter(|number| !number.starts_with('-'));
        let simple = if value.is_array() || value.is_table() { None } else { literal };
        match self {
            Self::Text | Self::Workers => None,
            Self::Duration => Some(format!("write {key} = \"{}s\"", number.unwrap_or("30"))),
            Self::Size => Some(format!("write {key} = \"{}B\"", number.unwrap_or("1024"))),
            Self::Rate => Some(format!("write {key} = \"{}B/s\"", number.unwrap_or("128"))),
            Self::Integer => {
                let number = value.as_str().filter(|text| text.parse::<i64>().is_ok())?;
                Some(format!("write {key} = {number}, without quotes"))
            }
            Self::Boolean => {
                let word = value.as_str().filter(|text| ["true", "false"].contains(text))?;
                Some(format!("write {key} = {word}, without quotes"))
            }
            Self::Time => Some(format!("write {key} = 2027-01-31T00:00:00Z, without quotes")),
            Self::List => simple.map(|literal| format!("write {key} = [{literal}]")),
            Self::Table if value.is_array() => Some(format!("write [{path}] with one pair of brackets")),
            Self::Table => Some(format!("write [{path}], and its keys on the lines below")),
            Self::Tables => Some(format!("write [[{path}]] with two pairs of brackets, once for each")),
        }
    }
}

/// The kind of a value, with its article.
pub(super) fn name_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
