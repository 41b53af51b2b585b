//! `tollgate user`: adds, lists and changes users of the store, also while the gateway runs.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use super::arguments::{UserGroups, UserVerb};
use super::error::{CommandError, Exit};
use super::hash_password::read_password;
use super::{import, table};
use crate::base::secret::Secret;
use crate::config::{Config, Hashing, UserSource};
use crate::store::{Store, StoreError};
use crate::users::import::ImportError;
use crate::users::password::{HashError, PasswordFault, check_new_password};
use crate::users::{HashPool, StoredHash, UserChangeError};

/// Why a user command failed.
#[derive(Debug)]
pub enum UserCommandError {
    /// The user was not changed.
    Change(UserChangeError),
    /// The password cannot be one.
    Password(PasswordFault),
    /// The password could not be hashed.
    Hash(HashError),
    /// The store cannot be read.
    Store(StoreError),
    /// Users were not imported.
    Import(ImportError),
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A CSV file is not UTF-8.
    NotUtf8,
    /// What is to be imported is no database of a known kind, or the table's name is none.
    Database,
    /// A URL in an argument has a password.
    PasswordInArgument,
    /// So many users were refused, and nobody was imported.
    Refused(usize),
    /// The result cannot be written.
    Output(io::Error),
}

impl fmt::Display for UserCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(error) => error.fmt(f),
            Self::Password(fault) => fault.fmt(f),
            Self::Hash(error) => write!(f, "the password could not be hashed: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Import(error) => error.fmt(f),
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::NotUtf8 => f.write_str("the file is not UTF-8 text"),
            Self::Database => f.write_str(
                "--from must be an SQLite file or a URL that begins with sqlite://, postgres:// or mysql://, and --table a name",
            ),
            Self::PasswordInArgument => f.write_str(
                "everybody on this machine can see a password in an argument: write the URL to standard input, with --from -",
            ),
            Self::Refused(count) => write!(
                f,
                "{count} refused, so nobody was imported; mend them, or leave them out with --skip-refused"
            ),
            Self::Output(error) => write!(f, "the result cannot be written: {error}"),
        }
    }
}

impl std::error::Error for UserCommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Change(error) => Some(error),
            Self::Password(fault) => Some(fault),
            Self::Hash(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Import(error) => Some(error),
            Self::Unreadable(_, error) | Self::Output(error) => Some(error),
            Self::Refused(_) | Self::NotUtf8 | Self::Database | Self::PasswordInArgument => None,
        }
    }
}

/// Performs what is asked for on the store of the configuration.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(config: &Config, verb: UserVerb, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &config.users.source {
        UserSource::Store => {}
        UserSource::File(path) => return Err(CommandError::UsersInFile(path.clone())),
        UserSource::Django(_) => return Err(CommandError::UsersInDjango),
    }
    let password = match &verb {
        UserVerb::Add(_) | UserVerb::Passwd(_) => Some(read_password(true).map_err(CommandError::Password)?),
        UserVerb::List
        | UserVerb::Disable(_)
        | UserVerb::Enable(_)
        | UserVerb::Groups(_)
        | UserVerb::Delete(_)
        | UserVerb::Import(_) => None,
    };
    let password = password.unwrap_or_else(|| Secret::new(""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(async {
        let store = Store::connect(&config.store).await.map_err(CommandError::Store)?;
        let done = change(&store, &config.users.hashing, verb, &password, out).await;
        store.close().await;
        done.map_err(CommandError::User)
    })?;
    Ok(Exit::Ok)
}

async fn change(
    store: &Store,
    hashing: &Hashing,
    verb: UserVerb,
    password: &Secret,
    out: &mut dyn Write,
) -> Result<(), UserCommandError> {
    match verb {
        UserVerb::Add(user) => {
            add(store, hashing, &user.name, user.email.as_deref(), &user.groups, password, out).await
        }
        UserVerb::List => list(store, out).await,
        UserVerb::Passwd(user) => passwd(store, hashing, &user.name, password, out).await,
        UserVerb::Disable(user) => disable(store, &user.name, out).await,
        UserVerb::Enable(user) => enable(store, &user.name, out).await,
        UserVerb::Groups(UserGroups { name, add, remove }) => groups(store, &name, &add, &remove, out).await,
        UserVerb::Delete(user) => delete(store, &user.name, out).await,
        UserVerb::Import(from) => import::import(store, hashing, from, out).await,
    }
}

/// Adds an active user.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn add(
    store: &Store,
    hashing: &Hashing,
    name: &str,
    email: Option<&str>,
    groups: &[String],
    password: &Secret,
    out: &mut dyn Write,
) -> Result<(), UserCommandError> {
    let hash = hashed(hashing, password).await?;
    let user = store.add(name, email, groups, &hash).await.map_err(UserCommandError::Change)?;
    writeln!(out, "added user {} with id {}", user.name, user.id).map_err(UserCommandError::Output)
}

/// Prints a table of all users.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn list(store: &Store, out: &mut dyn Write) -> Result<(), UserCommandError> {
    let users = store.list().await.map_err(UserCommandError::Store)?;
    let mut rows = vec![["ID", "NAME", "EMAIL", "GROUPS", "ACTIVE"].map(str::to_owned)];
    rows.extend(users.into_iter().map(|(user, active)| {
        let active = if active { "yes" } else { "no" };
        let email = user.email.unwrap_or_else(|| "-".to_owned());
        let groups = if user.groups.is_empty() { "-".to_owned() } else { user.groups.join(",") };
        [user.id, user.name, email, groups, active.to_owned()]
    }));
    out.write_all(table::of(&rows).as_bytes()).map_err(UserCommandError::Output)
}

/// Gives a user another password.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn passwd(
    store: &Store,
    hashing: &Hashing,
    name: &str,
    password: &Secret,
    out: &mut dyn Write,
) -> Result<(), UserCommandError> {
    let hash = hashed(hashing, password).await?;
    store.set_password(name, &hash).await.map_err(UserCommandError::Change)?;
    writeln!(out, "changed the password of user {name}").map_err(UserCommandError::Output)
}

/// Switches a user off, who can then neither log in nor use a token.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn disable(store: &Store, name: &str, out: &mut dyn Write) -> Result<(), UserCommandError> {
    store.set_active(name, false).await.map_err(UserCommandError::Change)?;
    writeln!(out, "disabled user {name}").map_err(UserCommandError::Output)
}

/// Switches a user on again.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn enable(store: &Store, name: &str, out: &mut dyn Write) -> Result<(), UserCommandError> {
    store.set_active(name, true).await.map_err(UserCommandError::Change)?;
    writeln!(out, "enabled user {name}").map_err(UserCommandError::Output)
}

/// Changes the groups of a user, and tells those that are left. Running gateways notice within a second.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn groups(
    store: &Store,
    name: &str,
    add: &[String],
    remove: &[String],
    out: &mut dyn Write,
) -> Result<(), UserCommandError> {
    let groups = store.change_groups(name, add, remove).await.map_err(UserCommandError::Change)?;
    let groups = if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") };
    writeln!(out, "{name} is in {groups}").map_err(UserCommandError::Output)
}

/// Deletes a user for ever.
///
/// # Errors
///
/// A [`UserCommandError`].
pub async fn delete(store: &Store, name: &str, out: &mut dyn Write) -> Result<(), UserCommandError> {
    store.delete(name).await.map_err(UserCommandError::Change)?;
    writeln!(out, "deleted user {name}").map_err(UserCommandError::Output)
}

async fn hashed(hashing: &Hashing, password: &Secret) -> Result<StoredHash, UserCommandError> {
    check_new_password(password).map_err(UserCommandError::Password)?;
    HashPool::new(hashing).hash(password).await.map_err(UserCommandError::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;
    use crate::users::password::tests::cheap_hashing;

    async fn store(scratch: &Scratch) -> Store {
        Store::open(&scratch.path("s.db")).await.unwrap()
    }

    #[tokio::test]
    async fn every_command_says_what_it_did() {
        let scratch = Scratch::new();
        let store = store(&scratch).await;
        let (hashing, password) = (cheap_hashing(), Secret::new("correct horse"));
        let in_groups = ["staff".to_owned(), "admin".to_owned()];
        let mut out = Vec::new();
        add(&store, &hashing, "alice", Some("a@example.com"), &in_groups, &password, &mut out).await.unwrap();
        add(&store, &hashing, "Zoë", None, &[], &password, &mut out).await.unwrap();
        passwd(&store, &hashing, "alice", &Secret::new("other"), &mut out).await.unwrap();
        disable(&store, "alice", &mut out).await.unwrap();
        list(&store, &mut out).await.unwrap();
        enable(&store, "alice", &mut out).await.unwrap();
        let change = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        groups(&store, "alice", &change(&["sales"]), &change(&["admin", "x"]), &mut out).await.unwrap();
        groups(&store, "alice", &[], &change(&["sales", "staff"]), &mut out).await.unwrap();
        delete(&store, "alice", &mut out).await.unwrap();
        list(&store, &mut out).await.unwrap();
        let expected = "\
added user alice with id 1
added user Zoë with id 2
changed the password of user alice
disabled user alice
ID  NAME   EMAIL          GROUPS       ACTIVE
1   alice  a@example.com  admin,staff  no
2   Zoë    -              -            yes
enabled user alice
alice is in sales, staff
alice is in no group
deleted user alice
ID  NAME  EMAIL  GROUPS  ACTIVE
2   Zoë   -      -       yes
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[tokio::test]
    async fn failures_change_nothing_and_keep_secrets() {
        let scratch = Scratch::new();
        let store = store(&scratch).await;
        let (hashing, good, mut out) = (cheap_hashing(), Secret::new("correct horse"), Vec::new());
        add(&store, &hashing, "alice", None, &[], &good, &mut out).await.unwrap();
        out.clear();
        let errors = [
            add(&store, &hashing, "alice", None, &[], &good, &mut out).await.unwrap_err(),
            add(&store, &hashing, "bob", None, &[], &Secret::new(""), &mut out).await.unwrap_err(),
            add(&store, &hashing, "bob", Some("x"), &[], &good, &mut out).await.unwrap_err(),
            passwd(&store, &hashing, "bob", &good, &mut out).await.unwrap_err(),
            passwd(&store, &hashing, "alice", &Secret::new([b'x'; 1025]), &mut out).await.unwrap_err(),
            disable(&store, "bob", &mut out).await.unwrap_err(),
            enable(&store, "bob", &mut out).await.unwrap_err(),
            delete(&store, "bob", &mut out).await.unwrap_err(),
            groups(&store, "bob", &["a".to_owned()], &[], &mut out).await.unwrap_err(),
            groups(&store, "alice", &["a,b".to_owned()], &[], &mut out).await.unwrap_err(),
        ];
        for error in errors {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("correct horse") && !text.contains("$argon2"), "{text}");
        }
        assert!(out.is_empty());
        assert_eq!(store.list().await.unwrap().len(), 1);
    }
}
