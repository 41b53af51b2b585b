//! The statements for a table of Django users, in three dialects. Names come from the configuration, which has checked
//! them; everything that comes from a client is a parameter.

use crate::config::DjangoColumns;

/// Users that are read at once when many are read.
pub(super) const BATCH: usize = 200;
/// Passwords that are looked at to learn what most hashes cost.
const SAMPLE: usize = 256;

/// How a database writes names, parameters and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

/// What is asked of the database.
#[derive(Debug)]
pub(super) struct Statements {
    /// One parameter, the name.
    pub(super) by_name: String,
    /// One parameter, the id.
    pub(super) by_id: String,
    /// [`BATCH`] parameters, ids.
    pub(super) by_ids: String,
    /// One parameter, an id: the next [`BATCH`] users behind it.
    pub(super) page: String,
    /// Passwords of the newest active users.
    pub(super) sample: String,
}

impl Dialect {
    fn quoted(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{name}\""),
            Self::Mysql => format!("`{name}`"),
        }
    }

    fn text(self, expression: &str) -> String {
        let kind = match self {
            Self::Sqlite | Self::Postgres => "TEXT",
            Self::Mysql => "CHAR",
        };
        format!("CAST({expression} AS {kind})")
    }

    fn parameter(self, number: usize) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("${number}"),
            Self::Mysql => "?".to_owned(),
        }
    }
}

impl Statements {
    pub(super) fn new(dialect: Dialect, columns: &DjangoColumns) -> Self {
        let table = dialect.quoted(&columns.table);
        let id = format!("u.{}", dialect.quoted(&columns.id));
        let active = format!("u.{}", dialect.quoted(&columns.active));
        let text = |column: &str| dialect.text(&format!("u.{}", dialect.quoted(column)));
        let email = columns.email.as_deref().map_or_else(|| dialect.text("NULL"), text);
        let (group, joins) = match &columns.groups {
            None => (dialect.text("NULL"), String::new()),
            Some(groups) => {
                let joins = format!(
                    " LEFT JOIN {} m ON m.{} = {id} LEFT JOIN {} g ON g.{} = m.{}",
                    dialect.quoted(&groups.membership),
                    dialect.quoted(&groups.user),
                    dialect.quoted(&groups.table),
                    dialect.quoted("id"),
                    dialect.quoted("group_id"),
                );
                (dialect.text(&format!("g.{}", dialect.quoted("name"))), joins)
            }
        };
        let select = format!(
            "SELECT {}, {}, {}, {email}, CASE WHEN {active} THEN '1' ELSE '0' END, {group} FROM",
            dialect.text(&id),
            text(&columns.username),
            text(&columns.password),
        );
        let users = format!("{select} {table} u{joins} WHERE");
        let first = dialect.parameter(1);
        let many: Vec<String> = (1..=BATCH).map(|number| dialect.parameter(number)).collect();
        let password = text(&columns.password);
        Self {
            by_name: format!("{users} u.{} = {first}", dialect.quoted(&columns.username)),
            by_id: format!("{users} {id} = {first}"),
            by_ids: format!("{users} {id} IN ({})", many.join(", ")),
            page: format!(
                "{select} (SELECT * FROM {table} u WHERE {id} > {first} ORDER BY {id} LIMIT {BATCH}) u{joins} \
                 ORDER BY {id}"
            ),
            sample: format!(
                "SELECT {password} FROM {table} u WHERE {active} ORDER BY {id} DESC LIMIT {SAMPLE}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_the_database_does() {
        let columns = DjangoColumns { username: "order".to_owned(), ..DjangoColumns::default() };
        let sqlite = Statements::new(Dialect::Sqlite, &columns);
        assert_eq!(
            sqlite.by_name,
            "SELECT CAST(u.\"id\" AS TEXT), CAST(u.\"order\" AS TEXT), CAST(u.\"password\" AS TEXT), \
             CAST(u.\"email\" AS TEXT), CASE WHEN u.\"is_active\" THEN '1' ELSE '0' END, CAST(g.\"name\" AS TEXT) \
             FROM \"auth_user\" u LEFT JOIN \"auth_user_groups\" m ON m.\"user_id\" = u.\"id\" \
             LEFT JOIN \"auth_group\" g ON g.\"id\" = m.\"group_id\" WHERE u.\"order\" = $1"
        );
        let mysql = Statements::new(Dialect::Mysql, &columns);
        assert_eq!(
            mysql.by_id,
            "SELECT CAST(u.`id` AS CHAR), CAST(u.`order` AS CHAR), CAST(u.`password` AS CHAR), \
             CAST(u.`email` AS CHAR), CASE WHEN u.`is_active` THEN '1' ELSE '0' END, CAST(g.`name` AS CHAR) \
             FROM `auth_user` u LEFT JOIN `auth_user_groups` m ON m.`user_id` = u.`id` \
             LEFT JOIN `auth_group` g ON g.`id` = m.`group_id` WHERE u.`id` = ?"
        );
        assert_eq!(mysql.by_ids.matches('?').count(), BATCH);
        assert!(
            mysql
                .page
                .contains("(SELECT * FROM `auth_user` u WHERE u.`id` > ? ORDER BY u.`id` LIMIT 200) u ")
        );
        let postgres = Statements::new(Dialect::Postgres, &columns);
        assert!(postgres.by_ids.ends_with("$199, $200)"));
        assert_eq!(
            postgres.sample,
            "SELECT CAST(u.\"password\" AS TEXT) FROM \"auth_user\" u WHERE u.\"is_active\" \
             ORDER BY u.\"id\" DESC LIMIT 256"
        );
    }

    #[test]
    fn groups_and_mail_may_be_left_out() {
        let columns = DjangoColumns { groups: None, email: None, ..DjangoColumns::default() };
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql] {
            let statements = Statements::new(dialect, &columns);
            for statement in [&statements.by_name, &statements.by_ids, &statements.page] {
                assert!(!statement.contains("JOIN") && !statement.contains("email"), "{statement}");
                assert_eq!(statement.matches("CAST(NULL AS").count(), 2, "{statement}");
            }
        }
    }
}
