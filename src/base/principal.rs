//! Somebody who was authenticated, and what upstreams were told of them.

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderName, HeaderValue};

use super::user::User;

/// How many introductions are kept of somebody who is told of to more sorts of upstreams.
const MAX_INTRODUCTIONS: usize = 8;

/// An authenticated user. Made once per token, then shared by every request with it.
#[derive(Debug)]
pub struct Principal {
    user: User,
    introductions: RefCell<Vec<Rc<Introduction>>>,
}

/// The header fields in which upstreams of one sort are told of somebody.
#[derive(Debug)]
pub struct Introduction {
    /// Which sort: no two in the life of the process have the same number.
    pub sort: u64,
    /// The fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// When they have to be made anew, in milliseconds since 1970.
    pub renewed_at_ms: i64,
}

impl Principal {
    /// Somebody of whom nobody was told yet.
    pub fn new(user: User) -> Self {
        Self { user, introductions: RefCell::default() }
    }

    /// The record of the user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The introduction that was kept for upstreams of a sort.
    pub fn introduction(&self, sort: u64) -> Option<Rc<Introduction>> {
        self.introductions.borrow().iter().find(|kept| kept.sort == sort).map(Rc::clone)
    }

    /// Keeps an introduction in place of the one before, and forgets the oldest when there are many.
    pub fn keep(&self, introduction: &Rc<Introduction>) {
        let mut kept = self.introductions.borrow_mut();
        kept.retain(|other| other.sort != introduction.sort);
        if kept.len() >= MAX_INTRODUCTIONS {
            kept.remove(0);
        }
        kept.push(Rc::clone(introduction));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_introductions_are_kept_one_of_each_sort() {
        let user = User { id: "1".to_owned(), name: String::new(), email: None, groups: Vec::new() };
        let principal = Principal::new(user);
        assert!(principal.introduction(0).is_none());
        let last = u64::try_from(MAX_INTRODUCTIONS).unwrap();
        for sort in 0..=last {
            for renewed_at_ms in [1, 2] {
                principal.keep(&Rc::new(Introduction { sort, fields: Vec::new(), renewed_at_ms }));
            }
        }
        assert!(principal.introduction(0).is_none());
        assert!((1..=last).all(|sort| principal.introduction(sort).unwrap().renewed_at_ms == 2));
    }
}
