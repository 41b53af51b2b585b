//! The course of a request from target to target, until one has answered or nothing more may be tried.

use super::UpstreamError;
use super::affinity::Affinity;
use super::balance::{Choice, Pools};
use super::readings::UpstreamCounts;
use super::send::{Failure, Upstream};

/// Where a request has been, and where it may go.
pub(super) struct Course<'a> {
    upstream: &'a Upstream,
    pools: &'a Pools,
    affinity: Option<Affinity>,
    choice: Choice,
    /// Targets on which it has failed.
    tried: Vec<usize>,
    retries: u32,
    refused: bool,
}

impl<'a> Course<'a> {
    /// Chooses the first target.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::NoTarget`]
    pub(super) fn new(
        upstream: &'a Upstream,
        pools: &'a Pools,
        affinity: Option<Affinity>,
    ) -> Result<Self, UpstreamError> {
        let settings = &upstream.shared.settings;
        let choice =
            upstream.chooser.choose(pools, &[], settings, affinity).ok_or(UpstreamError::NoTarget)?;
        upstream.budget.deposit();
        let retries = settings.retries;
        Ok(Self { upstream, pools, affinity, choice, tried: Vec::new(), retries, refused: false })
    }

    /// The place of the target that is next.
    pub(super) fn place(&self) -> usize {
        self.choice.place()
    }

    /// Decides what becomes of a request after an attempt that failed. `is_there` says whether it can still be sent whole.
    ///
    /// # Errors
    ///
    /// That of the attempt, when it was the last one.
    pub(super) fn go_on(&mut self, failure: Failure, is_there: bool) -> Result<(), UpstreamError> {
        match failure {
            // That is nobody's failure, and each connection can be stale only once.
            Failure::Stale => Ok(()),
            // Nor is the first refusal: the target was full for a moment.
            Failure::Refused(_) if !self.refused => {
                self.refused = true;
                Ok(())
            }
            Failure::NotSent(error) => self.elsewhere(error, is_there),
            Failure::Broke(error) | Failure::Refused(error) => self.again(error, is_there),
            Failure::Final(error) => Err(error),
        }
    }

    /// Nothing was sent. Another target gets it, each one once, and that is no retry: no target had it before. One that
    /// rests is tried only within the budget.
    fn elsewhere(&mut self, error: UpstreamError, is_there: bool) -> Result<(), UpstreamError> {
        let settings = &self.upstream.shared.settings;
        if settings.retries == 0 || !is_there {
            return Err(error);
        }
        self.tried.push(self.choice.place());
        match self.upstream.chooser.choose(self.pools, &self.tried, settings, self.affinity) {
            Some(choice @ Choice::Usual(_)) => self.choice = choice,
            Some(choice @ Choice::Spare(_)) => {
                self.withdraw(error)?;
                self.choice = choice;
            }
            None if self.retries == 0 || self.pools.endpoints.is_choice() => return Err(error),
            None => {
                self.withdraw(error)?;
                self.retries -= 1;
                self.tried.clear();
                return Ok(());
            }
        }
        UpstreamCounts::count(&self.upstream.shared.counts.failovers);
        Ok(())
    }

    /// It may have been seen. It is sent again as often as `retries` says and the budget allows, to another target if there
    /// is one.
    fn again(&mut self, error: UpstreamError, is_there: bool) -> Result<(), UpstreamError> {
        if self.retries == 0 || !is_there {
            return Err(error);
        }
        self.withdraw(error)?;
        self.retries -= 1;
        self.tried.push(self.choice.place());
        let settings = &self.upstream.shared.settings;
        match self.upstream.chooser.choose(self.pools, &self.tried, settings, self.affinity) {
            Some(choice) => self.choice = choice,
            None => self.tried.clear(),
        }
        Ok(())
    }

    fn withdraw(&self, error: UpstreamError) -> Result<(), UpstreamError> {
        let counts = &self.upstream.shared.counts;
        let is_left = self.upstream.budget.withdraw();
        UpstreamCounts::count(if is_left { &counts.retries } else { &counts.out_of_budget });
        if is_left { Ok(()) } else { Err(error) }
    }
}
