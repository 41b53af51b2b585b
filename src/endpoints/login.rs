//! `POST /api/token/`: a user name and a password for a pair of tokens.

use super::answer::{self, Answer};
use super::{Inner, Login, TokenRequest, body};
use crate::base::secret::Secret;
use crate::tokens::json::Members;

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
    let login = routes.people.authenticate(&name, &password).await.map_err(answer::people_unavailable)?;
    let account = match login {
        Login::Accepted(account) => account,
        Login::Refused => return Err(answer::credentials_refused(&routes.realm)),
    };
    let user = &account.user;
    let begun = routes.sessions.begin(&user.id, account.mark).await;
    let grant = begun.map_err(|error| answer::session_refused(&error, &routes.realm))?;
    let pair = routes.issuer.login(user, &grant).map_err(|error| answer::not_issued(&error))?;
    let members = Members::new().with("refresh", pair.refresh).with("access", pair.access);
    Ok(answer::success(&members, &user.id))
}
