//! `tollgate user import`: takes over users of other systems into the store.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arguments::{ImportFormat, ImportFrom};
use super::user::UserCommandError;
use crate::base::bounds;
use crate::base::secret::Secret;
use crate::config::{DjangoColumns, DjangoDatabase, DjangoUsers, Hasher, Hashing};
use crate::store::Store;
use crate::users::HashPool;
use crate::users::import::Arrivals;

/// Imports all or, with `skip_refused`, all but those who are refused.
///
/// # Errors
///
/// A [`UserCommandError`]; nobody is imported then.
pub async fn import(
    store: &Store,
    hashing: &Hashing,
    mut from: ImportFrom,
    out: &mut dyn Write,
) -> Result<(), UserCommandError> {
    if from.from == "-" {
        from.from = first_line(std::io::stdin().lock())?;
    } else if has_password(&from.from) {
        return Err(UserCommandError::PasswordInArgument);
    }
    let pool = HashPool::new(hashing);
    let format = from.format.unwrap_or_else(|| guessed(&from.from));
    let read = || {
        let path = PathBuf::from(&from.from);
        std::fs::read(&path).map_err(|error| UserCommandError::Unreadable(path, error))
    };
    let mut arrivals = match format {
        ImportFormat::Htpasswd => Arrivals::of_htpasswd(&read()?, &pool),
        ImportFormat::Csv => {
            let text = String::from_utf8(read()?).map_err(|_| UserCommandError::NotUtf8)?;
            Arrivals::of_csv(&text, &pool).map_err(UserCommandError::Import)?
        }
        ImportFormat::Django => {
            let users = django(&from.from, &from.table).ok_or(UserCommandError::Database)?;
            Arrivals::of_django(&users, &pool).await.map_err(UserCommandError::Import)?
        }
    };
    arrivals.refuse_duplicates(store).await.map_err(UserCommandError::Import)?;
    let what = if format == ImportFormat::Django { "user" } else { "line" };
    for refusal in &arrivals.refused {
        writeln!(out, "{what} {}: refused: {}", refusal.place, refusal.fault)
            .map_err(UserCommandError::Output)?;
    }
    let (good, refused) = (arrivals.good.len(), arrivals.refused.len());
    if from.dry_run {
        return writeln!(out, "would import {good}, refused {refused}; nothing was changed")
            .map_err(UserCommandError::Output);
    }
    if refused > 0 && !from.skip_refused {
        return Err(UserCommandError::Refused(refused));
    }
    let imported = arrivals.settle(store).await.map_err(UserCommandError::Import)?;
    writeln!(out, "imported {imported}, refused {refused}").map_err(UserCommandError::Output)
}

/// Whether this is a URL with a password (RFC 3986 section 3.2.1).
fn has_password(from: &str) -> bool {
    let authority =
        from.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    let user_info = authority.and_then(|authority| authority.rsplit_once('@'));
    user_info.is_some_and(|(user_info, _)| user_info.contains(':')) || from.contains("password=")
}

fn first_line(mut input: impl BufRead) -> Result<String, UserCommandError> {
    let mut line = String::new();
    let read = input.by_ref().take(bounds::MAX_FILE_BYTES).read_line(&mut line);
    read.map_err(|error| UserCommandError::Unreadable(PathBuf::from("standard input"), error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn guessed(from: &str) -> ImportFormat {
    if from.contains("://") {
        ImportFormat::Django
    } else if Path::new(from).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        ImportFormat::Csv
    } else {
        ImportFormat::Htpasswd
    }
}

/// The users behind a URL, or in an SQLite file; `None` when it is neither, or the table's name is no name.
fn django(url: &str, table: &str) -> Option<DjangoUsers> {
    let columns = DjangoColumns::of_table(table)?;
    let database = match url.split_once("://") {
        None => DjangoDatabase::Sqlite(PathBuf::from(url)),
        Some(("sqlite", path)) => DjangoDatabase::Sqlite(PathBuf::from(path)),
        Some(("postgres" | "postgresql", _)) => DjangoDatabase::Postgres(Secret::new(url)),
        Some(("mysql" | "mariadb", _)) => DjangoDatabase::Mysql(Secret::new(url)),
        Some(_) => return None,
    };
    // All but MD5, which the store does not take.
    let hashers = [Hasher::USUAL.as_slice(), &[Hasher::Bcrypt]].concat();
    Some(DjangoUsers { database, columns, hashers, recheck: Duration::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_argument_is_noticed() {
        for from in [
            "postgres://app:hunter2@db/app",
            "mysql://app:a%40b@db:3306/app",
            "postgres://db/app?password=hunter2",
            "postgres://app:p@ss:w@db/app",
        ] {
            assert!(has_password(from), "{from}");
        }
        for from in
            ["postgres://app@db/app", "sqlite://a:b.sqlite3", "users.csv", "postgres://[::1]:5432/app", "-"]
        {
            assert!(!has_password(from), "{from}");
        }
    }

    #[test]
    fn a_url_is_one_line_of_standard_input() {
        let line = first_line(&b"postgres://app:hunter2@db/app\r\nmore\n"[..]).unwrap();
        assert_eq!(line, "postgres://app:hunter2@db/app");
    }
}
