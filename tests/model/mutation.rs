//! Rules of the safety protocol, removed one at a time.

use podium::election::Snapshot;
use podium::ids::Term;
use podium::lease::record;

use crate::server::Guards;
use crate::world::*;

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Nobody is fenced.
    NoFence,
    /// Only pods that are seen labelled are fenced.
    FenceOnlyLabelled,
    /// The fence does not write the term.
    FenceWithoutTerm,
    /// The label is written whatever version the pod has.
    LabelAnyVersion,
    /// The fence is written whatever version the pod has.
    FenceAnyVersion,
    /// The holder is labelled although its own term is higher.
    LabelBelowOwnTerm,
    /// A new term's list has the old holder only.
    ForgetUnfenced,
    /// Who is absent from the cache counts as fenced.
    AbsentIsFenced,
    /// Who is absent from the cache is not listed in a new term.
    AbsentIsDropped,
    /// The old holder is listed only where it is seen labelled.
    ListOnlyLabelled,
    /// Pods are told apart by their names.
    NamesForUids,
    /// The label is written before the compare-and-swap.
    LabelBeforeSwap,
    /// The Lease is replaced whatever version it has.
    PutAnyVersion,
    /// A PUT does not carry the UID of the Lease.
    PutWithoutUid,
    /// A blank Lease is filled without anybody on the list.
    FillWithoutList,
    /// A blank Lease is filled from the caches.
    FillFromCache,
    /// A Lease is created with its holder, and a term above all others.
    CreateWithHolder,
    /// The term is counted in the Lease.
    CountTerms,
    /// A sweep takes the term with the label.
    SweepTerm,
    /// A fence is written over a higher term that the cache shows.
    FenceHigherTerm,
    /// Patches of pods do not carry the UID.
    PatchWithoutUid,
    /// A compare-and-swap names a pod that does not carry the claim.
    ElectUnclaimed,
    /// The claim is written whatever version the pod has.
    ClaimAnyVersion,
    /// Who reads a Lease believes it whatever its annotations are.
    NoChecksum,
    /// A write that was answered with success counts as carried out, whatever the returned object shows.
    TrustAnswers,
}

impl Mutation {
    /// What the server checks without the rule.
    pub fn guards(removed: Option<Self>) -> Guards {
        let kept = |mutation: Self| removed != Some(mutation);
        Guards {
            lease_version: kept(Self::PutAnyVersion),
            lease_uid: kept(Self::PutWithoutUid),
            label_version: kept(Self::LabelAnyVersion),
            fence_version: kept(Self::FenceAnyVersion),
            pod_uid: kept(Self::PatchWithoutUid) && kept(Self::NamesForUids),
            fence_term: kept(Self::FenceWithoutTerm),
            claim_version: kept(Self::ClaimAnyVersion),
            checksum: kept(Self::NoChecksum),
        }
    }

    /// Changes what the decision sees.
    pub fn before(self, controller: &Controller, snapshot: &mut Snapshot) {
        let content = snapshot.lease.as_ref().map(|lease| lease.content.clone());
        match (self, content) {
            (Self::AbsentIsFenced, Some(record::Content::Term(record))) => {
                let named = record.unfenced.iter().chain(record.holder.iter().map(|holder| &holder.uid)).cloned();
                let absent: Vec<_> = named.filter(|uid| snapshot.pod(uid).is_none()).collect();
                snapshot.gone.extend(absent);
            }
            (Self::LabelBelowOwnTerm, Some(record::Content::Term(record))) => {
                let holder = |pod: &&mut podium::election::snapshot::Pod| record.holder.as_ref() == Some(&pod.id);
                for pod in snapshot.pods.iter_mut().filter(holder) {
                    pod.term = pod.term.filter(|own: &Term| *own <= record.term);
                }
            }
            (Self::ElectUnclaimed, _) => snapshot.pods.iter_mut().for_each(|pod| pod.claimed = true),
            (Self::FillFromCache, _) => snapshot.read_after = snapshot.lease.as_ref().map(|lease| lease.resource_version),
            _ => {}
        }
        let _ = controller;
    }

    /// Changes what was decided.
    pub fn after(self, controller: &Controller, plan: &mut Plan) {
        let cached = |uid: Uid| controller.pods[name(uid)].filter(|pod| pod.uid == uid);
        let labelled = |uid: Uid| cached(uid).is_some_and(|pod| pod.label);
        match self {
            Self::NoFence => plan.fence.clear(),
            Self::FenceOnlyLabelled => plan.fence.retain(|fence| labelled(fence.uid)),
            _ => {}
        }
        if self == Self::FenceHigherTerm
            && let (None, Some(Lease { content: Content::Term(record), .. })) = (plan.lease, controller.lease)
        {
            let former = |pod: &&Pod| has(record.unfenced, pod.uid) && Some(pod.uid) != record.holder;
            let higher = controller.pods.iter().flatten().filter(former).filter(|pod| pod.term > record.term && pod.label);
            let change = Change::Remove;
            plan.fence.extend(higher.map(|pod| Patch { uid: pod.uid, rev: pod.rev, term: record.term, label: change }));
        }
        let Some(Write::Put(before, _, Content::Term(record))) = &mut plan.lease else { return };
        let old = match before.content {
            Content::Term(old) => Some(old),
            _ => None,
        };
        let holder = old.and_then(|old| old.holder);
        match self {
            Self::ForgetUnfenced if old.is_some() => record.unfenced &= holder.map_or(0, one),
            Self::AbsentIsDropped if old.is_some() => {
                record.unfenced = (0..16).filter(|uid| has(record.unfenced, *uid) && cached(*uid).is_some()).map(one).sum();
            }
            Self::ListOnlyLabelled => {
                if let Some(holder) = holder.filter(|holder| !labelled(*holder)) {
                    record.unfenced &= !one(holder);
                }
            }
            Self::FillWithoutList if old.is_none() => record.unfenced = 0,
            Self::CountTerms => {
                let counted = old.map_or(0, |old| old.term) + 1;
                record.term = counted;
                plan.fence.iter_mut().chain(&mut plan.label).for_each(|patch| patch.term = counted);
            }
            _ => return,
        }
        let listed = record.unfenced;
        if self != Self::CountTerms {
            plan.fence.retain(|fence| has(listed, fence.uid) || labelled(fence.uid));
        }
    }
}
