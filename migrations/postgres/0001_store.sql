-- The store of several gateways. Times are milliseconds since 1970, but those of a successor are the seconds that stand in
-- the token. Migrations only ever add: a gateway that knows one migration less works with the same database.
CREATE TABLE schema_compatibility (
    -- What a program has to know to use this database. A migration that takes something away raises it.
    oldest_migration BIGINT NOT NULL
);
INSERT INTO schema_compatibility (oldest_migration) VALUES (1);

CREATE TABLE users (
    -- Given by a trigger: the id of a deleted user is never given to another one, because tokens carry it.
    id              BIGINT NOT NULL PRIMARY KEY,
    -- In normal form (NFKC, case kept); compared byte by byte.
    name            TEXT COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    email           TEXT,
    password_hash   TEXT NOT NULL,
    active          BOOLEAN NOT NULL DEFAULT TRUE,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    -- What sessions remember of a password. Null stands for the mark of password_hash itself, as it is for most. When the
    -- hash of another system is replaced by one of the same password, the mark of the old hash is kept here.
    credential_mark BYTEA CHECK (credential_mark IS NULL OR length(credential_mark) = 16)
);

CREATE TABLE user_groups (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Without a comma, so that names can be joined.
    name    TEXT COLLATE "C" NOT NULL CHECK (name <> '' AND position(',' IN name) = 0),
    PRIMARY KEY (user_id, name)
);

-- One row for every user that was deleted: a store that once had users has them for ever after.
CREATE TABLE deleted_users (
    id BIGINT NOT NULL PRIMARY KEY
);

-- How often something changed; the last id that was given to a user; and a row that is locked to give numbers to
-- revocations in the order of their commits.
CREATE TABLE revisions (
    topic TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO revisions (topic, value) VALUES ('users', 0), ('user_ids', 0), ('revocations', 0);

CREATE TABLE sessions (
    sid             TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (sid <> ''),
    user_id         TEXT COLLATE "C" NOT NULL,
    started_at      BIGINT NOT NULL,
    last_used_at    BIGINT NOT NULL,
    -- No token of the session is valid after this, whatever its kind.
    expires_at      BIGINT NOT NULL,
    -- What tokens.session_lifetime said when it began.
    absolute_end    BIGINT,
    -- Of the password that it was begun with.
    credential_mark BYTEA,
    ended_at        BIGINT,
    end_reason      TEXT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- A refresh token that was exchanged for its successor. That there is no such row yet is the right to exchange it.
CREATE TABLE used_refresh_tokens (
    sid                  TEXT COLLATE "C" NOT NULL REFERENCES sessions (sid) ON DELETE CASCADE,
    jti                  TEXT COLLATE "C" NOT NULL,
    expires_at           BIGINT NOT NULL,
    used_at              BIGINT NOT NULL,
    successor_jti        TEXT COLLATE "C" NOT NULL,
    successor_issued_at  BIGINT NOT NULL,
    successor_expires_at BIGINT NOT NULL,
    PRIMARY KEY (sid, jti)
);
CREATE INDEX used_refresh_tokens_by_expiry ON used_refresh_tokens (expires_at);

-- What is refused although its signature is good: a session; or what was issued to a user, or to anybody where there is no
-- user either, up to a time, unless it belongs to a session that is known and goes on.
CREATE TABLE revocations (
    -- Given by a trigger, in the order of commits: who has read up to a number misses nothing that comes later.
    seq          BIGINT NOT NULL PRIMARY KEY,
    sid          TEXT COLLATE "C",
    user_id      TEXT COLLATE "C",
    issued_until BIGINT,
    -- From then on everything that it is about has expired.
    until        BIGINT NOT NULL,
    CHECK ((sid IS NULL) <> (issued_until IS NULL))
);
CREATE INDEX revocations_by_until ON revocations (until);
CREATE SEQUENCE revocation_numbers AS BIGINT OWNED BY revocations.seq;

-- Logins that are locked, so that a restart unlocks nobody.
CREATE TABLE lockouts (
    -- SHA-256 of what is locked, cut to 128 bits: neither names nor passwords typed in their place are kept.
    id           BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    locked_until BIGINT NOT NULL
);

CREATE FUNCTION unix_ms() RETURNS BIGINT LANGUAGE sql
    AS 'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

-- Triggers, so that a change by hand counts as well.
CREATE FUNCTION users_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
    PERFORM pg_notify('tollgate', 'users');
    RETURN NULL;
END $$;
CREATE TRIGGER users_changed AFTER INSERT OR UPDATE OR DELETE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION users_changed();
CREATE TRIGGER user_groups_changed AFTER INSERT OR UPDATE OR DELETE ON user_groups
    FOR EACH STATEMENT EXECUTE FUNCTION users_changed();

CREATE FUNCTION users_numbered() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE revisions SET value = CASE WHEN new.id IS NULL THEN value + 1 ELSE greatest(value, new.id) END
        WHERE topic = 'user_ids' RETURNING coalesce(new.id, value) INTO new.id;
    RETURN new;
END $$;
CREATE TRIGGER users_numbered BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION users_numbered();

-- A new hash with the old mark is a new password, set by hand or by a program that knows nothing of marks.
CREATE FUNCTION users_password_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    new.credential_mark := NULL;
    RETURN new;
END $$;
CREATE TRIGGER users_password_changed BEFORE UPDATE OF password_hash ON users FOR EACH ROW
    WHEN (new.password_hash IS DISTINCT FROM old.password_hash
        AND new.credential_mark IS NOT NULL
        AND new.credential_mark IS NOT DISTINCT FROM old.credential_mark)
    EXECUTE FUNCTION users_password_changed();

-- The row is locked until the transaction ends, so a smaller number is committed, or never will be, when a greater one is
-- given.
CREATE FUNCTION revocations_numbered() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM value FROM revisions WHERE topic = 'revocations' FOR UPDATE;
    new.seq := nextval('revocation_numbers');
    PERFORM pg_notify('tollgate', 'revocations');
    RETURN new;
END $$;
CREATE TRIGGER revocations_numbered BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION revocations_numbered();

-- 600000 is ten minutes: more than any leeway.
CREATE FUNCTION sessions_ended() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO revocations (sid, until) VALUES (new.sid, new.expires_at + 600000);
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_ended AFTER UPDATE OF ended_at ON sessions FOR EACH ROW
    WHEN (old.ended_at IS NULL AND new.ended_at IS NOT NULL) EXECUTE FUNCTION sessions_ended();

-- A user who is switched off or deleted has no session any more, also when the user is switched on again. 31622400000 is
-- 366 days: no token lives longer.
CREATE FUNCTION users_disabled() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    -- Who changes the row by hand may leave the time as it was.
    now_ms BIGINT := greatest(new.updated_at, unix_ms());
BEGIN
    UPDATE sessions SET ended_at = new.updated_at, end_reason = 'disabled'
        WHERE user_id = new.id::text AND ended_at IS NULL;
    INSERT INTO revocations (user_id, issued_until, until) VALUES (new.id::text, now_ms, now_ms + 31622400000 + 600000);
    -- Once more: what another gateway has recorded until the number was given is seen now.
    UPDATE sessions SET ended_at = new.updated_at, end_reason = 'disabled'
        WHERE user_id = new.id::text AND ended_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER users_disabled AFTER UPDATE OF active ON users FOR EACH ROW
    WHEN (old.active AND NOT new.active) EXECUTE FUNCTION users_disabled();

CREATE FUNCTION users_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO deleted_users (id) VALUES (old.id) ON CONFLICT DO NOTHING;
    UPDATE sessions SET ended_at = unix_ms(), end_reason = 'deleted' WHERE user_id = old.id::text AND ended_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER users_deleted AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION users_deleted();
