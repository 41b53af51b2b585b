//! Reading a parsed document without stopping at the first fault: cursors over tables, which note what is wrong and go on.

mod elements;
mod named;
mod ratio;
mod unknown;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, quoted};
use super::environment::{Environment, expand};
use super::excerpt::{Source, Span};
use super::kind::{Kind, name_of};
use super::untold::Expansions;
use super::vocabulary;
pub(super) use named::NamedTexts;

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// The values without their places.
pub(super) fn values<T>(list: Vec<Located<T>>) -> Vec<T> {
    list.into_iter().map(|located| located.value).collect()
}

/// What all cursors share: the file, its surroundings, and the faults found so far.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) environment: &'a Environment,
    pub(super) base_dir: &'a Path,
    faults: RefCell<Vec<(Span, Complaint)>>,
    expansions: Expansions,
    /// Every key that was asked for, as the catalogue calls it.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source<'a>, environment: &'a Environment, base_dir: &'a Path) -> Self {
        Self {
            source,
            environment,
            base_dir,
            faults: RefCell::default(),
            expansions: Expansions::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Notes a fault.
    pub(super) fn report(&self, span: &Span, complaint: Complaint) {
        self.faults.borrow_mut().push((span.clone(), complaint));
    }

    /// Every fault that was noted, without values of the environment.
    pub(super) fn into_faults(self) -> Vec<(Span, Complaint)> {
        let untold = |(span, complaint)| (span, self.expansions.untold(complaint, self.environment));
        self.faults.into_inner().into_iter().map(untold).collect()
    }

    /// A path of the file, which is relative to the file's directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base_dir.join(path)
    }

    /// The value, or `None` once its fault is noted.
    pub(super) fn accept<T>(&self, span: &Span, result: Result<T, Complaint>) -> Option<T> {
        result.map_err(|complaint| self.report(span, complaint)).ok()
    }
}

/// A cursor over a table. Every key that is never asked for is unknown, which [`Table::finish`] notes.
///
/// The getters answer `None` both for a key that is not there and for one whose fault was noted.
pub(super) struct Table<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// Where the table begins: the place of what is missing in it.
    pub(super) span: Span,
    entries: Option<&'a DeTable<'a>>,
    path: String,
    /// The path without what the file chooses: `upstreams.*`, `routes[]`.
    shape: String,
    repeats: bool,
    known: Vec<&'static str>,
}

struct Entry<'a> {
    key_span: Span,
    span: Span,
    value: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(reader: &'a Reader<'a>, entries: &'a DeTable<'a>) -> Self {
        Self::new(reader, 0..0, Some(entries), [String::new(), String::new()])
    }

    fn new(
        reader: &'a Reader<'a>,
        span: Span,
        entries: Option<&'a DeTable<'a>>,
        [path, shape]: [String; 2],
    ) -> Self {
        Self { reader, span, entries, path, shape, repeats: false, known: Vec::new() }
    }

    /// How messages call the table: `[server]`, `[[routes]]`.
    pub(super) fn label(&self) -> String {
        match (self.path.is_empty(), self.repeats) {
            (true, _) => "the top level".to_owned(),
            (false, false) => format!("[{}]", self.path),
            (false, true) => format!("[[{}]]", self.path),
        }
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// The place of a key, when it is there.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.entries?.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Notes that a key is missing, unless it is there.
    pub(super) fn require(&mut self, key: &'static str, hint: impl Into<String>) {
        if !self.has(key) {
            let message = format!("{} has no \"{key}\"", self.label());
            self.reader.report(&self.span, Complaint::new(message).hint(hint));
        }
    }

    /// A string, expanded.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        self.located(key, Kind::Text, |text| Ok(text.to_owned()))
    }

    /// A string, expanded and parsed.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.located(key, kind, parse).map(|located| located.value)
    }

    /// A string, expanded and parsed, with its place.
    pub(super) fn located<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<Located<T>> {
        let entry = self.take(key)?;
        let Some(text) = entry.value.as_str() else {
            if kind != Kind::Text {
                return self.wrong_kind(key, kind, &entry);
            }
            let message = format!("\"{key}\" must be a string, not {}", name_of(entry.value));
            let hint = self.in_quotes(key, entry.value, &entry.span, parse);
            self.reader.report(&entry.span, Complaint { message, hint });
            return None;
        };
        self.parse(text, entry.span, parse)
    }

    /// As [`Table::parsed`], but the integer 0 stands for the string `"0"`.
    pub(super) fn parsed_or_zero<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let entry = self.take(key)?;
        let zero = entry.value.as_integer().is_some_and(|number| number.as_str() == "0");
        let Some(text) = entry.value.as_str().or(zero.then_some("0")) else {
            return self.wrong_kind(key, kind, &entry);
        };
        self.parse(text, entry.span, parse).map(|located| located.value)
    }

    /// A list of strings, each expanded and parsed; those with faults are left out.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<Vec<Located<T>>> {
        let entry = self.take(key)?;
        let Some(elements) = entry.value.as_array() else { return self.wrong_kind(key, Kind::List, &entry) };
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            if let Some(text) = element.get_ref().as_str() {
                values.extend(self.parse(text, element.span(), &parse));
            } else {
                let kind = name_of(element.get_ref());
                let message = format!("\"{key}\" must be a list of strings, this is {kind}");
                let hint = self.in_quotes("", element.get_ref(), &element.span(), &parse);
                self.reader.report(&element.span(), Complaint { message, hint });
            }
        }
        Some(values)
    }

    /// As [`Table::list`], but an empty list is a fault.
    pub(super) fn filled_list<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<Vec<Located<T>>> {
        let list = self.list(key, parse)?;
        let value = self.value(key)?;
        if value.get_ref().as_array().is_some_and(|elements| elements.is_empty()) {
            self.reader
                .report(&value.span(), Complaint::new(format!("\"{key}\" is an empty list")).hint(hint));
        }
        Some(list)
    }

    /// An integer within a range.
    pub(super) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<T>
    where
        T: TryFrom<u32>,
    {
        let entry = self.take(key)?;
        let Some(number) = entry.value.as_integer() else {
            return self.wrong_kind(key, Kind::Integer, &entry);
        };
        let number = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let value =
            number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        if value.is_none() {
            let message = format!("\"{key}\" must be from {} to {}", range.start(), range.end());
            self.reader.report(&entry.span, Complaint::new(message));
        }
        value
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let entry = self.take(key)?;
        match entry.value.as_bool() {
            Some(value) => Some(value),
            None => self.wrong_kind(key, Kind::Boolean, &entry),
        }
    }

    /// A date with a time and an offset, in seconds since 1970.
    pub(super) fn time(&mut self, key: &'static str) -> Option<Located<i64>> {
        let entry = self.take(key)?;
        let Some(time) = entry.value.as_datetime() else { return self.wrong_kind(key, Kind::Time, &entry) };
        let seconds = super::time::unix_seconds(time, self.reader.source.slice(&entry.span));
        let value = self.reader.accept(&entry.span, seconds)?;
        Some(Located { value, span: entry.span })
    }

    /// The value of a key as it is, for keys that may have values of more than one kind.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    /// A table in this one; an empty one when the key is not there.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        let path = self.child_path(key);
        let entry = self.take(key);
        let span = entry.as_ref().map_or(self.span.clone(), |entry| entry.span.clone());
        let entries = entry.and_then(|entry| match entry.value.as_table() {
            Some(entries) => Some(entries),
            None => self.wrong_kind(key, Kind::Table, &entry),
        });
        let shape = child_of(&self.shape, key);
        Table::new(self.reader, span, entries, [path, shape])
    }

    /// A table that may stand several times.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let path = self.child_path(key);
        let Some(entry) = self.take(key) else { return Vec::new() };
        let Some(elements) = entry.value.as_array() else {
            self.wrong_kind::<()>(key, Kind::Tables, &entry);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(elements.len());
        for element in elements {
            let span = element.span();
            let Some(entries) = element.get_ref().as_table() else {
                let kind = name_of(element.get_ref());
                let message = format!("\"{key}\" must be a list of tables, this is {kind}");
                self.reader
                    .report(&span, Complaint::new(message).hint(format!("write [[{path}]] once for each")));
                continue;
            };
            let shape = child_of(&self.shape, key) + "[]";
            let table = Table::new(self.reader, span, Some(entries), [path.clone(), shape]);
            tables.push(Table { repeats: true, ..table });
        }
        tables
    }

    /// Tables under names that the file chooses, in the order of the names.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(Located<String>, Table<'a>)> {
        let path = self.child_path(key);
        let hint = format!("each has a name: write [{path}.NAME], and its keys on the lines below");
        let Some(entry) = self.take(key) else { return Vec::new() };
        let Some(entries) = entry.value.as_table() else {
            let message = format!("\"{key}\" must be a table for each name, not {}", name_of(entry.value));
            self.reader.report(&entry.key_span, Complaint::new(message).hint(hint));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let Some(entries) = value.get_ref().as_table() else {
                let kind = name_of(value.get_ref());
                let complaint =
                    Complaint::new(format!("{} must be a table, not {kind}", quoted(name.get_ref())));
                self.reader.report(&name.span(), complaint.hint(hint.clone()));
                continue;
            };
            let path = format!("{path}.{}", self.reader.source.slice(&name.span()));
            let name = Located { value: name.get_ref().clone().into_owned(), span: name.span() };
            let shape = child_of(&self.shape, key) + ".*";
            tables.push((name, Table::new(self.reader, value.span(), Some(entries), [path, shape])));
        }
        tables
    }

    fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        #[cfg(test)]
        self.reader.asked.borrow_mut().insert(child_of(&self.shape, key));
        self.known.push(key);
        let (key, value) = self.entries?.get_key_value(key)?;
        Some(Entry { key_span: key.span(), span: value.span(), value: value.get_ref() })
    }

    fn child_path(&self, key: &str) -> String {
        child_of(&self.path, key)
    }

    fn parse<T>(
        &self,
        text: &str,
        span: Span,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<Located<T>> {
        let result = expand(text, self.reader.environment).and_then(|expanded| {
            self.reader.expansions.note(text, &expanded);
            parse(&expanded).map_err(|complaint| complaint.about_variables(text, &expanded))
        });
        self.reader.accept(&span, result).map(|value| Located { value, span })
    }

    /// A hint about a value that should be a string: to write it in quotes, or what else is wrong with it.
    fn in_quotes<T>(
        &self,
        key: &str,
        value: &DeValue<'_>,
        span: &Span,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<String> {
        if value.is_array() || value.is_table() || vocabulary::is_secret(key) {
            return None;
        }
        let literal = self.reader.source.slice(span);
        let equals = if key.is_empty() { "" } else { " = " };
        match parse(literal) {
            Ok(_) => Some(format!("write {key}{equals}{}", quoted(literal))),
            Err(complaint) => complaint.hint,
        }
    }

    fn wrong_kind<T>(&self, key: &'static str, kind: Kind, entry: &Entry<'_>) -> Option<T> {
        // The value of a table may fill many lines, so its key is shown.
        let span = if matches!(kind, Kind::Table | Kind::Tables) { &entry.key_span } else { &entry.span };
        let literal = if vocabulary::is_secret(key) { "…" } else { self.reader.source.slice(&entry.span) };
        let complaint = kind.expected(key, &self.child_path(key), entry.value, literal);
        self.reader.report(span, complaint);
        None
    }
}

fn child_of(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
