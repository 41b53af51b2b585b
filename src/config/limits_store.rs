//! `[limits_store]`: the Redis or Valkey server through which limits with `scope = "cluster"` are counted.

use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo as _};

use super::complaint::Complaint;
use super::database_url::{Shown, database_url};
use super::reader::{Located, Table};
use crate::base::secret::Secret;

/// How a URL is written.
const FORM: &str = "write \"rediss://USER:PASSWORD@HOST:6379/0\", with ${VARIABLE} for the password, or \"redis://HOST\" without TLS";

/// `[limits_store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsStore {
    /// The name or the address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of its database.
    pub database: i64,
    /// Who the gateway is there; `None` is the user that the server has for a password alone.
    pub user: Option<String>,
    /// With which it shows to be that.
    pub password: Option<Secret>,
    /// Whether TLS is spoken (`rediss://`).
    pub is_tls: bool,
    /// A PEM file with those who may sign the server's certificate; `None` is whom the system trusts.
    pub ca: Option<PathBuf>,
}

/// Reads `[limits_store]`; `None` when it is not there or has a problem.
pub(super) fn limits_store(root: &mut Table<'_>) -> Option<LimitsStore> {
    if !root.has("limits_store") {
        return None;
    }
    let mut table = root.table("limits_store");
    let reader = table.reader;
    let span = root.key_span("limits_store").unwrap_or(0..0);
    let is_given = super::database_url::URLS.into_iter().any(|key| table.has(key));
    if !is_given {
        reader.report(&span, Complaint::new("[limits_store] has no \"url\"").hint(FORM));
    }
    let url = database_url(&mut table, Shown::Never);
    let ca =
        table.text("ca").map(|located| Located { value: reader.resolve(&located.value), span: located.span });
    table.finish();
    let Located { value, span } = url?;
    let mut store = reader.accept(&span, parsed(&value))?;
    if let Some(Located { value, span }) = ca {
        if !store.is_tls {
            let complaint = Complaint::new("\"ca\" is for TLS, which \"redis://\" does not speak");
            reader.report(&span, complaint.hint("write \"rediss://\", or remove \"ca\""));
        }
        store.ca = Some(value);
    }
    Some(store)
}

/// No complaint holds a part of the URL, which may be a password in the wrong place.
fn parsed(url: &Secret) -> Result<LimitsStore, Complaint> {
    let wrong = || Complaint::new("not the URL of a Redis or Valkey server").hint(FORM);
    let text = std::str::from_utf8(url.expose()).map_err(|_| wrong())?;
    let (is_tls, rest) = match text.split_once("://") {
        Some(("redis" | "valkey", rest)) => (false, rest),
        Some(("rediss" | "valkeys", rest)) => (true, rest),
        Some(_) | None => return Err(wrong()),
    };
    if rest.contains(['?', '#']) {
        return Err(
            Complaint::new("the URL of the limits store has parameters, of which none is known").hint(FORM)
        );
    }
    // The library speaks no TLS here, so it need not know of it.
    let info = format!("redis://{rest}").into_connection_info().map_err(|_| wrong())?;
    let ConnectionAddr::Tcp(host, port) = info.addr().clone() else { return Err(wrong()) };
    let settings = info.redis_settings();
    Ok(LimitsStore {
        host,
        port,
        database: settings.db(),
        user: settings.username().map(str::to_owned),
        password: settings.password().map(|password| Secret::new(password.to_owned())),
        is_tls,
        ca: None,
    })
}

impl LimitsStore {
    /// Host and port, to be shown.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parsed = |text: &str| parsed(&Secret::new(text.to_owned()));
        let store = parsed("redis://cache").unwrap();
        assert_eq!((store.address().as_str(), store.database, store.is_tls), ("cache:6379", 0, false));
        assert_eq!((&store.user, &store.password), (&None, &None));
        let store = parsed("rediss://gate:p%40ss@[2001:db8::1]:7000/3").unwrap();
        assert_eq!((store.address().as_str(), store.database, store.is_tls), ("[2001:db8::1]:7000", 3, true));
        assert_eq!(store.user.as_deref(), Some("gate"));
        assert_eq!(store.password, Some(Secret::new("p@ss".to_owned())));
        for wrong in [
            "",
            "redis",
            "redis://",
            "http://a",
            "redis://a/x",
            "redis://a:hunter2/",
            "redis+unix:///hunter2",
            "redis://a?x=hunter2",
            "rediss://hunter2@a#insecure",
        ] {
            let complaint = parsed(wrong).unwrap_err();
            assert!(!format!("{complaint:?}").contains("hunter2"), "{wrong}: {complaint:?}");
        }
    }
}
