//! A user file in TOML: one `[[users]]` table for each user.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::user::User;
use crate::users::hash::StoredHash;
use crate::users::name::{check_email, normal_group, normal_name};

use super::{Entry, LineFault};

const KEYS: [&str; 5] = ["name", "password", "groups", "email", "active"];

/// Something wrong, and where.
pub(super) type Fault = (usize, LineFault);

/// Every user of the text with the line where it begins, in the order of the file.
pub(super) fn parse(text: &str) -> Result<Vec<(usize, Entry)>, Fault> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (line_of(text, at), LineFault::Toml(error.message().lines().next().unwrap_or_default().to_owned()))
    })?;
    let mut users = Vec::new();
    for (key, value) in document.get_ref() {
        if key.get_ref() != "users" {
            return Err((line_of(text, key.span().start), unknown(key.get_ref(), "there is only [[users]]")));
        }
        let here = line_of(text, key.span().start);
        let tables =
            value.get_ref().as_array().ok_or((here, LineFault::Kind("users", "a list of tables")))?;
        for table in tables {
            let line = line_of(text, table.span().start);
            let entries = table.get_ref().as_table();
            let entries = entries.ok_or((line, LineFault::Kind("users", "a list of tables")))?;
            users.push((line, user(text, line, entries)?));
        }
    }
    Ok(users)
}

fn user(text: &str, line: usize, table: &DeTable<'_>) -> Result<Entry, Fault> {
    for (key, _) in table {
        if !KEYS.contains(&key.get_ref().as_ref()) {
            let known = "a user has name, password, groups, email and active";
            return Err((line_of(text, key.span().start), unknown(key.get_ref(), known)));
        }
    }
    let reader = Reader { text, table };
    let missing = |key| (line, LineFault::Missing(key));
    let (at, name) = reader.string("name")?.ok_or_else(|| missing("name"))?;
    let name = normal_name(name).map_err(|fault| (at, LineFault::Name(fault)))?;
    let (at, hash) = reader.string("password")?.ok_or_else(|| missing("password"))?;
    let hash = StoredHash::parse(hash).map_err(|fault| (at, LineFault::Hash(fault)))?;
    let email = match reader.string("email")? {
        Some((at, email)) => {
            check_email(email).map_err(|fault| (at, LineFault::Email(fault)))?;
            Some(email.to_owned())
        }
        None => None,
    };
    let mut groups = reader.groups()?;
    groups.sort_unstable();
    groups.dedup();
    let active = reader.boolean("active")?.unwrap_or(true);
    let user = User { id: name.clone(), name, email, groups };
    Ok(Entry { hash: Arc::new(hash), user, active })
}

struct Reader<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
}

impl<'a> Reader<'a> {
    fn value(&self, key: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        self.table.get(key).map(|value| (line_of(self.text, value.span().start), value))
    }

    fn string(&self, key: &'static str) -> Result<Option<(usize, &'a str)>, Fault> {
        let Some((line, value)) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str().ok_or((line, LineFault::Kind(key, "a string")))?;
        Ok(Some((line, text)))
    }

    fn boolean(&self, key: &'static str) -> Result<Option<bool>, Fault> {
        let Some((line, value)) = self.value(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or((line, LineFault::Kind(key, "true or false")))
    }

    fn groups(&self) -> Result<Vec<String>, Fault> {
        let Some((line, value)) = self.value("groups") else { return Ok(Vec::new()) };
        let wrong = LineFault::Kind("groups", "a list of strings");
        let Some(elements) = value.get_ref().as_array() else { return Err((line, wrong)) };
        let mut groups = Vec::with_capacity(elements.len());
        for element in elements {
            let line = line_of(self.text, element.span().start);
            let Some(group) = element.get_ref().as_str() else { return Err((line, wrong)) };
            groups.push(normal_group(group).map_err(|fault| (line, LineFault::Group(fault)))?);
        }
        Ok(groups)
    }
}

fn unknown(key: &str, hint: &'static str) -> LineFault {
    // A long one is no key but something that was misplaced, such as a hash.
    let key = key.chars().take(40).collect();
    LineFault::UnknownKey(key, hint)
}

fn line_of(text: &str, at: usize) -> usize {
    let before: Range<usize> = 0..at.min(text.len());
    text.as_bytes().get(before).unwrap_or_default().split(|&byte| byte == b'\n').count()
}
