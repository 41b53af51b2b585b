//! Names of header fields: those that the gateway owns, and when two names are one.
//!
//! CGI and WSGI servers map every byte of a name that is no letter or digit to one and the same character, so names are
//! compared by their letters and digits alone.

use http::HeaderName;

/// Removed from everybody: identity headers of every preset, credentials, and what frames or routes a message.
pub const OWNED: &[&str] = &[
    // The presets default, forwarded, remote-user and webauth.
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "remote-user",
    "remote-groups",
    "remote-name",
    "remote-email",
    "x-webauth-user",
    "x-webauth-name",
    "x-webauth-email",
    "x-webauth-fullname",
    "x-webauth-groups",
    "x-webauth-role",
    // Identity headers of other gateways, which an upstream may have learned to believe.
    "x-remote-user",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-authenticated-user",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-ssl-client-cert",
    "x-client-cert",
    "x-tollgate-assertion",
    // Credentials for the gateway.
    "authorization",
    "proxy-authorization",
    // Framing and routing: made anew for the upstream.
    "host",
    "content-length",
    "transfer-encoding",
    // Hop by hop (RFC 9110 section 7.6.1).
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    // A second method beside the one that was authorised.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Believed from a trusted proxy, removed from everybody else.
pub const FORWARDED: &[&str] = &[
    "forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-client-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-real-ip",
    "x-real-host",
    "x-host",
    "x-http-host",
    "x-http-destinationurl",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-forwarded-remote-addr",
    "remote-addr",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-rewrite-url",
    "x-request-id",
    "x-scheme",
    "x-url-scheme",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "fly-client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "front-end-https",
    "client-ip",
    // What a cloud's own gateway says of the user or of the client's certificate.
    "x-ssl-client-verify",
    "ssl-client-cert",
    "ssl-client-verify",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
];

/// The letters and digits of a name in lower case, without what CGI puts in front of it (`HTTP_`), however often.
pub fn plain(name: &str) -> String {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    let plain: String = letters.map(char::from).collect();
    plain.trim_start_matches("http").to_owned()
}

/// Whether a field may be taken for the one with this [`plain`] name.
pub fn is_alias(name: &HeaderName, plain: &str) -> bool {
    let mut name = name.as_str().as_bytes().iter().filter(|byte| byte.is_ascii_alphanumeric());
    loop {
        if name.clone().eq(plain.as_bytes()) {
            return true;
        }
        if !b"http".iter().all(|byte| name.next() == Some(byte)) {
            return false;
        }
    }
}

/// Whether a name is that of a field that the gateway owns, in some spelling. What a configuration adds to them is not
/// known here.
pub fn is_owned(name: &str) -> bool {
    let name = plain(name);
    OWNED.iter().chain(FORWARDED).any(|owned| plain(owned) == name)
}

/// Whether a field frames a message, is for one connection only, or opens a WebSocket: HTTP itself gives it its meaning.
pub fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "connection",
        "contentlength",
        "expect",
        "2settings",
        "keepalive",
        "proxyauthenticate",
        "proxyauthenticationinfo",
        "proxyauthorization",
        "proxyconnection",
        "te",
        "trailer",
        "transferencoding",
        "upgrade",
    ];
    let name = plain(name);
    NAMES.contains(&name.as_str()) || name.starts_with("secwebsocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_every_spelling() {
        for name in [
            "X-User-Id",
            "x_user_id",
            "HTTP_X_USER_ID",
            "http-http-x.user.id",
            "Authorization",
            "HOST",
            "via-x",
        ] {
            let expected = name != "via-x";
            assert_eq!(is_owned(name), expected, "{name}");
        }
        for name in
            ["Content_Length", "Transfer-Encoding", "TE", "HTTP2-Settings", "Sec-WebSocket-Key", "Connection"]
        {
            assert!(is_framing(name), "{name}");
        }
        assert!(!is_framing("X-Env") && !is_framing("Content-Type"));
    }

    #[test]
    fn an_alias_is_found_without_its_separators() {
        let alias = |name: &str| is_alias(&HeaderName::from_bytes(name.as_bytes()).unwrap(), "xenv");
        for name in ["x-env", "x_env", "http_x-env", "http-http-x.env", "xenv"] {
            assert!(alias(name), "{name}");
        }
        for name in ["x-env-2", "x-en", "http", "http-x", "env", "httpx-environment"] {
            assert!(!alias(name), "{name}");
        }
    }
}
