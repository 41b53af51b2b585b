//! Users in the store: what the gateway asks, and what the command line changes.

use crate::base::bounds;
use crate::base::user::User;
use crate::store::{Query, Row, Store, StoreError, Transaction, query};

use super::error::UserChangeError;
use super::hash::{CredentialMark, StoredHash};
use super::name::{check_email, normal_group, normal_name};
use super::{Account, Lookup};

/// A user with what a login needs. It has no `Debug`, for it holds the hash as plain text.
pub(super) struct Record {
    pub(super) user: User,
    pub(super) active: bool,
    /// As it stands in the store, not yet checked.
    pub(super) hash: zeroize::Zeroizing<String>,
    pub(super) mark: CredentialMark,
}

impl Store {
    /// Adds an active user. `groups` may repeat themselves and have any order.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`]; nothing is changed then.
    pub async fn add(
        &self,
        name: &str,
        email: Option<&str>,
        groups: &[String],
        hash: &StoredHash,
    ) -> Result<User, UserChangeError> {
        let name = normal_name(name).map_err(UserChangeError::Name)?;
        if let Some(email) = email {
            check_email(email).map_err(UserChangeError::Email)?;
        }
        let groups = groups.iter().map(|group| normal_group(group)).collect::<Result<Vec<_>, _>>();
        let groups = in_order(groups.map_err(UserChangeError::Group)?);
        let user = User { id: String::new(), name, email: email.map(str::to_owned), groups };
        let mut transaction = self.begin().await?;
        let user = self.insert(&mut transaction, user, true, hash).await?;
        transaction.commit().await?;
        Ok(user)
    }

    /// The ids that users have, or had before they were deleted.
    pub(super) async fn taken_ids(&self) -> Result<Vec<String>, StoreError> {
        let taken =
            "SELECT CAST(id AS TEXT) AS id FROM users UNION SELECT CAST(id AS TEXT) AS id FROM deleted_users";
        let rows = query(taken).fetch_all(&mut self.connection().await?).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// Adds users whose names, addresses and groups are in normal form, all or none of them.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`], with the index of the user that cannot be added when it is about one.
    pub(super) async fn add_all(
        &self,
        users: Vec<(User, bool, StoredHash)>,
    ) -> Result<(), (Option<usize>, UserChangeError)> {
        let mut transaction = self.begin().await.map_err(|error| (None, error.into()))?;
        for (index, (user, active, hash)) in users.into_iter().enumerate() {
            let added = self.insert(&mut transaction, user, active, &hash).await;
            added.map_err(|error| (Some(index), error))?;
        }
        transaction.commit().await.map_err(|error| (None, error.into()))
    }

    /// Adds a user within a transaction, with its id, or with one that the store gives where it has none.
    async fn insert(
        &self,
        transaction: &mut Transaction,
        user: User,
        active: bool,
        hash: &StoredHash,
    ) -> Result<User, UserChangeError> {
        let inserted = query(
            "INSERT INTO users (id, name, email, password_hash, active, created_at, updated_at) \
             VALUES ($6, $1, $2, $3, $4, $5, $5) ON CONFLICT (name) DO NOTHING RETURNING id",
        )
        .bind(&user.name)
        .bind(user.email.as_deref())
        .bind(hash.expose())
        .bind(active)
        .bind(self.now_unix_ms())
        .bind(number_of(&user.id))
        .fetch_optional(transaction)
        .await?;
        let Some(row) = inserted else { return Err(UserChangeError::NameTaken) };
        let id: i64 = row.get("id")?;
        for group in &user.groups {
            query("INSERT INTO user_groups (user_id, name) VALUES ($1, $2)")
                .bind(id)
                .bind(group)
                .execute(transaction)
                .await?;
        }
        Ok(User { id: id.to_string(), ..user })
    }

    /// Replaces a hash by another one of the same password, unless it has been changed meanwhile. The user's sessions
    /// go on, because the mark of the password stays as it is.
    pub(super) async fn upgrade_password(
        &self,
        id: &str,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        query(
            "UPDATE users SET password_hash = $1, credential_mark = coalesce(credential_mark, $2), updated_at = $3 \
             WHERE id = $4 AND password_hash = $5",
        )
        .bind(new.expose())
        .bind(old.mark().as_bytes().as_slice())
        .bind(self.now_unix_ms())
        .bind(number_of(id))
        .bind(old.expose())
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Every user and whether it is active, in the order of ids.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn list(&self) -> Result<Vec<(User, bool)>, StoreError> {
        let rows = query(
            "SELECT id, name, email, active, \
             (SELECT string_agg(name, ',') FROM user_groups WHERE user_id = users.id) AS groups \
             FROM users ORDER BY id",
        )
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(|row| Ok((user_of(row)?, row.get("active")?))).collect()
    }

    /// Gives a user another password, and ends what was begun with the old one.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`].
    pub async fn set_password(&self, name: &str, hash: &StoredHash) -> Result<(), UserChangeError> {
        let name = normal_name(name).map_err(|_| UserChangeError::NoSuchUser)?;
        let now_ms = self.now_unix_ms();
        let mut transaction: Transaction = self.begin().await?;
        let update = "UPDATE users SET password_hash = $1, credential_mark = NULL, updated_at = $2 \
                      WHERE name = $3 RETURNING id";
        let changed = query(update)
            .bind(hash.expose())
            .bind(now_ms)
            .bind(&name)
            .fetch_optional(&mut transaction)
            .await?;
        let id: i64 = changed.ok_or(UserChangeError::NoSuchUser)?.get("id")?;
        let id = id.to_string();
        end_sessions(&mut transaction, &id, now_ms).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Switches a user on or off.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`].
    pub async fn set_active(&self, name: &str, active: bool) -> Result<(), UserChangeError> {
        let update = query("UPDATE users SET active = $1, updated_at = $2 WHERE name = $3")
            .bind(active)
            .bind(self.now_unix_ms());
        self.change(name, update).await
    }

    /// Puts a user into groups and takes the user out of others; returns those that the user is in then. Being in a group
    /// already, or not in it, is fine.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`]; nothing is changed then.
    pub async fn change_groups(
        &self,
        name: &str,
        add: &[String],
        remove: &[String],
    ) -> Result<Vec<String>, UserChangeError> {
        let normal = |groups: &[String]| groups.iter().map(|group| normal_group(group)).collect();
        let (add, remove): (Result<Vec<_>, _>, Result<Vec<_>, _>) = (normal(add), normal(remove));
        let (add, remove) = (add.map_err(UserChangeError::Group)?, remove.map_err(UserChangeError::Group)?);
        let name = normal_name(name).map_err(|_| UserChangeError::NoSuchUser)?;
        let mut transaction: Transaction = self.begin().await?;
        let found = query("SELECT id FROM users WHERE name = $1").bind(&name);
        let found = found.fetch_optional(&mut transaction).await?;
        let id: i64 = found.ok_or(UserChangeError::NoSuchUser)?.get("id")?;
        for (statement, groups) in [
            ("INSERT INTO user_groups (user_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", add),
            ("DELETE FROM user_groups WHERE user_id = $1 AND name = $2", remove),
        ] {
            for group in groups {
                let change = query(statement).bind(id).bind(&group);
                change.execute(&mut transaction).await?;
            }
        }
        let left = query("SELECT name FROM user_groups WHERE user_id = $1").bind(id);
        let left = left.fetch_all(&mut transaction).await?;
        let left = left.iter().map(|row| row.get("name")).collect::<Result<_, _>>()?;
        transaction.commit().await?;
        Ok(in_order(left))
    }

    /// Deletes a user for ever: the id is never used again, and the store goes on to count as one that has users.
    ///
    /// # Errors
    ///
    /// A [`UserChangeError`].
    pub async fn delete(&self, name: &str) -> Result<(), UserChangeError> {
        self.change(name, query("DELETE FROM users WHERE name = $1")).await
    }

    /// Runs a statement whose last parameter is the name; it must change exactly that user.
    async fn change(&self, name: &str, statement: Query<'_>) -> Result<(), UserChangeError> {
        // A text that is no name is nobody's name.
        let name = normal_name(name).map_err(|_| UserChangeError::NoSuchUser)?;
        let mut transaction: Transaction = self.begin().await?;
        let done = statement.bind(&name).execute(&mut transaction).await?;
        if done == 0 {
            return Err(UserChangeError::NoSuchUser);
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A number that rises with every change of a user or a group.
    pub(super) async fn users_revision(&self) -> Result<i64, StoreError> {
        let read = query("SELECT value FROM revisions WHERE topic = 'users'");
        read.fetch_one(&mut self.watching_connection().await?).await?.get("value")
    }

    /// The user of this name, which is in normal form.
    pub(super) async fn user_by_name(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let row = query(
            "SELECT id, name, email, active, password_hash, credential_mark, \
             (SELECT string_agg(name, ',') FROM user_groups WHERE user_id = users.id) AS groups \
             FROM users WHERE name = $1",
        )
        .bind(name)
        .fetch_optional(&mut self.connection().await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let hash = zeroize::Zeroizing::new(row.get("password_hash")?);
        let mark = mark_of(&row)?;
        Ok(Some(Record { user: user_of(&row)?, active: row.get("active")?, hash, mark }))
    }

    /// The user of this id. One statement, so that user, groups and "has there ever been one" are of one moment.
    pub(super) async fn user_by_id(&self, id: &str) -> Result<Lookup, StoreError> {
        let row = query(
            "SELECT users.id, users.name, email, active, password_hash, credential_mark, \
             (SELECT string_agg(name, ',') FROM user_groups WHERE user_id = users.id) AS groups, \
             users.id IS NOT NULL OR EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM deleted_users) \
             AS managed FROM (SELECT 1) AS one LEFT JOIN users ON users.id = $1",
        )
        .bind(number_of(id))
        .fetch_one(&mut self.connection().await?)
        .await?;
        if row.get::<Option<i64>>("id")?.is_none() {
            let managed: bool = row.get("managed")?;
            return Ok(if managed { Lookup::Unknown } else { Lookup::Unmanaged });
        }
        let active: bool = row.get("active")?;
        if !active {
            return Ok(Lookup::Inactive);
        }
        Ok(Lookup::Active(Account { user: user_of(&row)?, mark: mark_of(&row)? }))
    }
}

/// Ends the sessions of a user whose password changes, and revokes what was issued outside of them.
async fn end_sessions(transaction: &mut Transaction, user_id: &str, now_ms: i64) -> Result<(), StoreError> {
    let end =
        "UPDATE sessions SET ended_at = $2, end_reason = 'password' WHERE user_id = $1 AND ended_at IS NULL";
    query(end).bind(user_id).bind(now_ms).execute(transaction).await?;
    // As long as the longest token lives, and ten minutes for any leeway.
    let until_ms = now_ms.saturating_add((bounds::MAX_TOKEN_LIFETIME_SECONDS + 600) * 1000);
    query("INSERT INTO revocations (user_id, issued_until, until) VALUES ($1, $2, $3)")
        .bind(user_id)
        .bind(now_ms)
        .bind(until_ms)
        .execute(transaction)
        .await?;
    // Once more: what another gateway has recorded until the revocation had its number is seen now.
    query(end).bind(user_id).bind(now_ms).execute(transaction).await?;
    Ok(())
}

fn user_of(row: &Row) -> Result<User, StoreError> {
    let id: i64 = row.get("id")?;
    let joined: Option<String> = row.get("groups")?;
    let groups = joined.iter().flat_map(|joined| joined.split(',')).map(str::to_owned).collect();
    let (name, email) = (row.get("name")?, row.get("email")?);
    Ok(User { id: id.to_string(), name, email, groups: in_order(groups) })
}

/// The mark that was kept when the hash was replaced, or that of the hash.
fn mark_of(row: &Row) -> Result<CredentialMark, StoreError> {
    let kept: Option<Vec<u8>> = row.get("credential_mark")?;
    if let Some(kept) = kept.and_then(|kept| <[u8; 16]>::try_from(kept).ok()) {
        return Ok(CredentialMark::from_bytes(kept));
    }
    let hash: zeroize::Zeroizing<String> = zeroize::Zeroizing::new(row.get("password_hash")?);
    Ok(CredentialMark::of(&hash))
}

fn in_order(mut groups: Vec<String>) -> Vec<String> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The number that this id stands for. "01" and "+1" are not ids of user 1: an id has one spelling.
fn number_of(id: &str) -> Option<i64> {
    id.parse::<i64>().ok().filter(|number| number.to_string() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::store::scratch::{Place, on_both_stores};
    use crate::users::hash::Cost;

    fn hash() -> StoredHash {
        StoredHash::dummy(Cost::usual(64, 1)).unwrap()
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    async fn a_user_is_found_as_it_was_added(place: Place) {
        let store = place.open().await.with_clock(Clock::manual(5_000).0);
        let groups = strings(&["staff", "ﬁnance", "staff"]);
        let added = store.add("Ａlice", Some("a@example.com"), &groups, &hash()).await.unwrap();
        let expected = User {
            id: "1".to_owned(),
            name: "Alice".to_owned(),
            email: Some("a@example.com".to_owned()),
            groups: strings(&["finance", "staff"]),
        };
        assert_eq!(added, expected);
        assert!(
            matches!(store.user_by_id("1").await.unwrap(), Lookup::Active(found) if found.user == expected)
        );
        let record = store.user_by_name("Alice").await.unwrap().unwrap();
        assert_eq!((record.user, record.active), (expected.clone(), true));
        assert_eq!(store.list().await.unwrap(), [(expected, true)]);
        assert_eq!(store.number("SELECT created_at + updated_at AS value FROM users").await, 10_000);
    }

    async fn names_are_one_in_normal_form_and_two_in_case(place: Place) {
        let store = place.open().await;
        store.add("ﬁ", None, &[], &hash()).await.unwrap();
        let taken = store.add("fi", None, &[], &hash()).await.unwrap_err();
        assert!(matches!(taken, UserChangeError::NameTaken));
        assert_eq!(store.add("Fi", None, &[], &hash()).await.unwrap().name, "Fi");
        assert_eq!(store.list().await.unwrap().len(), 2);
    }

    async fn bad_input_adds_nothing(place: Place) {
        let store = place.open().await;
        let bad = [
            store.add("", None, &[], &hash()).await.unwrap_err(),
            store.add("a", Some("nowhere"), &[], &hash()).await.unwrap_err(),
            store.add("a", None, &strings(&["x,y"]), &hash()).await.unwrap_err(),
        ];
        assert!(matches!(
            bad,
            [UserChangeError::Name(_), UserChangeError::Email(_), UserChangeError::Group(_)]
        ));
        assert!(store.list().await.unwrap().is_empty());
        assert_eq!(store.user_by_id("1").await.unwrap(), Lookup::Unmanaged);
    }

    async fn changes_apply_to_one_user(place: Place) {
        let store = place.open().await;
        store.add("a", None, &[], &hash()).await.unwrap();
        store.add("b", None, &[], &hash()).await.unwrap();
        let before = store.user_by_name("b").await.unwrap().unwrap().hash;
        let new = hash();
        store.set_password("a", &new).await.unwrap();
        store.set_active("a", false).await.unwrap();
        let record = store.user_by_name("a").await.unwrap().unwrap();
        assert_eq!((record.active, record.hash.as_str()), (false, new.expose()));
        assert_eq!(store.user_by_id("1").await.unwrap(), Lookup::Inactive);
        assert_eq!(store.user_by_name("b").await.unwrap().unwrap().hash, before);
        store.set_active("a", true).await.unwrap();
        assert!(matches!(store.user_by_id("1").await.unwrap(), Lookup::Active(_)));
        for error in [
            store.set_password("c", &new).await.unwrap_err(),
            store.set_active("c", false).await.unwrap_err(),
            store.delete("c").await.unwrap_err(),
            store.delete("").await.unwrap_err(),
        ] {
            assert!(matches!(error, UserChangeError::NoSuchUser));
        }
    }

    async fn a_deleted_user_leaves_a_tombstone(place: Place) {
        let store = place.open().await;
        assert_eq!(store.user_by_id("1").await.unwrap(), Lookup::Unmanaged);
        assert_eq!(store.user_by_id("alice").await.unwrap(), Lookup::Unmanaged);
        store.add("a", None, &strings(&["g"]), &hash()).await.unwrap();
        assert_eq!(store.user_by_id("2").await.unwrap(), Lookup::Unknown);
        store.delete("a").await.unwrap();
        for id in ["1", "2", "alice", ""] {
            assert_eq!(store.user_by_id(id).await.unwrap(), Lookup::Unknown, "{id}");
        }
        assert_eq!(store.number("SELECT count(*) AS value FROM user_groups").await, 0);
        // The name is free again, the id is not.
        assert_eq!(store.add("a", None, &[], &hash()).await.unwrap().id, "2");
        assert_eq!(store.user_by_id("1").await.unwrap(), Lookup::Unknown);
    }

    async fn an_id_has_one_spelling(place: Place) {
        let store = place.open().await;
        store.add("a", None, &[], &hash()).await.unwrap();
        for id in ["01", "+1", " 1", "1.0", "1e0", "１", "-1", "99999999999999999999"] {
            assert_eq!(store.user_by_id(id).await.unwrap(), Lookup::Unknown, "{id}");
        }
    }

    async fn the_revision_rises_with_users_only(place: Place) {
        let store = place.open().await;
        let mut last = store.users_revision().await.unwrap();
        store.add("a", None, &strings(&["g"]), &hash()).await.unwrap();
        let statements = [
            "UPDATE users SET email = 'x@y'",
            "INSERT INTO user_groups (user_id, name) VALUES (1, 'h')",
            "UPDATE user_groups SET name = 'i' WHERE name = 'h'",
            "DELETE FROM user_groups",
            "DELETE FROM users",
        ];
        for statement in statements {
            let now = store.users_revision().await.unwrap();
            assert!(now > last, "before {statement}");
            last = now;
            store.run(statement).await.unwrap();
        }
        assert!(store.users_revision().await.unwrap() > last);
        assert_eq!(store.user_by_id("1").await.unwrap(), Lookup::Unknown, "deleted by hand");
    }

    async fn writers_wait_for_each_other(place: Place) {
        let (one, two) = (place.open().await, place.open().await);
        let hash = hash();
        let names: Vec<String> = (0..12).map(|number| format!("user{number}")).collect();
        let added = futures_util::future::join_all(names.iter().enumerate().map(|(index, name)| {
            let store = if index % 2 == 0 { &one } else { &two };
            store.add(name, None, &[], &hash)
        }))
        .await;
        assert!(added.iter().all(Result::is_ok), "{added:?}");
        assert_eq!(one.list().await.unwrap().len(), 12);
    }

    async fn errors_hold_no_hash(place: Place) {
        let store = place.open().await;
        let hash = hash();
        store.add("a", None, &[], &hash).await.unwrap();
        store.run("DROP TABLE user_groups").await.unwrap();
        let errors = [
            store.add("a", None, &[], &hash).await.unwrap_err(),
            store.add("b", None, &strings(&["g"]), &hash).await.unwrap_err(),
        ];
        for error in errors {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("$argon2"), "{text}");
        }
        let record = store.user_by_name("a").await;
        assert!(record.is_err(), "half a user is no user");
    }

    on_both_stores!(
        a_user_is_found_as_it_was_added,
        names_are_one_in_normal_form_and_two_in_case,
        bad_input_adds_nothing,
        changes_apply_to_one_user,
        a_deleted_user_leaves_a_tombstone,
        an_id_has_one_spelling,
        the_revision_rises_with_users_only,
        writers_wait_for_each_other,
        errors_hold_no_hash,
    );
}
