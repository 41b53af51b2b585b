//! `POST /api/token/refresh/`: a refresh token for an access token, and with rotation for its successor.

use super::answer::{self, Answer};
use super::{Inner, Lookup, TokenRequest, body};
use crate::base::reason::Reason;
use crate::base::user::User;
use crate::tokens::json::Members;
use crate::tokens::{Claims, Expected};

/// The answer; a refusal as `Err`.
pub(super) async fn answer(routes: &Inner, request: TokenRequest) -> Result<Answer, Answer> {
    let claims = refresh_token(routes, request).await?;
    let lookup = routes.people.find(&claims.user_id).await.map_err(answer::people_unavailable)?;
    let (user, mark) = match lookup {
        Lookup::Active(account) => (account.user, Some(account.mark)),
        Lookup::Unmanaged => {
            let (id, name) = (claims.user_id.clone(), claims.user_id.clone());
            (User { id, name, email: None, groups: Vec::new() }, None)
        }
        Lookup::Inactive => return Err(answer::account_refused(Reason::UserInactive, &routes.realm)),
        Lookup::Unknown => return Err(answer::account_refused(Reason::UserNotFound, &routes.realm)),
    };
    let granted = routes.sessions.refresh(&claims, mark).await;
    let grant = granted.map_err(|error| answer::session_refused(&error, &routes.realm))?;
    let pair = routes.issuer.refresh(&claims, &user, &grant).map_err(|error| answer::not_issued(&error))?;
    let mut members = Members::new().with("access", pair.access);
    if let Some(refresh) = pair.refresh {
        members.push("refresh", refresh);
    }
    Ok(answer::success(&members, &user.id))
}

/// The claims of the refresh token in a request.
pub(super) async fn refresh_token(routes: &Inner, request: TokenRequest) -> Result<Claims, Answer> {
    let token = token(request, "refresh").await?;
    let claims = routes.verifier.verify(token.trim().as_bytes(), Expected::Refresh);
    claims.map_err(|fault| answer::token_refused(fault, &routes.realm))
}

/// A token in the body of a request. Blanks around it do not count, as in simplejwt: clients read tokens from files that
/// end with a newline.
pub(super) async fn token(request: TokenRequest, field: &'static str) -> Result<String, Answer> {
    let fields =
        body::read(request.content_type.as_ref(), request.body).await.map_err(answer::body_refused)?;
    let mut errors = Members::new();
    fields.text(field, &mut errors).ok_or_else(|| answer::field_errors(&errors))
}
