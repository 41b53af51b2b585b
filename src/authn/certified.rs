//! Callers who show a certificate instead of a token.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::cache::Epochs;
use super::{Authenticator, AuthnError, Known, TokenLife};
use crate::base::principal::Principal;
use crate::base::user::User;
use crate::sessions::Binding;
use crate::users::Lookup;

/// Whom the certificate of a connection names. The user is looked up once, and again after some user has changed.
pub struct Certified {
    name: Box<str>,
    valid_until_ms: i64,
    known: RefCell<Option<(Epochs, Rc<Known>)>>,
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Certified {
    /// A user's name out of a certificate that passed, and when the certificate ends, in seconds since 1970.
    pub fn new(name: &str, not_after: i64) -> Self {
        let valid_until_ms = not_after.saturating_add(1).saturating_mul(1000);
        Self { name: name.into(), valid_until_ms, known: RefCell::default() }
    }
}

impl Authenticator {
    /// The user whom a certificate names; `None` when the certificate has ended while its connection went on.
    pub(super) async fn certified(&self, certified: &Certified) -> Result<Option<Rc<Known>>, AuthnError> {
        let now = self.epochs();
        let now_ms = self.clock.now_unix_ms();
        if certified.valid_until_ms <= now_ms {
            return Ok(None);
        }
        let before = certified.known.borrow().clone();
        if let Some((seen, known)) = &before
            && *seen == now
        {
            return Ok(Some(Rc::clone(known)));
        }
        self.unless_stale()?;
        let user = match (self.look_up_named(&certified.name).await, before) {
            (Ok(user), _) => user,
            // A caller who is known goes on while the store cannot be read, as tokens do.
            (Err(AuthnError::StoreUnavailable), Some((_, known))) => return Ok(Some(known)),
            (Err(error), _) => {
                certified.known.take();
                return Err(error);
            }
        };
        let binding = Binding {
            session: None,
            user_id: user.id.as_str().into(),
            // What is revoked from now on ends what this request opens.
            issued_at_ms: Some(now_ms),
            recorded: false,
            verified_by: None,
        };
        let token = TokenLife {
            valid_until_ms: certified.valid_until_ms,
            binding: Rc::new(binding),
            revocations_seen: now.revocations,
        };
        let known = Rc::new(Known { token, principal: Principal::new(user), claims: None });
        certified.known.replace(Some((now, Rc::clone(&known))));
        Ok(Some(known))
    }

    async fn look_up_named(&self, name: &str) -> Result<User, AuthnError> {
        let (directory, name) = (self.directory.clone(), name.to_owned());
        let task = self.control.spawn(async move {
            match directory.find_named(&name).await {
                Ok(Lookup::Active(account)) => Ok(account.user),
                // Where the gateway has no users, the certificate says who somebody is.
                Ok(Lookup::Unmanaged) => Ok(User { id: name.clone(), name, email: None, groups: Vec::new() }),
                Ok(Lookup::Inactive) => Err(AuthnError::UserInactive),
                Ok(Lookup::Unknown) => Err(AuthnError::UserNotFound),
                Err(_) => Err(AuthnError::StoreUnavailable),
            }
        });
        task.await.unwrap_or(Err(AuthnError::StoreUnavailable))
    }
}
