//! Rules 4 and 10: whether the holder is replaced, by which pod, and the compare-and-swap that does it.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::handover::Handover;
use super::{Decision, claim, consult};
use crate::election::candidate::Ineligible;
use crate::election::followed::Named;
use crate::election::plan::{LeaseWrite, Plan, Then};
use crate::election::snapshot::{Pod, PodState};
use crate::election::status::CurrentTerm;
use crate::ids::{Term, Uid};
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Record};

impl<'a> Decision<'a> {
    /// Rules 4 and 10 where the leader changes; rules 5 to 9 where it stays.
    pub(super) fn keep_or_replace(&self, record: &Record) -> Plan {
        if self.is_unverified(record) {
            return consult("a pod carries a term above the Lease's");
        }
        if self.settings.suspend {
            return self.keep(record);
        }
        if self.incumbent.as_ref().is_some_and(|uid| self.snapshot.pod(uid).is_none() && !self.snapshot.gone.contains(uid)) {
            return consult("the holder is not observed");
        }
        let next = self.next_holder();
        if next.map(|pod| &pod.id.uid) != self.incumbent.as_ref() {
            if self.followed_lease_is_stale() {
                return Plan {
                    then: Then::ReadFollowedLease("the followed Lease was last observed before the term"),
                    ..Plan::default()
                };
            }
            if self.named_pod_may_be_unobserved() {
                return consult("the followed Lease names no observed pod");
            }
            if self.holder_is_stale(record) {
                return consult("the holder was last observed before its term");
            }
        }
        if next.is_some_and(|pod| self.fence_is_unobserved(pod, record)) {
            return consult("the next leader was last observed before it was deposed");
        }
        let reason = if let Some(pod) = self.above(record.term).next() {
            (Cause::TermRepaired, format!("{} carries a term above the Lease's", pod.id.name))
        } else if self.status_is_above(record.term) {
            (Cause::TermRepaired, "the status has a term above the Lease's".into())
        } else if next.map(|pod| &pod.id.uid) == self.incumbent.as_ref() {
            return self.keep(record);
        } else {
            self.reason(record, next)
        };
        let holder = record.holder.iter().map(|holder| holder.uid.clone());
        let fenced = self.fenced(record);
        let unfenced = record.unfenced.iter().filter(|uid| !fenced.contains(uid)).cloned();
        self.elect(next, holder.chain(unfenced).collect(), reason)
    }

    /// The pod that should hold the Lease.
    ///
    /// A holder that is merely not Ready stays during `failoverDelaySeconds`. With `whenNoneEligible: Retain` it stays while
    /// no other pod is eligible. A planned change replaces a leader that could stay.
    pub(super) fn next_holder(&self) -> Option<&'a Pod> {
        self.handover.as_ref().map(|handover| handover.to).or_else(|| self.next_without_handover())
    }

    pub(super) fn next_without_handover(&self) -> Option<&'a Pod> {
        let delayed = self.failover_delay_left().is_some();
        let first = self.order.first(self.candidates.eligible.iter().copied(), self.incumbent.as_ref());
        first.filter(|_| !delayed).or_else(|| self.retainable_holder().filter(|_| delayed || self.settings.retain))
    }

    /// The holder, if it is ineligible only because it is not Ready, or because the followed Lease does not name it.
    fn retainable_holder(&self) -> Option<&'a Pod> {
        let retainable = |why: &Ineligible| matches!(why, Ineligible::NotReady | Ineligible::NotNamed);
        let (pod, _) = self
            .candidates
            .ineligible
            .iter()
            .find(|(pod, _)| self.incumbent.as_ref() == Some(&pod.id.uid))
            .filter(|(_, why)| retainable(why))?;
        Some(pod)
    }

    /// The rest of `failoverDelaySeconds` for a holder that is not Ready.
    pub(super) fn failover_delay_left(&self) -> Option<SignedDuration> {
        let left = self.settings.failover_delay.saturating_sub(self.retainable_holder()?.unchanged_for);
        Some(left).filter(SignedDuration::is_positive)
    }

    /// Returns whether the observation that makes the holder ineligible may be older than its term.
    ///
    /// The controller that elected it observed it later, as eligible. A controller that was paused receives changes of pods
    /// and Lease in any order. (A pod that terminates does not come back.)
    fn holder_is_stale(&self, record: &Record) -> bool {
        use PodState::{Pending, Running};
        let holder = self.incumbent.as_ref().and_then(|uid| self.snapshot.pod(uid));
        let holder = holder.filter(|pod| matches!(pod.state, Pending | Running));
        holder.is_some_and(|pod| !pod.verified && pod.term < Some(record.term))
    }

    /// Returns whether the followed Lease may name a pod that is not observed yet: a new pod may acquire it at once.
    fn named_pod_may_be_unobserved(&self) -> bool {
        let was_listed = self.snapshot.read_after == Some(self.lease.resource_version);
        matches!(self.named, Some(Named::Nobody(None, _))) && !was_listed
    }

    /// Returns whether the observation of the followed Lease may be older than the term.
    ///
    /// The controller that began the term may have observed a later version. Both are Leases, so their revisions compare.
    fn followed_lease_is_stale(&self) -> bool {
        self.snapshot.followed_by(self.settings).is_some_and(|(_, followed)| {
            let observed = followed.lease.as_ref().map(|lease| lease.resource_version);
            !followed.verified && observed < Some(self.lease.resource_version)
        })
    }

    /// Returns whether the observation that makes the pod eligible may be older than the term that deposed it.
    ///
    /// It is a former holder, and its fence is not observed. The controller that deposed it observed it later, as ineligible.
    fn fence_is_unobserved(&self, pod: &Pod, record: &Record) -> bool {
        record.unfenced.contains(&pod.id.uid) && !pod.verified && pod.term < Some(record.term)
    }

    /// Returns whether a term that matters is above the Lease's, and only the server can show whether the Lease is stale.
    fn is_unverified(&self, record: &Record) -> bool {
        let beyond = |pod: &Pod| !pod.verified && pod.term.is_some_and(|own| own.is_beyond(self.lease.resource_version));
        let former = |pod: &&Pod| record.unfenced.contains(&pod.id.uid);
        self.above(record.term).any(|pod| !pod.verified)
            || self.next_holder().is_some_and(beyond)
            || self.snapshot.pods.iter().filter(former).any(beyond)
    }

    /// Pods whose own term only a new term can overrule: rule 8, and its counterpart for a labeled pod.
    fn above(&self, term: Term) -> impl Iterator<Item = &'a Pod> {
        let revision = self.lease.resource_version;
        self.snapshot.pods.iter().filter(move |pod| {
            let counts = self.incumbent.as_ref() == Some(&pod.id.uid) || pod.is_labeled(&self.settings.label);
            counts && pod.term_unless_forged(revision) > Some(term)
        })
    }

    /// Rule 4: an entry may be dropped only if its pod was observed unlabeled with a term at or above that of the Lease being
    /// replaced, or is gone forever. One set for all entries: after a first election the list names all pods but one.
    fn fenced(&self, record: &Record) -> HashSet<&'a Uid> {
        let observed_fenced = |pod: &&Pod| {
            let own = pod.term_unless_forged(self.lease.resource_version);
            !pod.is_labeled(&self.settings.label) && own >= Some(record.term)
        };
        let observed = self.snapshot.pods.iter().filter(observed_fenced).map(|pod| &pod.id.uid);
        observed.chain(&self.snapshot.gone).collect()
    }

    fn reason(&self, record: &Record, next: Option<&Pod>) -> (Cause, String) {
        if let Some(Handover { to: _, cause, reason }) = &self.handover {
            return (*cause, reason.clone());
        }
        match (&self.named, &self.settings.leader_from) {
            (Some(Named::Nobody(Some(cause), why)), _) => return (*cause, why.clone()),
            (Some(Named::Pod(pod)), Some(from)) if next.is_some_and(|next| next.id == pod.id) => {
                return (Cause::HolderChanged, format!("Lease {} names {}", from.lease, pod.id.name));
            }
            _ => {}
        }
        match (&record.holder, next) {
            (None, Some(pod)) => (Cause::BecameEligible, format!("{} became eligible", pod.id.name)),
            (None, None) => (Cause::Unknown, "no candidate is eligible".into()),
            (Some(holder), _) => match self.candidates.ineligible.iter().find(|(pod, _)| pod.id.uid == holder.uid) {
                Some((pod, why)) => (Cause::from(why), format!("previous leader {} {why}", pod.id.name)),
                None => (Cause::Gone, format!("previous leader {} is gone", holder.name)),
            },
        }
    }

    /// The compare-and-swap, and the pod writes that follow from it. The term is the revision that it replaces.
    ///
    /// Rule 4: it names only a pod that carries the claim. A controller that later finds the Lease lost finds the pod by its
    /// claim, also after a change of the selector.
    pub(super) fn elect(&self, holder: Option<&Pod>, mut unfenced: BTreeSet<Uid>, (cause, reason): (Cause, String)) -> Plan {
        if let Some(pod) = holder.filter(|pod| !pod.claimed) {
            return Plan { claim: Some(claim(pod)), then: Then::DecideAgain, ..Plan::default() };
        }
        if let Some(pod) = holder {
            unfenced.remove(&pod.id.uid);
        }
        let term = Term::replacing(self.lease.resource_version);
        let record = Record { holder: holder.map(|pod| pod.id.clone()), term, unfenced, cause, reason };
        // The API server stores microseconds.
        let acquired = Timestamp::from_microsecond(self.now.as_microsecond()).unwrap_or(self.now);
        let transitions = self.transitions(holder);
        let mut plan = self.pod_writes(&record, CurrentTerm { record: &record, acquired: Some(acquired), transitions });
        plan.lease = Some(LeaseWrite::Elect { guard: self.guard(), record, acquired, transitions });
        plan
    }

    /// The number of changes of leader. Vacancies and new terms of the same leader do not count.
    fn transitions(&self, holder: Option<&Pod>) -> i32 {
        let status = &self.snapshot.election.status;
        let blank = self.lease.content == Content::Blank;
        // A lost Lease loses its count; the status keeps it.
        let known = status.term.map(|_| status.leader_transitions);
        let so_far = if blank { self.lease.transitions.max(known) } else { self.lease.transitions };
        let before = if blank { status.leader_uid.as_deref() } else { self.incumbent.as_ref().map(AsRef::as_ref) };
        match (so_far, holder) {
            (None, _) => 0,
            (Some(count), Some(pod)) if before != Some(pod.id.uid.as_ref()) => count.saturating_add(1),
            (Some(count), _) => count,
        }
    }
}
