//! `POST /api/token/blacklist/`: the logout. It ends the session of a refresh token, its access tokens included.

use super::answer::{self, Answer};
use super::{Inner, TokenRequest, refresh};
use crate::tokens::json::Members;

/// The answer; a refusal as `Err`.
pub(super) async fn answer(routes: &Inner, request: TokenRequest) -> Result<Answer, Answer> {
    let claims = refresh::refresh_token(routes, request).await?;
    let ended = routes.sessions.end(&claims).await;
    ended.map_err(|error| answer::session_refused(&error, &routes.realm))?;
    Ok(answer::success(&Members::new(), &claims.user_id))
}
