//! What a Lease means for the pods: rules 5 to 8 of the safety protocol (`docs/design.md`, section 4).

use std::collections::BTreeSet;

use super::plan::{LabelChange, PodWrite};
use super::snapshot::{Pod, Settings, Snapshot};
use super::term::{ResourceVersion, Term, Uid};
use crate::lease::record::Record;

/// What is still missing until the pods look as the Lease says.
#[derive(Debug, Default)]
pub struct Projection {
    /// Pods to fence.
    pub fence: Vec<PodWrite>,
    /// The pod to label once all of these are fenced.
    pub label: Option<PodWrite>,
    /// A former holder is neither seen nor known to be gone: nobody may be labelled until the server was asked.
    pub unaccounted: bool,
}

/// What the pods lack. `revision` is that of the Lease: of the version that holds `record`, or of the one that a
/// compare-and-swap to `record` replaces.
pub fn project(snapshot: &Snapshot, settings: &Settings, record: &Record, revision: ResourceVersion) -> Projection {
    let is_holder = |pod: &&Pod| record.holder.as_ref().is_some_and(|holder| holder.uid == pod.id.uid);
    let (holders, others): (Vec<&Pod>, Vec<&Pod>) = snapshot.pods.iter().partition(is_holder);
    let fence = others.iter().filter_map(|pod| fence(pod, settings, record, revision));
    // Rule 6: whoever was labelled under a higher term, it was by a Lease that we have not seen.
    let outdated =
        others.iter().any(|pod| pod.is_labelled(&settings.label) && pod.term_unless_forged(revision) > Some(record.term));
    let label = holders.first().filter(|_| !outdated).and_then(|pod| label(pod, settings, record, revision));
    // The label is written only after every former holder was fenced. Where the holder has it with this very term,
    // absent ones were therefore accounted for.
    let seen: BTreeSet<&Uid> = snapshot.pods.iter().map(|pod| &pod.id.uid).collect();
    let unaccounted =
        label.is_some() && record.unfenced.iter().any(|uid| !seen.contains(uid) && !snapshot.gone.contains(uid));
    Projection { fence: fence.collect(), label, unaccounted }
}

/// Rules 5 and 7: former holders, labelled or not (an unlabelled one may still be labelled by a paused controller, which the
/// fence's new resourceVersion refuses), and whoever else carries the label. Never a pod with a higher term.
fn fence(pod: &Pod, settings: &Settings, record: &Record, revision: ResourceVersion) -> Option<PodWrite> {
    let own = pod.term_unless_forged(revision);
    let stray = pod.is_labelled(&settings.label) && own <= Some(record.term);
    let former = record.unfenced.contains(&pod.id.uid) && own < Some(record.term);
    // A former holder loses the label also where a rival has the pod by now: it may be ours, from before. The rival puts its
    // own back.
    let change = if pod.has_value(&settings.label) { LabelChange::Remove } else { LabelChange::Keep };
    (stray || former).then(|| write(pod, change, record.term))
}

/// Rule 8. A holder with a higher term of its own was named by a Lease that we have not seen; one that left the
/// selector, that a rival has, or that carries a foreign value, is not ours to label.
fn label(pod: &Pod, settings: &Settings, record: &Record, revision: ResourceVersion) -> Option<PodWrite> {
    let own = pod.term_unless_forged(revision);
    let done = pod.is_labelled(&settings.label) && own == Some(record.term);
    let free = pod.matches && pod.rival.is_none() && (pod.label.is_none() || pod.has_value(&settings.label));
    (!done && free && own <= Some(record.term)).then(|| write(pod, LabelChange::Set, record.term))
}

fn write(pod: &Pod, label: LabelChange, term: Term) -> PodWrite {
    PodWrite { pod: pod.id.clone(), resource_version: pod.resource_version, label, term }
}
