//! `tollgate demo`: a gateway, a sample API and a user, all in one process and gone when it ends.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::{CommandError, Exit};
use super::{run, sample, user};
use crate::app::{Gateway, Origin, StartError};
use crate::base::clock::Clock;
use crate::base::ids;
use crate::base::secret::Secret;
use crate::config::{self, Config, Environment};
use crate::lifecycle::Signals;
use crate::store::Store;

const USERNAME: &str = "demo";

/// Runs the demonstration until a signal ends it. With `json` only one line is printed, for programs.
///
/// # Errors
///
/// A [`CommandError`] when it cannot start.
pub fn demo(json: bool, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let signals = Signals::install().map_err(CommandError::System)?;
    let directory = Directory::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sample")
        .enable_all()
        .build()
        .map_err(CommandError::System)?;
    let (listener, upstream) = runtime.block_on(sample::listen()).map_err(CommandError::System)?;
    runtime.spawn(sample::serve(listener));
    let config = configuration(upstream, &directory.0)?;
    let password = ids::random_id().map_err(|error| CommandError::System(io::Error::other(error)))?;
    runtime.block_on(add_user(&config, &password))?;
    let gateway = Gateway::start(config, Origin::default(), Clock::System, io::stderr())
        .map_err(CommandError::Start)?;
    let address = gateway.addresses().first().copied();
    let address = address.ok_or_else(|| CommandError::System(io::ErrorKind::AddrNotAvailable.into()))?;
    let text = if json { line(address, &password) } else { commands(address, upstream, &password) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)?;
    run::outcome(signals.attend(gateway))
}

/// A directory of our own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, CommandError> {
        let id = ids::random_id().map_err(|error| CommandError::System(io::Error::other(error)))?;
        let path = std::env::temp_dir().join(format!("tollgate-demo-{id}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(CommandError::Write(path, error)),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "the directory could not be removed");
        }
    }
}

fn configuration(upstream: SocketAddr, directory: &Path) -> Result<Config, CommandError> {
    let text = format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[upstreams.sample]
targets = ["http://{upstream}"]
[[routes]]
name = "public"
path = "/public"
auth = "public"
upstream = "sample"
[[routes]]
name = "api"
path = "/"
auth = "required"
upstream = "sample"
[log]
level = "warn"
format = "pretty"
access = false
"#
    );
    config::parse(&text, "demo", directory, &Environment::default()).map_err(CommandError::Config)
}

async fn add_user(config: &Config, password: &str) -> Result<(), CommandError> {
    let store = Store::connect(&config.store).await;
    let store = store.map_err(|error| CommandError::Start(StartError::Store(error)))?;
    let (hashing, password) = (&config.users.hashing, Secret::new(password));
    let added = user::add(&store, hashing, USERNAME, None, &[], &password, &mut io::sink()).await;
    store.close().await;
    added.map_err(CommandError::User)
}

/// One line, with the members in an order that people like too.
fn line(address: SocketAddr, password: &str) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let (url, username, password) = (text(&format!("http://{address}")), text(USERNAME), text(password));
    format!("{{\"url\":{url},\"username\":{username},\"password\":{password}}}\n")
}

/// Commands that work as they are printed, in any shell and without tools other than curl, sed and this program.
fn commands(address: SocketAddr, upstream: SocketAddr, password: &str) -> String {
    let program = program();
    let login = format!("curl -s http://{address}/api/token/ -d username={USERNAME} -d password={password}");
    format!(
        r#"The gateway is http://{address}, and a sample API is behind it on {upstream}.
There is one user, "{USERNAME}", with the password {password}

Log in, which gives two tokens:
  {login}
Keep them:
  ACCESS=$({login} | sed 's/.*"access":"\([^"]*\)".*/\1/')
  REFRESH=$({login} | sed 's/.*"refresh":"\([^"]*\)".*/\1/')
Call the API, which learns who is calling and cannot be lied to:
  curl -s http://{address}/api/user/ -H "Authorization: Bearer $ACCESS"
  curl -s http://{address}/anything -H "Authorization: Bearer $ACCESS" -H "X-User-Id: 1000"
Get another access token:
  curl -s http://{address}/api/token/refresh/ -d refresh=$REFRESH
Call without a token, which is refused, except where a route is public:
  curl -si http://{address}/api/user/
  curl -s http://{address}/public
Test how much it bears, and what the gateway adds to the API:
  echo {password} | {program} bench http://{address}/api/user/ --user {USERNAME} --compare http://{upstream}/api/user/ --rate 500/s

Ctrl-C ends it, and nothing is left behind.
"#
    )
}

/// This program as a shell finds it.
fn program() -> String {
    let path = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    match path {
        Some(path) if path.chars().all(plain) => path,
        Some(path) => format!("'{}'", path.replace('\'', "'\\''")),
        None => "tollgate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_configuration_loads_and_one_line_is_json() {
        let address: SocketAddr = "127.0.0.1:9000".parse().unwrap();
        let config = configuration(address, Path::new("/x")).unwrap();
        assert!(!config.log.access && config.store.file().unwrap().starts_with("/x"));
        let line = line(address, "secret");
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["url"], "http://127.0.0.1:9000");
        assert_eq!((&value["username"], &value["password"]), (&json!("demo"), &json!("secret")));
    }

    #[test]
    fn the_password_is_never_an_argument_of_the_load_test() {
        let address: SocketAddr = "127.0.0.1:9000".parse().unwrap();
        let text = commands(address, address, "s3cret");
        let line = text.lines().find(|line| line.contains(" bench ")).unwrap();
        assert!(
            line.trim_start().starts_with("echo s3cret | ") && line.matches("s3cret").count() == 1,
            "{line}"
        );
    }

    #[test]
    fn the_directory_is_closed_to_others_and_goes() {
        let directory = Directory::new().unwrap();
        let path = directory.0.clone();
        assert_eq!(crate::store::scratch::Scratch::mode(&path), 0o700);
        drop(directory);
        assert!(!path.exists());
    }
}
