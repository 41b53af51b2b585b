//! A PostgreSQL server for the tests of this process, in a directory and on a port of its own. It ends with the process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PASSWORD: &str = "postgres-secret";

/// Runs the server until nobody holds its standard input any more.
const KEEPER: &str = "\"$@\" & server=$!; read -r _; kill -INT $server; wait $server; rm -rf \"$0\"";

/// The server.
pub(crate) struct Server {
    programs: PathBuf,
    port: u16,
    /// It runs as long as this has its standard input.
    _keeper: Child,
}

/// The one server of this process; `None` where PostgreSQL is not installed.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::start_with("shared", |_| Vec::new())).as_ref()
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    found.retain(|path| path.join("initdb").exists());
    found.sort();
    found.pop()
}

/// The server refuses to run as root.
fn unprivileged(program: &Path) -> Vec<String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let program = program.display().to_string();
    if !root {
        return vec![program];
    }
    let words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned);
    words.into_iter().chain([program]).collect()
}

impl Server {
    /// Starts one, with what `prepare` writes into its directory, and the arguments that it returns.
    pub(crate) fn start_with(name: &str, prepare: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let programs = programs()?;
        let name = format!("tollgate-postgres-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        // The server's user writes into it, whoever that is.
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
        let (word, data) = (directory.join("password"), directory.join("data"));
        std::fs::write(&word, PASSWORD).unwrap();
        let init = unprivileged(&programs.join("initdb"));
        let made = quiet(&init)
            .args([
                "--username=tollgate",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg("--pwfile")
            .arg(&word)
            .arg("-D")
            .arg(&data)
            .status()
            .unwrap();
        assert!(made.success(), "initdb");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&directory)
            .args(unprivileged(&programs.join("postgres")))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "max_connections=400", "-k"])
            .arg(&directory)
            .args(prepare(&directory))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .unwrap();
        let server = Self { programs, port, _keeper: keeper };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !server.psql("SELECT 1").status.success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not answer");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Some(server)
    }

    pub(crate) fn psql(&self, sql: &str) -> Output {
        Command::new(self.programs.join("psql"))
            .args(["-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "tollgate", "-d", "postgres"])
            .args(["-p", &self.port.to_string(), "-qc", sql])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        let output = self.psql(sql);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The URL of the whole database.
    pub(crate) fn url(&self, password: &str) -> String {
        format!("postgres://tollgate:{password}@127.0.0.1:{}/postgres", self.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a schema that nobody else uses, and its name.
    pub(crate) fn empty_schema(&self) -> (String, String) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("schema_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE SCHEMA {name}"));
        (format!("{}?options=-csearch_path%3D{name}", self.url(PASSWORD)), name)
    }
}

fn quiet(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir("/");
    command
}
