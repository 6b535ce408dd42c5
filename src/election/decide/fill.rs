//! Rule 3: how a Lease is blanked, and how a blank or adopted one is filled.

use super::{Decision, consult, stalled};
use crate::api::Reason;
use crate::election::plan::{LeaseWrite, Plan, Then};
use crate::election::snapshot::{Pod, Snapshot};
use crate::election::status;
use crate::election::text::first_of;
use crate::ids::Term;
use crate::lease::cause::Cause;

impl Decision<'_> {
    /// Rule 3: a Lease that cannot be trusted is blanked first, so that every plan made on its old version fails.
    pub(super) fn blank(&self, why: &'static str) -> Plan {
        Plan { lease: Some(LeaseWrite::Blank(self.guard(), why)), then: Then::DecideAgain, ..Plan::default() }
    }

    /// Rule 3: a blank or adopted Lease names no former holders of this Election. So every pod that may be one is listed, as
    /// the server listed the pods after that Lease was observed.
    pub(super) fn fill(&self) -> Plan {
        let election = &self.snapshot.election;
        let pods = &self.snapshot.pods;
        // Pod templates carry the follower's value where a Service must never miss a follower.
        let foreign = |pod: &Pod| pod.label.is_some() && pod.label != self.settings.label.follower_value;
        let in_use = pods.iter().filter(|pod| pod.matches && pod.rival.is_none() && foreign(pod) && !pod.claimed);
        let in_use: Vec<&str> = in_use.map(|pod| pod.id.name.as_str()).collect();
        if election.status.term.is_none() && !in_use.is_empty() {
            let message = format!(
                "label {} is in use on {} before the first election: remove it from these pods and their template, or create the Election with another spec.label.key",
                self.settings.label.key,
                first_of(&in_use),
            );
            return stalled(self.snapshot, Some(self.settings), Reason::LabelConflict, message, self.now);
        }
        let holder = self.next_holder();
        if holder.is_none() && !pods.iter().any(|pod| pod.is_labeled(&self.settings.label)) {
            return self.report(None, false);
        }
        // A fence is a claim, and another Election's pod must not be claimed. It may still be a former holder that was never
        // labeled, so no other pod can be elected.
        if let Some(pod) = pods.iter().find(|pod| pod.matches && pod.rival.is_some() && !pod.claimed) {
            let (reason, message) = status::overlap(pod, self.settings);
            return stalled(self.snapshot, Some(self.settings), reason, message, self.now);
        }
        if self.adopts && !self.adopts_in_place() {
            return self.blank("it was adopted");
        }
        if self.snapshot.read_after != Some(self.lease.resource_version) {
            return consult("the Lease names no former holders");
        }
        let lost = election.status.term.is_some() || pods.iter().any(|pod| pod.term.is_some());
        let (cause, reason) = match (self.adopts, lost) {
            (true, _) => (Cause::LeaseAdopted, "the Lease was adopted"),
            (false, true) => (Cause::LeaseLost, "the Lease was lost"),
            (false, false) => (Cause::InitialElection, "initial election"),
        };
        let listed = pods.iter().map(|pod| &pod.id.uid).chain(&self.lease.former).cloned();
        self.elect(holder, listed.collect(), (cause, reason.into()))
    }

    /// Returns whether an adopted Lease may be filled without blanking it first, so that its holder leads without a gap.
    ///
    /// The term would be the Lease's revision, which may be older than terms that this Election had on another Lease.
    fn adopts_in_place(&self) -> bool {
        let Snapshot { pods, election, .. } = self.snapshot;
        let above = |term: Term| !term.precedes(self.lease.resource_version);
        let named = election.status.term.is_some_and(|term| term >= Term::replacing(self.lease.resource_version).number());
        self.holder_stays && !named && !pods.iter().any(|pod| pod.term.is_some_and(above))
    }
}
