//! The catalogue as a JSON Schema (draft 2020-12), by which editors complete and check `gateway.toml`.
//!
//! It says less than `tollgate check`: a string may hold variables, so its form is known only once they are expanded.

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::{Entry, Shape, Unset, entries};

/// What every string may hold besides what it should be.
const VARIABLE: &str = r"\$\{";

/// The schema of `gateway.toml`.
pub fn schema() -> Value {
    let mut schema = object("");
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("title".to_owned(), "gateway.toml of Tollgate".into());
        members.insert("required".to_owned(), json!(["upstreams", "routes"]));
    }
    schema
}

/// The schema of the table at a path.
fn object(path: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for entry in entries() {
        let (table, name) = entry.place();
        if table == path {
            properties.insert(name.to_owned(), property(entry));
            if entry.unset == Unset::Required {
                required.push(name);
            }
        }
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let Some(members) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        members.insert("required".to_owned(), required.into());
    }
    schema
}

/// The schema of a key's value, with what editors show about it.
fn property(entry: &Entry) -> Value {
    let mut schema = values(entry.shape, entry.path);
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".to_owned(), entry.about.into());
        if let Unset::Value(default) = entry.unset {
            members.insert("default".to_owned(), literal(default));
        }
        if !entry.example.is_empty() {
            members.insert("examples".to_owned(), vec![literal(entry.example)].into());
        }
    }
    schema
}

fn values(shape: Shape, path: &str) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Choice(words) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }] })
        }
        Shape::Form(form) => json!({ "type": "string", "pattern": format!("^({form})$|{VARIABLE}") }),
        Shape::FormOrZero(form) => json!({ "anyOf": [values(Shape::Form(form), path), { "const": 0 }] }),
        Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Ratio => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::Boolean => json!({ "type": "boolean" }),
        // Editors hand dates of TOML on as strings.
        Shape::Time => json!({ "type": "string", "format": "date-time" }),
        Shape::List(item) => json!({ "type": "array", "items": values(*item, path) }),
        Shape::Either(shapes) => {
            let each: Vec<Value> = shapes.iter().map(|shape| values(*shape, path)).collect();
            json!({ "anyOf": each })
        }
        Shape::Names => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Tree => json!({ "type": "object" }),
        Shape::Table => object(path),
        Shape::TextOrTable => json!({ "anyOf": [{ "type": "string" }, object(path)] }),
        Shape::Tables => json!({ "type": "array", "items": object(&format!("{path}[]")) }),
        Shape::TextsOrTables => {
            let items = json!({ "anyOf": [{ "type": "string" }, object(&format!("{path}[]"))] });
            json!({ "type": "array", "items": items })
        }
        Shape::NamedTables => {
            json!({ "type": "object", "additionalProperties": object(&format!("{path}.*")) })
        }
    }
}

/// A value as the file writes it, in JSON.
fn literal(text: &str) -> Value {
    let document = format!("value = {text}");
    let parsed = DeTable::parse(&document);
    parsed.ok().and_then(|table| table.get_ref().get("value").map(|value| json_of(value.get_ref()))).into()
}

pub(super) fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().into(),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(elements) => elements.iter().map(|element| json_of(element.get_ref())).collect(),
        DeValue::Table(table) => {
            let member =
                |(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    (name.get_ref().clone().into_owned(), json_of(value.get_ref()))
                };
            Value::Object(table.iter().map(member).collect())
        }
    }
}
