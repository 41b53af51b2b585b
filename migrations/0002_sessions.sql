-- Sessions, used refresh tokens and revocations. No token is kept, only ids. Times are milliseconds since 1970, but those
-- of a successor are the seconds that stand in the token.
CREATE TABLE sessions (
    sid             TEXT    NOT NULL PRIMARY KEY CHECK (sid <> ''),
    user_id         TEXT    NOT NULL,
    started_at      INTEGER NOT NULL,
    last_used_at    INTEGER NOT NULL,
    -- No token of the session is valid after this, whatever its kind.
    expires_at      INTEGER NOT NULL,
    -- What tokens.session_lifetime said when it began.
    absolute_end    INTEGER,
    -- Of the password that it was begun with.
    credential_mark BLOB,
    ended_at        INTEGER,
    end_reason      TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- A refresh token that was exchanged for its successor. That there is no such row yet is the right to exchange it.
CREATE TABLE used_refresh_tokens (
    sid                  TEXT    NOT NULL REFERENCES sessions (sid) ON DELETE CASCADE,
    jti                  TEXT    NOT NULL,
    expires_at           INTEGER NOT NULL,
    used_at              INTEGER NOT NULL,
    successor_jti        TEXT    NOT NULL,
    successor_issued_at  INTEGER NOT NULL,
    successor_expires_at INTEGER NOT NULL,
    PRIMARY KEY (sid, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_refresh_tokens_by_expiry ON used_refresh_tokens (expires_at);

-- What is refused although its signature is good: a session; or what was issued to a user, or to anybody where there is no
-- user either, up to a time, unless it belongs to a session that is known and goes on.
CREATE TABLE revocations (
    -- AUTOINCREMENT: who has read up to a number misses nothing that comes later.
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    sid          TEXT,
    user_id      TEXT,
    issued_until INTEGER,
    -- From then on everything that it is about has expired.
    until        INTEGER NOT NULL,
    CHECK ((sid IS NULL) <> (issued_until IS NULL))
) STRICT;
CREATE INDEX revocations_by_until ON revocations (until);

-- Triggers, so that a change by hand counts as well. 600000 is ten minutes: more than any leeway.
CREATE TRIGGER sessions_ended AFTER UPDATE OF ended_at ON sessions
WHEN old.ended_at IS NULL AND new.ended_at IS NOT NULL BEGIN
    INSERT INTO revocations (sid, until) VALUES (new.sid, new.expires_at + 600000);
END;

-- A user who is switched off or deleted has no session any more, also when the user is switched on again. 31622400000 is
-- 366 days: no token lives longer.
CREATE TRIGGER users_disabled AFTER UPDATE OF active ON users WHEN old.active = 1 AND new.active = 0 BEGIN
    UPDATE sessions SET ended_at = new.updated_at, end_reason = 'disabled'
        WHERE user_id = CAST(new.id AS TEXT) AND ended_at IS NULL;
    INSERT INTO revocations (user_id, issued_until, until)
        SELECT CAST(new.id AS TEXT), now, now + 31622400000 + 600000
        -- Who changes the row by hand may leave the time as it was.
        FROM (SELECT max(new.updated_at, CAST(unixepoch('subsec') * 1000 AS INTEGER)) AS now);
END;
CREATE TRIGGER users_deleted_sessions AFTER DELETE ON users BEGIN
    UPDATE sessions SET ended_at = CAST(unixepoch('subsec') * 1000 AS INTEGER), end_reason = 'deleted'
        WHERE user_id = CAST(old.id AS TEXT) AND ended_at IS NULL;
END;
