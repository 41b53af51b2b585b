//! What a request has in common with those that go to the same target.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use http::header;

use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::config::HashKey;

/// What a request is spread by. Requests that are alike have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity(u64);

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The user's id, where there is a user.
    pub user_id: Option<&'a str>,
    /// The client's address, behind trusted proxies if there are any.
    pub client: IpAddr,
    /// What the upstream gets.
    pub headers: &'a FieldList,
}

impl Affinity {
    /// By the key; nothing for a request that does not have it.
    pub(super) fn of(key: &HashKey, sender: Sender<'_>) -> Option<Self> {
        let bytes = |bytes: &[u8]| (!bytes.is_empty()).then(|| Self(stable_hash(bytes)));
        match key {
            HashKey::User => bytes(sender.user_id?.as_bytes()),
            HashKey::Address => match sender.client.to_canonical() {
                IpAddr::V4(address) => bytes(&address.octets()),
                IpAddr::V6(address) => bytes(address.octets().get(..8).unwrap_or_default()),
            },
            HashKey::Header(name) => bytes(sender.headers.get(name)?.as_bytes()),
            HashKey::Cookie(name) => {
                let lines = sender.headers.get_all(header::COOKIE).map(FieldValue::as_bytes);
                bytes(lines.into_iter().find_map(|line| cookie(line, name.as_bytes()))?)
            }
        }
    }

    /// How well it goes with a target: the target with the highest score has it (rendezvous hashing). When a target is
    /// gone, only what it had goes elsewhere. Of twice the weight comes twice as much.
    #[expect(clippy::cast_precision_loss, reason = "the 53 highest bits are kept, and weights are small")]
    pub(super) fn score(self, target: u64, weight: u64) -> f64 {
        let mixed = mix(self.0 ^ mix(target));
        // Above 0 and below 1.
        let part = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        weight as f64 / -part.ln()
    }
}

/// The value of a cookie in a `Cookie` field (RFC 6265 section 4.2.1).
fn cookie<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii_start().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.trim_ascii_end())
    })
}

/// The same for the same bytes on every thread and in every process of this version.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(bytes)
}

/// Scrambles all bits (`SplitMix64`'s finaliser).
pub(super) fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn of(key: &HashKey, fields: &[(&'static str, &str)]) -> Option<Affinity> {
        let mut headers = FieldList::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        Affinity::of(key, Sender { user_id: Some("7"), client: [127, 0, 0, 1].into(), headers: &headers })
    }

    #[test]
    fn requests_go_by_what_they_have() {
        let cookie = HashKey::Cookie("sid".into());
        let a = of(&cookie, &[("cookie", "sid=a")]);
        assert!(a.is_some());
        for fields in [
            &[("cookie", "x=1; sid=a; y=2")][..],
            &[("cookie", "sidx=b;  sid=a ")],
            &[("cookie", "x=1"), ("cookie", "sid=a"), ("cookie", "sid=b")],
        ] {
            assert_eq!(of(&cookie, fields), a, "{fields:?}");
        }
        assert_ne!(of(&cookie, &[("cookie", "sid=b")]), a);
        for fields in [&[][..], &[("cookie", "sid=")], &[("cookie", "xsid=a")], &[("cookie", "sid")]] {
            assert_eq!(of(&cookie, fields), None, "{fields:?}");
        }
        let header = HashKey::Header(header::HeaderName::from_static("x-tenant"));
        assert_eq!(of(&header, &[]), None);
        assert_eq!(of(&header, &[("x-tenant", "a"), ("x-tenant", "b")]), of(&header, &[("x-tenant", "a")]));
        assert!(of(&HashKey::User, &[]).is_some());
    }

    #[test]
    fn an_address_of_ipv6_goes_by_its_network() {
        let by = |client: &str| {
            let headers = FieldList::new();
            let sender = Sender { user_id: None, client: client.parse().unwrap(), headers: &headers };
            (Affinity::of(&HashKey::Address, sender), Affinity::of(&HashKey::User, sender))
        };
        assert_eq!(by("2001:db8::1"), by("2001:db8::ffff:1"));
        assert_ne!(by("2001:db8::1"), by("2001:db8:0:1::1"));
        assert_eq!(by("::ffff:10.0.0.1"), by("10.0.0.1"));
        assert_ne!(by("10.0.0.2"), by("10.0.0.1"));
        assert_eq!(by("10.0.0.1").1, None, "nobody in particular");
    }

    fn best(key: u64, targets: &[(u64, u64)]) -> u64 {
        let score = |target: &(u64, u64)| Affinity(key).score(target.0, target.1);
        targets.iter().max_by(|one, other| score(one).total_cmp(&score(other))).unwrap().0
    }

    proptest! {
        #[test]
        fn without_a_target_only_its_share_moves(keys in prop::collection::vec(any::<u64>(), 1..50), count in 2..9_u64, gone in 0..9_u64) {
            let all: Vec<_> = (0..count).map(|target| (target, 1)).collect();
            let rest: Vec<_> = all.iter().copied().filter(|(target, _)| *target != gone % count).collect();
            for key in keys {
                let before = best(key, &all);
                if before != gone % count {
                    prop_assert_eq!(best(key, &rest), before);
                }
            }
        }
    }

    #[test]
    fn shares_are_as_the_weights() {
        let mut counts = [0_u32; 3];
        for key in 0..30_000 {
            counts[usize::try_from(best(mix(key), &[(0, 1000), (1, 2000), (2, 3000)])).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([5000, 10_000, 15_000]) {
            assert!(count.abs_diff(expected) < 500, "{counts:?}");
        }
    }
}
