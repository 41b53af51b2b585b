//! `POST /api/token/verify/`: whether a token of any kind is good. Its user is not looked at, as in simplejwt.

use super::answer::{self, Answer};
use super::{Inner, TokenRequest, refresh};
use crate::tokens::json::Members;

/// The answer; a refusal as `Err`.
pub(super) async fn answer(routes: &Inner, request: TokenRequest) -> Result<Answer, Answer> {
    let token = refresh::token(request, "token").await?;
    let claims = routes.verifier.verify_any(token.trim().as_bytes());
    let claims = claims.map_err(|fault| answer::token_refused(fault, &routes.realm))?;
    let good = routes.sessions.check(&claims).await;
    good.map_err(|error| answer::session_refused(&error, &routes.realm))?;
    Ok(answer::success(&Members::new(), &claims.user_id))
}
