//! The configuration that `tollgate init` writes.

use std::fmt::Write as _;

/// A short `gateway.toml` with comments: every path goes to `upstream_url`, with a token only.
///
/// It loads as it is when `upstream_url` is a valid target (`http://host:port`); parse it to learn whether it is.
pub fn starter(upstream_url: &str) -> String {
    TEMPLATE.replace("UPSTREAM", &basic_string(upstream_url))
}

const TEMPLATE: &str = r#"# Tollgate: check this file with "tollgate check", start with "tollgate run".

[server]
listen = ["127.0.0.1:8080"]       # where clients connect
admin  = "127.0.0.1:9911"         # /healthz and /readyz; "" = off

# Users live in data/tollgate.db, beside this file. Make one:
#   tollgate user add alice
# They get their tokens at POST /api/token/ (username and password) and POST /api/token/refresh/,
# and send them as "Authorization: Bearer <access>". Without [[tokens.keys]], a key is made in data/keys/.
[tokens]
access_lifetime  = "30m"
refresh_lifetime = "1d"

[upstreams.api]
targets = [UPSTREAM]

# The most specific route wins, whatever the order. The upstream learns who is calling from X-User-Id,
# X-User-Name, X-User-Email and X-User-Groups, which no client can set.
[[routes]]
path     = "/"                    # this and everything below; "=/x" is exactly /x
auth     = "required"             # required | optional | public
upstream = "api"
"#;

/// A TOML string.
fn basic_string(text: &str) -> String {
    let mut literal = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => literal.extend(['\\', letter]),
            // Writing to a string cannot fail.
            _ if letter.is_control() => {
                let _ = write!(literal, "\\u{:04X}", u32::from(letter));
            }
            _ => literal.push(letter),
        }
    }
    literal.push('"');
    literal
}
