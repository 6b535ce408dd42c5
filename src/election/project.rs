//! What a Lease means for the pods: rules 5 to 8 of the safety protocol (`docs/design.md`, section 4).

use std::collections::BTreeSet;

use super::plan::{LabelChange, PodWrite};
use super::snapshot::{Pod, PodState, Settings, Snapshot};
use crate::ids::{ResourceVersion, Term, Uid};
use crate::lease::record::Record;

/// What is still missing until the pods look as the Lease says.
#[derive(Debug, Default)]
pub struct Projection {
    /// Pods to fence.
    pub fence: Vec<PodWrite>,
    /// The pod to label once all of these are fenced.
    pub label: Option<PodWrite>,
    /// Pods that get or lose the follower's value. Nobody waits for them.
    pub follow: Vec<PodWrite>,
    /// The holder carries the label with the Lease's term, or does so once `label` is written.
    pub labelled: bool,
    /// A former holder is neither seen nor known to be gone: nobody may be labelled until the server was asked.
    pub unaccounted: bool,
}

/// A Lease and what it applies to.
#[derive(Clone, Debug)]
pub struct Reign<'a> {
    /// The label that is written.
    pub settings: &'a Settings,
    /// The term in force.
    pub record: &'a Record,
    /// The revision of the Lease: of the version that holds `record`, or of the one that a compare-and-swap to `record`
    /// replaces.
    pub revision: ResourceVersion,
    /// The pods that carry the follower's value unless they lead: all that may, if the Election has such a value.
    pub followers: BTreeSet<&'a Uid>,
}

/// What the pods lack.
pub fn project(snapshot: &Snapshot, reign: &Reign<'_>) -> Projection {
    let &Reign { settings, record, revision, .. } = reign;
    let is_holder = |pod: &&Pod| record.holder.as_ref().is_some_and(|holder| holder.uid == pod.id.uid);
    let (holders, others): (Vec<&Pod>, Vec<&Pod>) = snapshot.pods.iter().partition(is_holder);
    let (unfenced, fenced): (Vec<&Pod>, Vec<&Pod>) = others.iter().partition(|pod| reign.must_fence(pod));
    let fence = unfenced.into_iter().map(|pod| reign.restore(pod, reign.unlabel(pod)));
    // Rule 6: whoever was labelled under a higher term, it was by a Lease that we have not seen.
    let outdated =
        others.iter().any(|pod| pod.is_labelled(&settings.label) && pod.term_unless_forged(revision) > Some(record.term));
    let label = holders.first().filter(|_| !outdated).and_then(|pod| reign.label(pod));
    let labelled = label.is_some() || holders.iter().any(|pod| reign.is_labelled(pod));
    let follow = fenced.into_iter().filter(|_| !outdated).filter_map(|pod| reign.follow(pod));
    // The label is written only after every former holder was fenced. Where the holder has it with this very term,
    // absent ones were therefore accounted for.
    let seen: BTreeSet<&Uid> = snapshot.pods.iter().map(|pod| &pod.id.uid).collect();
    let unaccounted =
        label.is_some() && record.unfenced.iter().any(|uid| !seen.contains(uid) && !snapshot.gone.contains(uid));
    Projection { fence: fence.collect(), label, follow: follow.collect(), labelled, unaccounted }
}

impl Reign<'_> {
    /// Rules 5 and 7: former holders, labelled or not (an unlabelled one may still be labelled by a paused controller, which
    /// the fence's new resourceVersion refuses), and whoever else carries the label. Never a pod with a higher term.
    fn must_fence(&self, pod: &Pod) -> bool {
        let (own, term) = (pod.term_unless_forged(self.revision), Some(self.record.term));
        let stray = pod.is_labelled(&self.settings.label) && own <= term;
        let former = self.record.unfenced.contains(&pod.id.uid) && own < term;
        stray || former
    }

    /// What becomes of the label of a pod that does not lead. A former holder loses it also where a rival has the pod by now:
    /// it may be ours, from before. The rival puts its own back.
    fn unlabel(&self, pod: &Pod) -> LabelChange {
        let label = &self.settings.label;
        let foreign = pod.label.as_ref().is_some_and(|value| !label.owns(value));
        if foreign || (pod.rival.is_some() && !pod.has_value(label)) {
            return LabelChange::Keep;
        }
        // Also where the label is right already: the answer then shows that it still is.
        if self.follower_value(pod).is_some() { LabelChange::Follow } else { LabelChange::Remove }
    }

    /// The follower's value, if the pod is to carry it.
    fn follower_value(&self, pod: &Pod) -> Option<&String> {
        let follows = self.followers.contains(&pod.id.uid);
        self.settings.label.follower_value.as_ref().filter(|_| follows)
    }

    /// The follower's value, on every pod that could lead and does not, and on no other. A pod that is about to go is not
    /// worth the write.
    fn follow(&self, pod: &Pod) -> Option<PodWrite> {
        let ours = pod.rival.is_none() && !pod.has_value(&self.settings.label);
        let done = pod.label.as_ref() == self.follower_value(pod);
        let newer = pod.term_unless_forged(self.revision) > Some(self.record.term);
        if !ours || done || newer || pod.state == PodState::Terminating {
            return None;
        }
        Some(self.unlabel(pod)).filter(|change| *change != LabelChange::Keep).map(|change| self.write(pod, change))
    }

    /// Rule 8. A holder with a higher term of its own was named by a Lease that we have not seen; one that left the
    /// selector, that a rival has, or that carries a foreign value, is not ours to label.
    fn label(&self, pod: &Pod) -> Option<PodWrite> {
        let (own, term) = (pod.term_unless_forged(self.revision), Some(self.record.term));
        let label = &self.settings.label;
        let done = self.is_labelled(pod);
        let free = pod.matches && pod.rival.is_none() && pod.label.as_ref().is_none_or(|value| label.owns(value));
        (!done && free && own <= term).then(|| self.restore(pod, LabelChange::Lead))
    }

    /// Whether the label is confirmed: on the pod, with the Lease's very term.
    fn is_labelled(&self, pod: &Pod) -> bool {
        pod.is_labelled(&self.settings.label) && pod.term_unless_forged(self.revision) == Some(self.record.term)
    }

    fn write(&self, pod: &Pod, label: LabelChange) -> PodWrite {
        let term: Term = self.record.term;
        PodWrite { pod: pod.id.clone(), resource_version: pod.resource_version, label, term: Some(term), is_repair: false }
    }

    /// The write of a label that somebody else changed, if the pod has this term already: claim and label are one write.
    fn restore(&self, pod: &Pod, label: LabelChange) -> PodWrite {
        PodWrite { is_repair: pod.term == Some(self.record.term), ..self.write(pod, label) }
    }
}
