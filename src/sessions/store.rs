//! Sessions in the store: what the gateway decides by, and what the command line shows and ends.

use std::sync::Arc;

use super::revoked::Revocation;
use crate::base::bounds;
use crate::store::{Connection, Row, Sql, Store, StoreError, Target, Transaction, query};
use crate::users::CredentialMark;

/// How long after the last token of a session its traces are kept, in milliseconds: longer than any leeway.
pub(super) const AFTERLIFE_MS: i64 = 10 * 60 * 1000;
/// Rows that are deleted in one transaction, so that nobody waits long for the lock.
const SWEEP_BATCH: i64 = 500;
/// How long the longest token lives, in milliseconds.
const LONGEST_MS: i64 = bounds::MAX_TOKEN_LIFETIME_SECONDS * 1000;

/// What a request is decided by.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) user_id: String,
    pub(super) started_at_ms: i64,
    pub(super) absolute_end_ms: Option<i64>,
    pub(super) mark: Option<CredentialMark>,
    pub(super) has_ended: bool,
    pub(super) expires_at_ms: i64,
}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewSession<'a> {
    pub(super) sid: &'a str,
    pub(super) user_id: &'a str,
    pub(super) started_at_ms: i64,
    pub(super) expires_at_ms: i64,
    pub(super) absolute_end_ms: Option<i64>,
    pub(super) mark: Option<CredentialMark>,
}

/// A refresh token that was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) used_at_ms: i64,
    pub(super) successor_jti: String,
    pub(super) successor_issued_at: i64,
    pub(super) successor_expires_at: i64,
    /// Whether the successor was exchanged in its turn.
    pub(super) is_superseded: bool,
}

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(String),
    /// All of the user with this id.
    OfUser(String),
    /// All.
    All,
}

/// A session, as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub sid: String,
    /// The id of its user.
    pub user_id: String,
    /// The name of its user, when there is a user with this id in the store.
    pub user_name: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// When it was last refreshed, in milliseconds since 1970.
    pub last_used_at_ms: i64,
    /// When its last token expires, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// Why it has ended, when it has.
    pub ended: Option<String>,
}

impl Store {
    /// Sessions that are not swept yet, the latest first.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn sessions(&self, which: &Which) -> Result<Vec<Listed>, StoreError> {
        let (sid, user_id) = which.binds();
        let rows = query(
            "SELECT sid, user_id, started_at, last_used_at, expires_at, ended_at, end_reason, \
             (SELECT name FROM users WHERE CAST(id AS TEXT) = user_id) AS user_name FROM sessions \
             WHERE ($1 IS NULL OR sid = $1) AND ($2 IS NULL OR user_id = $2) ORDER BY started_at DESC, sid",
        )
        .bind(sid)
        .bind(user_id)
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(listed).collect()
    }

    /// Sessions that go on, those that were used last first; at most so many.
    pub(super) async fn latest_sessions(&self, now_ms: i64, most: u32) -> Result<Vec<Listed>, StoreError> {
        let rows = query(
            "SELECT sid, user_id, started_at, last_used_at, expires_at, ended_at, end_reason, \
             (SELECT name FROM users WHERE CAST(id AS TEXT) = user_id) AS user_name FROM sessions \
             WHERE ended_at IS NULL AND expires_at > $1 ORDER BY last_used_at DESC, sid LIMIT $2",
        )
        .bind(now_ms)
        .bind(i64::from(most))
        .fetch_all(&mut self.connection().await?)
        .await?;
        rows.iter().map(listed).collect()
    }

    pub(super) async fn try_end_sessions(&self, which: &Which, reason: &str) -> Result<u64, StoreError> {
        let now_ms = self.now_unix_ms();
        let mut transaction = self.begin().await?;
        let mut ended = end(&mut transaction, which, reason, now_ms).await?;
        if !matches!(which, Which::One(_)) {
            let (_, user_id) = which.binds();
            query("INSERT INTO revocations (user_id, issued_until, until) VALUES ($1, $2, $3)")
                .bind(user_id)
                .bind(now_ms)
                .bind(now_ms.saturating_add(LONGEST_MS + AFTERLIFE_MS))
                .execute(&mut transaction)
                .await?;
            // Once more: what another gateway has recorded until the revocation had its number is seen now.
            ended += end(&mut transaction, which, reason, now_ms).await?;
        }
        transaction.commit().await?;
        Ok(ended)
    }

    /// The id of the user of this name.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn id_of_user(&self, name: &str) -> Result<Option<String>, StoreError> {
        let found = query("SELECT CAST(id AS TEXT) AS id FROM users WHERE name = $1").bind(name);
        found.fetch_optional(&mut self.connection().await?).await?.map(|row| row.get("id")).transpose()
    }

    pub(super) async fn session(&self, sid: &str) -> Result<Option<Recorded>, StoreError> {
        let found = query(SESSION).bind(sid).fetch_optional(&mut self.connection().await?).await?;
        found.as_ref().map(recorded).transpose()
    }

    /// The users who have sessions that go on.
    pub(super) async fn users_with_sessions(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let rows = query("SELECT DISTINCT user_id FROM sessions WHERE ended_at IS NULL AND expires_at > $1")
            .bind(now_ms)
            .fetch_all(&mut self.connection().await?)
            .await?;
        rows.iter().map(|row| row.get("user_id")).collect()
    }

    /// Ends sessions of a user that were begun with another password than that of `mark`; all of them without one.
    pub(super) async fn end_outdated(
        &self,
        user_id: &str,
        mark: Option<CredentialMark>,
        reason: &str,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let ended = query(
            "UPDATE sessions SET ended_at = $1, end_reason = $2 WHERE user_id = $3 AND ended_at IS NULL \
             AND ($4 IS NULL OR credential_mark IS NOT NULL AND credential_mark <> $4)",
        )
        .bind(now_ms)
        .bind(reason)
        .bind(user_id)
        .bind(mark.as_ref().map(|mark| mark.as_bytes().as_slice()))
        .execute(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(ended)
    }

    /// Revocations after that number, in order. None with a smaller number than the last one is committed afterwards.
    pub(super) async fn revocations(&self, after: i64) -> Result<(i64, Vec<Revocation>), StoreError> {
        let rows = query(
            "SELECT seq, sid, user_id, issued_until, until FROM revocations WHERE seq > $1 ORDER BY seq",
        )
        .bind(after)
        .fetch_all(&mut self.watching_connection().await?)
        .await?;
        let mut last = after;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            last = row.get("seq")?;
            let until_ms = row.get("until")?;
            let sid: Option<String> = row.get("sid")?;
            found.push(match sid {
                Some(sid) => Revocation::Session { sid: sid.into(), until_ms },
                None => Revocation::Issued {
                    user_id: row.get::<Option<String>>("user_id")?.map(Arc::from),
                    issued_until_ms: row.get("issued_until")?,
                    until_ms,
                },
            });
        }
        Ok((last, found))
    }

    /// Deletes one batch of what has expired. Returns whether there may be more.
    pub(super) async fn sweep_sessions(&self, now_ms: i64) -> Result<bool, StoreError> {
        let mut more = false;
        for statement in [
            "DELETE FROM used_refresh_tokens WHERE (sid, jti) IN \
             (SELECT sid, jti FROM used_refresh_tokens WHERE expires_at <= $1 LIMIT $2)",
            "DELETE FROM sessions WHERE sid IN (SELECT sid FROM sessions WHERE expires_at <= $1 LIMIT $2)",
            "DELETE FROM revocations WHERE seq IN \
             (SELECT seq FROM revocations WHERE until <= $1 + 600000 LIMIT $2)",
        ] {
            let before_ms = now_ms.saturating_sub(AFTERLIFE_MS);
            let swept = query(statement)
                .bind(before_ms)
                .bind(SWEEP_BATCH)
                .execute(&mut self.connection().await?)
                .await?;
            more |= swept >= SWEEP_BATCH.unsigned_abs();
        }
        Ok(more)
    }
}

impl Which {
    fn binds(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::One(sid) => (Some(sid), None),
            Self::OfUser(user_id) => (None, Some(user_id)),
            Self::All => (None, None),
        }
    }
}

const SESSION: &str = "SELECT user_id, started_at, absolute_end, credential_mark, ended_at IS NOT NULL AS has_ended, \
                       expires_at FROM sessions WHERE sid = $1";
/// The same, until the end of the transaction nobody else changes it. In SQLite nobody else can anyway.
const SESSION_ALONE: Sql = Sql::of(
    SESSION,
    "SELECT user_id, started_at, absolute_end, credential_mark, ended_at IS NOT NULL AS has_ended, expires_at \
     FROM sessions WHERE sid = $1 FOR UPDATE",
);

pub(super) async fn session(connection: &mut Connection, sid: &str) -> Result<Option<Recorded>, StoreError> {
    let found = query(SESSION).bind(sid).fetch_optional(connection).await?;
    found.as_ref().map(recorded).transpose()
}

/// The session, which nobody else changes before the transaction ends.
pub(super) async fn session_alone(
    transaction: &mut Transaction,
    sid: &str,
) -> Result<Option<Recorded>, StoreError> {
    let found = query(SESSION_ALONE).bind(sid).fetch_optional(transaction).await?;
    found.as_ref().map(recorded).transpose()
}

fn recorded(row: &Row) -> Result<Recorded, StoreError> {
    let mark: Option<Vec<u8>> = row.get("credential_mark")?;
    Ok(Recorded {
        user_id: row.get("user_id")?,
        started_at_ms: row.get("started_at")?,
        absolute_end_ms: row.get("absolute_end")?,
        // A mark of another form fits no password.
        mark: mark.map(|bytes| CredentialMark::from_bytes(bytes.try_into().unwrap_or_default())),
        has_ended: row.get("has_ended")?,
        expires_at_ms: row.get("expires_at")?,
    })
}

pub(super) async fn insert(
    transaction: &mut Transaction,
    new: &NewSession<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO sessions (sid, user_id, started_at, last_used_at, expires_at, absolute_end, credential_mark) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(new.sid)
    .bind(new.user_id)
    .bind(new.started_at_ms)
    .bind(now_ms)
    .bind(new.expires_at_ms)
    .bind(new.absolute_end_ms)
    .bind(new.mark.as_ref().map(|mark| mark.as_bytes().as_slice()))
    .execute(transaction)
    .await?;
    Ok(())
}

pub(super) async fn touch(
    transaction: &mut Transaction,
    sid: &str,
    expires_at_ms: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    query("UPDATE sessions SET last_used_at = $1, expires_at = CASE WHEN expires_at > $2 THEN expires_at ELSE $2 END WHERE sid = $3")
        .bind(now_ms)
        .bind(expires_at_ms)
        .bind(sid)
        .execute(transaction)
        .await?;
    Ok(())
}

pub(super) async fn end(
    transaction: &mut Transaction,
    which: &Which,
    reason: &str,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let (sid, user_id) = which.binds();
    query(
        "UPDATE sessions SET ended_at = $1, end_reason = $2 \
         WHERE ended_at IS NULL AND ($3 IS NULL OR sid = $3) AND ($4 IS NULL OR user_id = $4)",
    )
    .bind(now_ms)
    .bind(reason)
    .bind(sid)
    .bind(user_id)
    .execute(transaction)
    .await
}

pub(super) async fn exchange(
    target: &mut impl Target,
    sid: &str,
    jti: &str,
) -> Result<Option<Exchange>, StoreError> {
    let row = query(
        "SELECT used_at, successor_jti, successor_issued_at, successor_expires_at, EXISTS \
         (SELECT 1 FROM used_refresh_tokens AS next WHERE next.sid = used.sid AND next.jti = used.successor_jti) \
         AS is_superseded FROM used_refresh_tokens AS used WHERE sid = $1 AND jti = $2",
    )
    .bind(sid)
    .bind(jti)
    .fetch_optional(target)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Exchange {
        used_at_ms: row.get("used_at")?,
        successor_jti: row.get("successor_jti")?,
        successor_issued_at: row.get("successor_issued_at")?,
        successor_expires_at: row.get("successor_expires_at")?,
        is_superseded: row.get("is_superseded")?,
    }))
}

/// Marks a refresh token as used. The primary key lets this happen once.
pub(super) async fn use_up(
    transaction: &mut Transaction,
    sid: &str,
    jti: &str,
    expires_at_ms: i64,
    exchange: &Exchange,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO used_refresh_tokens (sid, jti, expires_at, used_at, successor_jti, successor_issued_at, \
         successor_expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(sid)
    .bind(jti)
    .bind(expires_at_ms)
    .bind(exchange.used_at_ms)
    .bind(&exchange.successor_jti)
    .bind(exchange.successor_issued_at)
    .bind(exchange.successor_expires_at)
    .execute(transaction)
    .await?;
    Ok(())
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    let reason: Option<String> = row.get("end_reason")?;
    let ended_at: Option<i64> = row.get("ended_at")?;
    Ok(Listed {
        sid: row.get("sid")?,
        user_id: row.get("user_id")?,
        user_name: row.get("user_name")?,
        started_at_ms: row.get("started_at")?,
        last_used_at_ms: row.get("last_used_at")?,
        expires_at_ms: row.get("expires_at")?,
        ended: ended_at.map(|_| reason.unwrap_or_else(|| "by hand".to_owned())),
    })
}
