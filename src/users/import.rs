//! Users of other systems, taken over into the store with their password hashes.

use std::collections::HashSet;
use std::fmt;

use crate::base::user::User;
use crate::config;
use crate::store::{Store, StoreError};

use super::django::{DjangoError, DjangoUsers, OpenError};
use super::error::UserChangeError;
use super::file::{LineFault, parse_line};
use super::hash::StoredHash;
use super::name::{check_email, normal_group, normal_name};
use super::password::HashPool;

/// The columns of a CSV file, in any order.
const COLUMNS: [&str; 4] = ["name", "email", "groups", "password"];

/// A user who can be imported.
#[derive(Debug)]
pub struct Arrival {
    /// Who it is. An empty id is replaced by one that the store gives.
    pub user: User,
    /// Whether the user may log in.
    pub active: bool,
    hash: StoredHash,
    /// The line of the file, or the id in the database.
    pub place: u64,
}

/// A user who cannot be imported.
#[derive(Debug)]
pub struct Refusal {
    /// The line of the file, or the id in the database.
    pub place: u64,
    /// Why.
    pub fault: LineFault,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Who can be imported.
    pub good: Vec<Arrival>,
    /// Who cannot.
    pub refused: Vec<Refusal>,
}

/// Why nobody was imported.
#[derive(Debug)]
pub enum ImportError {
    /// The file has no header with these columns.
    Header,
    /// A text in quotes is not closed; the line where it begins.
    OpenQuote(u64),
    /// The Django database cannot be read.
    Django(DjangoError),
    /// The operating system gave no random bytes.
    Randomness,
    /// The store already has this user.
    Change(String, UserChangeError),
    /// The store cannot be used.
    Store(StoreError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the first line must be the header {}", COLUMNS.join(",")),
            Self::OpenQuote(line) => write!(f, "the quotes that begin in line {line} are not closed"),
            Self::Django(error) => error.fmt(f),
            Self::Randomness => f.write_str("the operating system gave no random bytes"),
            Self::Change(name, error) => {
                write!(f, "user {name:?} was not added: {error}; nobody was imported")
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Header | Self::OpenQuote(_) | Self::Randomness => None,
            Self::Django(error) => Some(error),
            Self::Change(_, error) => Some(error),
            Self::Store(error) => Some(error),
        }
    }
}

impl Arrivals {
    /// Reads the `name:hash` lines of htpasswd.
    pub fn of_htpasswd(content: &[u8], pool: &HashPool) -> Self {
        let mut arrivals = Self::default();
        for (line, place) in content.split(|&byte| byte == b'\n').zip(1..) {
            let entry = match parse_line(line) {
                Ok(None) => continue,
                Ok(Some(entry)) => Ok((entry.user, true, entry.hash.as_ref().clone())),
                Err(fault) => Err(fault),
            };
            arrivals.take(place, entry, pool);
        }
        arrivals
    }

    /// Reads a table with a header line (RFC 4180). Groups are separated by `;`.
    ///
    /// # Errors
    ///
    /// [`ImportError::Header`] and [`ImportError::OpenQuote`].
    pub fn of_csv(content: &str, pool: &HashPool) -> Result<Self, ImportError> {
        let content = content.strip_prefix('\u{feff}').unwrap_or(content);
        let mut records = csv_records(content)?.into_iter();
        let (_, header) = records.next().ok_or(ImportError::Header)?;
        let position = |column: &str| header.iter().position(|name| name.trim() == column);
        let [name, email, groups, password] = COLUMNS.map(position);
        let (Some(name), Some(password)) = (name, password) else { return Err(ImportError::Header) };
        if header.iter().any(|name| !COLUMNS.contains(&name.trim())) {
            return Err(ImportError::Header);
        }
        let mut arrivals = Self::default();
        for (place, fields) in records {
            let field = |at: Option<usize>| at.and_then(|at| fields.get(at)).map_or("", String::as_str);
            let groups = field(groups).split(';').map(str::trim).filter(|group| !group.is_empty());
            let entry = if fields.len() == header.len() {
                StoredHash::parse(field(Some(password)))
                    .map_err(LineFault::Hash)
                    .and_then(|hash| Ok((checked(field(Some(name)), field(email), groups)?, true, hash)))
            } else {
                Err(LineFault::Fields(header.len()))
            };
            arrivals.take(place, entry, pool);
        }
        Ok(arrivals)
    }

    /// Reads every user of a Django application.
    ///
    /// # Errors
    ///
    /// [`ImportError::Django`].
    pub async fn of_django(users: &config::DjangoUsers, pool: &HashPool) -> Result<Self, ImportError> {
        let source = DjangoUsers::open(users, pool.clone()).await.map_err(|error| match error {
            OpenError::Database(error) => ImportError::Django(error),
            OpenError::Randomness(_) => ImportError::Randomness,
        })?;
        let mut arrivals = Self::default();
        for found in source.everybody().await.map_err(ImportError::Django)? {
            let place = found.user.id.parse().unwrap_or_default();
            // Tokens of the application carry the id, so it is kept.
            let User { id, name, email, groups } = found.user;
            let groups = groups.iter().map(String::as_str);
            let entry = found.hash.map_err(LineFault::Hash).and_then(|hash| {
                let user = checked(&name, email.as_deref().unwrap_or_default(), groups)?;
                Ok((User { id, ..user }, found.active, hash))
            });
            arrivals.take(place, entry, pool);
        }
        Ok(arrivals)
    }

    fn take(&mut self, place: u64, entry: Result<(User, bool, StoredHash), LineFault>, pool: &HashPool) {
        let entry = entry.and_then(|(user, active, hash)| match pool.check_cost(hash.cost()) {
            Ok(()) => Ok(Arrival { user, active, hash, place }),
            Err(_) => Err(LineFault::TooCostly),
        });
        match entry {
            Ok(arrival) => self.good.push(arrival),
            Err(fault) => self.refused.push(Refusal { place, fault }),
        }
    }

    /// Refuses those whose name or id an earlier one or a user of the store has.
    ///
    /// # Errors
    ///
    /// [`ImportError::Store`].
    pub async fn refuse_duplicates(&mut self, store: &Store) -> Result<(), ImportError> {
        let known = store.list().await.map_err(ImportError::Store)?;
        let mut names: HashSet<String> = known.into_iter().map(|(user, _)| user.name).collect();
        let taken = store.taken_ids().await.map_err(ImportError::Store)?;
        let taken: HashSet<String> = taken.into_iter().collect();
        for arrival in std::mem::take(&mut self.good) {
            if taken.contains(&arrival.user.id) {
                self.refused.push(Refusal { place: arrival.place, fault: LineFault::IdTaken });
            } else if names.insert(arrival.user.name.clone()) {
                self.good.push(arrival);
            } else {
                self.refused.push(Refusal { place: arrival.place, fault: LineFault::Duplicate });
            }
        }
        self.refused.sort_by_key(|refusal| refusal.place);
        Ok(())
    }

    /// Adds all that can be imported to the store, or nobody.
    ///
    /// # Errors
    ///
    /// [`ImportError::Change`] and [`ImportError::Store`].
    pub async fn settle(self, store: &Store) -> Result<usize, ImportError> {
        let names: Vec<String> = self.good.iter().map(|arrival| arrival.user.name.clone()).collect();
        let users = self.good.into_iter().map(|arrival| (arrival.user, arrival.active, arrival.hash));
        match store.add_all(users.collect()).await {
            Ok(()) => Ok(names.len()),
            Err((_, UserChangeError::Store(error))) => Err(ImportError::Store(error)),
            Err((index, error)) => {
                let name = index.and_then(|index| names.get(index)).cloned();
                Err(ImportError::Change(name.unwrap_or_default(), error))
            }
        }
    }
}

fn checked<'a>(name: &str, email: &str, groups: impl Iterator<Item = &'a str>) -> Result<User, LineFault> {
    let name = normal_name(name).map_err(LineFault::Name)?;
    let email = Some(email.trim()).filter(|email| !email.is_empty());
    if let Some(email) = email {
        check_email(email).map_err(LineFault::Email)?;
    }
    let groups = groups.map(normal_group).collect::<Result<Vec<_>, _>>();
    let mut groups = groups.map_err(LineFault::Group)?;
    groups.sort_unstable();
    groups.dedup();
    Ok(User { id: String::new(), name, email: email.map(str::to_owned), groups })
}

/// The records of a CSV text with the lines where they begin. Empty lines are none.
fn csv_records(text: &str) -> Result<Vec<(u64, Vec<String>)>, ImportError> {
    let mut records = Vec::new();
    let (mut line, mut begins, mut quotes_at) = (1, 1, 1);
    let (mut fields, mut field, mut quoted, mut closed) = (Vec::new(), String::new(), false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\n' {
            line += 1;
        }
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' if quoted => (quoted, closed) = (false, true),
            _ if quoted => field.push(letter),
            '"' if field.is_empty() && !closed => (quoted, quotes_at) = (true, line),
            ',' => {
                fields.push(std::mem::take(&mut field));
                closed = false;
            }
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => {
                finish(&mut records, begins, &mut fields, &mut field);
                (begins, closed) = (line, false);
            }
            _ => field.push(letter),
        }
    }
    if quoted {
        return Err(ImportError::OpenQuote(quotes_at));
    }
    finish(&mut records, begins, &mut fields, &mut field);
    Ok(records)
}

fn finish(records: &mut Vec<(u64, Vec<String>)>, begins: u64, fields: &mut Vec<String>, field: &mut String) {
    if !fields.is_empty() || !field.is_empty() {
        fields.push(std::mem::take(field));
        records.push((begins, std::mem::take(fields)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::{Place, on_both_stores};
    use crate::users::password::tests::cheap_hashing;

    const HASH: &str =
        "pbkdf2_sha256$1000$seasaltseasaltseasalt2$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=";

    fn told(arrivals: &Arrivals) -> Vec<String> {
        arrivals.refused.iter().map(|refusal| format!("{} {}", refusal.place, refusal.fault)).collect()
    }

    #[test]
    fn a_csv_table_is_read_as_spreadsheets_write_it() {
        let pool = HashPool::new(&cheap_hashing());
        let content = format!(
            "\u{feff}name,email,groups,password\r\nalice,a@b,\"staff; admin\",{HASH}\r\n\r\n\"o\"\"k, ay\",,,\"{HASH}\"\r\n\
             bad,x,,{HASH}\r\nplain,,,hunter2\r\nshort,{HASH}\r\n\"two\nlines\",,,{HASH}\r\n"
        );
        let arrivals = Arrivals::of_csv(&content, &pool).unwrap();
        let names: Vec<&str> = arrivals.good.iter().map(|arrival| arrival.user.name.as_str()).collect();
        assert_eq!(names, ["alice", "o\"k, ay"]);
        assert_eq!(arrivals.good[0].user.groups, ["admin", "staff"]);
        assert_eq!(arrivals.good[0].user.email.as_deref(), Some("a@b"));
        let told = told(&arrivals);
        assert_eq!(told.len(), 4);
        for (text, begin) in
            told.iter().zip(["5 the e-mail", "6 plain text", "7 it does not have 4", "8 the user name"])
        {
            assert!(text.starts_with(begin) && !text.contains("hunter2"), "{text}");
        }
        for content in ["", "name\n", "name,password,colour\n", "alice,$x\n"] {
            assert!(matches!(Arrivals::of_csv(content, &pool), Err(ImportError::Header)), "{content}");
        }
        let open = Arrivals::of_csv("name,password\na,\"b\n", &pool);
        assert!(matches!(open, Err(ImportError::OpenQuote(2))));
    }

    async fn users_of_django_keep_their_ids(place: Place) {
        let store = place.open().await;
        let hashing = config::Hashing { max_memory_kib: 128 * 1024, ..cheap_hashing() };
        let pool = HashPool::new(&hashing);
        let database = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/django-auth.sqlite3");
        let users = config::DjangoUsers {
            database: config::DjangoDatabase::Sqlite(database.into()),
            columns: config::DjangoColumns::default(),
            hashers: config::Hasher::USUAL.to_vec(),
            recheck: std::time::Duration::MAX,
        };
        let mut arrivals = Arrivals::of_django(&users, &pool).await.unwrap();
        let refused: Vec<u64> = arrivals.refused.iter().map(|refusal| refusal.place).collect();
        assert_eq!(refused, [8, 10, 11]);
        arrivals.refuse_duplicates(&store).await.unwrap();
        arrivals.good.retain(|arrival| arrival.user.id != "1");
        assert_eq!(arrivals.settle(&store).await.unwrap(), 7);
        let listed = store.list().await.unwrap();
        let (alice, active) = listed.iter().find(|(user, _)| user.name == "alice").unwrap();
        assert_eq!(
            (alice.id.as_str(), alice.groups.as_slice(), *active),
            ("4", &["finance".to_owned()][..], true)
        );
        assert!(listed.iter().any(|(user, active)| user.name == "gone" && !active));
        // The id of a deleted user is never given to anybody else.
        store.delete("alice").await.unwrap();
        let mut again = Arrivals::of_django(&users, &pool).await.unwrap();
        again.refuse_duplicates(&store).await.unwrap();
        assert_eq!(again.good.iter().map(|arrival| arrival.user.id.as_str()).collect::<Vec<_>>(), ["1"]);
        assert!(told(&again).iter().any(|text| text == "4 a user of the store has or had this id"));
    }

    async fn all_or_none_are_imported_and_names_are_told_apart(place: Place) {
        let store = place.open().await;
        let pool = HashPool::new(&cheap_hashing());
        let content = format!("a:{HASH}\n# b\nb:{HASH}\na:{HASH}\nc:{{SHA}}x\n");
        let mut arrivals = Arrivals::of_htpasswd(content.as_bytes(), &pool);
        arrivals.refuse_duplicates(&store).await.unwrap();
        assert_eq!(arrivals.good.len(), 2);
        assert!(told(&arrivals)[0].starts_with("4 another user"), "{:?}", told(&arrivals));
        assert!(told(&arrivals)[1].starts_with("5 SHA-1"));
        assert_eq!(arrivals.settle(&store).await.unwrap(), 2);
        // Somebody was added since duplicates were looked for.
        let again = Arrivals::of_htpasswd(format!("z:{HASH}\nb:{HASH}").as_bytes(), &pool);
        let error = again.settle(&store).await.unwrap_err();
        assert!(matches!(&error, ImportError::Change(name, _) if name == "b"), "{error:?}");
        assert_eq!(store.list().await.unwrap().len(), 2);
    }

    on_both_stores!(users_of_django_keep_their_ids, all_or_none_are_imported_and_names_are_told_apart);
}
