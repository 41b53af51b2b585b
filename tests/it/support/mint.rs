//! Tokens made by hand, good and bad.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The signing secret of every gateway that is not asked to make a key.
pub(crate) const SECRET: &str = "contract-secret-key-0123456789abcdef-0123456789";
/// Its id.
pub(crate) const KID: &str = "contract";

/// Claims of an access token that ends `lifetime` seconds after `now`, both in seconds.
pub(crate) fn claims(user_id: &str, now: i64, lifetime: i64) -> Value {
    json!({
        "token_type": "access", "exp": now + lifetime, "iat": now, "user_id": user_id,
        "jti": format!("{user_id:0>30}{:02x}", lifetime & 0xff),
    })
}

/// An access token with the gateway's own key.
pub(crate) fn access(user_id: &str, now: i64, lifetime: i64) -> String {
    sign(&json!({"alg": "HS256", "typ": "JWT", "kid": KID}), &claims(user_id, now, lifetime), SECRET)
}

/// A token of any header and claims. The algorithm of the header is obeyed; `none` has no signature.
pub(crate) fn sign(header: &Value, claims: &Value, key: &str) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let algorithm = match header["alg"].as_str().unwrap_or_default() {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return format!("{signed}."),
    };
    let signature = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// The claims that a token carries.
pub(crate) fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The header that a token carries.
pub(crate) fn header(token: &str) -> Value {
    let part = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
