-- Logins that have failed lately, at whichever gateway. Times are milliseconds since 1970.
CREATE TABLE login_failures (
    -- As in lockouts.
    id       BYTEA  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    failures BIGINT NOT NULL,
    -- Of the first one that is counted.
    began_at BIGINT NOT NULL
);
CREATE INDEX login_failures_by_age ON login_failures (began_at);
