//! `[log.otlp]`: where spans go.

use http::uri::Uri;
use http::{HeaderName, HeaderValue};

use super::Target;
use super::address;
use super::complaint::{Complaint, quoted};
use super::kind::Kind;
use super::reader::Table;
use super::secrets;
use crate::base::secret::Secret;

/// Where the collector takes traces, below what the file gives (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";

/// `[log.otlp]`: a collector of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is; over HTTP or HTTPS.
    pub target: Target,
    /// Its `Host`.
    pub authority: HeaderValue,
    /// Where it takes traces.
    pub path: Uri,
    /// Of a million traces that begin here, how many are recorded.
    pub sample_millionths: u32,
    /// Sent with every batch, such as a key; never shown.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the gateway is called in traces.
    pub service_name: String,
}

/// Reads `[log.otlp]`; `None` when it is not there.
pub(super) fn otlp(log: &mut Table<'_>) -> Option<Otlp> {
    let is_there = log.has("otlp");
    let mut table = log.table("otlp");
    if is_there {
        table.require(
            "endpoint",
            "add endpoint = \"http://127.0.0.1:4318\", where a collector takes OTLP over HTTP",
        );
    }
    let endpoint = table.parsed("endpoint", Kind::Text, endpoint);
    let sample_millionths = table.millionths("sample");
    let service_name = table.parsed("service_name", Kind::Text, service_name);
    let secret = secrets::file_or_variable(&mut table, "headers_file", "headers_env");
    let headers = secret.and_then(|secret| {
        let read = headers(&secret.value);
        table.reader.accept(&secret.span, read)
    });
    table.hide_unknown();
    table.finish();
    let (target, path) = endpoint?;
    Some(Otlp {
        authority: HeaderValue::try_from(target.authority()).ok()?,
        target,
        path,
        sample_millionths: sample_millionths.unwrap_or(1_000_000),
        headers: headers.unwrap_or_default(),
        service_name: service_name.unwrap_or_else(|| "tollgate".to_owned()),
    })
}

/// `http://host:port` or `https://host:port`, and a path that stands before the usual one.
fn endpoint(text: &str) -> Result<(Target, Uri), Complaint> {
    let form = "write \"http://host:4318\" or \"https://host\", with a path if the collector has one";
    let fault = || Complaint::new(format!("{} is not the address of a collector", quoted(text))).hint(form);
    let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let target = address::target(&format!("{scheme}://{authority}"))?;
    if !matches!(target, Target::Http(_) | Target::Https(_)) {
        return Err(fault());
    }
    let path = path.trim_end_matches('/');
    let path = if path.ends_with(TRACES_PATH) { path.to_owned() } else { format!("{path}{TRACES_PATH}") };
    Ok((target, Uri::try_from(path).map_err(|_| fault())?))
}

fn service_name(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
        return Err(Complaint::new(format!("{} is not a name of a service", quoted(text))));
    }
    Ok(text.to_owned())
}

/// `name=value`, several of them with a comma between, as `OTEL_EXPORTER_OTLP_HEADERS` has them.
fn headers(secret: &Secret) -> Result<Vec<(HeaderName, HeaderValue)>, Complaint> {
    let fault = || {
        Complaint::new("what is sent to the collector is not a list of header fields")
            .hint("write name=value, and a comma before each further one: \"api-key=…,x-scope=…\"")
    };
    let text = std::str::from_utf8(secret.expose()).map_err(|_| fault())?;
    text.split(',')
        .map(|field| {
            let (name, value) = field.split_once('=').ok_or_else(fault)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| fault())?;
            let mut value = HeaderValue::try_from(value.trim()).map_err(|_| fault())?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect()
}
