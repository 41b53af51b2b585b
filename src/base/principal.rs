//! Somebody who was authenticated, and what upstreams were told of them.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::user::User;

/// How many introductions are kept of somebody who is told of to more sorts of upstreams.
const MAX_INTRODUCTIONS: usize = 8;

/// How many fields of an introduction lie in it: as many as are told of a user where nothing else is configured.
const INLINE_FIELDS: usize = 4;

/// How long all values of an introduction may be together to lie beside the count of those who share them, in bytes: both
/// fill a line of a processor's cache.
const INLINE_BYTES: usize = 55;

/// An authenticated user.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Nearly always there is one sort of upstreams.
    introductions: RefCell<SmallVec<[Rc<Introduction>; 1]>>,
    user: User,
}

/// The header fields in which upstreams of one sort are told of somebody.
#[derive(Debug)]
pub struct Introduction {
    /// Which sort: no two in the life of the process have the same number.
    pub sort: u64,
    fields: SmallVec<[(HeaderName, HeaderValue); INLINE_FIELDS]>,
    /// When they have to be made anew, in milliseconds since 1970.
    pub renewed_at_ms: i64,
}

impl Introduction {
    /// An introduction. It is made once and read for each request, so it lies as close together as it can.
    pub fn new(sort: u64, fields: Vec<(HeaderName, HeaderValue)>, renewed_at_ms: i64) -> Self {
        let mut bytes = shared(fields.iter().flat_map(|(_, value)| value.as_bytes()).copied().collect());
        let fields = fields.into_iter().map(|(name, value)| {
            let same = HeaderValue::from_maybe_shared(bytes.split_to(value.len()));
            // They are the bytes of a value.
            let mut same = same.unwrap_or_else(|_| value.clone());
            same.set_sensitive(value.is_sensitive());
            (name, same)
        });
        Self { sort, fields: fields.collect(), renewed_at_ms }
    }

    /// The fields.
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }
}

/// Few bytes, which lie where those who share them are counted.
struct Inline {
    bytes: [u8; INLINE_BYTES],
    length: u8,
}

impl AsRef<[u8]> for Inline {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// The bytes, for many who share them.
fn shared(all: Vec<u8>) -> Bytes {
    let mut bytes = [0; INLINE_BYTES];
    let (Some(room), Ok(length)) = (bytes.get_mut(..all.len()), u8::try_from(all.len())) else {
        return Bytes::from(all);
    };
    room.copy_from_slice(&all);
    Bytes::from_owner(Inline { bytes, length })
}

impl Principal {
    /// Somebody of whom nobody was told yet.
    pub fn new(user: User) -> Self {
        Self { introductions: RefCell::default(), user }
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
                principal.keep(&Rc::new(Introduction::new(sort, Vec::new(), renewed_at_ms)));
            }
        }
        assert!(principal.introduction(0).is_none());
        assert!((1..=last).all(|sort| principal.introduction(sort).unwrap().renewed_at_ms == 2));
    }

    #[test]
    fn an_introduction_says_what_it_was_given() {
        let lengths = [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 300, 70_000];
        let fields = lengths.map(|length| {
            let mut value = HeaderValue::try_from("v".repeat(length)).unwrap();
            value.set_sensitive(length % 2 == 0);
            (HeaderName::from_static("x-user-id"), value)
        });
        let said = |fields: &[(HeaderName, HeaderValue)]| {
            let introduction = Introduction::new(1, fields.to_vec(), 2);
            assert_eq!(introduction.fields(), fields);
            let sensitive = |(_, value): &(HeaderName, HeaderValue)| value.is_sensitive();
            assert!(introduction.fields().iter().map(sensitive).eq(fields.iter().map(sensitive)));
        };
        said(&fields);
        for field in fields {
            said(&[field]);
        }
        said(&[]);
    }
}
