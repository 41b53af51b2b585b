//! `POST /api/token/refresh/`: a refresh token for an access token.

use super::answer::{self, Answer};
use super::{Inner, Lookup, TokenRequest, body};
use crate::base::reason::Reason;
use crate::base::user::User;
use crate::tokens::Expected;
use crate::tokens::json::Members;

/// The answer; a refusal as `Err`.
pub(super) async fn answer(routes: &Inner, request: TokenRequest) -> Result<Answer, Answer> {
    let fields =
        body::read(request.content_type.as_ref(), request.body).await.map_err(answer::body_refused)?;
    let mut errors = Members::new();
    let Some(token) = fields.text("refresh", &mut errors) else { return Err(answer::field_errors(&errors)) };
    // Blanks around a token are trimmed as simplejwt does: clients read tokens from files that end with a newline.
    let claims = routes
        .verifier
        .verify(token.trim().as_bytes(), Expected::Refresh)
        .map_err(|fault| answer::token_refused(fault, &routes.realm))?;
    let lookup = routes.people.find(&claims.user_id).await.map_err(answer::people_unavailable)?;
    let user = match lookup {
        Lookup::Active(account) => account.user,
        Lookup::Unmanaged => {
            User { id: claims.user_id.clone(), name: claims.user_id.clone(), email: None, groups: Vec::new() }
        }
        Lookup::Inactive => return Err(answer::account_refused(Reason::UserInactive, &routes.realm)),
        Lookup::Unknown => return Err(answer::account_refused(Reason::UserNotFound, &routes.realm)),
    };
    let access = routes.issuer.refresh(&claims, &user).map_err(|error| answer::not_issued(&error))?;
    Ok(answer::success(&Members::new().with("access", access), &user.id))
}
