-- Keys that sign and verify tokens. Times are milliseconds since 1970.
CREATE TABLE token_keys (
    kid        TEXT    NOT NULL PRIMARY KEY CHECK (kid <> ''),
    alg        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    -- From then on it signs, until one does that began later.
    signs_at   INTEGER NOT NULL,
    -- From then on nothing that it has signed is accepted. Null as long as nothing follows it.
    retires_at INTEGER,
    -- The private key, or the shared secret, encrypted with the key-encryption key and bound to kid and alg.
    sealed     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO revisions (topic, value) VALUES ('keys', 0);

CREATE TRIGGER token_keys_inserted AFTER INSERT ON token_keys BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'keys';
END;
CREATE TRIGGER token_keys_updated AFTER UPDATE ON token_keys BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'keys';
END;
CREATE TRIGGER token_keys_deleted AFTER DELETE ON token_keys BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'keys';
END;
