//! The real program, as a process of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::http1::Stream;
use crate::people::{PASSWORD, USERS, name_of};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    address: SocketAddr,
    connectors: Option<[TlsConnector; 2]>,
    place: PathBuf,
}

impl Gateway {
    /// Makes a directory with configuration and users, and starts the program on it.
    pub(crate) fn start(program: &Path, place: &Path, targets: &[String], tls: bool) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        let config = place.join("gateway.toml");
        let mut text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"\"\nworkers = 2\ndrain_timeout = \"5s\"\n\
             [tokens]\nrotate_refresh = true\n\
             [users.hashing]\nmemory = \"64KiB\"\niterations = 1\n\
             [upstreams.echo]\ntargets = {targets:?}\nconnect_timeout = \"2s\"\nresponse_timeout = \"10s\"\n\
             [[routes]]\npath = \"/\"\nauth = \"required\"\nupstream = \"echo\"\n\
             [log]\naccess = false\n"
        );
        let connectors = if tls { Some(certify(place, &mut text)?) } else { None };
        fs::write(&config, text)?;
        let hash = output(program, &config, &["hash-password"], PASSWORD)?;
        let users: Vec<String> =
            (0..USERS).map(|user| format!("{}:{}\n", name_of(user), hash.trim())).collect();
        let list = place.join("users.htpasswd");
        fs::write(&list, users.concat())?;
        output(program, &config, &["user", "import", "--from", &list.display().to_string()], "")?;

        let mut process = Command::new(program)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(place.join("errors"))?)
            .spawn()?;
        let said = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (tell, told) = mpsc::channel();
        let mut log = File::create(place.join("log"))?;
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let _full = writeln!(log, "{line}").is_err();
                if let Some(address) = serves_at(&line) {
                    let _late = tell.send(address).is_err();
                }
            }
        });
        let address = told.recv_timeout(PATIENCE).map_err(|_| {
            let errors = fs::read_to_string(place.join("errors")).unwrap_or_default();
            io::Error::other(format!("the gateway does not start: {errors}"))
        })?;
        Ok(Self { process, address, connectors, place: place.to_owned() })
    }

    pub(crate) fn tls(&self) -> bool {
        self.connectors.is_some()
    }

    /// A connection for `"http/1.1"` or `"h2"`.
    pub(crate) async fn dial(&self, protocol: &str) -> io::Result<Box<dyn Stream>> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(connectors) = &self.connectors else { return Ok(Box::new(stream)) };
        let connector = &connectors[usize::from(protocol == "h2")];
        let name = ServerName::try_from("gw.test").map_err(io::Error::other)?;
        let stream = connector.connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(protocol.as_bytes()) {
            return Err(io::Error::other("another protocol was chosen"));
        }
        Ok(Box::new(stream))
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> io::Result<ExitStatus> {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        self.process.wait()
    }

    /// What it said of panics and errors.
    pub(crate) fn complaints(place: &Path) -> Vec<String> {
        let said = ["log", "errors"].map(|name| fs::read_to_string(place.join(name)).unwrap_or_default());
        let lines = said.iter().flat_map(|text| text.lines());
        lines
            .filter(|line| line.contains("panicked") || line.contains("\"ERROR\""))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended_before = self.process.kill().is_err();
        let _reaped = self.process.wait().is_ok();
    }
}

/// The address in the line that says that the gateway is ready.
fn serves_at(line: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["message"] == "the gateway serves").then(|| event["listen"].as_str()?.parse().ok())?
}

/// Writes a certificate and names it in the configuration; gives clients that trust it.
fn certify(place: &Path, text: &mut String) -> io::Result<[TlsConnector; 2]> {
    let made = rcgen::generate_simple_self_signed(vec!["gw.test".to_owned()]).map_err(io::Error::other)?;
    fs::write(place.join("cert.pem"), made.cert.pem())?;
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.join("key.pem"))?;
    key.write_all(made.signing_key.serialize_pem().as_bytes())?;
    text.push_str(
        "[tls]\n[[tls.certificates]]\nhosts = [\"gw.test\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n",
    );
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(["http/1.1", "h2"].map(|protocol| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    }))
}

/// Runs a command of the program to its end and gives what it printed.
fn output(program: &Path, config: &Path, words: &[&str], input: &str) -> io::Result<String> {
    let mut process = Command::new(program)
        .args(words)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = process.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let done = process.wait_with_output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(io::Error::other(format!("{words:?}: {said}")))
}
