-- What sessions remember of a password. Null stands for the mark of password_hash itself, as it is for most. When the
-- hash of another system is replaced by one of the same password, the mark of the old hash is kept here.
ALTER TABLE users ADD COLUMN credential_mark BLOB CHECK (credential_mark IS NULL OR length(credential_mark) = 16);

-- A new hash with the old mark is a new password, set by hand or by a program that knows nothing of marks.
CREATE TRIGGER users_password_changed AFTER UPDATE OF password_hash ON users
WHEN new.password_hash IS NOT old.password_hash
    AND new.credential_mark IS NOT NULL
    AND new.credential_mark IS old.credential_mark
BEGIN
    UPDATE users SET credential_mark = NULL WHERE id = new.id;
END;
