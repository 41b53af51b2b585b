//! The hostile requests.

use std::fmt;

use super::spelling::{Depth, spellings};
use crate::config::Identity;
use crate::identity::Fate;

/// Hostile fields in one request; with those that every request has it stays within the usual limit of 100.
const FIELDS_PER_REQUEST: usize = 80;

/// A version of HTTP towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Which route is asked for, and with which credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// A route for those with a token, with one.
    Required,
    /// A route for everybody that asks for a token, without one.
    Optional,
    /// A route for everybody, with a token that nobody looks at.
    Public,
    /// A route that would be for those with a token if anything were enforced, with one that does not pass.
    Reported,
}

impl Access {
    pub(super) const ALL: [Self; 4] = [Self::Required, Self::Optional, Self::Public, Self::Reported];

    /// `auth` of the route.
    pub(super) fn auth(self) -> &'static str {
        match self {
            Self::Required | Self::Reported => "required",
            Self::Optional => "optional",
            Self::Public => "public",
        }
    }

    /// The last segment of the route's path.
    pub(super) fn segment(self) -> &'static str {
        match self {
            Self::Required | Self::Optional | Self::Public => self.auth(),
            Self::Reported => "reported",
        }
    }
}

/// What some requests have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// The place of the upstream among those of the rehearsal.
    pub(super) place: usize,
    /// What the upstream is told of users.
    pub(super) identity: &'a Identity,
    pub(super) access: Access,
    pub(super) version: Version,
    /// Whether a trusted proxy sends them.
    pub(super) trusted: bool,
    depth: Depth,
}

impl<'a> Case<'a> {
    /// Every case of one identity. All spellings are tried once over each version of HTTP.
    pub(super) fn all(place: usize, identity: &'a Identity) -> Vec<Self> {
        let mut cases = Vec::new();
        for version in [Version::Http1, Version::Http2] {
            for trusted in [false, true] {
                for access in Access::ALL {
                    let depth = match (place, trusted, access) {
                        (0, false, Access::Required) => Depth::All,
                        (0, _, _) => Depth::Sorts,
                        (_, _, _) => Depth::Two,
                    };
                    cases.push(Self { place, identity, access, version, trusted, depth });
                }
            }
        }
        cases
    }

    /// The path of its route.
    pub(super) fn path(&self) -> String {
        format!("/{}/{}", self.place, self.access.segment())
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            Version::Http1 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        };
        let sender = if self.trusted { "a trusted proxy" } else { "anybody" };
        write!(f, "(over {version}, from {sender}, on a route with auth = \"{}\"", self.access.auth())?;
        match self.access {
            Access::Required | Access::Optional | Access::Public => f.write_str(")"),
            Access::Reported => f.write_str(" and enforce = \"report\")"),
        }
    }
}

/// How a name is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Once,
    Twice,
    /// As a field that `Connection` lists too.
    Listed,
    Trailer,
}

/// A field that must not arrive.
#[derive(Clone, Debug)]
pub(super) struct Hostile {
    /// The owned name that it is meant for.
    pub(super) owned: String,
    /// As it is sent.
    pub(super) spelling: String,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// Unlike that of every other request of its connection, and part of its target.
    pub(super) number: usize,
    pub(super) way: Way,
    pub(super) hostile: Vec<Hostile>,
}

impl Hostile {
    /// Its value, by which it is known where it should not be.
    pub(super) fn value(probe: &Probe, place: usize) -> String {
        format!("leak-{}-{place}", probe.number)
    }

    /// How it was sent, for those who have to find out why it arrived.
    pub(super) fn describe(&self, way: Way) -> String {
        let Self { spelling, .. } = self;
        match way {
            Way::Once => format!("when it is sent as {spelling}"),
            Way::Twice => format!("when it is sent twice, as {spelling}"),
            Way::Listed => format!("when it is sent as {spelling} and listed in Connection"),
            Way::Trailer => format!("when it is sent as the trailer {spelling}"),
        }
    }
}

/// The requests of a case. The first one is sound.
pub(super) fn probes(names: &[(&str, Fate)], case: &Case<'_>) -> Vec<Probe> {
    let mut probes = vec![Probe { number: 0, way: Way::Once, hostile: Vec::new() }];
    let ways: &[Way] = match case.version {
        Version::Http1 => &[Way::Once, Way::Twice, Way::Listed, Way::Trailer],
        // There is no Connection in HTTP/2 (RFC 9113 section 8.2.2).
        Version::Http2 => &[Way::Once, Way::Twice, Way::Trailer],
    };
    for &way in ways {
        let depth = if way == Way::Once { case.depth } else { Depth::Two };
        let mut hostile = Vec::new();
        for (name, fate) in names {
            let all = spellings(name, depth).into_iter();
            let sendable = all.filter(|spelling| can_be_sent(name, spelling, *fate, way, case));
            for spelling in sendable {
                let field = Hostile { owned: (*name).to_owned(), spelling };
                let times = if way == Way::Twice { 2 } else { 1 };
                hostile.extend(std::iter::repeat_n(field, times));
            }
        }
        for hostile in hostile.chunks(FIELDS_PER_REQUEST) {
            probes.push(Probe { number: probes.len(), way, hostile: hostile.to_vec() });
        }
    }
    probes
}

/// Whether a request with such a field is still a sound one. Under its own name, what frames a message does so.
fn can_be_sent(name: &str, spelling: &str, fate: Fate, way: Way, case: &Case<'_>) -> bool {
    if case.version == Version::Http2 && spelling.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return false;
    }
    if !spelling.eq_ignore_ascii_case(name) {
        return true;
    }
    let believed = fate == Fate::Forwarded && case.trusted && way != Way::Trailer;
    let has_meaning = match name {
        "host" | "content-length" | "transfer-encoding" | "connection" | "expect" | "upgrade" => true,
        "authorization" => case.access != Access::Public || way != Way::Once || case.identity.forward_token,
        "te" => way != Way::Trailer || case.version == Version::Http2,
        "keep-alive" | "proxy-connection" => case.version == Version::Http2,
        _ => false,
    };
    !believed && !has_meaning
}
