//! A rate as arithmetic: the generic cell rate algorithm (ITU-T I.371, annex A). It knows no threads and no clock.
//!
//! All that is kept of a key is one number, the theoretical arrival time: when a request would come that keeps the rate
//! exactly. It moves on by one interval with every request, and may run ahead of the time by as much as the burst.

use crate::config;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How far apart requests come, and how many may come at once. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Rounded up, so that never more pass than are allowed.
    interval_ns: u64,
    /// How far the arrival time may run ahead.
    capacity_ns: u64,
}

/// What a key may still do at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests that may come at once.
    pub(super) left: u64,
    /// Until one more may come; 0 when one may come now.
    pub(super) next_ns: u64,
    /// Until everything may come at once again.
    pub(super) whole_ns: u64,
}

impl Rule {
    pub(super) fn new(rate: &config::Rate) -> Self {
        let interval_ns = (rate.unit.seconds() * NS_PER_SECOND).div_ceil(rate.count.get().into());
        // A configuration lets no burst through that takes longer than 366 days.
        Self { interval_ns, capacity_ns: interval_ns.saturating_mul(rate.burst.get().into()) }
    }

    /// The arrival time after one more request; `None` when that is one too many.
    pub(super) fn after_one_more(self, arrival_ns: u64, now_ns: u64) -> Option<u64> {
        let after_ns = arrival_ns.max(now_ns).saturating_add(self.interval_ns);
        (after_ns <= now_ns.saturating_add(self.capacity_ns)).then_some(after_ns)
    }

    /// The arrival time as it was before a request.
    pub(super) fn without_the_last(self, arrival_ns: u64) -> u64 {
        arrival_ns.saturating_sub(self.interval_ns)
    }

    /// How far apart requests come.
    pub(super) fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// How far the arrival time may run ahead.
    pub(super) fn capacity_ns(self) -> u64 {
        self.capacity_ns
    }

    /// How many may come at once.
    pub(super) fn burst(self) -> u64 {
        self.capacity_ns.checked_div(self.interval_ns).unwrap_or(0)
    }

    pub(super) fn standing(self, arrival_ns: u64, now_ns: u64) -> Standing {
        let arrival_ns = arrival_ns.max(now_ns);
        let latest_ns = now_ns.saturating_add(self.capacity_ns);
        Standing {
            left: latest_ns.saturating_sub(arrival_ns).checked_div(self.interval_ns).unwrap_or(0),
            next_ns: arrival_ns.saturating_add(self.interval_ns).saturating_sub(latest_ns),
            whole_ns: arrival_ns - now_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::config::RateUnit;

    fn rule(count: u32, unit: RateUnit, burst: u32) -> Rule {
        let some = |number| NonZeroU32::new(number).unwrap();
        Rule::new(&config::Rate { count: some(count), unit, burst: some(burst) })
    }

    #[test]
    fn a_burst_comes_at_once_and_then_one_at_a_time() {
        let rule = rule(10, RateUnit::Second, 3);
        let (start, step) = (5_000_000_000, 100_000_000);
        let mut arrival = 0;
        for left in [2, 1, 0] {
            arrival = rule.after_one_more(arrival, start).unwrap();
            assert_eq!(rule.standing(arrival, start).left, left);
        }
        assert_eq!(rule.after_one_more(arrival, start), None);
        assert_eq!(rule.standing(arrival, start), Standing { left: 0, next_ns: step, whole_ns: 3 * step });
        assert_eq!(rule.after_one_more(arrival, start + step - 1), None);
        let later = rule.after_one_more(arrival, start + step).unwrap();
        assert_eq!(rule.after_one_more(later, start + step), None);
        assert_eq!(rule.without_the_last(later), arrival);
        // A pause brings the burst back and no more.
        let rested = rule.standing(later, start + 100 * step);
        assert_eq!(rested, Standing { left: 3, next_ns: 0, whole_ns: 0 });
    }

    #[test]
    fn rates_are_rounded_to_the_strict_side_and_nothing_overflows() {
        assert_eq!(rule(3, RateUnit::Second, 1).interval_ns, 333_333_334);
        assert_eq!(rule(7, RateUnit::Minute, 1).interval_ns, 8_571_428_572);
        assert_eq!(rule(1_000_000_000, RateUnit::Second, 1).interval_ns, 1);
        assert_eq!(rule(1, RateUnit::Day, 366).capacity_ns, 366 * 86_400 * NS_PER_SECOND);
        let rule = rule(1, RateUnit::Day, 366);
        for (arrival, now) in [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            rule.standing(arrival, now);
            rule.after_one_more(arrival, now);
        }
    }

    #[test]
    fn a_time_that_goes_back_lets_nothing_more_pass() {
        let rule = rule(1, RateUnit::Second, 1);
        let arrival = rule.after_one_more(0, 10 * NS_PER_SECOND).unwrap();
        assert_eq!(rule.after_one_more(arrival, 5 * NS_PER_SECOND), None);
    }

    proptest! {
        /// The oracle is a vessel that leaks evenly, and in which each request pours as much as leaks in an interval.
        #[test]
        fn it_agrees_with_a_leaking_vessel_and_no_stretch_of_time_has_too_many(
            count in 1_u32..2000, unit in 0_usize..4, burst in 1_u32..40,
            pauses in prop::collection::vec(0_u64..30, 1..200), speed in 1_u64..200,
        ) {
            let units = [RateUnit::Second, RateUnit::Minute, RateUnit::Hour, RateUnit::Day];
            let rule = rule(count, units[unit], burst);
            let (mut arrival, mut now, mut level) = (0, 1_000_000_000_000_000, 0_u64);
            let mut passed: Vec<u64> = Vec::new();
            for pause in pauses {
                // From far too fast to far too slow.
                let pause = rule.interval_ns / 100 * pause * speed / 100;
                now += pause;
                level = level.saturating_sub(pause);
                let fits = level + rule.interval_ns <= rule.interval_ns * u64::from(burst);
                let standing = rule.standing(arrival, now);
                prop_assert_eq!(standing.next_ns == 0, fits);
                prop_assert_eq!(standing.left > 0, fits);
                prop_assert_eq!(standing.whole_ns, level);
                let next = rule.after_one_more(arrival, now);
                prop_assert_eq!(next.is_some(), fits);
                if let Some(next) = next {
                    level += rule.interval_ns;
                    arrival = next;
                    passed.push(now);
                    for (earlier, since) in passed.iter().enumerate() {
                        let came = (passed.len() - earlier) as u64;
                        let elapsed = u128::from(now - since);
                        let due = elapsed * u128::from(count) / u128::from(units[unit].seconds() * NS_PER_SECOND);
                        prop_assert!(u128::from(came) <= u128::from(burst) + due);
                    }
                }
            }
        }
    }
}
