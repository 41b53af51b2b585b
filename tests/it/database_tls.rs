//! TLS to the database: a server that is who it says is believed, and no other one; there is no way down to the clear.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tollgate::base::secret::Secret;
use tollgate::config::{self, StorePlace};
use tollgate::store::{Store, StoreError};

use crate::support::http2::Authority;
use crate::support::postgres_server::{self, PASSWORD, Server};
use crate::support::{DEADLINE, Scratch};

/// A server that speaks TLS as `localhost`.
struct Database {
    server: Server,
    /// The authority that has signed its certificate.
    ca: PathBuf,
    /// One of the same name that has not.
    other_ca: PathBuf,
    _files: Scratch,
}

impl Database {
    fn start() -> Option<Self> {
        let (authority, other, files) = (Authority::new(), Authority::new(), Scratch::new());
        let pair = authority.sign_all(&["localhost"], false);
        let server = Server::start_with("tls", |directory| {
            let (cert, key) = (directory.join("server.crt"), directory.join("server.key"));
            std::fs::write(&cert, &pair.cert).unwrap();
            std::fs::write(&key, &pair.key).unwrap();
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
            // The server refuses a key that somebody else owns; who may not give it away is the server's user.
            let _own = Command::new("chown").arg("postgres").arg(&key).output().is_ok();
            let setting = |name: &str, file: PathBuf| format!("{name}={}", file.display());
            let settings =
                [setting("ssl_cert_file", cert), setting("ssl_key_file", key), "ssl=on".to_owned()];
            settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
        })?;
        let (ca, other_ca) = (files.path().join("ca.pem"), files.path().join("other.pem"));
        std::fs::write(&ca, authority.pem()).unwrap();
        std::fs::write(&other_ca, other.pem()).unwrap();
        Some(Self { server, ca, other_ca, _files: files })
    }

    /// Tries to open a store in it as `host`.
    fn open(&self, host: &str, mode: &str, ca: Option<&PathBuf>) -> Result<(), StoreError> {
        let ca = ca.map_or_else(String::new, |ca| format!("&sslrootcert={}", ca.display()));
        open(
            &format!(
                "postgres://tollgate:{PASSWORD}@{host}:{}/postgres?sslmode={mode}{ca}",
                self.server.port()
            ),
            |store| {
                // The connections that are open now are encrypted, all of them.
                let encrypted = "SELECT 1 / (SELECT CASE WHEN count(*) > 0 AND bool_and(ssl) THEN 1 ELSE 0 END \
                             FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tollgate')";
                let runtime = tokio::runtime::Handle::current();
                tokio::task::block_in_place(|| runtime.block_on(store.sealed_keys())).unwrap();
                self.server.execute(encrypted);
            },
        )
    }
}

fn open(url: &str, then: impl FnOnce(&Store)) -> Result<(), StoreError> {
    let usual = config::Store::in_file(PathBuf::new());
    let settings = config::Store { place: StorePlace::Postgres(Secret::new(url)), ..usual };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::connect(&settings).await?;
        then(&store);
        store.close().await;
        Ok(())
    })
}

/// Refused because of what the server has shown, without a word of the password.
#[track_caller]
fn refused(opened: Result<(), StoreError>, why: &str) {
    let Err(error) = opened else { panic!("it was believed") };
    assert!(matches!(error, StoreError::CannotConnect { .. }), "{error:?}");
    let told = format!("{error} {error:?}");
    assert!(told.contains(why) && !told.contains(PASSWORD), "{told}");
}

#[test]
fn a_database_is_believed_by_its_certificate_and_its_name() {
    let Some(database) = Database::start() else {
        println!("no PostgreSQL on this machine, nothing was tested");
        return;
    };
    let ca = Some(&database.ca);
    database.open("localhost", "verify-full", ca).unwrap();
    // It is the same server under a name that its certificate does not have.
    refused(database.open("127.0.0.1", "verify-full", ca), "certificate");
    database.open("127.0.0.1", "verify-ca", ca).unwrap();
    // An authority of the same name, and those that the machine knows.
    for mode in ["verify-full", "verify-ca"] {
        refused(database.open("localhost", mode, Some(&database.other_ca)), "certificate");
        refused(database.open("localhost", mode, None), "certificate");
    }
    database.open("127.0.0.1", "require", None).unwrap();
}

#[test]
fn who_asks_for_tls_never_speaks_without_it() {
    for mode in ["require", "verify-ca", "verify-full"] {
        if let Some(server) = postgres_server::shared() {
            let url = format!("{}?sslmode={mode}", server.url(PASSWORD));
            refused(open(&url, |_| {}), "TLS");
        }
        // Somebody in between who says that there is no TLS hears nothing more.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let between = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"N").unwrap();
            let mut more = Vec::new();
            stream.read_to_end(&mut more).unwrap();
            (request, more)
        });
        refused(
            open(&format!("postgres://tollgate:{PASSWORD}@127.0.0.1:{port}/d?sslmode={mode}"), |_| {}),
            "TLS",
        );
        let (request, more) = between.join().unwrap();
        // SSLRequest (PostgreSQL's manual, "Message Formats").
        assert_eq!(request, [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
        assert!(more.is_empty(), "{mode}: {} bytes in the clear", more.len());
    }
}

#[test]
fn a_database_that_hangs_up_in_the_handshake_is_no_way_around_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let between = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        // It says yes and shows no certificate.
        stream.write_all(b"S").unwrap();
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        hello
    });
    let opened =
        open(&format!("postgres://tollgate:{PASSWORD}@127.0.0.1:{port}/d?sslmode=verify-full"), |_| {});
    assert!(matches!(opened, Err(StoreError::CannotConnect { .. })), "{opened:?}");
    // A record of TLS with a handshake in it, and nothing in the clear.
    assert_eq!(between.join().unwrap()[..2], [0x16, 0x03]);
}
