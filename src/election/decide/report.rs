//! Rules 5 to 9: the writes to pods and status that a term requires.

use k8s_openapi::jiff::SignedDuration;

use super::{Decision, FOLLOWERS_AT_ONCE, claim};
use crate::election::candidate::{Candidates, Ineligible, unreachable_in};
use crate::election::followed::Named;
use crate::election::order::Order;
use crate::election::plan::{Plan, Then};
use crate::election::project::{Projection, Required, project};
use crate::election::snapshot::{CONTEST_TIMEOUT, Contest, HEARTBEAT_GAP, Pod, RENEWAL_PAUSE, REPAIR_INTERVAL};
use crate::election::status::{self, CurrentTerm, StatusInput};
use crate::ids::{PodRef, Term};
use crate::lease::cause::Cause;
use crate::lease::record::{Lease, Record};

impl<'a> Decision<'a> {
    /// The plan under the term that the Lease holds.
    pub(super) fn keep(&self, record: &Record) -> Plan {
        let Lease { acquired, transitions, .. } = *self.lease;
        let current = CurrentTerm { record, acquired, transitions: transitions.unwrap_or(0) };
        Plan { outranking: self.outranking(record), ..self.pod_writes(record, current) }
    }

    pub(super) fn pod_writes(&self, record: &Record, current: CurrentTerm<'_>) -> Plan {
        let Self { snapshot, settings, lease, .. } = *self;
        let value = settings.label.follower_value.as_ref();
        let ineligible = self.candidates.ineligible.iter().filter(|(pod, why)| match why {
            // A labeled follower stays one: the clocks of two controllers differ.
            Ineligible::ReadyTooShort(_) => pod.label.as_ref() == value && pod.label.is_some(),
            // It would be eligible otherwise.
            Ineligible::NotNamed => true,
            _ => false,
        });
        let followers = self.candidates.eligible.iter().copied().chain(ineligible.map(|(pod, _)| *pod));
        let followers = followers.filter(|_| value.is_some()).map(|pod| &pod.id.uid).collect();
        let (election, revision) = (snapshot.election.name.as_str(), lease.resource_version);
        let projection = project(snapshot, &Required { election, settings, record, revision, followers });
        if projection.unaccounted {
            return Plan {
                fence: projection.fence,
                then: Then::Consult("a former holder is not observed"),
                ..Plan::default()
            };
        }
        let Projection { mut fence, mut label, mut follow, cost, mut labeled, unaccounted: _ } = projection;
        follow.truncate(FOLLOWERS_AT_ONCE);
        let pause = self.snapshot.contest.filter(|contest| contest.repaired_ago < REPAIR_INTERVAL);
        if pause.is_some() {
            // Fencing what may be a former leader's label is no repair, and does not wait.
            labeled &= label.as_ref().is_none_or(|write| !write.is_repair);
            label = label.filter(|write| !write.is_repair);
            fence.retain(|write| !write.is_repair);
            follow.clear();
        }
        // Every other write to the pod claims it as well.
        let written = |pod: &&Pod| fence.iter().chain(&follow).chain(&cost).any(|write| write.pod == pod.id);
        let claim_next = self.next_to_claim(record).filter(|pod| !pod.claimed && !written(pod)).map(claim);
        Plan { fence, label, claim_next, follow, cost, ..self.report(Some(current), labeled) }
    }

    /// The pod that would be elected if the holder's pod went now: it decides neither the order nor who is reachable then.
    fn next_leader(&self, holder: Option<&PodRef>) -> Option<&'a Pod> {
        let holder = holder.filter(|_| !self.settings.suspend && self.named.is_none())?;
        let others = || self.snapshot.pods.iter().filter(|pod| pod.id != *holder);
        let candidates = Candidates::of(others(), self.settings, None, None);
        Order::of(others(), self.settings, &self.snapshot.election.uid).first(candidates.eligible, None)
    }

    /// [`Self::next_leader`], or where no other pod is eligible, the pod that may become eligible first. Whom a followed Lease names
    /// next is unknown.
    fn next_to_claim(&self, record: &Record) -> Option<&'a Pod> {
        use Ineligible::{NotReady, Pending, ReadyTooShort};
        if self.settings.suspend || self.named.is_some() || self.snapshot.pods.iter().all(|pod| pod.claimed) {
            return None;
        }
        let other = |pod: &&Pod| record.holder.as_ref() != Some(&pod.id);
        let coming =
            self.candidates.ineligible.iter().filter(|(_, why)| matches!(why, NotReady | Pending | ReadyTooShort(_)));
        let free = |pod: &&Pod| {
            let label = pod.label.as_ref().is_none_or(|value| self.settings.label.owns(value));
            !pod.opted_out && pod.rival.is_none() && label
        };
        let coming = coming.map(|(pod, _)| *pod).filter(other).filter(free);
        self.next_leader(record.holder.as_ref()).or_else(|| self.order.first(coming, None))
    }

    /// Rule 9: the status, and when to decide again.
    pub(super) fn report(&self, current: Option<CurrentTerm<'_>>, labeled: bool) -> Plan {
        let Self { settings, candidates, .. } = self;
        let record = current.map(|current| current.record);
        let next = self.next_leader(record.and_then(|record| record.holder.as_ref()));
        let pending = record.and_then(|record| self.pending_handover(record));
        let ignored = record.and_then(|record| self.ignored_request(record));
        let unnamed = match &self.named {
            Some(Named::Nobody(_, why)) => Some(why.as_str()),
            Some(Named::Pod(_)) | None => None,
        };
        let input = StatusInput { settings, current, labeled, candidates, next, pending, ignored, unnamed };
        let status = status::report(self.snapshot, &input, self.now);
        let later = self.candidates.ineligible.iter().filter_map(|(_, why)| match why {
            Ineligible::ReadyTooShort(left) => Some(*left),
            _ => None,
        });
        let later = later.chain(self.failover_delay_left()).chain(self.contest_left());
        let later = later.chain(self.preemption_in()).chain(self.unreachable_in()).chain(self.renewal_in());
        Plan { status, then: later.min().map_or(Then::AwaitChange, Then::RequeueAfter), ..Plan::default() }
    }

    /// The time until the first pod on a silent node is unreachable. Nodes that renew in time wake nobody.
    fn unreachable_in(&self) -> Option<SignedDuration> {
        let silent = |pod: &&&Pod| pod.node.as_ref().is_some_and(|node| node.silent_for > HEARTBEAT_GAP);
        let eligible = &self.candidates.eligible;
        eligible.iter().filter(silent).filter_map(|pod| unreachable_in(pod, eligible, self.settings)).min()
    }

    /// The time until the next look for a renewal of a followed Lease that counts as expired only because a former controller found
    /// it so: renewals wake no Election.
    fn renewal_in(&self) -> Option<SignedDuration> {
        let (_, followed) = self.snapshot.followed_by(self.settings)?;
        let expired = matches!(self.named, Some(Named::Nobody(Some(Cause::LeaseExpired), _)));
        (expired && followed.unchanged_for < followed.duration()).then_some(RENEWAL_PAUSE)
    }

    /// The time until a contested label may be repaired again, or is no longer contested.
    fn contest_left(&self) -> Option<SignedDuration> {
        let Contest { repaired_ago } = self.snapshot.contest?;
        let waits = if repaired_ago < REPAIR_INTERVAL { REPAIR_INTERVAL } else { CONTEST_TIMEOUT };
        Some(waits.saturating_sub(repaired_ago))
    }

    /// Rule 9: a higher term in the status that a Lease up to this revision may have had is followed by a still higher one.
    pub(super) fn status_is_above(&self, term: Term) -> bool {
        let revision = Term::replacing(self.lease.resource_version).number();
        self.snapshot.election.status.term.is_some_and(|named| named > term.number() && named <= revision)
    }

    /// Rule 9: the status never goes back to a lower term. A status with a term that this version of the Lease cannot know was
    /// written after it, unless the server itself shows that no Lease ever had that term.
    pub(super) fn status_may_be_newer(&self) -> bool {
        let election = &self.snapshot.election;
        let named = election.status.term;
        !election.verified && named.is_some_and(|named| named >= Term::replacing(self.lease.resource_version).number())
    }
}
