-- Logins that are locked, so that a restart unlocks nobody. Times are milliseconds since 1970.
CREATE TABLE lockouts (
    -- SHA-256 of what is locked, cut to 128 bits: neither names nor passwords typed in their place are kept.
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    locked_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
