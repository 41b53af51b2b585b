//! Who somebody is where there is no record to ask.

use serde_json::Value;

use crate::base::user::User;
use crate::tokens::Claims;

/// The user that a token speaks of, where there is no record to ask.
pub(super) fn claimed_user(claims: &Claims) -> User {
    let text = |name: &str| claims.other.get(name).and_then(Value::as_str).map(str::to_owned);
    let groups = claims.other.get("groups").and_then(Value::as_array);
    let mut groups: Vec<String> =
        groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    groups.sort_unstable();
    groups.dedup();
    User {
        id: claims.user_id.clone(),
        // Who issues no user names of its own kind may have those of OpenID Connect.
        name: text("username").or_else(|| text("preferred_username")).unwrap_or_default(),
        email: text("email"),
        groups,
    }
}
