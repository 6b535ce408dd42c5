//! What a Lease means for the pods: rules 5 to 8 of the safety protocol (`docs/design.md`, section 4).

use super::plan::{LabelChange, PodWrite};
use super::snapshot::{Pod, Settings, Snapshot};
use super::term::{ResourceVersion, Term};
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
    let term = record.term;
    let is_holder = |pod: &Pod| record.holder.as_ref().is_some_and(|holder| holder.uid == pod.id.uid);

    let fence = snapshot.pods.iter().filter(|pod| !is_holder(pod)).filter_map(|pod| fence(pod, settings, record, revision));
    let label = snapshot.pods.iter().find(|pod| is_holder(pod)).and_then(|pod| {
        let own = pod.term_unless_forged(revision);
        let done = pod.is_labelled(&settings.label) && own == Some(term);
        // Rule 8: a holder with a higher term of its own was named by a Lease that we have not seen.
        (!done && own <= Some(term)).then(|| write(pod, LabelChange::Set, term))
    });
    // The label is written only after every former holder was fenced. Where the holder has it with this very term,
    // absent ones were therefore accounted for.
    let unaccounted =
        label.is_some() && record.unfenced.iter().any(|uid| snapshot.pod(uid).is_none() && !snapshot.gone.contains(uid));
    Projection { fence: fence.collect(), label, unaccounted }
}

/// Rules 5 and 7: former holders, labelled or not (an unlabelled one may still be labelled by a paused controller, which the
/// fence's new resourceVersion refuses), and whoever else carries the label. Never a pod with a higher term.
fn fence(pod: &Pod, settings: &Settings, record: &Record, revision: ResourceVersion) -> Option<PodWrite> {
    let labelled = pod.is_labelled(&settings.label);
    let own = pod.term_unless_forged(revision);
    let needed =
        if labelled { own <= Some(record.term) } else { record.unfenced.contains(&pod.id.uid) && own < Some(record.term) };
    needed.then(|| write(pod, if labelled { LabelChange::Remove } else { LabelChange::Keep }, record.term))
}

fn write(pod: &Pod, label: LabelChange, term: Term) -> PodWrite {
    PodWrite { pod: pod.id.clone(), resource_version: pod.resource_version, label, term }
}
