//! Finding out who shows a token that is not remembered, or of which something may have changed.

use std::rc::Rc;

use super::cache::{Entry, Epochs};
use super::claimed::claimed_user;
use super::{Authenticator, AuthnError, Known, TokenLife};
use crate::base::principal::Principal;
use crate::base::user::User;
use crate::sessions::{Binding, SessionError};
use crate::tokens::Expected;
use crate::users::Lookup;

impl Authenticator {
    /// The user of any other token.
    pub(super) async fn user(&self, token: &[u8]) -> Result<Rc<Known>, AuthnError> {
        let now = self.epochs();
        let entry = self.cache.borrow_mut().find(token).cloned();
        match entry {
            Some(entry) if self.clock.now_unix_ms() < entry.known.token.valid_until_ms => {
                self.look_again(token, entry, now).await
            }
            // One that has expired is verified once more so that the refusal names what is wrong now.
            Some(_) | None => {
                self.cache.borrow_mut().remove(token);
                self.user_of_unknown_token(token, now).await
            }
        }
    }

    async fn user_of_unknown_token(&self, token: &[u8], now: Epochs) -> Result<Rc<Known>, AuthnError> {
        self.unless_stale()?;
        let claims = self.verifier.verify(token, Expected::Access).map_err(AuthnError::Token)?;
        let looked = self.look_up(claims.user_id.clone(), Binding::of(&claims)).await?;
        let life = TokenLife {
            valid_until_ms: claims.valid_until_ms,
            binding: Rc::new(looked.binding),
            revocations_seen: now.revocations,
        };
        let principal = Principal::new(looked.user.unwrap_or_else(|| claimed_user(&claims)));
        let known = Known { token: life, principal, claims: self.asked.hold(&claims.other) };
        Ok(self.remember(token, known, now))
    }

    /// Remembers what is known of a token at this time.
    fn remember(&self, token: &[u8], known: Known, now: Epochs) -> Rc<Known> {
        let known = Rc::new(known);
        self.cache.borrow_mut().insert(token, Entry { known: Rc::clone(&known), users_seen: now.users });
        known
    }

    /// Something was revoked or some user has changed since the token was last looked at: is it this one?
    async fn look_again(&self, token: &[u8], entry: Entry, now: Epochs) -> Result<Rc<Known>, AuthnError> {
        self.unless_stale()?;
        let Entry { known, users_seen } = entry;
        let user = known.principal.user();
        let binding = &known.token.binding;
        if known.token.revocations_seen != now.revocations && self.revocations.has(binding) {
            self.cache.borrow_mut().remove(token);
            // It is refused whatever is found; but of a user who was switched off that is what is said.
            return Err(match self.look_up(user.id.clone(), Binding::clone(binding)).await {
                Err(error @ (AuthnError::UserInactive | AuthnError::UserNotFound)) => error,
                Ok(_) | Err(_) => AuthnError::Revoked,
            });
        }
        let mut renewed = Known::clone(&known);
        renewed.token.revocations_seen = now.revocations;
        if users_seen == now.users {
            return Ok(self.remember(token, renewed, now));
        }
        match self.look_up(user.id.clone(), Binding::clone(binding)).await {
            Ok(Looked { user: looked, binding }) => {
                if let Some(changed) = looked.filter(|looked| looked != user) {
                    renewed.principal = Principal::new(changed);
                }
                renewed.token.binding = Rc::new(binding);
                Ok(self.remember(token, renewed, now))
            }
            // A token that is known goes on while the store cannot be read; what is known of revocations still holds.
            Err(AuthnError::StoreUnavailable) => Ok(known),
            Err(error) => {
                self.cache.borrow_mut().remove(token);
                Err(error)
            }
        }
    }

    /// The user's record as it is now, and whether the session goes on.
    async fn look_up(&self, id: String, binding: Binding) -> Result<Looked, AuthnError> {
        let (directory, sessions) = (self.directory.clone(), self.sessions.clone());
        let task = self.control.spawn(async move {
            let (user, mark) = match directory.find(&id).await {
                Ok(Lookup::Active(account)) => (Some(account.user), Some(account.mark)),
                Ok(Lookup::Unmanaged) => (None, None),
                Ok(Lookup::Inactive) => return Err(AuthnError::UserInactive),
                Ok(Lookup::Unknown) => return Err(AuthnError::UserNotFound),
                Err(_) => return Err(AuthnError::StoreUnavailable),
            };
            match sessions.admit(binding, mark).await {
                Ok(binding) => Ok(Looked { user, binding }),
                Err(SessionError::Revoked | SessionError::Expired) => Err(AuthnError::Revoked),
                Err(SessionError::Unavailable(_) | SessionError::Randomness(_) | SessionError::Clock(_)) => {
                    Err(AuthnError::StoreUnavailable)
                }
            }
        });
        task.await.unwrap_or(Err(AuthnError::StoreUnavailable))
    }
}

/// What a look at the user and the session has found.
struct Looked {
    /// The record; `None` where the gateway has no users of its own.
    user: Option<User>,
    binding: Binding,
}
