//! Somebody who was authenticated, with what is known of them in the form of header values.

use std::rc::Rc;

use http::HeaderValue;

use super::claims::ClaimValues;
use super::user::User;

/// An authenticated user. Made once per token, then shared by every request with it.
#[derive(Debug)]
pub struct Principal {
    user: User,
    claims: Rc<ClaimValues>,
    id: FieldValue,
    name: FieldValue,
    email: FieldValue,
    groups: FieldValue,
}

/// A field of a user as a header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// There is nothing to say.
    Absent,
    /// This value, which is the field unchanged; text beyond ASCII is UTF-8.
    Fits(HeaderValue),
    /// The field has a control character, white space at an end, or a separator inside a list: no header can say it.
    Unfit,
}

impl Principal {
    /// Prepares the header values of a user, who has shown a token that says so much.
    pub fn new(user: User, claims: Rc<ClaimValues>) -> Self {
        let id = FieldValue::of(&user.id);
        let name = FieldValue::of(&user.name);
        let email = user.email.as_deref().map_or(FieldValue::Absent, FieldValue::of);
        let groups = FieldValue::of_list(&user.groups);
        Self { user, claims, id, name, email, groups }
    }

    /// The record that the values come from.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// What the token says of the claims that the configuration asks for.
    pub fn claims(&self) -> &Rc<ClaimValues> {
        &self.claims
    }

    /// The user id.
    pub fn id(&self) -> &FieldValue {
        &self.id
    }

    /// The login name.
    pub fn name(&self) -> &FieldValue {
        &self.name
    }

    /// The e-mail address.
    pub fn email(&self) -> &FieldValue {
        &self.email
    }

    /// The groups, joined with commas.
    pub fn groups(&self) -> &FieldValue {
        &self.groups
    }
}

impl FieldValue {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self::Absent;
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Self::Unfit;
        }
        HeaderValue::from_bytes(text.as_bytes()).map_or(Self::Unfit, Self::Fits)
    }

    fn of_list(items: &[String]) -> Self {
        if items.iter().any(|item| item.contains(',') || Self::of(item) == Self::Unfit || item.is_empty()) {
            return Self::Unfit;
        }
        Self::of(&items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(id: &str, groups: &[&str]) -> Principal {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let user = User { id: id.to_owned(), name: "zo\u{eb}".to_owned(), email: None, groups };
        Principal::new(user, Rc::default())
    }

    #[test]
    fn values_are_the_fields_unchanged() {
        let principal = principal("7", &["admin", "finance"]);
        assert_eq!(*principal.id(), FieldValue::Fits(HeaderValue::from_static("7")));
        assert_eq!(
            *principal.name(),
            FieldValue::Fits(HeaderValue::from_bytes("zo\u{eb}".as_bytes()).unwrap())
        );
        assert_eq!(*principal.email(), FieldValue::Absent);
        assert_eq!(*principal.groups(), FieldValue::Fits(HeaderValue::from_static("admin,finance")));
    }

    #[test]
    fn what_no_header_can_say_is_not_cut() {
        for id in ["a\nb", "a\0", " a", "a ", "a\u{85}b", "\u{a0}a"] {
            assert_eq!(*principal(id, &[]).id(), FieldValue::Unfit, "{id:?}");
        }
        assert_eq!(*principal("1", &["a,b"]).groups(), FieldValue::Unfit);
        assert_eq!(*principal("1", &["a", ""]).groups(), FieldValue::Unfit);
        assert_eq!(*principal("1", &[]).groups(), FieldValue::Absent);
    }
}
