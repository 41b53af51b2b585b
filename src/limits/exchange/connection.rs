//! A connection to the limits store, and what is said over it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::base::bounds;
use crate::config::LimitsStore;
use crate::limits::rates::cluster::{Answer, Question};

const COUNT: &str = include_str!("count.lua");
const PRESENCE: &str = include_str!("presence.lua");

/// What all names in the store begin with.
const PREFIX: &str = "tollgate:limit:";
/// Where gateways say that they are there.
const GATEWAYS: &str = "tollgate:limits:gateways";
/// For how many milliseconds one counts that has said so.
const PRESENT_MS: u32 = 3000;

/// Why the store could not be asked.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// It did not answer in time.
    TimedOut,
    /// No connection could be made.
    Unreachable(io::Error),
    /// TLS cannot be used.
    Tls(io::Error),
    /// The store has refused, or the connection broke off.
    Refused(RedisError),
    /// It has answered something else than it should.
    Nonsense,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "it did not answer within {} ms", bounds::LIMITS_STORE_TIMEOUT_MS),
            Self::Unreachable(error) => write!(f, "no connection: {error}"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
            Self::Refused(error) => error.fmt(f),
            Self::Nonsense => f.write_str("it answers something else than it was asked"),
        }
    }
}

impl std::error::Error for ExchangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::Tls(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::TimedOut | Self::Nonsense => None,
        }
    }
}

/// A connection. It ends when it is dropped.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    count: Script,
    presence: Script,
    /// What reads and writes.
    _driver: JoinSet<()>,
}

/// A script, which the store knows by a digest once it has seen it.
struct Script {
    text: &'static str,
    digest: String,
}

impl Connection {
    /// Connects, and shows who the gateway is.
    pub(super) async fn open(settings: &LimitsStore) -> Result<Self, ExchangeError> {
        in_time(async {
            let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await;
            let stream = stream.map_err(ExchangeError::Unreachable)?;
            stream.set_nodelay(true).map_err(ExchangeError::Unreachable)?;
            if !settings.is_tls {
                return Self::over(stream, settings).await;
            }
            let connector = tls(settings.ca.as_deref()).map_err(ExchangeError::Tls)?;
            let name = ServerName::try_from(settings.host.clone()).map_err(io::Error::other);
            let stream = connector.connect(name.map_err(ExchangeError::Tls)?, stream).await;
            Self::over(stream.map_err(ExchangeError::Tls)?, settings).await
        })
        .await
    }

    async fn over<S>(stream: S, settings: &LimitsStore) -> Result<Self, ExchangeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
        if let Some(user) = &settings.user {
            info = info.set_username(user);
        }
        if let Some(password) = &settings.password {
            info = info.set_password(String::from_utf8_lossy(password.expose()));
        }
        let opened =
            MultiplexedConnection::new_with_config(&info, stream, AsyncConnectionConfig::new()).await;
        let (redis, driver) = opened.map_err(ExchangeError::Refused)?;
        let mut running = JoinSet::new();
        running.spawn(driver);
        let mut connection = Self {
            redis,
            count: Script { text: COUNT, digest: String::new() },
            presence: Script { text: PRESENCE, digest: String::new() },
            _driver: running,
        };
        connection.count.digest = connection.load(COUNT).await?;
        connection.presence.digest = connection.load(PRESENCE).await?;
        Ok(connection)
    }

    /// Tells what has passed and asks for those that wait. There is an answer for each question.
    pub(super) async fn count(
        &mut self,
        questions: &[Question],
        was_alone: bool,
    ) -> Result<Vec<Answer>, ExchangeError> {
        let names =
            questions.iter().map(|question| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(question.name)));
        let names: Vec<String> = names.collect();
        let mut arguments = vec![i64::from(was_alone)];
        for question in questions {
            let Question { spent, ahead_us, wanted, interval_ns, capacity_us, .. } = *question;
            let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            arguments.extend([spent.into(), ahead_us, wanted.into(), large(interval_ns), large(capacity_us)]);
        }
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(names.len()).arg(&names).arg(&arguments);
            command
        };
        let numbers: Vec<i64> = in_time(run(&mut self.redis, &self.count, command)).await?;
        let answers: Vec<Answer> = numbers
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [ahead_us, granted] => {
                    Some(Answer { ahead_us: *ahead_us, granted: u32::try_from(*granted).ok()? })
                }
                _ => None,
            })
            .collect();
        if answers.len() == questions.len() { Ok(answers) } else { Err(ExchangeError::Nonsense) }
    }

    /// Says that this gateway is there, and returns how many are.
    pub(super) async fn present(&mut self, gateway: &str) -> Result<u32, ExchangeError> {
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(1).arg(GATEWAYS).arg(gateway).arg(PRESENT_MS);
            command
        };
        in_time(run(&mut self.redis, &self.presence, command)).await
    }

    async fn load(&mut self, script: &str) -> Result<String, ExchangeError> {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(script);
        command.query_async(&mut self.redis).await.map_err(ExchangeError::Refused)
    }
}

/// Runs a script by its digest; where the store has forgotten it, by its text, which it then remembers.
async fn run<T: redis::FromRedisValue>(
    redis: &mut MultiplexedConnection,
    script: &Script,
    command: impl Fn(&str, &str) -> Cmd,
) -> Result<T, ExchangeError> {
    let outcome = command("EVALSHA", &script.digest).query_async(redis).await;
    match outcome {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            command("EVAL", script.text).query_async(redis).await.map_err(ExchangeError::Refused)
        }
        outcome => outcome.map_err(ExchangeError::Refused),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, ExchangeError>>) -> Result<T, ExchangeError> {
    let most = Duration::from_millis(bounds::LIMITS_STORE_TIMEOUT_MS);
    tokio::time::timeout(most, work).await.unwrap_or(Err(ExchangeError::TimedOut))
}

fn tls(ca: Option<&Path>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let mut pem = Vec::new();
            File::open(path)?.take(bounds::MAX_FILE_BYTES).read_to_end(&mut pem)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(io::Error::other(
            "there is no certificate to trust: set \"ca\", or install those of the system",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
