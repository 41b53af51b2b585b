//! `[users.django]`: where the users of a Django application are.

use std::path::PathBuf;
use std::time::Duration;

use super::complaint::{Complaint, alternatives, choose, quoted};
use super::database_url::{Shown, URLS, database_url};
use super::environment::is_variable_name;
use super::kind::Kind;
use super::reader::{Located, Table, values};
use super::units;
use crate::base::secret::Secret;

const SCHEMES: [&str; 3] = ["sqlite://", "postgres://", "mysql://"];
/// The longest name of a table or column that any of the databases takes, in bytes.
const MAX_IDENTIFIER_BYTES: usize = 128;

/// `[users.django]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DjangoUsers {
    /// Where it is.
    pub database: DjangoDatabase,
    /// What its tables and columns are called.
    pub columns: DjangoColumns,
    /// The hashes that may be logged in with.
    pub hashers: Vec<Hasher>,
    /// How often the users that were asked for are read again.
    pub recheck: Duration,
}

/// The database of a Django application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DjangoDatabase {
    /// A file.
    Sqlite(PathBuf),
    /// A `postgres://` URL, which may hold a password.
    Postgres(Secret),
    /// A `mysql://` URL, which may hold a password.
    Mysql(Secret),
}

/// Names of tables and columns: letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DjangoColumns {
    /// The table of users.
    pub table: String,
    /// Its key, an integer.
    pub id: String,
    /// The login name.
    pub username: String,
    /// The password hash.
    pub password: String,
    /// The e-mail address; `None` where there is no such column.
    pub email: Option<String>,
    /// Whether a user may log in.
    pub active: String,
    /// The groups; `None` when they are not read.
    pub groups: Option<DjangoGroups>,
}

/// The tables of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DjangoGroups {
    /// Who belongs to which group.
    pub membership: String,
    /// Its column of the user.
    pub user: String,
    /// The groups, with columns `id` and `name`.
    pub table: String,
}

/// A password hasher of Django.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Hasher {
    Pbkdf2Sha256,
    Pbkdf2Sha1,
    Argon2,
    BcryptSha256,
    Bcrypt,
    Scrypt,
    Md5,
}

impl Hasher {
    /// Those that Django has without being told.
    pub const USUAL: [Self; 5] =
        [Self::Pbkdf2Sha256, Self::Pbkdf2Sha1, Self::Argon2, Self::BcryptSha256, Self::Scrypt];
}

impl Hasher {
    /// All hashers with the names that Django gives them, which stand in front of their hashes.
    pub const ALL: [(&'static str, Self); 7] = [
        ("pbkdf2_sha256", Self::Pbkdf2Sha256),
        ("pbkdf2_sha1", Self::Pbkdf2Sha1),
        ("argon2", Self::Argon2),
        ("bcrypt_sha256", Self::BcryptSha256),
        ("bcrypt", Self::Bcrypt),
        ("scrypt", Self::Scrypt),
        ("md5", Self::Md5),
    ];
}

impl Default for DjangoColumns {
    fn default() -> Self {
        Self {
            table: "auth_user".to_owned(),
            id: "id".to_owned(),
            username: "username".to_owned(),
            password: "password".to_owned(),
            email: Some("email".to_owned()),
            active: "is_active".to_owned(),
            groups: Some(DjangoGroups::of("auth_user", "user_id")),
        }
    }
}

impl DjangoColumns {
    /// A table whose columns have their usual names; `None` when the name is none.
    pub fn of_table(table: &str) -> Option<Self> {
        let groups = Some(DjangoGroups::of_table(table));
        identifier(table).ok().map(|table| Self { table, groups, ..Self::default() })
    }
}

impl DjangoGroups {
    fn of_table(table: &str) -> Self {
        // Django names the column after the model, whose table is "app_model".
        let model = table.rsplit_once('_').map_or(table, |(_, model)| model);
        Self::of(table, &format!("{model}_id"))
    }

    /// The tables as Django names them for the model of this table.
    fn of(table: &str, user_column: &str) -> Self {
        Self {
            membership: format!("{table}_groups"),
            user: user_column.to_owned(),
            table: "auth_group".to_owned(),
        }
    }
}

/// Reads the section; `None` when it has no usable URL.
pub(super) fn django(users: &mut Table<'_>, chosen: bool) -> Option<DjangoUsers> {
    let mut table = users.table("django");
    if chosen && !URLS.iter().any(|key| table.has(key)) {
        let complaint = Complaint::new(format!("{} has no \"url\"", table.label()));
        let hint = "source = \"django\" needs the database of the application, such as url = \"sqlite://db.sqlite3\"";
        table.reader.report(&table.span, complaint.hint(hint));
    }
    let database = database(&mut table);
    let columns = columns(&mut table);
    let hashers =
        table.filled_list("hashers", "name at least one; without the key, Django's own five count", |text| {
            choose(text, &Hasher::ALL)
        });
    let recheck = table.parsed("recheck", Kind::Duration, units::duration);
    table.hide_unknown();
    table.finish();
    Some(DjangoUsers {
        database: database?,
        columns,
        hashers: hashers.map_or_else(|| Hasher::USUAL.to_vec(), values),
        recheck: recheck.unwrap_or(Duration::from_secs(10)),
    })
}

fn database(table: &mut Table<'_>) -> Option<DjangoDatabase> {
    let reader = table.reader;
    let Located { value, span } = database_url(table, Shown::Never)?;
    let text = std::str::from_utf8(value.expose()).unwrap_or_default();
    let found = if let Some(path) = text.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
        Ok(DjangoDatabase::Sqlite(reader.resolve(path)))
    } else if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
        Ok(DjangoDatabase::Postgres(value))
    } else if ["mysql://", "mariadb://"].iter().any(|scheme| text.starts_with(scheme)) {
        Ok(DjangoDatabase::Mysql(value))
    } else {
        Err(Complaint::new("the URL of the database names no database that is known")
            .hint(format!("it begins with {}", alternatives(SCHEMES))))
    };
    reader.accept(&span, found)
}

fn columns(table: &mut Table<'_>) -> DjangoColumns {
    let mut name = |key| table.parsed(key, Kind::Text, identifier);
    let usual = DjangoColumns::default();
    let users = name("table").unwrap_or(usual.table);
    let id = name("id_column").unwrap_or(usual.id);
    let username = name("username_column").unwrap_or(usual.username);
    let password = name("password_column").unwrap_or(usual.password);
    let active = name("active_column").unwrap_or(usual.active);
    let (membership, user) = (name("groups_table"), name("groups_user_column"));
    let email = table.parsed("email_column", Kind::Text, |text| match text {
        "" => Ok(None),
        _ => identifier(text).map(Some),
    });
    let groups = table.boolean("groups").unwrap_or(true).then(|| {
        let usual = DjangoGroups::of_table(&users);
        DjangoGroups {
            membership: membership.unwrap_or(usual.membership),
            user: user.unwrap_or(usual.user),
            table: usual.table,
        }
    });
    DjangoColumns {
        table: users,
        id,
        username,
        password,
        email: email.unwrap_or(usual.email),
        active,
        groups,
    }
}

fn identifier(text: &str) -> Result<String, Complaint> {
    let sound = is_variable_name(text) && text.len() <= MAX_IDENTIFIER_BYTES;
    if sound {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{} is not the name of a table or column", quoted(text)))
        .hint("a name has letters, digits and \"_\", and begins with no digit"))
}
