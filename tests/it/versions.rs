//! Gateways of two versions on one database: the newer one has added to the schema, and the older one goes on.

use std::fs;
use std::io;

use serde_json::json;
use tollgate::app::{self, StartError};
use tollgate::base::clock::Clock;
use tollgate::store::StoreError;

use crate::support::gateway::PASSWORD;
use crate::support::{Gateway, Setup, Upstream, in_postgresql, postgres_server, schema_of};

/// What a later version may add: columns, a table, an index, a trigger that writes of its own.
const LATER: &str = "
ALTER TABLE users ADD COLUMN later TEXT;
ALTER TABLE sessions ADD COLUMN later BIGINT NOT NULL DEFAULT 7;
ALTER TABLE token_keys ADD COLUMN later TEXT;
CREATE INDEX sessions_by_later ON sessions (later);
CREATE TABLE later (sid TEXT NOT NULL);
INSERT INTO revisions (topic, value) VALUES ('later', 0);
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO later (sid) VALUES (new.sid);
    PERFORM pg_notify('tollgate', 'later');
    RETURN NULL;
END $$;
CREATE TRIGGER later AFTER INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION later();
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9000, 'later', TRUE, '\\x00', 0);
";

/// Everything that goes through the store, at one gateway and the other.
fn life(one: &Gateway, two: &Gateway) {
    for (here, there) in [(one, two), (two, one)] {
        let (access, refresh) = here.login("alice", PASSWORD);
        there.client().get_as("/", &access).expect(200);
        let answer =
            there.client().post_json("/api/token/refresh/", &json!({"refresh": refresh})).expect(200);
        let (access, refresh) = there.tokens_of(&answer);
        here.client().get_as("/", &access).expect(200);
        here.client().post_json("/api/token/blacklist/", &json!({"refresh": refresh})).expect(200);
        here.client().get_as("/", &access).refused(401, "token_revoked");
    }
    let wrong = json!({"username": "alice", "password": "wrong"});
    one.client().post_json("/api/token/", &wrong).refused(401, "credentials_invalid");
}

#[test]
fn a_gateway_works_on_a_schema_that_is_one_migration_ahead() {
    in_postgresql(|| {
        let upstream = Upstream::echo();
        let setup = || Setup::guarded(&upstream).tokens("rotate_refresh = true\n");
        let one = setup();
        let (two, three) = (setup().store_of(&one), setup().store_of(&one));
        let (one, two) = (one.user("alice").start(), two.start());
        life(&one, &two);
        let server = postgres_server::shared().unwrap();
        let schema = schema_of(&one);
        let within = |sql: &str| {
            server.execute(&format!("SET search_path = {schema}; BEGIN; {sql} COMMIT"));
        };
        // Under the gateways that run, as when the first gateway of a later version starts.
        within(LATER);
        life(&one, &two);
        let three = three.start();
        life(&one, &three);
        // When something is taken away, who does not know of it does not start any more, and says why.
        within("UPDATE schema_compatibility SET oldest_migration = 9000;");
        let refused =
            app::Gateway::start(two.config.clone(), app::Origin::default(), Clock::System, io::sink());
        let Err(StartError::Store(StoreError::NewerSchema { version: 9000 })) = refused else {
            panic!("it started")
        };
        life(&two, &three);
    });
}

#[test]
fn migrations_only_add() {
    let mut files: Vec<_> =
        fs::read_dir("migrations/postgres").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3);
    // The first one makes everything, and nothing was there before.
    for path in files.iter().skip(1) {
        let text = fs::read_to_string(path).unwrap().to_uppercase();
        let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        let code = code.join(" ");
        if code.contains("UPDATE SCHEMA_COMPATIBILITY") {
            continue;
        }
        for word in ["DROP ", "RENAME ", "ALTER COLUMN", "TRUNCATE ", "DELETE FROM", "CREATE OR REPLACE"] {
            assert!(
                !code.contains(word),
                "{}: {word} takes something away from older gateways",
                path.display()
            );
        }
        for column in code.split("ADD COLUMN").skip(1) {
            let column = column.split([',', ';']).next().unwrap();
            let fits = !column.contains("NOT NULL") || column.contains("DEFAULT");
            assert!(fits, "{}: older gateways insert rows without {column}", path.display());
        }
    }
}
