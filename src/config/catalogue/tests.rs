//! The catalogue against the reader, the schema and the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::de::DeTable;

use super::schema::json_of;
use super::*;
use crate::config::load::keys_asked_for;

/// Tables of every kind, so that the reader looks for every key.
const EVERYTHING: &str = r#"
[server.limits]
[tls]
[[tls.certificates]]
[tls.client_auth]
[[tokens.keys]]
[users.django]
[upstreams.api]
targets = [{}]
tls = {}
assertion = {}
credentials = { basic = {} }
[limits.a]
[limits_store]
[[routes]]
redirect = "x"
[[routes]]
redirect = {}
respond = {}
allow = {}
deny = {}
cors = {}
request_headers = {}
response_headers = {}
[[tests]]
as = {}
expect = {}
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn difference<'a>(one: &BTreeSet<&'a str>, other: &BTreeSet<&'a str>) -> Vec<&'a str> {
    one.difference(other).copied().collect()
}

#[test]
fn the_catalogue_has_exactly_the_keys_that_the_reader_asks_for() {
    let asked = keys_asked_for(EVERYTHING);
    let asked: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    let known: BTreeSet<&str> = entries().map(|entry| entry.path).collect();
    assert!(asked.len() > 100, "{asked:?}");
    assert_eq!(difference(&asked, &known), [""; 0], "keys that are read and are not in src/config/catalogue");
    assert_eq!(difference(&known, &asked), [""; 0], "keys in src/config/catalogue that nobody reads");
    assert_eq!(known.len(), entries().count(), "a key stands in the catalogue twice");
}

#[test]
fn examples_and_defaults_fit_the_schema_of_their_keys() {
    let schema = schema();
    for entry in entries() {
        assert!(entry.about.ends_with(['.', '"']), "{}: {:?} is no sentence", entry.path, entry.about);
        let place = place_of(&schema, entry.path);
        assert!(
            place.is_some_and(|place| place["description"] == entry.about),
            "{} is in the schema",
            entry.path
        );
        let default = match entry.unset {
            Unset::Value(default) => default,
            Unset::Required | Unset::Nothing => "",
        };
        for text in [entry.example, default].into_iter().filter(|text| !text.is_empty()) {
            let document = format!("value = {text}");
            let parsed = DeTable::parse(&document).unwrap_or_else(|error| panic!("{}: {error}", entry.path));
            let value = json_of(parsed.get_ref()["value"].get_ref());
            assert!(fits(entry.shape, &value), "{}: {text} does not fit", entry.path);
        }
    }
}

/// The schema of a key.
fn place_of<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, part| {
        if part == "*" {
            return schema.get("additionalProperties");
        }
        let name = part.strip_suffix("[]").unwrap_or(part);
        let tables = schema.get("anyOf").and_then(|shapes| shapes.get(1)).unwrap_or(schema);
        let found = tables.get("properties")?.get(name)?;
        let inner = if name == part { Some(found) } else { found.get("items") };
        inner.map(|inner| {
            let table = inner.get("anyOf").and_then(|shapes| shapes.get(1)).filter(|_| name != part);
            table.unwrap_or(inner)
        })
    })
}

/// Whether a value is of a shape, as far as this can be said without regular expressions.
fn fits(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Text | Shape::Form(_) | Shape::Time => value.is_string(),
        Shape::TextOrTable => value.is_string() || value.is_object(),
        Shape::Choice(words) => value.as_str().is_some_and(|text| words.contains(&text)),
        Shape::FormOrZero(_) => value.is_string() || *value == 0,
        Shape::Integer(least, most) => value.as_u64().is_some_and(|number| (least..=most).contains(&number)),
        Shape::Ratio => value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number)),
        Shape::Boolean => value.is_boolean(),
        Shape::List(item) => value.as_array().is_some_and(|list| list.iter().all(|value| fits(*item, value))),
        Shape::Either(shapes) => shapes.iter().any(|shape| fits(*shape, value)),
        Shape::Names => value.as_object().is_some_and(|names| names.values().all(Value::is_string)),
        Shape::TextsOrTables => value.is_array(),
        Shape::Tree => value.is_object(),
        Shape::Table | Shape::Tables | Shape::NamedTables => false,
    }
}

/// A row of a table of keys in docs/configuration.md.
struct Row {
    /// The heading that it stands under.
    section: String,
    /// The keys in its first cell.
    names: Vec<String>,
    default: String,
    text: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut rows = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            title.trim_matches('`').clone_into(&mut section);
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_start_matches("| ").split(" | ").collect();
            // The head of a table of keys of a key.
            if cells[1] == "type" {
                continue;
            }
            let names = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let default = cells.get(2).copied().unwrap_or_default().to_owned();
            rows.push(Row { section: section.clone(), names, default, text: line.to_owned() });
        }
    }
    rows
}

/// The heading under which the keys of a table stand.
fn section_of(table: &str) -> String {
    match (table, table.strip_suffix("[]")) {
        ("routes[].cors", _) => "Scripts of other origins".to_owned(),
        ("upstreams.*.health_check" | "upstreams.*.ejection", _) => "Several targets".to_owned(),
        ("routes[].allow" | "routes[].deny", _) => "Policies".to_owned(),
        (_, Some(table)) => format!("[[{table}]]"),
        (_, None) => format!("[{}]", table.replace(".*", ".NAME")),
    }
}

/// Where a key may be told of: under the heading of its table, or as `file.path` under that of an outer one.
fn places_of(path: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = path.split('.').collect();
    let place = |cut: usize| (section_of(&parts[..cut].join(".")), parts[cut..].join("."));
    (1..parts.len()).rev().map(place).collect()
}

/// Whether a key is only a name for the tables below it.
fn is_table(entry: &Entry) -> bool {
    matches!(entry.shape, Shape::Table | Shape::Tables | Shape::NamedTables)
}

#[test]
fn the_documentation_tells_of_every_key_with_its_default_and_of_no_other() {
    let rows = rows();
    let mut wrong = Vec::new();
    for entry in entries().filter(|entry| !is_table(entry)) {
        let places = places_of(entry.path);
        let row = rows.iter().find(|row| {
            places.iter().any(|(section, name)| *section == row.section && row.names.contains(name))
        });
        match (row, entry.unset) {
            (Some(row), Unset::Value(default)) if !row.default.contains(default) => {
                wrong.push(format!("{}: the default is {default} and not {}", entry.path, row.default));
            }
            (Some(_), _) => {}
            (None, _) => {
                // The keys of a small table are told of in the row of the table.
                let (table, name) = entry.place();
                let (outer, table) = table.rsplit_once('.').unwrap_or(("", table));
                let (section, table) = (section_of(outer), table.trim_end_matches("[]"));
                let tells = |row: &&Row| row.section == section && row.names.iter().any(|name| name == table);
                let told = rows.iter().find(tells).is_some_and(|row| row.text.matches(name).count() > 0);
                if !told {
                    wrong.push(format!("{} is not told of in docs/configuration.md", entry.path));
                }
            }
        }
    }
    let known: BTreeSet<(String, String)> = entries().flat_map(|entry| places_of(entry.path)).collect();
    let sections: BTreeSet<&String> = known.iter().map(|(section, _)| section).collect();
    for row in rows.iter().filter(|row| sections.contains(&row.section)) {
        for name in row.names.iter().filter(|name| !known.contains(&(row.section.clone(), (*name).clone()))) {
            wrong.push(format!(
                "docs/configuration.md tells of {name} in {}, which nobody reads",
                row.section
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shipped_configurations_have_known_keys_only() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "toml"));
    files.push(root().join("gateway.toml"));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let document = DeTable::parse(&text).unwrap();
        assert_known(&json_of(&toml::de::DeValue::Table(document.into_inner())), &schema(), &file);
    }
}

fn assert_known(value: &Value, schema: &Value, file: &Path) {
    match value {
        Value::Object(members) => {
            let schema = schema.get("anyOf").and_then(|shapes| shapes.get(1)).unwrap_or(schema);
            for (name, value) in members {
                if schema.get("properties").or(schema.get("additionalProperties")).is_none() {
                    // Names of any depth are as good as any other.
                    continue;
                }
                let property = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let property = property.filter(|property| property.is_object());
                assert_known(value, property.unwrap_or_else(|| panic!("{}: {name}", file.display())), file);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                assert_known(element, &schema["items"], file);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
