//! The keys of `gateway.toml` that have a home, for hints about keys that stand elsewhere, and which keys are secret.

use super::complaint::nearest;

/// Keys, and the table where each belongs.
const HOMES: [(&str, &[&str]); 17] = [
    (
        "[server]",
        &[
            "listen",
            "http_redirect",
            "admin",
            "admin_token_file",
            "admin_token_env",
            "admin_hosts",
            "trusted_proxies",
            "workers",
            "drain_timeout",
            "watch_config",
        ],
    ),
    (
        "[server.limits]",
        &[
            "max_connections_per_network",
            "max_header_bytes",
            "max_headers",
            "header_timeout",
            "body_timeout",
            "min_rate",
        ],
    ),
    ("[server.limits] or [[routes]]", &["max_body"]),
    ("[tls]", &["min_version", "certificates", "client_auth"]),
    ("[[tls.certificates]]", &["hosts", "cert"]),
    ("[tls.client_auth]", &["mode"]),
    ("[store]", &["url", "statement_timeout", "stale_policy", "stale_after"]),
    (
        "[tokens]",
        &[
            "issuer",
            "audience",
            "access_lifetime",
            "refresh_lifetime",
            "session_lifetime",
            "rotate_refresh",
            "reuse_grace",
            "leeway",
            "stream_grace",
            "user_id_claim",
            "claims",
            "realm",
            "key_encryption_key_file",
            "key_encryption_key_env",
            "key_rotation_delay",
        ],
    ),
    ("[[tokens.keys]]", &["kid", "alg", "secret", "secret_file", "secret_env", "verify_until"]),
    ("[users]", &["source"]),
    ("[users.hashing]", &["memory", "iterations", "max_memory"]),
    (
        "[upstreams.NAME]",
        &[
            "targets",
            "balance",
            "hash_on",
            "connect_timeout",
            "response_timeout",
            "queue_timeout",
            "retries",
            "retry_budget",
            "slow_start",
            "resolve_interval",
            "max_requests",
            "health_check",
            "ejection",
            "host_header",
            "identity",
            "identity_encoding",
            "identity_max_bytes",
            "assertion",
            "forward_token",
        ],
    ),
    ("[limits.NAME]", &["rate", "burst", "scope"]),
    (
        "[[routes]]",
        &[
            "strip_prefix",
            "rewrite",
            "redirect",
            "cors",
            "accept",
            "host",
            "methods",
            "auth",
            "allow",
            "deny",
            "enforce",
            "upstream",
            "timeout",
        ],
    ),
    ("allow or deny of [[routes]]", &["scopes", "match"]),
    ("[log]", &["server_timing", "otlp"]),
    ("[log.otlp]", &["endpoint", "sample", "headers_file", "headers_env", "service_name"]),
];

/// Keys that have several homes, or such common names that nothing is said about their home.
const MORE: [&str; 24] = [
    "path",
    "name",
    "file",
    "ca",
    "user",
    "headers",
    "level",
    "format",
    "access",
    "attempts",
    "window",
    "duration",
    "max_connections",
    "max_queue",
    "idle_timeout",
    "tls",
    "server_name",
    "client_cert",
    "keys",
    "table",
    "hashers",
    "groups",
    "email",
    "recheck",
];

/// What is said about an unknown key: what was meant, where it belongs, or which keys there are.
pub(super) fn hint(key: &str, label: &str, known: &[&'static str]) -> String {
    let home = HOMES.iter().find(|(_, keys)| keys.contains(&key)).map(|(home, _)| *home);
    // A key that belongs to the very table of which it is said would help nobody.
    if let Some(home) = home.filter(|home| !home.contains(label)) {
        return format!("\"{key}\" belongs in {home}");
    }
    if let Some(word) = nearest(key, known.iter().copied()) {
        return format!("did you mean \"{word}\"?");
    }
    format!("{label} has {}", known.join(", "))
}

/// Whether it is known which key was meant by one that is not known in its table. The value of any other may be a secret.
pub(super) fn is_understood(key: &str, known: &[&'static str]) -> bool {
    let elsewhere = HOMES.iter().any(|(_, keys)| keys.contains(&key));
    let misspelt = nearest(key, known.iter().copied()).is_some();
    (elsewhere || misspelt) && !is_secret(key) && !key.contains("secret")
}

/// Whether the value of a key is shown in a text that cannot be parsed, where nobody can say in which table the key is:
/// only when it is secret in no table.
pub(super) fn is_plain(key: &str) -> bool {
    let home = HOMES.iter().any(|(_, keys)| keys.contains(&key));
    (home || MORE.contains(&key)) && !key.contains("secret")
}

/// Whether there may be secrets in the value of a key, under whatever names.
pub(super) fn may_hold_secrets(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let near = |word: &str| key.len() <= 64 && strsim::damerau_levenshtein(&lower, word) <= 3;
    lower.contains("credential") || lower.contains("bearer") || near("credentials")
}

/// Whether the value of a key is a secret, or may be meant as one: the names are compared generously.
pub(super) fn is_secret(key: &str) -> bool {
    const NOT_ITSELF: [&str; 4] =
        ["secret_file", "secret_env", "key_encryption_key_file", "key_encryption_key_env"];
    if NOT_ITSELF.contains(&key) || key.len() > 64 {
        return false;
    }
    let lower = key.to_ascii_lowercase();
    let near = |word: &str, most: usize| strsim::damerau_levenshtein(&lower, word) <= most;
    lower.contains("secret")
        || lower.contains("passw")
        || lower.contains("encryption")
        || near("secret", 2)
        || near("key_encryption_key", 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_secrets_are_secret_and_other_keys_are_not() {
        for key in [
            "secret",
            "Secret",
            "secrets",
            "sercet",
            "secert",
            "hmac_secret",
            "password",
            "secret_fil",
            "key_encryption_key",
            "key_encrypton_key",
            "encryption_key",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for (_, keys) in HOMES {
            for key in keys.iter().filter(|key| **key != "secret") {
                assert!(!is_secret(key), "{key}");
            }
        }
        for key in ["server", "users", "tokens", "tests", "set", "store", "keys"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
