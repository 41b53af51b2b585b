//! Counting a request by the limits of its route.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cluster::Patience;
use super::ledger::Allowance;
use super::step::{self, Key, Outcome, Step, Steps};
use super::told::{Told, seconds};
use super::{Counted, Exceeded, Plan, Rates, Sender, Turn};
use crate::base::bounds;

impl Rates {
    /// Counts a request by those limits of a plan whose turn it is. Only where a limit is one of several gateways, and much of
    /// the sender's count is not settled between them, this waits, at most for [`bounds::LIMITS_STORE_WAIT_MS`].
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when one of their rates lets it not pass; then none has counted it.
    pub async fn count<'a>(
        &self,
        plan: &'a Plan,
        turn: Turn,
        sender: Sender<'_>,
        told: &mut Told<'a>,
    ) -> Result<(), Exceeded> {
        match self.count_now(plan, turn, sender, told) {
            Some(counted) => counted,
            None => self.wait_and_count(plan, turn, sender, told).await,
        }
    }

    /// As [`Rates::count`], without waiting: where it would have to, there is no outcome and nothing was counted.
    pub fn count_now<'a>(
        &self,
        plan: &'a Plan,
        turn: Turn,
        sender: Sender<'_>,
        told: &mut Told<'a>,
    ) -> Option<Result<(), Exceeded>> {
        match self.try_count(plan, turn, sender, told, Patience::Untried) {
            Counted::Passed => Some(Ok(())),
            Counted::Exceeded(exceeded) => Some(Err(exceeded)),
            Counted::Unknown => None,
        }
    }

    /// Goes on where [`Rates::count_now`] has no outcome.
    ///
    /// # Errors
    ///
    /// [`Exceeded`], as [`Rates::count`].
    pub async fn wait_and_count<'a>(
        &self,
        plan: &'a Plan,
        turn: Turn,
        sender: Sender<'_>,
        told: &mut Told<'a>,
    ) -> Result<(), Exceeded> {
        let cluster = &self.cluster;
        cluster.begin_wait();
        let counted = tokio::time::timeout(Duration::from_millis(bounds::LIMITS_STORE_WAIT_MS), async {
            loop {
                // Before looking, so that no answer in between is missed.
                let mut answered = pin!(cluster.answered());
                answered.as_mut().enable();
                match self.try_count(plan, turn, sender, told, Patience::Waiting) {
                    Counted::Unknown => cluster.ask_soon(),
                    counted @ (Counted::Passed | Counted::Exceeded(_)) => return counted,
                }
                answered.await;
            }
        });
        let counted = counted.await.unwrap_or_else(|_| {
            cluster.give_up();
            self.try_count(plan, turn, sender, told, Patience::Over)
        });
        match counted {
            // Nobody asks the store who has waited enough.
            Counted::Passed | Counted::Unknown => Ok(()),
            Counted::Exceeded(exceeded) => Err(exceeded),
        }
    }

    pub(super) fn try_count<'a>(
        &self,
        plan: &'a Plan,
        turn: Turn,
        sender: Sender<'_>,
        told: &mut Told<'a>,
        patience: Patience,
    ) -> Counted {
        if plan.is_told {
            told.policy = Some(&plan.policy);
        }
        let mut steps = self.steps(plan, turn, sender, patience);
        if steps.is_empty() {
            return Counted::Passed;
        }
        let now_ns = self.watch.now_ns();
        let name = |step: &Step<'_>| step.rate.name(sender);
        let passed = match step::take_all(&mut steps, now_ns, name) {
            Outcome::Passed => true,
            Outcome::Exceeded => false,
            Outcome::Unknown => return Counted::Unknown,
        };
        if passed && plan.is_shared {
            self.settle_early(&steps);
        }
        if passed && !plan.is_told {
            return Counted::Passed;
        }
        told.policy = Some(&plan.policy);
        let mut retry_after_ns = 0;
        for step in &steps {
            let standing = step.rate.rule.standing(step.arrival_ns, now_ns);
            if !passed && standing.left == 0 {
                step.rate.refused.fetch_add(1, Ordering::Relaxed);
            }
            retry_after_ns = standing.next_ns.max(retry_after_ns);
            told.add(&step.rate.label, standing);
        }
        if passed {
            return Counted::Passed;
        }
        Counted::Exceeded(Exceeded { retry_after_seconds: seconds(retry_after_ns).max(1) })
    }

    fn steps(&self, plan: &Plan, turn: Turn, sender: Sender<'_>, patience: Patience) -> Steps<'_> {
        let mut steps = Steps::new();
        for limit in plan.limits.iter().filter_map(|index| self.limits.get(*index)) {
            if !turn.is_for(&limit.settings.key) {
                continue;
            }
            let key = Key::of(&limit.settings.key, sender).hashed(&self.hasher);
            for rate in &limit.rates {
                let allowance = match rate.shared {
                    Some(_) => self.cluster.allowance(rate, patience),
                    None => Allowance::Unbounded,
                };
                steps.push(Step::new(rate, key, allowance));
            }
        }
        steps
    }

    /// Has the store told of keys of which half is unsettled that may be, so that whoever sends many does not wait.
    fn settle_early(&self, steps: &[Step<'_>]) {
        for step in steps {
            if let (Some(shared), Allowance::Look(most) | Allowance::Ask(most)) =
                (&step.rate.shared, step.allowance)
                && most > 1
                && shared.ledger.unsettled(step.key) == most.div_ceil(2)
            {
                self.cluster.ask_soon();
            }
        }
    }
}
