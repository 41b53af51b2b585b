//! A store as text, to move it from one database to another: one JSON object a line, the first of which says what it is.

use std::io::{BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::{Row, Sql, Store, StoreError, Transaction, query};

/// What the first line says.
const FORMAT: &str = "tollgate store 1";
/// Rows that are read at once. Every statement has the number in its text.
const PAGE: usize = 1000;

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Text,
    Bytes,
    Truth,
}

/// A table, its columns, and the statements to go through it in the order of its key.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
    /// How many of the columns, from the first one on, are the key.
    key: usize,
    first: &'static str,
    next: &'static str,
    insert: &'static str,
}

macro_rules! table {
    ($name:literal, key $key:literal = $placeholders:literal of $count:literal, $($column:ident $kind:ident),+; $list:literal; $values:literal) => {
        Table {
            name: $name,
            columns: &[$((stringify!($column), Kind::$kind)),+],
            key: $count,
            first: concat!("SELECT ", $list, " FROM ", $name, " ORDER BY ", $key, " LIMIT 1000"),
            next: concat!("SELECT ", $list, " FROM ", $name, " WHERE (", $key, ") > (", $placeholders, ") ORDER BY ", $key, " LIMIT 1000"),
            insert: concat!("INSERT INTO ", $name, " (", $list, ") VALUES (", $values, ")"),
        }
    };
}

/// In an order in which what refers to something comes after it.
const TABLES: [Table; 8] = [
    table!("users", key "id" = "$1" of 1,
        id Integer, name Text, email Text, password_hash Text, active Truth, created_at Integer, updated_at Integer, credential_mark Bytes;
        "id, name, email, password_hash, active, created_at, updated_at, credential_mark"; "$1, $2, $3, $4, $5, $6, $7, $8"),
    table!("user_groups", key "user_id, name" = "$1, $2" of 2, user_id Integer, name Text; "user_id, name"; "$1, $2"),
    table!("deleted_users", key "id" = "$1" of 1, id Integer; "id"; "$1"),
    table!("sessions", key "sid" = "$1" of 1,
        sid Text, user_id Text, started_at Integer, last_used_at Integer, expires_at Integer, absolute_end Integer,
        credential_mark Bytes, ended_at Integer, end_reason Text;
        "sid, user_id, started_at, last_used_at, expires_at, absolute_end, credential_mark, ended_at, end_reason";
        "$1, $2, $3, $4, $5, $6, $7, $8, $9"),
    table!("used_refresh_tokens", key "sid, jti" = "$1, $2" of 2,
        sid Text, jti Text, expires_at Integer, used_at Integer, successor_jti Text, successor_issued_at Integer,
        successor_expires_at Integer;
        "sid, jti, expires_at, used_at, successor_jti, successor_issued_at, successor_expires_at";
        "$1, $2, $3, $4, $5, $6, $7"),
    table!("revocations", key "seq" = "$1" of 1,
        seq Integer, sid Text, user_id Text, issued_until Integer, until Integer;
        "seq, sid, user_id, issued_until, until"; "$1, $2, $3, $4, $5"),
    table!("token_keys", key "kid" = "$1" of 1,
        kid Text, alg Text, created_at Integer, signs_at Integer, retires_at Integer, sealed Bytes;
        "kid, alg, created_at, signs_at, retires_at, sealed"; "$1, $2, $3, $4, $5, $6"),
    table!("lockouts", key "id" = "$1" of 1, id Bytes, locked_until Integer; "id, locked_until"; "$1, $2"),
];

/// Why a store was not moved. It holds nothing of what is in the store.
#[derive(Debug)]
pub enum TransferError {
    /// A store cannot be read or written.
    Store(StoreError),
    /// The text cannot be read or written.
    Text(std::io::Error),
    /// The text is not what is exported from a store; the line, counted from 1.
    Malformed(usize),
    /// There is something in the store already.
    NotEmpty,
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Text(error) => write!(f, "the export cannot be read or written: {error}"),
            Self::Malformed(line) => {
                write!(f, "line {line} is not what \"tollgate store export\" writes; nothing was imported")
            }
            Self::NotEmpty => {
                f.write_str("the store holds users, sessions or keys already; nothing was imported")
            }
        }
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Text(error) => Some(error),
            Self::Malformed(_) | Self::NotEmpty => None,
        }
    }
}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<std::io::Error> for TransferError {
    fn from(error: std::io::Error) -> Self {
        Self::Text(error)
    }
}

/// A value of a row.
enum Cell {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Truth(bool),
}

impl Store {
    /// Writes everything that is in the store, as it is at one moment. Returns the number of rows.
    ///
    /// # Errors
    ///
    /// [`TransferError::Store`] and [`TransferError::Text`].
    pub async fn export(&self, out: &mut (dyn Write + Send)) -> Result<usize, TransferError> {
        let mut transaction = self.begin().await?;
        let one_moment = Sql::of("SELECT 1", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        query(one_moment).execute(&mut transaction).await?;
        writeln!(out, "{}", Json::from(FORMAT))?;
        let mut count = 0;
        for table in &TABLES {
            let mut rows = query(table.first).fetch_all(&mut transaction).await?;
            while !rows.is_empty() {
                let mut last = Vec::new();
                for row in &rows {
                    last = cells(table, row)?;
                    writeln!(out, "{}", line(table, &last))?;
                }
                count += rows.len();
                if rows.len() < PAGE {
                    break;
                }
                let after = last.iter().take(table.key);
                let next = after.fold(query(table.next), |next, cell| bound(next, cell));
                rows = next.fetch_all(&mut transaction).await?;
            }
        }
        // It has only read.
        drop(transaction);
        out.flush()?;
        Ok(count)
    }

    /// Reads what was exported into an empty store, all of it or nothing. Returns the number of rows.
    ///
    /// # Errors
    ///
    /// A [`TransferError`].
    pub async fn import(&self, text: &mut (dyn BufRead + Send)) -> Result<usize, TransferError> {
        let mut transaction = self.begin().await?;
        let inhabited = "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM deleted_users) \
                         OR EXISTS (SELECT 1 FROM sessions) OR EXISTS (SELECT 1 FROM revocations) \
                         OR EXISTS (SELECT 1 FROM token_keys) AS inhabited";
        if query(inhabited).fetch_one(&mut transaction).await?.get("inhabited")? {
            return Err(TransferError::NotEmpty);
        }
        let mut count = 0;
        for (number, line) in text.lines().enumerate() {
            let value: Json =
                serde_json::from_str(&line?).map_err(|_| TransferError::Malformed(number + 1))?;
            if number == 0 {
                if value != FORMAT {
                    return Err(TransferError::Malformed(1));
                }
                continue;
            }
            let (table, cells) = read(&value).ok_or(TransferError::Malformed(number + 1))?;
            let insert = cells.iter().fold(query(table.insert), bound);
            insert.execute(&mut transaction).await?;
            count += 1;
        }
        if count == 0 {
            return Err(TransferError::Malformed(1));
        }
        reserve_ids(&mut transaction).await?;
        transaction.commit().await?;
        Ok(count)
    }
}

/// The ids of deleted users are not given to others. Inserting users has seen to theirs.
async fn reserve_ids(transaction: &mut Transaction) -> Result<(), StoreError> {
    let most = Sql::of(
        "UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(id), 0) FROM deleted_users)) WHERE name = 'users'",
        "UPDATE revisions SET value = greatest(value, (SELECT coalesce(max(id), 0) FROM deleted_users)) \
         WHERE topic = 'user_ids'",
    );
    query(most).execute(transaction).await?;
    // SQLite has no row for it before the first user.
    let missing = Sql::of(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', max(id) FROM deleted_users \
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users') HAVING max(id) IS NOT NULL",
        "SELECT 1",
    );
    query(missing).execute(transaction).await?;
    Ok(())
}

fn cells(table: &Table, row: &Row) -> Result<Vec<Cell>, StoreError> {
    let cell = |(column, kind): &(&str, Kind)| {
        Ok(match kind {
            Kind::Integer => Cell::Integer(row.get(column)?),
            Kind::Text => Cell::Text(row.get(column)?),
            Kind::Bytes => Cell::Bytes(row.get(column)?),
            Kind::Truth => Cell::Truth(row.get(column)?),
        })
    };
    table.columns.iter().map(cell).collect()
}

fn bound<'a>(query: super::Query<'a>, cell: &'a Cell) -> super::Query<'a> {
    match cell {
        Cell::Integer(value) => query.bind(*value),
        Cell::Text(value) => query.bind(value.as_deref()),
        Cell::Bytes(value) => query.bind(value.as_deref()),
        Cell::Truth(value) => query.bind(*value),
    }
}

fn line(table: &Table, cells: &[Cell]) -> Json {
    let value = |cell: &Cell| match cell {
        Cell::Integer(value) => Json::from(*value),
        Cell::Text(value) => Json::from(value.as_deref()),
        Cell::Bytes(value) => Json::from(value.as_ref().map(|bytes| STANDARD.encode(bytes))),
        Cell::Truth(value) => Json::from(*value),
    };
    let mut members = Map::new();
    members.insert("table".to_owned(), Json::from(table.name));
    members.extend(
        table.columns.iter().zip(cells).map(|((column, _), cell)| ((*column).to_owned(), value(cell))),
    );
    Json::Object(members)
}

/// The table and the row of a line.
fn read(line: &Json) -> Option<(&'static Table, Vec<Cell>)> {
    let members = line.as_object()?;
    let name = members.get("table")?.as_str()?;
    let table = TABLES.iter().find(|table| table.name == name)?;
    if members.len() != table.columns.len() + 1 {
        return None;
    }
    let cell = |(column, kind): &(&str, Kind)| {
        let value = members.get(*column)?;
        let text = || if value.is_null() { Some(None) } else { value.as_str().map(Some) };
        Some(match kind {
            Kind::Integer if value.is_null() => Cell::Integer(None),
            Kind::Integer => Cell::Integer(Some(value.as_i64()?)),
            Kind::Text => Cell::Text(text()?.map(str::to_owned)),
            Kind::Bytes => Cell::Bytes(text()?.map(|text| STANDARD.decode(text)).transpose().ok()?),
            Kind::Truth => Cell::Truth(value.as_bool()?),
        })
    };
    Some((table, table.columns.iter().map(cell).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::{Place, on_both_stores};
    use crate::users::StoredHash;

    const HASH: &str = "$2y$10$XaWB1fUpljSIMXgqcK9B8eFRHPTKzsG9HjzDZ.XmCncpOkeO6Jx/W";

    async fn exported(store: &Store) -> String {
        let mut text = Vec::new();
        store.export(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    async fn fill(store: &Store) {
        let hash = StoredHash::parse(HASH).unwrap();
        for name in ["alice", "bob", "gone"] {
            store.add(name, Some("a@example.com"), &["x".to_owned(), "y".to_owned()], &hash).await.unwrap();
        }
        for number in 0..2500 {
            let sid = format!("s{number}");
            let insert = "INSERT INTO sessions (sid, user_id, started_at, last_used_at, expires_at, credential_mark) \
                          VALUES ($1, '1', 1, 2, 3, $2)";
            let insert = query(insert).bind(&sid).bind([7_u8; 16].as_slice());
            insert.execute(&mut store.connection().await.unwrap()).await.unwrap();
        }
        let key = "INSERT INTO token_keys (kid, alg, created_at, signs_at, retires_at, sealed) \
                   VALUES ('k', 'EdDSA', 1, 2, NULL, $1), ('l', 'ES256', 1, 3, 4, $1)";
        let key = query(key).bind([8_u8; 16].as_slice());
        key.execute(&mut store.connection().await.unwrap()).await.unwrap();
        store.run("INSERT INTO used_refresh_tokens VALUES ('s1', 'j', 1, 2, 'k', 3, 4)").await.unwrap();
        let lock =
            query("INSERT INTO lockouts (id, locked_until) VALUES ($1, 5)").bind([9_u8; 16].as_slice());
        lock.execute(&mut store.connection().await.unwrap()).await.unwrap();
        store.run("UPDATE sessions SET ended_at = 9, end_reason = 'logout' WHERE sid = 's2'").await.unwrap();
        store.set_active("bob", false).await.unwrap();
        store.delete("gone").await.unwrap();
    }

    async fn a_store_moves_to_either_database_and_back_without_a_loss(place: Place) {
        let store = place.open().await;
        fill(&store).await;
        let text = exported(&store).await;
        let mut targets = vec![Place::sqlite()];
        targets.extend(Place::postgres());
        for target in &targets {
            let moved = target.open().await;
            let rows = moved.import(&mut text.as_bytes()).await.unwrap();
            assert_eq!(rows + 1, text.lines().count());
            // Revocations have numbers of their own there, in the same order.
            let numberless = |text: &str| -> Vec<Json> {
                let without = |line: &str| {
                    let mut value: Json = serde_json::from_str(line).unwrap();
                    value.as_object_mut().and_then(|row| row.remove("seq"));
                    value
                };
                text.lines().map(without).collect()
            };
            assert!(numberless(&exported(&moved).await) == numberless(&text));
            let again = moved.import(&mut text.as_bytes()).await.unwrap_err();
            assert!(matches!(again, TransferError::NotEmpty), "{again:?}");
            // The id of a deleted user stays its own.
            let hash = StoredHash::parse(HASH).unwrap();
            assert_eq!(moved.add("new", None, &[], &hash).await.unwrap().id, "4");
        }
    }

    async fn what_is_no_export_is_refused_and_changes_nothing(place: Place) {
        let store = place.open().await;
        let head = "\"tollgate store 1\"\n";
        for text in [
            String::new(),
            head.to_owned(),
            "{}\n".to_owned(),
            format!("{head}{{\"table\":\"deleted_users\",\"id\":1}}\n{{\"table\":\"deleted_users\"}}\n"),
            format!("{head}{{\"table\":\"deleted_users\",\"id\":\"1\"}}\n"),
            format!("{head}{{\"table\":\"secrets\",\"id\":1}}\n"),
        ] {
            let refused = store.import(&mut text.as_bytes()).await;
            assert!(matches!(refused, Err(TransferError::Malformed(_))), "{text}");
        }
        assert_eq!(store.number("SELECT count(*) AS value FROM deleted_users").await, 0);
    }

    on_both_stores!(
        a_store_moves_to_either_database_and_back_without_a_loss,
        what_is_no_export_is_refused_and_changes_nothing,
    );
}
