//! Which target a request goes to.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::affinity::{Affinity, mix};
use super::endpoints::Endpoints;
use super::pool::Pool;
use super::shared::SharedTarget;
use super::standing::FULL_SHARE;
use crate::config::{self, Balance};
use crate::net::deadline::TickClock;

/// How often a target is drawn at random before those that may be chosen are looked for one by one.
const DRAWS: u64 = 8;

/// The pools of one thread for the targets of an upstream, in the order of these.
pub(super) struct Pools {
    pub(super) endpoints: Arc<Endpoints>,
    first: Rc<Pool>,
    all: Vec<Rc<Pool>>,
}

impl Pools {
    /// A pool for each target. Those that are there already are kept; those whose target is gone take no new requests.
    pub(super) fn new(
        endpoints: Arc<Endpoints>,
        before: Option<&Self>,
        settings: &config::Upstream,
        clock: &Rc<TickClock>,
    ) -> Self {
        let before = before.map_or(&[][..], |before| before.all.as_slice());
        let pool = |target: &Arc<SharedTarget>| {
            let kept = before.iter().find(|pool| Arc::ptr_eq(pool.shared(), target));
            kept.map_or_else(|| Rc::new(Pool::new(target, settings, clock)), Rc::clone)
        };
        let first = pool(&endpoints.first);
        let mut all = vec![Rc::clone(&first)];
        all.extend(endpoints.all.iter().skip(1).map(pool));
        for gone in before.iter().filter(|pool| !all.iter().any(|kept| Rc::ptr_eq(kept, pool))) {
            gone.retire();
        }
        Self { endpoints, first, all }
    }

    /// The pool of the target at this place.
    pub(super) fn at(&self, place: usize) -> &Rc<Pool> {
        self.all.get(place).unwrap_or(&self.first)
    }

    /// All pools.
    pub(super) fn all(&self) -> &[Rc<Pool>] {
        &self.all
    }

    fn share(&self, place: usize) -> u32 {
        self.at(place).shared().standing.share()
    }

    /// What its weight stands for of a target, as far as it is given that at the moment.
    fn weight(&self, place: usize) -> u64 {
        let target = self.at(place).shared();
        u64::from(target.weight) * u64::from(target.standing.share())
    }

    /// Whether one has fewer requests in flight for its weight than another.
    fn is_freer(&self, one: usize, other: usize) -> bool {
        let load = |place: usize| self.at(place).in_flight() as u64;
        load(one) * self.weight(other) < load(other) * self.weight(one)
    }
}

/// A target that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One that gets requests.
    Usual(usize),
    /// One that rests, for want of any other.
    Spare(usize),
}

impl Choice {
    /// Its place.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Usual(place) | Self::Spare(place) => place,
        }
    }
}

/// Chooses for one thread.
#[derive(Debug)]
pub(super) struct Chooser {
    turn: Cell<u64>,
}

impl Chooser {
    /// Begins anywhere.
    pub(super) fn new(seed: u64) -> Self {
        Self { turn: Cell::new(seed) }
    }

    /// Chooses a target other than those that were tried. One that was ejected is chosen only when there is no other, and
    /// one whose health checks fail only with `fail_open`.
    pub(super) fn choose(
        &self,
        pools: &Pools,
        tried: &[usize],
        settings: &config::Upstream,
        affinity: Option<Affinity>,
    ) -> Option<Choice> {
        let is_usual = |place: usize| pools.share(place) > 0 && !tried.contains(&place);
        let usual = match (&settings.balance, affinity) {
            _ if !pools.endpoints.is_choice() => Some(0).filter(|place| is_usual(*place)),
            (Balance::RoundRobin, _) => self.next(pools, &is_usual),
            (Balance::Hash(_), Some(affinity)) => highest(pools, affinity, &is_usual),
            (Balance::LeastRequest | Balance::Hash(_), _) => self.freer_of_two(pools, &is_usual),
        };
        usual.map(Choice::Usual).or_else(|| {
            let fail_open = settings.availability.health_check.as_ref().is_some_and(|check| check.fail_open);
            spare(pools, tried, fail_open).map(Choice::Spare)
        })
    }

    fn next_turn(&self) -> u64 {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        turn
    }

    /// Of two different targets drawn at random, the one with fewer requests in flight for its weight. One that has no room
    /// is passed over for one that has.
    fn freer_of_two(&self, pools: &Pools, may_be: &dyn Fn(usize) -> bool) -> Option<usize> {
        let one = self.draw(pools, may_be)?;
        let other = self.draw(pools, &|place| place != one && may_be(place));
        let chosen = match other {
            Some(other) if pools.is_freer(other, one) => other,
            Some(_) | None => one,
        };
        if !pools.at(chosen).is_busy() {
            return Some(chosen);
        }
        let has_room = |place: &usize| may_be(*place) && !pools.at(*place).is_busy();
        (0..pools.all.len()).find(has_room).or(Some(chosen))
    }

    /// The next one in turn. One that is coming back is passed over now and then, and so is one that has no room. It goes on
    /// behind the one that was chosen, so that who stands behind one that is out does not get its turns too.
    fn next(&self, pools: &Pools, may_be: &dyn Fn(usize) -> bool) -> Option<usize> {
        let turn = self.next_turn();
        let order = &pools.endpoints.order;
        let from = index(turn, order.len());
        let in_turn = || order.iter().copied().cycle().skip(from).take(order.len()).enumerate();
        let is_taken = |(_, place): &(usize, usize)| {
            let share = pools.share(*place);
            may_be(*place) && (share >= FULL_SHARE || mix(turn ^ *place as u64) % 1000 < u64::from(share))
        };
        let has_room = |(_, place): &(usize, usize)| !pools.at(*place).is_busy();
        let taken = in_turn().find(|turn| is_taken(turn) && has_room(turn));
        let taken = taken.or_else(|| in_turn().find(is_taken));
        let (passed, place) = taken.or_else(|| in_turn().find(|(_, place)| may_be(*place)))?;
        self.turn.set(turn.wrapping_add(passed as u64));
        Some(place)
    }

    /// One at random, by weight.
    fn draw(&self, pools: &Pools, may_be: &dyn Fn(usize) -> bool) -> Option<usize> {
        let order = &pools.endpoints.order;
        let mut from = 0;
        for _ in 0..DRAWS {
            let random = mix(self.next_turn());
            from = index(random, order.len());
            let Some(place) = order.get(from).copied().filter(|place| may_be(*place)) else { continue };
            let share = pools.share(place);
            if share >= FULL_SHARE || (random >> 32) % 1000 < u64::from(share) {
                return Some(place);
            }
        }
        order.iter().cycle().skip(from).take(order.len()).copied().find(|place| may_be(*place))
    }
}

/// The one that goes best with the request.
fn highest(pools: &Pools, affinity: Affinity, may_be: &dyn Fn(usize) -> bool) -> Option<usize> {
    let score = |place: usize| {
        let identity = pools.at(place).shared().identity;
        (affinity.score(identity, pools.weight(place)), place)
    };
    let scores = (0..pools.all.len()).filter(|place| may_be(*place)).map(score);
    scores.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, place)| place)
}

/// One that rests: the one with the fewest requests of those that were ejected, and with `fail_open` of all.
fn spare(pools: &Pools, tried: &[usize], fail_open: bool) -> Option<usize> {
    let untried = || (0..pools.all.len()).filter(|place| !tried.contains(place));
    let is_up = |place: &usize| !pools.at(*place).shared().standing.is_down();
    let freest = |place: &usize| pools.at(*place).in_flight();
    let up = untried().filter(is_up).min_by_key(freest);
    up.or_else(|| untried().filter(|_| fail_open).min_by_key(freest))
}

/// A number as the index of one of so many.
fn index(number: u64, count: usize) -> usize {
    usize::try_from(number % (count as u64).max(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::field_list::FieldList;
    use crate::config::{Environment, parse};
    use crate::upstream::SharedUpstream;
    use crate::upstream::pool::InFlight;

    /// An upstream with these targets and lines, as one thread sees it.
    fn upstream(targets: &str, lines: &str) -> (SharedUpstream, Pools, Chooser) {
        let text = format!(
            "[upstreams.a]\ntargets = [{targets}]\n{lines}\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\""
        );
        let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default());
        let config = config.unwrap_or_else(|failure| panic!("{failure}"));
        let shared = SharedUpstream::new(&config.upstreams[0]).unwrap();
        let pools = Pools::new(shared.endpoints.load_full(), None, &shared.settings, &Rc::default());
        (shared, pools, Chooser::new(7))
    }

    const THREE: &str = r#""http://10.0.0.1", "http://10.0.0.2", "http://10.0.0.3""#;

    /// How often each of three targets is chosen in a thousand times, without anything in flight.
    fn counts(upstream: &(SharedUpstream, Pools, Chooser)) -> [u32; 3] {
        let (shared, pools, chooser) = upstream;
        let mut counts = [0; 3];
        for _ in 0..1000 {
            counts[chooser.choose(pools, &[], &shared.settings, None).unwrap().place()] += 1;
        }
        counts
    }

    #[test]
    fn requests_are_shared_by_weight_when_nothing_is_in_flight() {
        let weighted = r#""http://10.0.0.1", { url = "http://10.0.0.2", weight = 3 }, "http://10.0.0.3""#;
        for balance in ["least_request", "round_robin"] {
            let [a, b, c] = counts(&upstream(weighted, &format!("balance = \"{balance}\"")));
            for (count, expected) in [(a, 200_u32), (b, 600), (c, 200)] {
                assert!(count.abs_diff(expected) < 60, "{balance}: {a} {b} {c}");
            }
        }
    }

    #[test]
    fn who_has_fewer_requests_in_flight_for_its_weight_gets_the_next() {
        let targets = r#""http://10.0.0.1", { url = "http://10.0.0.2", weight = 3 }"#;
        let (shared, pools, chooser) = upstream(targets, "");
        let mut in_flight = Vec::new();
        for _ in 0..400 {
            let place = chooser.choose(&pools, &[], &shared.settings, None).unwrap().place();
            in_flight.push(InFlight::begin(pools.at(place)));
        }
        assert_eq!((pools.at(0).in_flight(), pools.at(1).in_flight()), (100, 300));
    }

    #[test]
    fn who_has_no_room_is_passed_over() {
        for balance in ["least_request", "round_robin"] {
            let lines = format!("balance = \"{balance}\"\nmax_requests = 1");
            let (shared, pools, chooser) = upstream(THREE, &lines);
            let full = std::sync::atomic::AtomicUsize::fetch_add;
            for place in [0, 2] {
                full(&pools.at(place).shared().active, 1, std::sync::atomic::Ordering::AcqRel);
            }
            for _ in 0..100 {
                let chosen = chooser.choose(&pools, &[], &shared.settings, None);
                assert_eq!(chosen, Some(Choice::Usual(1)), "{balance}");
            }
        }
    }

    #[test]
    fn who_is_out_gets_nothing_unless_there_is_no_other() {
        for lines in ["", "balance = \"round_robin\"", "balance = \"hash\"\nhash_on = \"user\""] {
            let all = upstream(THREE, lines);
            let (shared, pools, chooser) = &all;
            let standing = |place: usize| &pools.at(place).shared().standing;
            let choose = |tried: &[usize]| {
                let affinity = Affinity::of(
                    &config::HashKey::Address,
                    super::super::Sender {
                        user_id: None,
                        client: [10, 0, 0, 1].into(),
                        headers: &FieldList::new(),
                    },
                );
                chooser.choose(pools, tried, &shared.settings, affinity)
            };
            standing(0).eject();
            standing(1).set_down(true);
            for _ in 0..50 {
                assert_eq!(choose(&[]), Some(Choice::Usual(2)));
            }
            assert_eq!(choose(&[2]), Some(Choice::Spare(0)), "one that was ejected, before none");
            assert_eq!(choose(&[2, 0]), None, "one whose checks fail is not used");
            standing(2).set_down(true);
            assert_eq!(choose(&[]), Some(Choice::Spare(0)));
            standing(0).set_down(true);
            assert_eq!(choose(&[]), None);
        }
        let (shared, pools, chooser) = upstream(THREE, "health_check = { path = \"/\", fail_open = true }");
        for pool in pools.all() {
            pool.shared().standing.set_down(true);
        }
        assert!(chooser.choose(&pools, &[], &shared.settings, None).is_some());
    }

    #[test]
    fn who_comes_back_gets_few_requests_at_first() {
        for balance in ["least_request", "round_robin"] {
            let all = upstream(THREE, &format!("balance = \"{balance}\""));
            let standing = &all.1.at(1).shared().standing;
            standing.eject();
            standing.reinstate(0);
            let [a, b, c] = counts(&all);
            assert!(b > 10 && b < 100 && a > 400 && c > 400, "{balance}: {a} {b} {c}");
        }
    }

    #[test]
    fn a_hash_sends_the_same_to_the_same_and_moves_only_what_it_must() {
        let lines = "balance = \"hash\"\nhash_on = \"user\"";
        let (shared, pools, chooser) = upstream(THREE, lines);
        // Another thread, or another gateway, with the targets in another order.
        let turned = r#""http://10.0.0.3", "http://10.0.0.1", "http://10.0.0.2""#;
        let (other_shared, other_pools, other_chooser) = upstream(turned, lines);
        let by = |user: usize| {
            let name = format!("user-{user}");
            let headers = FieldList::new();
            let sender =
                super::super::Sender { user_id: Some(&name), client: [0; 4].into(), headers: &headers };
            Affinity::of(&config::HashKey::User, sender)
        };
        let place = |user| chooser.choose(&pools, &[], &shared.settings, by(user)).unwrap().place();
        let before: Vec<usize> = (0..300).map(place).collect();
        for (user, place) in before.iter().enumerate() {
            let other = other_chooser.choose(&other_pools, &[], &other_shared.settings, by(user)).unwrap();
            assert_eq!((other.place() + 2) % 3, *place, "all agree");
        }
        for target in 0..3 {
            let count = before.iter().filter(|place| **place == target).count();
            assert!((60..140).contains(&count), "{count}");
        }
        pools.at(1).shared().standing.eject();
        for (user, before) in before.iter().enumerate() {
            let now = place(user);
            assert!(if *before == 1 { now != 1 } else { now == *before });
        }
    }

    #[test]
    fn pools_outlive_a_change_of_the_others() {
        let (shared, pools, _) = upstream(THREE, "");
        let [a, b, _] = pools.endpoints.all.clone().try_into().unwrap();
        let fewer = Arc::new(Endpoints::new(vec![b, a]).unwrap());
        let clock = Rc::default();
        let after = Pools::new(fewer, Some(&pools), &shared.settings, &clock);
        assert!(Rc::ptr_eq(after.at(0), pools.at(1)) && Rc::ptr_eq(after.at(1), pools.at(0)));
        assert_eq!(after.all().len(), 2);
    }
}
