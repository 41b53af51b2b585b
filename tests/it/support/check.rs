//! The one checker: every answer and every log of every test goes through it.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::Value;
use tollgate::base::reason::Reason;
use tollgate::http::problem;

use super::client::Response;
use super::wire::find;

/// What is known of one gateway's answers and secrets.
#[derive(Default)]
pub(crate) struct Ledger {
    answers: Mutex<Vec<(String, u16)>>,
    secrets: Mutex<Vec<Vec<u8>>>,
    chosen_ids: Mutex<Vec<String>>,
}

/// The mark of answers that an upstream made.
pub(crate) const UPSTREAM_MARK: &str = "x-upstream";

impl Ledger {
    /// Something that must be seen neither in an answer nor in the log.
    pub(crate) fn keep_secret(&self, secret: impl Into<Vec<u8>>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "too short to be looked for");
        self.secrets.lock().unwrap().push(secret);
    }

    /// A token: its signature is a secret.
    pub(crate) fn keep_token_secret(&self, token: &str) {
        if let Some((_, signature)) = token.rsplit_once('.')
            && signature.len() >= 8
        {
            self.keep_secret(signature);
        }
    }

    /// A request id that a trusted proxy chose.
    pub(crate) fn choose_id(&self, id: &str) {
        self.chosen_ids.lock().unwrap().push(id.to_owned());
    }

    /// Checks an answer: whatever the test is about, all of this holds.
    pub(crate) fn check(&self, method: &str, response: &Response) {
        let shown = || format!("{method} -> {response:?}");
        let status = response.status;
        let line = &response.head.line;
        // A client of HTTP/1.0 is answered in its version.
        let plain = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 ")).is_some_and(|rest| {
            rest.len() >= 4
                && rest.as_bytes()[..3].iter().all(u8::is_ascii_digit)
                && rest.as_bytes()[3] == b' '
        });
        assert!(plain && (100..600).contains(&status), "status line: {}", shown());
        let id = response.request_id();
        let own_id =
            id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let chosen = self.chosen_ids.lock().unwrap().iter().any(|chosen| chosen == id);
        assert!(own_id || chosen, "request id: {}", shown());
        for name in ["keep-alive", "proxy-connection", "te", "proxy-authenticate", "http2-settings"] {
            assert!(!response.head.fields.has(name), "{name}: {}", shown());
        }
        // Who has to change says to what (RFC 9110 section 15.5.22).
        let (upgrade, connections) = match status {
            426 => (Some("websocket"), &["upgrade"][..]),
            _ => (None, &["close", "keep-alive"][..]),
        };
        assert_eq!(response.head.fields.one("upgrade"), upgrade, "{}", shown());
        if let Some(connection) = response.head.fields.one("connection") {
            assert!(connections.contains(&connection), "connection: {}", shown());
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "content-type",
            "date",
            "www-authenticate",
            "allow",
            "retry-after",
        ] {
            assert!(response.head.fields.all(name).len() <= 1, "{name} twice: {}", shown());
        }
        if status >= 400 && !response.head.fields.has(UPSTREAM_MARK) {
            check_refusal(method, response);
        }
        let issued = status == 200 && response.is_json() && response.json().get("access").is_some();
        for secret in self.secrets.lock().unwrap().iter() {
            assert!(find(&response.head.raw, secret).is_none(), "a secret in the head of an answer");
            assert!(issued || find(&response.body, secret).is_none(), "a secret in the body of an answer");
        }
        self.answers.lock().unwrap().push((id.to_owned(), status));
    }

    /// Checks what the gateways of this process say of themselves.
    pub(crate) fn check_events(&self, log: &[u8]) {
        check_lines(log, &self.secrets.lock().unwrap());
    }

    /// Checks a whole log, after the gateway has ended.
    pub(crate) fn check_log(&self, log: &[u8]) {
        check_lines(log, &self.secrets.lock().unwrap());
        let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
        for line in access_lines(log) {
            lines.entry(text(&line, "request_id")).or_default().push(line);
        }
        let chosen = self.chosen_ids.lock().unwrap();
        for (id, lines) in &lines {
            assert!(lines.len() == 1 || chosen.contains(id), "two access lines of one request: {lines:?}");
        }
        for (id, status) in self.answers.lock().unwrap().iter() {
            let Some(lines) = lines.get(id) else {
                panic!("no access line of request {id} with status {status}")
            };
            let matching = |line: &&Value| line["status"] == *status;
            assert!(
                lines.iter().any(|line| matching(&line)),
                "the log says another status than {status}: {lines:?}"
            );
        }
    }
}

/// Every line is one JSON object, plain text, without secrets.
pub(crate) fn check_lines(log: &[u8], secrets: &[Vec<u8>]) {
    assert!(log.is_empty() || log.ends_with(b"\n"), "half a line at the end of the log");
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = std::str::from_utf8(line).expect("the log is not UTF-8");
        assert!(!text.chars().any(char::is_control), "a control character in the log: {text:?}");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(value.is_object(), "no object: {text}");
    }
    let log = String::from_utf8_lossy(log);
    for secret in secrets {
        let secret = String::from_utf8_lossy(secret);
        assert!(!log.contains(&*secret), "a secret in the log: {secret}");
    }
}

/// The lines of requests.
pub(crate) fn access_lines(log: &[u8]) -> Vec<Value> {
    log.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|line| line["event"] == "request")
        .collect()
}

fn check_refusal(method: &str, response: &Response) {
    let shown = || format!("{method} -> {response:?}");
    let kind = response.head.fields.one("content-type").unwrap_or_default();
    assert!(matches!(kind, "application/problem+json" | "application/json"), "content type: {}", shown());
    assert_eq!(response.head.fields.one("cache-control"), Some("no-store"), "{}", shown());
    if response.status == 401 {
        let challenge = response.head.fields.one("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer realm=\"api\""), "challenge: {}", shown());
    }
    if response.status == 405 {
        assert!(response.head.fields.has("allow"), "405 without Allow: {}", shown());
    }
    if response.status == 503 && kind == "application/problem+json" {
        assert!(response.head.fields.has("retry-after"), "503 without Retry-After: {}", shown());
    }
    if response.status == 429 {
        let seconds = response.head.fields.one("retry-after").map(str::parse::<u64>);
        assert!(matches!(seconds, Some(Ok(1..))), "429 without Retry-After: {}", shown());
    }
    if method == "HEAD" {
        assert!(response.body.is_empty());
        return;
    }
    let body = response.json();
    assert!(body.is_object(), "body: {}", shown());
    // The errors of single fields are exactly simplejwt's, without anything of ours.
    if kind == "application/problem+json" || body.get("status").is_some() {
        assert_eq!(body["status"], response.status, "{}", shown());
        assert_eq!(text(&body, "request_id"), response.request_id(), "{}", shown());
        let word = text(&body, "reason");
        let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word);
        let reason = reason.unwrap_or_else(|| panic!("an unknown reason: {}", shown()));
        assert_eq!(problem::status(reason).as_u16(), response.status, "{}", shown());
        for name in ["type", "title", "detail"] {
            assert!(body[name].is_string(), "{name}: {}", shown());
        }
    } else {
        assert_eq!(response.status, 400, "{}", shown());
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
