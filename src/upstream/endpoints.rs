//! The targets of an upstream as they are at one time, with every address of their names.

use std::net::SocketAddr;
use std::sync::Arc;

use super::shared::SharedTarget;

/// Targets, of which there is one at least.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) first: Arc<SharedTarget>,
    pub(super) all: Vec<Arc<SharedTarget>>,
    /// Places in `all`, each as often as its weight says, evenly spread.
    pub(super) order: Vec<usize>,
}

impl Endpoints {
    /// These targets; nothing when there are none.
    pub(super) fn new(all: Vec<Arc<SharedTarget>>) -> Option<Self> {
        let first = Arc::clone(all.first()?);
        let weights: Vec<u32> = all.iter().map(|target| target.weight).collect();
        Some(Self { first, all, order: spread(&weights) })
    }

    /// One target.
    pub(super) fn one(target: &Arc<SharedTarget>) -> Self {
        Self { first: Arc::clone(target), all: vec![Arc::clone(target)], order: vec![0] }
    }

    /// Whether there is a choice, so that it matters how each of them does.
    pub(super) fn is_choice(&self) -> bool {
        self.all.len() > 1
    }
}

/// The numbers of the weights, each as often as the weight says for the whole to be in lowest terms, evenly spread.
fn spread(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut places: Vec<(u64, usize)> = Vec::new();
    for (number, weight) in weights.iter().enumerate() {
        let count = u64::from(weight / divisor);
        // Where its turns would be on a line from 0 to 1, in parts of 2^32.
        places.extend((0..count).map(|turn| (((2 * turn + 1) << 31) / count.max(1), number)));
    }
    places.sort_unstable();
    places.into_iter().map(|(_, number)| number).collect()
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// The addresses of a name, each with those that are tried when it cannot be reached. Where a name has addresses of both
/// families, those of the one that the system puts first are the targets; the others stand behind each of them, so that a
/// machine that is reached over one family only, such as `localhost` where nobody listens on `::1`, is not lost.
pub(super) fn grouped(addresses: &[SocketAddr]) -> Vec<Arc<[SocketAddr]>> {
    let mut distinct: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !distinct.contains(address) {
            distinct.push(*address);
        }
    }
    let Some(first) = distinct.first() else { return Vec::new() };
    let is_ipv6 = first.is_ipv6();
    let (mut preferred, mut others): (Vec<_>, Vec<_>) =
        distinct.into_iter().partition(|address| address.is_ipv6() == is_ipv6);
    // Resolvers turn their lists round from one answer to the next.
    preferred.sort_unstable();
    others.sort_unstable();
    let with_others = |(number, address): (usize, SocketAddr)| {
        let turned = others.iter().cycle().skip(number).take(others.len());
        [address].iter().chain(turned).copied().collect()
    };
    preferred.into_iter().enumerate().map(with_others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_evenly_spread_by_weight() {
        assert_eq!(spread(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(spread(&[5, 5]), [0, 1]);
        assert_eq!(spread(&[4, 2]), [0, 1, 0]);
        assert_eq!(spread(&[3, 1]), [0, 0, 1, 0]);
        let mut turns = spread(&[100, 1]);
        assert_eq!(turns.len(), 101);
        turns.retain(|number| *number == 1);
        assert_eq!(turns.len(), 1);
        assert!(spread(&[]).is_empty());
    }

    #[test]
    fn addresses_of_one_family_are_targets_and_the_others_stand_behind_them() {
        let addresses =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let seen = |texts: &[&str]| -> Vec<Vec<String>> {
            let groups = grouped(&addresses(texts));
            groups.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect()
        };
        assert!(seen(&[]).is_empty());
        assert_eq!(seen(&["10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:1"]), [["10.0.0.1:1"], ["10.0.0.2:1"]]);
        assert_eq!(seen(&["[::1]:1", "127.0.0.1:1"]), [["[::1]:1", "127.0.0.1:1"]]);
        assert_eq!(
            seen(&["[::2]:1", "[::1]:1", "10.0.0.1:1", "10.0.0.2:1"]),
            [["[::1]:1", "10.0.0.1:1", "10.0.0.2:1"], ["[::2]:1", "10.0.0.2:1", "10.0.0.1:1"]]
        );
    }
}
