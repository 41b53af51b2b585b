//! Header fields that routes match, set, add and remove. What the gateway owns, and what frames a message, is none of them.

use http::{HeaderName, HeaderValue};

use super::complaint::{Complaint, quoted};
use super::hidden;
use super::reader::{Located, Table, values};
use super::{Tls, Upstream};
use crate::base::fields;

/// A field with its value.
pub type Field = (HeaderName, HeaderValue);

/// `request_headers`, `response_headers`: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// These are taken away.
    pub remove: Vec<HeaderName>,
    /// These have exactly this value.
    pub set: Vec<Field>,
    /// These stand beside what is there.
    pub add: Vec<Field>,
}

impl HeaderRules {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// A condition of a route: a field that a request must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub name: HeaderName,
    /// Its only value; `None` when any will do.
    pub value: Option<HeaderValue>,
}

impl Condition {
    /// How specific some conditions are: more before fewer, then those with more exact values.
    pub fn rank(conditions: &[Self]) -> (usize, usize) {
        (conditions.len(), conditions.iter().filter(|condition| condition.value.is_some()).count())
    }
}

/// The names of fields that this configuration adds to those that the gateway owns anyway.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnedFields(Vec<String>);

impl OwnedFields {
    /// Those in which client certificates are told of, and those that are set for some upstream.
    pub(super) fn new(tls: Option<&Tls>, upstreams: &[Upstream]) -> Self {
        let certificates = tls.and_then(|tls| tls.client_auth.as_ref()).map(|auth| auth.headers.iter());
        let certificates = certificates.into_iter().flatten().map(|header| &header.name);
        let told = upstreams.iter().flat_map(|upstream| upstream.identity.names());
        Self(certificates.chain(told).map(|name| fields::plain(name.as_str())).collect())
    }

    /// Whether the gateway owns a field, in whatever spelling.
    fn has(&self, name: &str) -> bool {
        fields::is_owned(name) || self.0.contains(&fields::plain(name))
    }
}

/// What a name is for, which decides whether it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A request is told apart by it.
    Match,
    /// It is set in a request, or removed from it.
    Request,
    /// It is set in an answer.
    Answer,
    /// It is removed from an answer.
    AnswerRemoval,
    /// Scripts may read it in an answer.
    Exposure,
}

/// Reads `request_headers`.
pub(super) fn of_requests(table: &mut Table<'_>, owned: &OwnedFields) -> Option<HeaderRules> {
    rules(table, "request_headers", owned, Use::Request, Use::Request)
}

/// Reads `response_headers`. Where there is `cors`, its fields are its own.
pub(super) fn of_answers(table: &mut Table<'_>, owned: &OwnedFields) -> Option<HeaderRules> {
    let has_cors = table.has("cors");
    let place = table.key_span("response_headers");
    let rules = rules(table, "response_headers", owned, Use::Answer, Use::AnswerRemoval)?;
    let named = rules.set.iter().chain(&rules.add).map(|(name, _)| name).chain(&rules.remove);
    for name in named.filter(|name| has_cors && is_of_cors(name)) {
        let complaint = Complaint::new(format!("\"{name}\" is what \"cors\" sets"));
        table
            .reader
            .report(place.as_ref().unwrap_or(&table.span), complaint.hint("remove it from one of the two"));
    }
    Some(rules)
}

/// Whether a field is one of those by which browsers decide what a script may read.
fn is_of_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// Reads `headers`, the conditions of a route.
pub(super) fn conditions(table: &mut Table<'_>, owned: &OwnedFields) -> Vec<Condition> {
    let list = table.named_values("headers", |name, text| {
        let name = checked_name(name, owned, Use::Match)?;
        let value = if text == "*" { None } else { Some(checked_value(text, Use::Match)?) };
        Ok(Condition { name, value })
    });
    let mut conditions: Vec<Condition> = Vec::new();
    for Located { value, span } in list {
        if conditions.iter().any(|other| other.name == value.name) {
            table.reader.report(&span, twice(&value.name));
        } else {
            conditions.push(value);
        }
    }
    conditions
}

/// A field of a fixed answer.
pub(super) fn of_answer(name: &str, value: &str, owned: &OwnedFields) -> Result<Field, Complaint> {
    Ok((checked_name(name, owned, Use::Answer)?, checked_value(value, Use::Answer)?))
}

/// A field that scripts of other origins may read.
pub(super) fn exposed(name: &str, owned: &OwnedFields) -> Result<HeaderName, Complaint> {
    if name == "*" {
        return Err(Complaint::new("\"*\" would expose every field of every answer")
            .hint("name the fields that scripts read, such as \"X-Total-Count\""));
    }
    checked_name(name, owned, Use::Exposure)
}

/// The fields, each of them once.
pub(super) fn once(table: &Table<'_>, list: Vec<Located<Field>>) -> Vec<Located<Field>> {
    let mut fields: Vec<Located<Field>> = Vec::new();
    for field in list {
        if fields.iter().any(|other| other.value.0 == field.value.0) {
            table.reader.report(&field.span, twice(&field.value.0));
        } else {
            fields.push(field);
        }
    }
    fields
}

fn twice(name: &HeaderName) -> Complaint {
    Complaint::new(format!("\"{name}\" is named twice")).hint("case makes no difference in names of headers")
}

fn rules(
    table: &mut Table<'_>,
    key: &'static str,
    owned: &OwnedFields,
    setting: Use,
    removing: Use,
) -> Option<HeaderRules> {
    let mut table = table.table(key);
    for values in ["set", "add"].into_iter().filter_map(|key| table.value(key)) {
        // A key for an upstream may be among them, which no message shows.
        hidden::hide_value(table.reader.source, values);
    }
    let field =
        |name: &str, value: &str| Ok((checked_name(name, owned, setting)?, checked_value(value, setting)?));
    let set = table.named_values("set", field);
    let set = values(once(&table, set));
    let added = table.named_values("add", field);
    let added = once(&table, added);
    let removed = table.list("remove", |name| checked_name(name, owned, removing)).unwrap_or_default();
    for Located { value: (name, _), span } in &added {
        if set.iter().any(|(other, _)| other == name) {
            table.reader.report(span, both(name, "add"));
        }
    }
    for Located { value: name, span } in &removed {
        if set.iter().any(|(other, _)| other == name) {
            table.reader.report(span, both(name, "remove"));
        }
    }
    table.finish();
    let rules = HeaderRules { remove: values(removed), set, add: values(added) };
    (!rules.is_empty()).then_some(rules)
}

fn both(name: &HeaderName, key: &str) -> Complaint {
    Complaint::new(format!("\"{name}\" is in \"set\" and in \"{key}\""))
        .hint("\"set\" leaves exactly its own value: remove the other one")
}

fn checked_name(name: &str, owned: &OwnedFields, purpose: Use) -> Result<HeaderName, Complaint> {
    let fault = |why: &str| Err(Complaint::new(format!("{} cannot stand here", quoted(name))).hint(why));
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return fault("a header name has letters, digits and \"-\", such as \"X-Env\"");
    };
    let plain = fields::plain(name);
    if plain.is_empty() {
        return fault("a header name has letters or digits");
    }
    if plain == "host" {
        return fault(
            "\"host_header\" of the upstream says which Host it sees, and \"host\" tells routes apart",
        );
    }
    if fields::is_framing(name) {
        return fault(
            "this header frames the message or is for one connection only; the gateway makes it anew",
        );
    }
    if plain == "authorization" && purpose != Use::AnswerRemoval {
        return fault("this header carries credentials, which stay with the gateway");
    }
    let request_id = plain == "xrequestid";
    let is_taken = match purpose {
        Use::Match | Use::Request | Use::Answer => owned.has(name),
        // What an upstream tells of its callers may be kept from them.
        Use::AnswerRemoval => request_id,
        Use::Exposure => owned.has(name) && !request_id,
    };
    match (is_taken, purpose) {
        (false, _) => Ok(header),
        (true, Use::Match) => {
            fault("the gateway owns this header: what a client says in it is removed, and decides nothing")
        }
        (true, Use::Exposure) => {
            fault("the gateway owns this header; no script of another origin may read it")
        }
        (true, Use::Request | Use::Answer | Use::AnswerRemoval) => {
            fault("the gateway owns this header, in every spelling, and is the only one to set or remove it")
        }
    }
}

/// A value of printable ASCII. It is not repeated in messages, and what only upstreams may see is not printed.
fn checked_value(text: &str, purpose: Use) -> Result<HeaderValue, Complaint> {
    let fault = |why: &str| Complaint::new("this is no value of a header").hint(why);
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(fault("a value has printable ASCII characters only, on one line"));
    }
    if text.trim() != text {
        return Err(fault("blanks at the ends would be lost: remove them"));
    }
    let mut value =
        HeaderValue::from_str(text).map_err(|_| fault("a value has printable ASCII characters only"))?;
    value.set_sensitive(matches!(purpose, Use::Match | Use::Request));
    Ok(value)
}
