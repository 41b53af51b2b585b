//! `tollgate session`: shows sessions and ends them, also while the gateway runs.

use std::io::Write;

use time::OffsetDateTime;
use time::macros::format_description;

use super::arguments::{SessionVerb, WhichSessions};
use super::error::{CommandError, Exit};
use super::table;
use crate::base::clock::Clock;
use crate::config::{Config, UserSource};
use crate::sessions::{Listed, Which};
use crate::store::{Store, StoreError};

/// Performs what is asked for on the store of the configuration.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(config: &Config, verb: SessionVerb, out: &mut dyn Write) -> Result<Exit, CommandError> {
    // A new store would have no session to end, and say so as if all were well.
    if let Some(path) = config.store.file().filter(|path| !path.exists()) {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound).into();
        return Err(CommandError::Store(StoreError::CannotOpen { path: path.to_owned(), source }));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(async {
        let store = Store::connect(&config.store).await.map_err(CommandError::Store)?;
        let names = config.users.source == UserSource::Store;
        let done = match verb {
            SessionVerb::List { user } => list(&store, names, user.as_deref(), &Clock::System, out).await,
            SessionVerb::Revoke(which) => revoke(&store, names, which, out).await,
        };
        store.close().await;
        done
    })
}

/// Prints a table of sessions, the latest first. With `names`, users are those of the store and go by their names.
///
/// # Errors
///
/// A [`CommandError`].
pub async fn list(
    store: &Store,
    names: bool,
    user: Option<&str>,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let which = match user {
        Some(user) => of_user(store, names, user).await.map_err(CommandError::Store)?,
        None => Which::All,
    };
    let sessions = store.sessions(&which).await.map_err(CommandError::Store)?;
    let now_ms = clock.now_unix_ms();
    let mut rows = vec![["SID", "USER", "STARTED", "LAST USED", "EXPIRES", "STATE"].map(str::to_owned)];
    rows.extend(sessions.into_iter().map(|session| row(session, names, now_ms)));
    out.write_all(table::of(&rows).as_bytes()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// Ends sessions for good. A session that there is not is a finding.
///
/// # Errors
///
/// A [`CommandError`].
pub async fn revoke(
    store: &Store,
    names: bool,
    which: WhichSessions,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let which = match which {
        WhichSessions { sid: Some(sid), .. } => Which::One(sid),
        WhichSessions { user: Some(user), .. } => {
            of_user(store, names, &user).await.map_err(CommandError::Store)?
        }
        WhichSessions { .. } => Which::All,
    };
    let ended = store.end_sessions(&which, "revoked").await.map_err(CommandError::Store)?;
    let nothing = ended == 0 && matches!(which, Which::One(_));
    let told = match (nothing, ended) {
        (true, _) => writeln!(out, "no session with this id goes on"),
        (false, 1) => writeln!(out, "ended 1 session"),
        (false, ended) => writeln!(out, "ended {ended} sessions"),
    };
    told.map_err(CommandError::Output)?;
    Ok(if nothing { Exit::Findings } else { Exit::Ok })
}

/// The sessions of a user by name, or by id where the users are not in the store or nobody has this name.
async fn of_user(store: &Store, names: bool, user: &str) -> Result<Which, StoreError> {
    let found = if names { store.id_of_user(user).await? } else { None };
    Ok(Which::OfUser(found.unwrap_or_else(|| user.to_owned())))
}

fn row(session: Listed, names: bool, now_ms: i64) -> [String; 6] {
    let user = session.user_name.filter(|_| names).unwrap_or(session.user_id);
    let state = match session.ended {
        Some(reason) => format!("ended ({reason})"),
        None if session.expires_at_ms <= now_ms => "expired".to_owned(),
        None => "active".to_owned(),
    };
    // Ids of other issuers may hold anything.
    let plain = |text: String| text.escape_debug().to_string();
    let (started, last_used) = (date(session.started_at_ms), date(session.last_used_at_ms));
    [plain(session.sid), plain(user), started, last_used, date(session.expires_at_ms), plain(state)]
}

fn date(unix_ms: i64) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let date = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000)).ok();
    date.and_then(|date| date.format(form).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query;
    use crate::store::scratch::{Place, on_both_stores};
    use crate::users::StoredHash;

    async fn fill(store: &Store) {
        let hash = StoredHash::parse("$2y$10$XaWB1fUpljSIMXgqcK9B8eFRHPTKzsG9HjzDZ.XmCncpOkeO6Jx/W").unwrap();
        store.add("alice", None, &[], &hash).await.unwrap();
        for (sid, user_id, started) in [("s1", "1", 1_000), ("s2", "1", 2_000), ("s3", "x", 3_000)] {
            query("INSERT INTO sessions (sid, user_id, started_at, last_used_at, expires_at) VALUES ($1, $2, $3, $3, 9000)")
                .bind(sid)
                .bind(user_id)
                .bind(started)
                .execute(&mut store.connection().await.unwrap())
                .await
                .unwrap();
        }
    }

    async fn sessions_are_listed_and_ended(place: Place) {
        let store = place.open().await;
        fill(&store).await;
        let mut out = Vec::new();
        let which = |sid: Option<&str>, user: Option<&str>, all| WhichSessions {
            sid: sid.map(str::to_owned),
            user: user.map(str::to_owned),
            all,
        };
        let exit = revoke(&store, true, which(Some("nobody's"), None, false), &mut out).await.unwrap();
        assert_eq!(exit, Exit::Findings);
        revoke(&store, true, which(Some("s2"), None, false), &mut out).await.unwrap();
        list(&store, true, None, &Clock::manual(5_000).0, &mut out).await.unwrap();
        revoke(&store, true, which(None, Some("alice"), false), &mut out).await.unwrap();
        list(&store, true, Some("alice"), &Clock::manual(9_000).0, &mut out).await.unwrap();
        revoke(&store, true, which(None, None, true), &mut out).await.unwrap();
        let shown = String::from_utf8(out).unwrap();
        insta::allow_duplicates! {
        insta::assert_snapshot!(shown, @r"
        no session with this id goes on
        ended 1 session
        SID  USER   STARTED               LAST USED             EXPIRES               STATE
        s3   x      1970-01-01T00:00:03Z  1970-01-01T00:00:03Z  1970-01-01T00:00:09Z  active
        s2   alice  1970-01-01T00:00:02Z  1970-01-01T00:00:02Z  1970-01-01T00:00:09Z  ended (revoked)
        s1   alice  1970-01-01T00:00:01Z  1970-01-01T00:00:01Z  1970-01-01T00:00:09Z  active
        ended 1 session
        SID  USER   STARTED               LAST USED             EXPIRES               STATE
        s2   alice  1970-01-01T00:00:02Z  1970-01-01T00:00:02Z  1970-01-01T00:00:09Z  ended (revoked)
        s1   alice  1970-01-01T00:00:01Z  1970-01-01T00:00:01Z  1970-01-01T00:00:09Z  ended (revoked)
        ended 1 session
        ");
        }
    }

    on_both_stores!(sessions_are_listed_and_ended);
}
