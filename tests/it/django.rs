//! Users of a Django application: the database is another's, so what happens in it is the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::support::{DEADLINE, Gateway, Setup, Upstream, eventually};

const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/django-auth.sqlite3");

/// A cheap hash of "correct horse", since nobody knows the recorded password of alice.
const ALICE: &str = "UPDATE auth_user SET password = \
    'pbkdf2_sha256$1000$seasaltseasaltseasalt2$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=' WHERE username = 'alice'";

/// A gateway, and the database that it reads.
fn gateway(upstream: &Upstream, lines: &str) -> (Gateway, PathBuf) {
    let setup = Setup::guarded(upstream);
    let path = setup.place().join("django.sqlite3");
    fs::copy(DATABASE, &path).unwrap();
    execute(&path, ALICE);
    (setup.django(&format!("url = \"sqlite://django.sqlite3\"\n{lines}")).start(), path)
}

/// Does what Django would do.
/// Runs SQL on a database in a file.
pub(crate) fn execute(path: &Path, statement: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn login(gateway: &Gateway, name: &str, password: &str) -> u16 {
    gateway.client().post_json("/api/token/", &json!({"username": name, "password": password})).status
}

#[test]
fn every_listed_hash_logs_in_and_no_other() {
    let upstream = Upstream::echo();
    let (usual, _) = gateway(&upstream, "");
    for name in ["pbkdf2_sha1", "argon2", "bcrypt_sha256", "scrypt"] {
        assert_eq!(login(&usual, &format!("hash-{name}"), "correct horse"), 200, "{name}");
        assert_eq!(login(&usual, &format!("hash-{name}"), "correct hors"), 401, "{name}");
    }
    for name in ["hash-bcrypt", "hash-md5", "unusable"] {
        assert_eq!(login(&usual, name, "correct horse"), 401, "{name}");
    }
    let (odd, _) = gateway(&upstream, "hashers = [\"bcrypt\", \"md5\"]");
    for name in ["hash-bcrypt", "hash-md5"] {
        assert_eq!(login(&odd, name, "correct horse"), 200, "{name}");
    }
    assert_eq!(login(&odd, "user1", "secure-password"), 401);
}

#[test]
fn the_upstream_is_told_groups_and_address_as_they_are_now() {
    let upstream = Upstream::echo();
    let (gateway, path) = gateway(&upstream, "recheck = \"200ms\"");
    let (access, _) = gateway.login("alice", "correct horse");
    gateway.client().get_as("/", &access).expect(200);
    assert_eq!(upstream.last().field("x-user-id"), "4");
    assert_eq!(upstream.last().field("x-user-groups"), "finance");
    assert_eq!(upstream.last().field("x-user-email"), "alice@example.com");
    execute(
        &path,
        "INSERT INTO auth_group (id, name) VALUES (70, 'admin'); \
         INSERT INTO auth_user_groups (user_id, group_id) VALUES (4, 70); \
         UPDATE auth_user SET email = '' WHERE id = 4",
    );
    eventually("the new group", DEADLINE, || {
        gateway.client().get_as("/", &access).expect(200);
        upstream.last().field("x-user-groups") == "admin,finance"
            && upstream.last().field("x-user-email").is_empty()
    });
    execute(&path, "UPDATE auth_user SET is_active = 0 WHERE id = 4");
    eventually("the user is off", DEADLINE, || gateway.client().get_as("/", &access).status == 401);
    gateway.client().get_as("/", &access).refused(401, "user_inactive");
    assert_eq!(login(&gateway, "alice", "correct horse"), 401);
    execute(&path, "DELETE FROM auth_user_groups WHERE user_id = 4; DELETE FROM auth_user WHERE id = 4");
    eventually("the user is gone", DEADLINE, || {
        gateway.client().get_as("/", &access).json()["reason"] == "user_not_found"
    });
}

#[test]
fn the_database_is_never_written() {
    let upstream = Upstream::echo();
    let (gateway, path) = gateway(&upstream, "recheck = \"1ms\"");
    let before = fs::read(&path).unwrap();
    let (access, refresh) = gateway.login("user1", "secure-password");
    gateway.client().get_as("/", &access).expect(200);
    gateway.client().post_json("/api/token/refresh/", &json!({"refresh": refresh})).expect(200);
    assert_eq!(login(&gateway, "user1", "wrong"), 401);
    std::thread::park_timeout(Duration::from_millis(300));
    assert_eq!(fs::read(&path).unwrap(), before);
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!path.with_file_name(format!("django.sqlite3{suffix}")).exists(), "{suffix}");
    }
}

#[test]
fn a_database_that_is_gone_is_no_refusal_and_known_tokens_go_on() {
    let upstream = Upstream::echo();
    let (gateway, path) = gateway(&upstream, "recheck = \"100ms\"");
    let (access, _) = gateway.login("user1", "secure-password");
    gateway.client().get_as("/", &access).expect(200);
    execute(&path, "ALTER TABLE auth_user RENAME TO away");
    gateway
        .client()
        .post_json("/api/token/", &json!({"username": "user1", "password": "secure-password"}))
        .expect(503);
    gateway.client().get_as("/", &access).expect(200);
    execute(&path, "ALTER TABLE away RENAME TO auth_user");
    eventually("it is back", DEADLINE, || login(&gateway, "user1", "secure-password") == 200);
}

#[test]
fn table_and_columns_may_have_other_names() {
    let upstream = Upstream::echo();
    let setup = Setup::guarded(&upstream);
    let path = setup.place().join("custom.sqlite3");
    fs::copy(DATABASE, &path).unwrap();
    execute(&path, ALICE);
    execute(
        &path,
        "CREATE TABLE shop_customer AS SELECT id AS number, email AS mail, password AS secret, is_active AS \"on\" \
         FROM auth_user; CREATE TABLE shop_customer_groups AS SELECT user_id AS customer_id, group_id FROM auth_user_groups",
    );
    let gateway = setup
        .django(
            "url = \"sqlite://custom.sqlite3\"\ntable = \"shop_customer\"\nid_column = \"number\"\n\
             username_column = \"mail\"\npassword_column = \"secret\"\nactive_column = \"on\"\nemail_column = \"mail\"",
        )
        .start();
    let (access, _) = gateway.login("alice@example.com", "correct horse");
    gateway.client().get_as("/", &access).expect(200);
    assert_eq!(upstream.last().field("x-user-groups"), "finance");
    assert_eq!(login(&gateway, "gone@example.com", "secure-password"), 401);
}
