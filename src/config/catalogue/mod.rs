//! Every key of `gateway.toml`: what kind of value it has, what holds without it, what it means. From here comes the schema for
//! editors; tests compare it with what the reader asks for and with what docs/configuration.md tells.

mod checking;
mod people;
mod proxy;
mod schema;
mod serving;

pub use self::schema::schema;

/// A key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where it stands: `server.limits.max_body`, `upstreams.*.targets` under names of the file's choice, `routes[].path`
    /// in each of several tables.
    pub(super) path: &'static str,
    pub(super) shape: Shape,
    pub(super) unset: Unset,
    /// What it means, in a sentence.
    pub(super) about: &'static str,
    /// A value as the file writes it; nothing for tables.
    pub(super) example: &'static str,
}

/// The values of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Any string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A string of this form, a regular expression without anchors.
    Form(&'static str),
    /// The same, or the number 0.
    FormOrZero(&'static str),
    /// A whole number from the one to the other.
    Integer(u64, u64),
    /// A number from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Boolean,
    /// A date with a time and an offset.
    Time,
    /// A list.
    List(&'static Shape),
    /// One of these.
    Either(&'static [Shape]),
    /// Strings under names of the file's choice.
    Names,
    /// Values under names of the file's choice, which may be tables again.
    Tree,
    /// A table with keys of its own.
    Table,
    /// The same, or a string.
    TextOrTable,
    /// Several tables with the same keys.
    Tables,
    /// A list of strings and of such tables.
    TextsOrTables,
    /// A table with the same keys for each name.
    NamedTables,
}

/// What holds without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unset {
    /// The file is refused.
    Required,
    /// This value, as the file writes it.
    Value(&'static str),
    /// Something that is no value, or nothing.
    Nothing,
}

/// `"30s"`.
const DURATION: Shape = Shape::Form(r"[0-9]+(ms|s|m|h|d)");
/// `"16MiB"`.
const SIZE: Shape = Shape::Form(SIZE_FORM);
/// `"16MiB"` or 0.
const SIZE_OR_NONE: Shape = Shape::FormOrZero(SIZE_OR_ZERO_FORM);
const SIZE_FORM: &str = r"[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)";
const SIZE_OR_ZERO_FORM: &str = r"0|[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)";
/// A list of strings.
const TEXTS: Shape = Shape::List(&Shape::Text);
/// A string or a list of strings.
const TEXT_OR_TEXTS: Shape = Shape::Either(&[Shape::Text, TEXTS]);

/// A key that has a value.
const fn key(
    path: &'static str,
    shape: Shape,
    unset: Unset,
    example: &'static str,
    about: &'static str,
) -> Entry {
    Entry { path, shape, unset, about, example }
}

/// A key that has tables.
const fn table(path: &'static str, shape: Shape, about: &'static str) -> Entry {
    Entry { path, shape, unset: Unset::Nothing, about, example: "" }
}

/// Every key, the tables before what is in them.
pub(super) fn entries() -> impl Iterator<Item = &'static Entry> {
    [serving::KEYS, people::KEYS, proxy::KEYS, checking::KEYS].into_iter().flatten()
}

impl Entry {
    /// The path of the table that it stands in, and its name there.
    pub(super) fn place(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

#[cfg(test)]
mod tests;
