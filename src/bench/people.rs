//! Who calls: names with passwords, or tokens that somebody else has got.

use std::fmt;

use crate::base::secret::Secret;
use serde::Deserialize;

/// Most users, and most tokens, of one run.
pub const MAX_PEOPLE: usize = 1_000_000;

/// Somebody who can log in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The login name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// What is wrong with a list of users or tokens; it never repeats a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// It is not UTF-8.
    NotUtf8,
    /// Nobody is in it.
    Empty,
    /// There are more than [`MAX_PEOPLE`].
    TooLong,
    /// The line with this number has no name and password.
    NoPassword(usize),
    /// The line with this number cannot stand in a header.
    NoToken(usize),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("it is not UTF-8 text"),
            Self::Empty => f.write_str("nobody is in it"),
            Self::TooLong => write!(f, "it has more than {MAX_PEOPLE} lines"),
            Self::NoPassword(line) => write!(
                f,
                "line {line} is no name and password: write \"alice secret\", \"alice:secret\" or {{\"username\":\"alice\",\"password\":\"secret\"}}"
            ),
            Self::NoToken(line) => write!(f, "line {line} is no token"),
        }
    }
}

impl std::error::Error for ListError {}

#[derive(Deserialize)]
struct Written {
    username: String,
    password: String,
}

/// Reads one user from each line: the name ends with the first blank, tab or colon, and the rest is the password; or an
/// object of JSON with `username` and `password`. Empty lines and those that begin with `#` are left out.
///
/// # Errors
///
/// A [`ListError`].
pub fn users(text: &[u8]) -> Result<Vec<Person>, ListError> {
    let mut people = Vec::new();
    for (number, line) in lines(text)? {
        let person = if line.starts_with('{') {
            serde_json::from_str::<Written>(line).ok().map(|Written { username, password }| Person {
                name: username,
                password: Secret::new(password),
            })
        } else {
            line.split_once([' ', '\t', ':']).map(|(name, password)| Person {
                name: name.to_owned(),
                password: Secret::new(password.as_bytes()),
            })
        };
        let person = person.filter(|person| !person.name.is_empty() && !person.password.is_empty());
        people.push(person.ok_or(ListError::NoPassword(number))?);
    }
    counted(people)
}

/// Reads one token from each line. Empty lines and those that begin with `#` are left out.
///
/// # Errors
///
/// A [`ListError`].
pub fn tokens(text: &[u8]) -> Result<Vec<Secret>, ListError> {
    let mut tokens = Vec::new();
    for (number, line) in lines(text)? {
        let token = line.trim();
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ListError::NoToken(number));
        }
        tokens.push(Secret::new(token));
    }
    counted(tokens)
}

fn lines(text: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, ListError> {
    let text = std::str::from_utf8(text).map_err(|_| ListError::NotUtf8)?;
    let numbered = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    Ok(numbered.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')))
}

fn counted<T>(found: Vec<T>) -> Result<Vec<T>, ListError> {
    match found.len() {
        0 => Err(ListError::Empty),
        count if count > MAX_PEOPLE => Err(ListError::TooLong),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_a_password() {
        let text =
            "# people\nalice secret\n\nbob:a b:c\r\ncarol\tx y\n{\"username\":\"d e\",\"password\":\" f\"}\n";
        let people = users(text.as_bytes()).unwrap();
        let pairs: Vec<(&str, &[u8])> =
            people.iter().map(|person| (person.name.as_str(), person.password.expose())).collect();
        assert_eq!(pairs, [("alice", &b"secret"[..]), ("bob", b"a b:c"), ("carol", b"x y"), ("d e", b" f")]);
    }

    #[test]
    fn what_is_no_list_is_refused_without_repeating_it() {
        for (text, error) in [
            (&b""[..], ListError::Empty),
            (b"#\n\n", ListError::Empty),
            (b"\xff", ListError::NotUtf8),
            (b"a b\nhunter2", ListError::NoPassword(2)),
            (b"a:", ListError::NoPassword(1)),
            (b" hunter2", ListError::NoPassword(1)),
            (b"{\"username\":\"a\"}", ListError::NoPassword(1)),
        ] {
            let found = users(text).unwrap_err();
            assert_eq!(found, error);
            assert!(!found.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn tokens_stand_alone_or_as_in_a_header() {
        let found = tokens(b"a.b.c\n# x\nBearer d.e.f \n").unwrap();
        assert_eq!(found.iter().map(Secret::expose).collect::<Vec<_>>(), [&b"a.b.c"[..], b"d.e.f"]);
        assert_eq!(tokens(b"a\nb c").unwrap_err(), ListError::NoToken(2));
        assert_eq!(tokens(b"").unwrap_err(), ListError::Empty);
    }
}
