-- Users of the gateway itself. Times are milliseconds since 1970.
CREATE TABLE users (
    -- AUTOINCREMENT: the id of a deleted user is never given to another one, because tokens carry it.
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- In normal form (NFKC, case kept); compared byte by byte.
    name          TEXT    NOT NULL UNIQUE CHECK (name <> ''),
    email         TEXT,
    password_hash TEXT    NOT NULL,
    active        INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE user_groups (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Without a comma, so that names can be joined.
    name    TEXT    NOT NULL CHECK (name <> '' AND instr(name, ',') = 0),
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;

-- One row for every user that was deleted: a store that once had users has them for ever after.
CREATE TABLE deleted_users (
    id INTEGER PRIMARY KEY
) STRICT;

-- How often something changed, so that a write to one thing is not taken for a change of another.
CREATE TABLE revisions (
    topic TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO revisions (topic, value) VALUES ('users', 0);

-- Triggers, so that a change by hand counts as well.
CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
    INSERT OR IGNORE INTO deleted_users (id) VALUES (old.id);
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
CREATE TRIGGER user_groups_inserted AFTER INSERT ON user_groups BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
CREATE TRIGGER user_groups_updated AFTER UPDATE ON user_groups BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
CREATE TRIGGER user_groups_deleted AFTER DELETE ON user_groups BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'users';
END;
