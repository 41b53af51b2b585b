//! `POST /api/token/`: a user name and a password for a pair of tokens.

use std::net::IpAddr;

use http::HeaderValue;

use super::answer::{self, Answer};
use super::{Inner, Login, Lookup, TokenRequest, body};
use crate::base::secret::Secret;
use crate::limits::{Attempt, Origin};
use crate::tokens::Expected;
use crate::tokens::json::Members;
use crate::users::normal_name;

/// The answer; a refusal as `Err`.
pub(super) async fn answer(routes: &Inner, request: TokenRequest) -> Result<Answer, Answer> {
    let fields =
        body::read(request.content_type.as_ref(), request.body).await.map_err(answer::body_refused)?;
    let mut errors = Members::new();
    let name = fields.text("username", &mut errors);
    let password = fields.text("password", &mut errors);
    let (Some(name), Some(password)) = (name, password) else { return Err(answer::field_errors(&errors)) };
    // Neither is trimmed: simplejwt does that, and locks out everybody whose password begins or ends with a blank.
    let password = Secret::new(password);
    let attempt = admit(routes, &name, request.client, request.authorization.as_ref()).await?;
    let account = match routes.people.authenticate(&name, &password).await {
        Ok(Login::Accepted(account)) => {
            attempt.succeed();
            account
        }
        Ok(Login::Refused) => {
            attempt.fail().await;
            return Err(answer::credentials_refused(&routes.realm));
        }
        Err(error) => {
            attempt.give_back();
            return Err(answer::people_unavailable(error));
        }
    };
    let user = &account.user;
    let begun = routes.sessions.begin(&user.id, account.mark).await;
    let grant = begun.map_err(|error| answer::session_refused(&error, &routes.realm))?;
    let pair = routes.issuer.login(user, &grant).map_err(|error| answer::not_issued(&error))?;
    let members = Members::new().with("refresh", pair.refresh).with("access", pair.access);
    Ok(answer::success(&members, &user.id))
}

/// Takes a place in the count of failures, before anything is hashed.
async fn admit(
    routes: &Inner,
    name: &str,
    client: IpAddr,
    authorization: Option<&HeaderValue>,
) -> Result<Attempt, Answer> {
    // A text that is no name is nobody's name; all of them are counted as one.
    let name = normal_name(name).unwrap_or_default();
    let session = match authorization {
        Some(authorization) => live_session(routes, &name, authorization).await,
        None => None,
    };
    let origin = session.as_deref().map_or(Origin::Network(client), Origin::Session);
    routes.lockout.admit(&name, origin).await.map_err(answer::blocked)
}

/// The session of a Bearer token that this very user still has. It has a count of its own, so that nobody else's guesses
/// lock out somebody who is logged in. A token that does not pass is ignored, as simplejwt ignores it here.
async fn live_session(routes: &Inner, name: &str, authorization: &HeaderValue) -> Option<String> {
    let (scheme, token) = authorization.as_bytes().split_at_checked("bearer ".len())?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let claims = routes.verifier.verify(token.trim_ascii(), Expected::Access).ok()?;
    routes.sessions.check(&claims).await.ok()?;
    let Ok(Lookup::Active(account)) = routes.people.find(&claims.user_id).await else { return None };
    // Tokens without a session share one count: their number is not bounded by logins.
    (normal_name(&account.user.name).as_deref() == Ok(name)).then(|| claims.session.unwrap_or_default())
}
