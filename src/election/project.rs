//! The pod writes that a term requires: rules 5 to 8 of the safety protocol (`docs/design.md`, section 4).

use std::collections::BTreeSet;

use super::plan::{LabelChange, PodWrite};
use super::snapshot::{Pod, PodState, Settings, Snapshot};
use crate::ids::{ResourceVersion, Uid};
use crate::lease::record::Record;

/// The writes that bring the pods to the state that the Lease requires.
#[derive(Debug, Default)]
pub struct Projection {
    /// Pods to fence.
    pub fence: Vec<PodWrite>,
    /// The pod to label after all of `fence` are acknowledged.
    pub label: Option<PodWrite>,
    /// Pods that get or lose the follower's value. No other write waits for them.
    pub follow: Vec<PodWrite>,
    /// Pods of which only the deletion cost is to be corrected. No other write waits for them.
    pub cost: Vec<PodWrite>,
    /// The holder carries the label with the Lease's term, or does so after `label` is written.
    pub labeled: bool,
    /// A former holder is neither observed nor known to be gone: no pod may be labeled before the server was read.
    pub unaccounted: bool,
}

/// The state of the pods that a term requires.
#[derive(Clone, Debug)]
pub struct Required<'a> {
    /// The Election's name.
    pub election: &'a str,
    /// The Election's label and its other settings.
    pub settings: &'a Settings,
    /// The term in force.
    pub record: &'a Record,
    /// The revision of the Lease: of the version that holds `record`, or of the one that a compare-and-swap to `record`
    /// replaces.
    pub revision: ResourceVersion,
    /// The pods that carry the follower's value unless they lead: the eligible ones, if the Election has such a value.
    pub followers: BTreeSet<&'a Uid>,
}

/// Compares the pods with what the term requires.
pub fn project(snapshot: &Snapshot, required: &Required<'_>) -> Projection {
    let &Required { settings, record, revision, .. } = required;
    let (holders, others): (Vec<&Pod>, Vec<&Pod>) = snapshot.pods.iter().partition(|pod| required.is_holder(pod));
    let (unfenced, fenced): (Vec<&Pod>, Vec<&Pod>) = others.iter().partition(|pod| required.must_fence(pod));
    let fence = unfenced.into_iter().map(|pod| required.restore(pod, required.unlabel(pod)));
    // Rule 6: a label under a higher term comes from a Lease that is not observed yet.
    let outdated =
        others.iter().any(|pod| pod.is_labeled(&settings.label) && pod.term_unless_forged(revision) > Some(record.term));
    let label = holders.first().filter(|_| !outdated).and_then(|pod| required.label(pod));
    let labeled = label.is_some() || holders.iter().any(|pod| required.is_labeled(pod));
    let fenced = || fenced.iter().filter(|_| !outdated);
    let follow = fenced().filter_map(|pod| required.follow(pod));
    let led = holders.iter().filter(|pod| required.is_labeled(pod));
    let cost = led.chain(fenced().filter(|pod| required.follow(pod).is_none())).filter_map(|pod| required.cost(pod));
    // The label is written only after every former holder was fenced. Where the holder carries it with this very term, absent
    // former holders were therefore accounted for.
    let seen: BTreeSet<&Uid> = snapshot.pods.iter().map(|pod| &pod.id.uid).collect();
    let unaccounted =
        label.is_some() && record.unfenced.iter().any(|uid| !seen.contains(uid) && !snapshot.gone.contains(uid));
    let (follow, cost) = (follow.collect(), cost.collect());
    Projection { fence: fence.collect(), label, follow, cost, labeled, unaccounted }
}

impl Required<'_> {
    /// Rules 5 and 7: former holders, labeled or not, and every other pod with the label. Never a pod with a higher term.
    ///
    /// A paused controller may still send the label of an unlabeled one: the fence's new resourceVersion makes it fail.
    fn must_fence(&self, pod: &Pod) -> bool {
        let (own, term) = (pod.term_unless_forged(self.revision), Some(self.record.term));
        let stray = pod.is_labeled(&self.settings.label) && own <= term;
        let former = self.record.unfenced.contains(&pod.id.uid) && own < term;
        stray || former
    }

    /// The label change of a pod that does not lead.
    ///
    /// A former holder loses the label also if another Election owns the pod by then: the label may still be this Election's.
    /// The other Election restores its own.
    fn unlabel(&self, pod: &Pod) -> LabelChange {
        let label = &self.settings.label;
        let foreign = pod.label.as_ref().is_some_and(|value| !label.owns(value));
        if foreign || (pod.rival.is_some() && !pod.has_value(label)) {
            return LabelChange::Keep;
        }
        // Also where the label is correct already: the response then proves that it still is.
        if self.follower_value(pod).is_some() { LabelChange::Follow } else { LabelChange::Remove }
    }

    /// The follower's value, if the pod must carry it.
    fn follower_value(&self, pod: &Pod) -> Option<&String> {
        let follows = self.followers.contains(&pod.id.uid);
        self.settings.label.follower_value.as_ref().filter(|_| follows)
    }

    /// Every eligible pod that does not lead carries the follower's value, and no other pod does. A terminating pod is not worth
    /// the write.
    fn follow(&self, pod: &Pod) -> Option<PodWrite> {
        let ours = pod.rival.is_none() && !pod.has_value(&self.settings.label);
        let done = pod.label.as_ref() == self.follower_value(pod);
        let newer = pod.term_unless_forged(self.revision) > Some(self.record.term);
        if !ours || done || newer || pod.state == PodState::Terminating {
            return None;
        }
        Some(self.unlabel(pod)).filter(|change| *change != LabelChange::Keep).map(|change| self.write(pod, change))
    }

    /// Rule 8: the write of the leader's label.
    ///
    /// A holder with a higher term of its own was named by a Lease that is not observed yet. A holder that left the selector,
    /// that another Election owns, or that carries a foreign value must not be labeled.
    fn label(&self, pod: &Pod) -> Option<PodWrite> {
        let (own, term) = (pod.term_unless_forged(self.revision), Some(self.record.term));
        let label = &self.settings.label;
        let done = self.is_labeled(pod);
        let free = pod.matches && pod.rival.is_none() && pod.label.as_ref().is_none_or(|value| label.owns(value));
        (!done && free && own <= term).then(|| self.restore(pod, LabelChange::Lead))
    }

    /// Returns whether the pod carries the label with the Lease's very term.
    fn is_labeled(&self, pod: &Pod) -> bool {
        pod.is_labeled(&self.settings.label) && pod.term_unless_forged(self.revision) == Some(self.record.term)
    }

    fn write(&self, pod: &Pod, label: LabelChange) -> PodWrite {
        let (id, resource_version, term) = (pod.id.clone(), pod.resource_version, Some(self.record.term));
        let cost = Some(pod.cost.demanding(self.election, self.demand(pod))).filter(|cost| *cost != pod.cost);
        PodWrite { pod: id, resource_version, label, term, cost, is_repair: false }
    }

    fn is_holder(&self, pod: &Pod) -> bool {
        self.record.holder.as_ref().is_some_and(|holder| holder.uid == pod.id.uid)
    }

    /// The deletion cost that this Election demands of the pod.
    fn demand(&self, pod: &Pod) -> Option<i32> {
        self.settings.leader_deletion_cost.filter(|_| self.is_holder(pod))
    }

    /// The write of the deletion cost alone. It changes neither the label nor the claim. A terminating pod is not worth it.
    fn cost(&self, pod: &Pod) -> Option<PodWrite> {
        let done = pod.cost.demands().get(self.election).copied() == self.demand(pod);
        let is_due = pod.claimed && !done && pod.state != PodState::Terminating;
        is_due.then(|| PodWrite { term: pod.term, ..self.write(pod, LabelChange::Keep) })
    }

    /// A repair if the pod has this term already: claim and label are one write, so another client changed the label since.
    fn restore(&self, pod: &Pod, label: LabelChange) -> PodWrite {
        PodWrite { is_repair: pod.term == Some(self.record.term), ..self.write(pod, label) }
    }
}
