//! A user as the gateway knows it, wherever the record comes from.

/// Who somebody is, as the user source says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The stable id that tokens carry in the user-id claim. Never empty.
    pub id: String,
    /// The name that is used to log in.
    pub name: String,
    /// The e-mail address, when one is recorded.
    pub email: Option<String>,
    /// The groups, in ascending order, without repetition.
    pub groups: Vec<String>,
}

/// What is known of a user and can be told to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The stable id.
    Id,
    /// The name that is used to log in.
    Name,
    /// The e-mail address.
    Email,
    /// The groups.
    Groups,
}

impl Attribute {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Id, Self::Name, Self::Email, Self::Groups];

    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Email => "email",
            Self::Groups => "groups",
        }
    }
}

/// A field of a user that can be copied into access tokens (`tokens.claims`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// The login name, as claim `username`.
    Username,
    /// The e-mail address, as claim `email`; left out when there is none.
    Email,
    /// The groups, as claim `groups`, a list of strings.
    Groups,
}

impl UserField {
    /// Every field that can be copied.
    pub const ALL: [Self; 3] = [Self::Username, Self::Email, Self::Groups];

    /// The name of the field in `tokens.claims`, which is the claim's name too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Email => "email",
            Self::Groups => "groups",
        }
    }
}
