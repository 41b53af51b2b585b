use std::path::Path;

use super::password::tests::cheap_hashing;
use super::*;
use crate::config::Hashing;
use crate::store::query;
use crate::store::scratch::{Place, Scratch, on_both_stores};

const BCRYPT_COST: u32 = 4;

fn users(source: UserSource) -> config::Users {
    config::Users { source, hashing: cheap_hashing(), lockout: config::Lockout::default() }
}

async fn over_store(place: &Place) -> (Store, Directory) {
    let store = place.open().await;
    let directory = Directory::open(&users(UserSource::Store), Some(&store), Clock::System).await.unwrap();
    (store, directory)
}

async fn over_file(path: &Path) -> Directory {
    let clock = Clock::manual(i64::MAX / 2).0;
    Directory::open(&users(UserSource::File(path.to_owned())), None, clock).await.unwrap()
}

async fn hashed(password: &str) -> StoredHash {
    HashPool::new(&cheap_hashing()).hash(&Secret::new(password)).await.unwrap()
}

async fn login(directory: &Directory, name: &str, password: &str) -> Login {
    directory.authenticate(name, &Secret::new(password)).await.unwrap()
}

fn epoch(directory: &Directory) -> u64 {
    directory.epoch().load(Ordering::Acquire)
}

/// A user of an htpasswd file is nothing but a name.
fn file_user(name: &str) -> User {
    User { id: name.to_owned(), name: name.to_owned(), email: None, groups: Vec::new() }
}

fn accepted(login: Login) -> User {
    match login {
        Login::Accepted(account) => account.user,
        Login::Refused => panic!("refused"),
    }
}

async fn store_users_log_in_by_name_and_password(place: Place) {
    let (store, directory) = over_store(&place).await;
    let user = store.add("Alice", None, &["g".to_owned()], &hashed("right").await).await.unwrap();
    assert_eq!(accepted(login(&directory, "Alice", "right").await), user);
    assert_eq!(accepted(login(&directory, "Ａlice", "right").await), user);
    let refused = [
        ("Alice", "wrong"),
        ("Alice", "right "),
        ("Alice", ""),
        ("alice", "right"),
        (" Alice", "right"),
        ("Ali\0ce", "right"),
        ("nobody", "right"),
        ("", "right"),
        ("1", "right"),
    ];
    for (name, password) in refused {
        assert_eq!(login(&directory, name, password).await, Login::Refused, "{name:?} {password:?}");
    }
    let (long, name) = ("x".repeat(bounds::MAX_PASSWORD_BYTES + 1), "x".repeat(1_000_000));
    assert_eq!(login(&directory, "Alice", &long).await, Login::Refused);
    assert_eq!(login(&directory, &name, "right").await, Login::Refused);
}

async fn a_disabled_deleted_or_changed_user_is_refused(place: Place) {
    let (store, directory) = over_store(&place).await;
    store.add("a", None, &[], &hashed("old").await).await.unwrap();
    store.set_active("a", false).await.unwrap();
    assert_eq!(login(&directory, "a", "old").await, Login::Refused);
    assert_eq!(directory.find("1").await.unwrap(), Lookup::Inactive);
    store.set_active("a", true).await.unwrap();
    store.set_password("a", &hashed("new").await).await.unwrap();
    assert_eq!(login(&directory, "a", "old").await, Login::Refused);
    assert!(matches!(login(&directory, "a", "new").await, Login::Accepted(_)));
    store.delete("a").await.unwrap();
    assert_eq!(login(&directory, "a", "new").await, Login::Refused);
    assert_eq!(directory.find("1").await.unwrap(), Lookup::Unknown);
}

async fn every_refusal_does_the_same_work(place: Place) {
    let (store, directory) = over_store(&place).await;
    store.add("a", None, &[], &hashed("right").await).await.unwrap();
    store.add("off", None, &[], &hashed("right").await).await.unwrap();
    store.set_active("off", false).await.unwrap();
    let usual = HashPool::new(&cheap_hashing()).usual_cost();
    for name in ["a", "off", "nobody", ""] {
        let candidate = directory.candidate(name).await.unwrap();
        assert_eq!((candidate.hash.cost(), candidate.reference), (usual, usual), "{name}");
    }
}

async fn the_epoch_follows_changes_by_others(place: Place) {
    let (_, directory) = over_store(&place).await;
    let other = place.open().await;
    directory.look().await;
    assert_eq!(epoch(&directory), 0);
    other.add("a", None, &[], &hashed("x").await).await.unwrap();
    directory.look().await;
    assert_eq!(epoch(&directory), 1);
    other.set_active("a", false).await.unwrap();
    other.set_active("a", true).await.unwrap();
    directory.look().await;
    directory.look().await;
    assert_eq!(epoch(&directory), 2);
    // What is no change of users is none.
    other.run("INSERT INTO revisions VALUES ('other', 1)").await.unwrap();
    directory.look().await;
    assert_eq!(epoch(&directory), 2);
    other.delete("a").await.unwrap();
    directory.look().await;
    assert_eq!(epoch(&directory), 3);
}

async fn watching_raises_the_epoch(place: Place) {
    let (store, directory) = over_store(&place).await;
    let watching = tokio::spawn({
        let directory = directory.clone();
        async move { directory.watch().await }
    });
    store.add("a", None, &[], &hashed("x").await).await.unwrap();
    let raised = async {
        while epoch(&directory) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), raised).await.unwrap();
    watching.abort();
}

async fn a_store_that_cannot_be_read_refuses_nobody(place: Place) {
    let (store, directory) = over_store(&place).await;
    store.add("a", None, &[], &hashed("x").await).await.unwrap();
    store.close().await;
    for name in ["a", "nobody"] {
        let outcome = directory.authenticate(name, &Secret::new("x")).await;
        assert!(matches!(outcome, Err(UsersError::Unavailable(Unavailable::Store(_)))), "{outcome:?}");
    }
    assert!(matches!(directory.find("1").await, Err(UsersError::Unavailable(_))));
    directory.look().await;
    assert!(epoch(&directory) <= 1);
}

async fn a_stored_hash_that_cannot_be_run_is_an_error_without_the_hash(place: Place) {
    let (store, directory) = over_store(&place).await;
    let costly = StoredHash::dummy(hash::Cost::usual(4096, 1)).unwrap();
    store.add("costly", None, &[], &costly).await.unwrap();
    store.add("odd", None, &[], &costly).await.unwrap();
    store.run("UPDATE users SET password_hash = 'hunter2' WHERE name = 'odd'").await.unwrap();
    for name in ["costly", "odd"] {
        let error = directory.authenticate(name, &Secret::new("sesame")).await.unwrap_err();
        assert!(matches!(error, UsersError::Unavailable(Unavailable::Hash(_))), "{error:?}");
        let text = format!("{error} {error:?}");
        for secret in ["$argon2", "hunter2", "sesame"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_full_queue_is_overload() {
    let scratch = Scratch::new();
    let path = scratch.write("users", "");
    // Slow enough that the first one still runs when the last one comes.
    let iterations = std::num::NonZeroU32::new(1000).unwrap();
    let hashing = Hashing { max_memory_kib: 64, max_queue: 0, iterations, ..cheap_hashing() };
    let users =
        config::Users { source: UserSource::File(path), hashing, lockout: config::Lockout::default() };
    let directory = Directory::open(&users, None, Clock::System).await.unwrap();
    let secret = Secret::new("x");
    let attempts = (0..8).map(|_| directory.authenticate("a", &secret));
    let outcomes = futures_util::future::join_all(attempts).await;
    let overloaded = |outcome: &&Result<Login, UsersError>| matches!(outcome, Err(UsersError::Overloaded));
    assert_eq!(outcomes.iter().filter(overloaded).count(), 7, "{outcomes:?}");
}

#[tokio::test]
async fn file_users_log_in_and_have_their_name_as_id() {
    let scratch = Scratch::new();
    let bcrypt = bcrypt::hash("secret", BCRYPT_COST).unwrap();
    let content = format!("alice:{bcrypt}\nbob:{}\n", hashed("other").await.expose());
    let directory = over_file(&scratch.write("users", content)).await;
    let alice = file_user("alice");
    assert_eq!(accepted(login(&directory, "alice", "secret").await), alice);
    assert_eq!(accepted(login(&directory, "bob", "other").await), file_user("bob"));
    for (name, password) in [("alice", "other"), ("bob", "secret"), ("carol", "secret"), ("alice", "")] {
        assert_eq!(login(&directory, name, password).await, Login::Refused);
    }
    assert!(matches!(directory.find("alice").await.unwrap(), Lookup::Active(found) if found.user == alice));
    for id in ["carol", "Alice", "ａlice", "", "1"] {
        assert_eq!(directory.find(id).await.unwrap(), Lookup::Unknown, "{id}");
    }
}

#[tokio::test]
async fn an_empty_file_knows_nobody() {
    let scratch = Scratch::new();
    let directory = over_file(&scratch.write("users", "")).await;
    assert_eq!(directory.find("1").await.unwrap(), Lookup::Unknown);
    assert_eq!(login(&directory, "a", "b").await, Login::Refused);
}

#[tokio::test]
async fn the_epoch_follows_the_file() {
    let scratch = Scratch::new();
    let hash = hashed("x").await;
    let path = scratch.write("users", format!("alice:{}\n", hash.expose()));
    let directory = over_file(&path).await;
    directory.look().await;
    assert_eq!(epoch(&directory), 0);
    scratch.write("users", "# nobody\n");
    directory.look().await;
    directory.look().await;
    assert_eq!(epoch(&directory), 1);
    assert_eq!(directory.find("alice").await.unwrap(), Lookup::Unknown);
    scratch.write("users", "alice:plain text");
    directory.look().await;
    directory.look().await;
    assert_eq!(epoch(&directory), 1);
}

#[tokio::test]
async fn opening_says_what_is_wrong() {
    let scratch = Scratch::new();
    let no_store = Directory::open(&users(UserSource::Store), None, Clock::System).await;
    assert!(matches!(no_store, Err(UsersOpenError::NoStore)));
    let path = scratch.write("users", "a:hunter2");
    let bad = Directory::open(&users(UserSource::File(path)), None, Clock::System).await.unwrap_err();
    let text = format!("{bad} {bad:?}");
    assert!(text.contains(":1: ") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn users_of_a_toml_file_have_groups_and_addresses_and_can_be_off() {
    let scratch = Scratch::new();
    let hash = hashed("right").await;
    let content = format!(
        "[[users]]\nname = \"alice\"\npassword = \"{0}\"\ngroups = [\"staff\", \"admin\", \"staff\"]\nemail = \"a@b\"\n\
         [[users]]\nname = \"off\"\npassword = \"{0}\"\nactive = false\n",
        hash.expose()
    );
    let directory = over_file(&scratch.write("users.toml", content)).await;
    let alice = accepted(login(&directory, "alice", "right").await);
    assert_eq!(alice.groups, ["admin", "staff"]);
    assert_eq!(alice.email.as_deref(), Some("a@b"));
    assert_eq!(login(&directory, "off", "right").await, Login::Refused);
    assert_eq!(directory.find("off").await.unwrap(), Lookup::Inactive);
    assert!(matches!(directory.find("alice").await.unwrap(), Lookup::Active(found) if found.user == alice));
}

#[tokio::test]
async fn a_toml_file_says_in_which_line_it_is_wrong() {
    let scratch = Scratch::new();
    let good = format!("name = \"a\"\npassword = \"{}\"", hashed("x").await.expose());
    let cases = [
        ("[[users]]\nname = \"a\"".to_owned(), ":1: the user has no \"password\""),
        (format!("[[users]]\n{good}\nfoo = 1"), ":4: unknown key \"foo\""),
        (format!("[[users]]\n{good}\n[other]"), ":4: unknown key \"other\""),
        (format!("[[users]]\n{good}\ngroups = [\n\"a,b\"]"), ":5: a group name cannot be used"),
        (format!("[[users]]\n{good}\nemail = \"a\""), ":4: the e-mail address"),
        (format!("[[users]]\n{good}\nactive = \"yes\""), ":4: \"active\" must be true or false"),
        (format!("[[users]]\n{good}\n\n[[users]]\n{good}"), ":5: another user has the same name"),
        ("[[users]]\nname = \"a\"\npassword = \"hunter2\"".to_owned(), ":3: plain text"),
        ("[[users]]\nname = \"a\npassword = \"hunter2\"".to_owned(), ":2: "),
        ("users = 3".to_owned(), ":1: \"users\" must be a list of tables"),
    ];
    for (content, told) in cases {
        let path = scratch.write("users.toml", &content);
        let error = Directory::open(&users(UserSource::File(path)), None, Clock::System).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(told) && !text.contains("hunter2"), "{content}\n{text}");
    }
}

const PBKDF2: &str = "pbkdf2_sha256$1000$seasaltseasaltseasalt2$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=";

async fn a_foreign_hash_is_upgraded_at_login_and_the_mark_stays(place: Place) {
    let (store, directory) = over_store(&place).await;
    store.add("a", None, &[], &StoredHash::parse(PBKDF2).unwrap()).await.unwrap();
    let mark = CredentialMark::of(PBKDF2);
    assert_eq!(login(&directory, "a", "wrong").await, Login::Refused);
    let Login::Accepted(account) = login(&directory, "a", "correct horse").await else { panic!("refused") };
    assert_eq!(account.mark, mark);
    let upgraded = async {
        while !store.user_by_name("a").await.unwrap().unwrap().hash.starts_with("$argon2id$") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), upgraded).await.unwrap();
    let Login::Accepted(account) = login(&directory, "a", "correct horse").await else { panic!("refused") };
    assert_eq!(account.mark, mark);
    assert!(matches!(directory.find("1").await.unwrap(), Lookup::Active(found) if found.mark == mark));
    assert_eq!(login(&directory, "a", "wrong").await, Login::Refused);
    // Another password has another mark, also when it is set by hand.
    store.set_password("a", &hashed("new").await).await.unwrap();
    assert!(matches!(directory.find("1").await.unwrap(), Lookup::Active(found) if found.mark != mark));
    query("UPDATE users SET password_hash = $1, credential_mark = $2")
        .bind(PBKDF2)
        .bind([7_u8; 16].as_slice())
        .execute(&mut store.connection().await.unwrap())
        .await
        .unwrap();
    assert_eq!(store.user_by_name("a").await.unwrap().unwrap().mark, CredentialMark::from_bytes([7; 16]));
    store.run("UPDATE users SET password_hash = 'by hand'").await.unwrap();
    let found = store.user_by_name("a").await.unwrap().unwrap();
    assert_eq!(found.mark, CredentialMark::of("by hand"));
}

async fn an_upgrade_leaves_a_password_alone_that_was_changed(place: Place) {
    let (store, _) = over_store(&place).await;
    let (old, changed) = (hashed("old").await, hashed("changed").await);
    store.add("a", None, &[], &changed).await.unwrap();
    store.upgrade_password("1", &old, &hashed("old").await).await.unwrap();
    let found = store.user_by_name("a").await.unwrap().unwrap();
    assert_eq!((found.hash.as_str(), found.mark), (changed.expose(), changed.mark()));
}

async fn over_django(path: &Path, recheck: Duration) -> Directory {
    let users = config::DjangoUsers {
        database: config::DjangoDatabase::Sqlite(path.to_owned()),
        columns: config::DjangoColumns::default(),
        hashers: config::Hasher::USUAL.to_vec(),
        recheck,
    };
    let source = UserSource::Django(Box::new(users));
    Directory::open(&self::users(source), None, Clock::System).await.unwrap()
}

fn recorded_database(scratch: &Scratch) -> std::path::PathBuf {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/django-auth.sqlite3");
    scratch.write("django.sqlite3", std::fs::read(recorded).unwrap())
}

#[tokio::test]
async fn every_refusal_of_django_does_the_usual_work_of_the_table() {
    let scratch = Scratch::new();
    let directory = over_django(&recorded_database(&scratch), Duration::MAX).await;
    let iterations = std::num::NonZeroU32::new(1_000_000).unwrap();
    let usual = hash::Cost::Pbkdf2 { digest: hash::Pbkdf2Digest::Sha256, iterations };
    for (name, standing) in [
        ("user1", Standing::Active),
        ("gone", Standing::Barred),
        ("nobody", Standing::Barred),
        ("unusable", Standing::Barred),
        ("hash-md5", Standing::Barred),
        ("hash-bcrypt", Standing::Barred),
        ("", Standing::Barred),
    ] {
        let candidate = directory.candidate(name).await.unwrap();
        assert_eq!((candidate.hash.cost(), candidate.reference), (usual, usual), "{name}");
        assert_eq!(candidate.standing, standing, "{name}");
    }
}

#[tokio::test]
async fn ids_of_django_are_integers_and_changes_raise_the_epoch() {
    let scratch = Scratch::new();
    let path = recorded_database(&scratch);
    let directory = over_django(&path, Duration::ZERO).await;
    for id in ["abc", "", "01", "+1", "1.0", "99", "-1", "99999999999999999999"] {
        assert_eq!(directory.find(id).await.unwrap(), Lookup::Unknown, "{id}");
    }
    assert_eq!(directory.find("2").await.unwrap(), Lookup::Inactive);
    let Lookup::Active(before) = directory.find("4").await.unwrap() else { panic!("not active") };
    assert_eq!(before.user.groups, ["finance"]);
    directory.look().await;
    assert_eq!(epoch(&directory), 0);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut django = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let statement = "UPDATE auth_user SET password = '!' WHERE id = 4";
    sqlx::query(statement).execute(&mut django).await.unwrap();
    directory.look().await;
    assert_eq!(epoch(&directory), 1);
    assert!(matches!(directory.find("4").await.unwrap(), Lookup::Active(now) if now.mark != before.mark));
    directory.look().await;
    assert_eq!(epoch(&directory), 1);
}

on_both_stores!(
    store_users_log_in_by_name_and_password,
    a_disabled_deleted_or_changed_user_is_refused,
    every_refusal_does_the_same_work,
    the_epoch_follows_changes_by_others,
    watching_raises_the_epoch,
    a_store_that_cannot_be_read_refuses_nobody,
    a_stored_hash_that_cannot_be_run_is_an_error_without_the_hash,
    a_foreign_hash_is_upgraded_at_login_and_the_mark_stays,
    an_upgrade_leaves_a_password_alone_that_was_changed,
);
