//! The state of a campaigner, as the driver reads it. Nothing here changes it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Campaigner, DUPLICATE_RECORDS};
use crate::action::WaitReason;
use crate::clock::Moment;

impl<O: Clone> Campaigner<O> {
    /// Returns whether this campaigner leads at this moment.
    pub fn leads(&self, now: Moment) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// Returns until when it leads, if it is not renewed.
    pub fn leads_until(&self) -> Option<Moment> {
        self.leads_until
    }

    /// Returns the term of its lead: the revision at which the lock first named it. Revisions grow, also across a deletion of the lock,
    /// so every later leader has a larger term. `None`: it does not lead.
    pub fn term(&self) -> Option<u64> {
        self.term.filter(|_| self.leads_until.is_some())
    }

    /// Returns when the holder acquired the lock, by the holder's clock.
    pub fn acquired(&self) -> Option<Timestamp> {
        self.observed.as_ref().filter(|observed| observed.record.is_held())?.record.acquire_time
    }

    /// Returns whether another process campaigns with the same identity.
    pub fn has_duplicate(&self) -> bool {
        self.foreign_records >= DUPLICATE_RECORDS
    }

    /// Returns the holder, and when it expires unless it renews.
    pub fn holder(&self) -> Option<(&str, Moment)> {
        let observed = self.observed.as_ref().filter(|observed| observed.record.is_held())?;
        let counts_until = if self.holds() { self.leads_until? } else { self.free_at() };
        Some((&observed.record.holder, counts_until))
    }

    /// Returns when the last read or write succeeded.
    pub fn confirmed(&self) -> Option<Moment> {
        self.confirmed
    }

    /// Returns the reason to wait, other than that another process leads.
    pub(crate) fn wait_reason(&self, now: Moment) -> Option<WaitReason> {
        match () {
            () if self.claimed_by.is_some() || self.leads(now) => None,
            () if now < self.not_before => Some(WaitReason::Vanished),
            () if self.names_self() && !self.holds() && now < self.free_at() => Some(WaitReason::OwnName),
            () => None,
        }
    }

    /// Returns the Election that claims the lock, which ends the campaign.
    pub fn claimed_by(&self) -> Option<&str> {
        self.claimed_by.as_deref()
    }

    /// Returns whether an Election has claimed the lock and kept this campaigner as its leader.
    pub fn is_adopted(&self) -> bool {
        self.claimed_by.is_some() && self.names_self()
    }

    /// Returns the identity.
    pub fn identity(&self) -> &str {
        &self.config.identity
    }

    /// Returns whether nothing has failed since the last success.
    pub fn is_unhindered(&self) -> bool {
        self.failures == 0
    }

    /// Returns the timeout of the request that is due.
    pub fn request_timeout(&self, now: Moment) -> Duration {
        let timeout = self.config.request_timeout();
        let bound = self.resigning.or(self.would_lead_until).filter(|until| now < *until);
        bound.map_or(timeout, |until| timeout.min(until - now))
    }
}
