-- Keys that sign and verify tokens. Times are milliseconds since 1970.
CREATE TABLE token_keys (
    kid        TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (kid <> ''),
    alg        TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- From then on it signs, until one does that began later.
    signs_at   BIGINT NOT NULL,
    -- From then on nothing that it has signed is accepted. Null as long as nothing follows it.
    retires_at BIGINT,
    -- The private key, or the shared secret, encrypted with the key-encryption key and bound to kid and alg.
    sealed     BYTEA NOT NULL
);

-- Locked by whoever changes keys, so that of two rotations one sees the other.
INSERT INTO revisions (topic, value) VALUES ('keys', 0);

CREATE FUNCTION token_keys_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE revisions SET value = value + 1 WHERE topic = 'keys';
    PERFORM pg_notify('tollgate', 'keys');
    RETURN NULL;
END $$;
CREATE TRIGGER token_keys_changed AFTER INSERT OR UPDATE OR DELETE ON token_keys
    FOR EACH STATEMENT EXECUTE FUNCTION token_keys_changed();
