//! `[tokens]`, `[users]`.

use super::Shape::{Boolean, Choice, Integer, List, Table, Tables, Text, Time};
use super::Unset::{Nothing, Required, Value};
use super::{DURATION, Entry, SIZE, TEXT_OR_TEXTS, TEXTS, key, table};

const ALGORITHMS: &[&str] = &[
    "EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384",
    "HS512",
];
const HASHERS: &[&str] =
    &["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "scrypt", "bcrypt", "md5"];

/// The keys of these sections.
#[rustfmt::skip] // One line a key.
pub(super) const KEYS: &[Entry] = &[
    table("tokens", Table, "Tokens, and the routes that issue them."),
    key("tokens.issuer", Text, Value(r#""""#), r#""https://id.example.com""#, "When set: written as `iss`, and required."),
    key("tokens.audience", TEXTS, Value("[]"), r#"["api.example.com"]"#, "When set: written as `aud`, and one of them is required."),
    key("tokens.access_lifetime", DURATION, Value(r#""30m""#), r#""5m""#, "Life of an access token."),
    key("tokens.refresh_lifetime", DURATION, Value(r#""1d""#), r#""14d""#, "Life of a refresh token."),
    key("tokens.session_lifetime", DURATION, Value(r#""0s""#), r#""30d""#, "Absolute end of a session, however often it is refreshed; \"0s\" is none."),
    key("tokens.rotate_refresh", Boolean, Value("false"), "true", "Every refresh gives a new refresh token, and the old one is used up."),
    key("tokens.reuse_grace", DURATION, Value(r#""30s""#), r#""10s""#, "With rotation: how long a used refresh token gets the same successor again."),
    key("tokens.leeway", DURATION, Value(r#""0s""#), r#""5s""#, "Tolerance for clocks that differ; at most 5m."),
    key("tokens.stream_grace", DURATION, Value(r#""0s""#), r#""1m""#, "How long an open stream may outlive the token that opened it."),
    key("tokens.user_id_claim", Text, Value(r#""user_id""#), r#""sub""#, "The claim that holds the user id."),
    key("tokens.claims", List(&Choice(&["username", "email", "groups"])), Value("[]"), r#"["username", "groups"]"#, "User fields that are copied into access tokens."),
    key("tokens.path", Text, Value(r#""/api/token""#), r#""/auth""#, "Prefix of the token routes."),
    key("tokens.realm", Text, Value(r#""api""#), r#""billing""#, "The realm in challenges."),
    key("tokens.limit", TEXT_OR_TEXTS, Value(r#""token-routes""#), r#""""#, "Which limits the token routes have; \"\" is none."),
    key("tokens.key_encryption_key", Text, Nothing, r#""${KEY_ENCRYPTION_KEY}""#, "What keys in the store are encrypted with, at least 32 bytes. With it, keys are kept in the store."),
    key("tokens.key_encryption_key_file", Text, Nothing, r#""keys/kek""#, "A file that holds it."),
    key("tokens.key_encryption_key_env", Text, Nothing, r#""KEY_ENCRYPTION_KEY""#, "The variable that holds it."),
    key("tokens.key_rotation_delay", DURATION, Value(r#""10m""#), r#""1h""#, "How long a new key of the store is published before it signs; from 10s to 30d."),
    table("tokens.keys", Tables, "The first key signs, unless one of the store does; all verify. Without any, one is made."),
    key("tokens.keys[].kid", Text, Nothing, r#""2026-11""#, "The key id in tokens; needed when there are several keys."),
    key("tokens.keys[].alg", Choice(ALGORITHMS), Required, r#""EdDSA""#, "The algorithm that the key was made for."),
    key("tokens.keys[].file", Text, Nothing, r#""keys/2026-11.pem""#, "For all but HS*: a PEM file with a private key, or with a public one that only verifies."),
    key("tokens.keys[].secret", Text, Nothing, r#""${TOKEN_SECRET}""#, "For HS*: the secret, at least 32 bytes."),
    key("tokens.keys[].secret_file", Text, Nothing, r#""keys/hs256""#, "For HS*: a file that holds the secret."),
    key("tokens.keys[].secret_env", Text, Nothing, r#""TOKEN_SECRET""#, "For HS*: the variable that holds the secret."),
    key("tokens.keys[].verify_until", Time, Nothing, "2027-01-31T00:00:00Z", "A retiring key verifies until then and never signs."),
    table("users", Table, "Who may log in."),
    key("users.source", Choice(&["store", "file", "django"]), Value(r#""store""#), r#""file""#, "Where users are looked up."),
    table("users.file", Table, "For source = \"file\"."),
    key("users.file.path", Text, Nothing, r#""users.toml""#, "A TOML file when it ends in `.toml`, otherwise an htpasswd file."),
    table("users.django", Table, "For source = \"django\": the users of a Django application, which are only read."),
    key("users.django.url", Text, Nothing, r#""sqlite://db.sqlite3""#, "The database."),
    key("users.django.url_file", Text, Nothing, r#""django-url""#, "A file that holds its URL."),
    key("users.django.url_env", Text, Nothing, r#""DATABASE_URL""#, "The variable that holds its URL."),
    key("users.django.table", Text, Value(r#""auth_user""#), r#""accounts_user""#, "The table of users."),
    key("users.django.id_column", Text, Value(r#""id""#), r#""id""#, "The column of the id, an integer."),
    key("users.django.username_column", Text, Value(r#""username""#), r#""email""#, "The column of the login name."),
    key("users.django.password_column", Text, Value(r#""password""#), r#""password""#, "The column of the password hash."),
    key("users.django.active_column", Text, Value(r#""is_active""#), r#""is_active""#, "The column that says who may log in."),
    key("users.django.email_column", Text, Value(r#""email""#), r#""""#, "The column of the e-mail address; \"\" where there is none."),
    key("users.django.groups", Boolean, Value("true"), "false", "Whether groups are read."),
    key("users.django.groups_table", Text, Nothing, r#""accounts_user_groups""#, "The table that says who is in which group."),
    key("users.django.groups_user_column", Text, Nothing, r#""user_id""#, "Its column of the user."),
    key("users.django.hashers", List(&Choice(HASHERS)), Nothing, r#"["pbkdf2_sha256", "argon2"]"#, "Hashes that may be logged in with; without the key, Django's own five."),
    key("users.django.recheck", DURATION, Value(r#""10s""#), r#""1m""#, "How often users who were asked for are read again."),
    table("users.hashing", Table, "argon2id for new passwords, and the budget of all hashing."),
    key("users.hashing.memory", SIZE, Value(r#""19MiB""#), r#""64MiB""#, "Memory of one hash of a new password."),
    key("users.hashing.iterations", Integer(1, 1000), Value("2"), "3", "Its passes."),
    key("users.hashing.max_memory", SIZE, Value(r#""256MiB""#), r#""1GiB""#, "Memory of all hashes that run at once."),
    key("users.hashing.max_queue", Integer(0, 1_000_000), Value("256"), "64", "Logins that may wait; beyond it they get 503."),
    table("users.lockout", Table, "How many logins of a user may fail from one network."),
    key("users.lockout.attempts", Integer(1, 1_000_000), Value("10"), "5", "Failed logins that lock."),
    key("users.lockout.window", DURATION, Value(r#""10m""#), r#""1h""#, "From the first failure on, after which the count begins anew."),
    key("users.lockout.duration", DURATION, Value(r#""10m""#), r#""15m""#, "How long a lock holds."),
];
