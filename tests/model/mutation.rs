//! Rules of the safety protocol, removed one at a time.

use podium::election::Snapshot;
use podium::ids::Term;
use podium::lease::cause::Cause;
use podium::lease::record;

use crate::controller::revision;
use crate::server::Guards;
use crate::world::*;

/// A removed rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// No pod is fenced.
    NoFence,
    /// Only pods with an observed label are fenced.
    FenceOnlyLabelled,
    /// The fence does not write the term.
    FenceWithoutTerm,
    /// The label is written regardless of the pod's version.
    LabelAnyVersion,
    /// The fence is written regardless of the pod's version.
    FenceAnyVersion,
    /// The holder is labeled although its own term is higher.
    LabelBelowOwnTerm,
    /// A new term lists only the old holder.
    ForgetUnfenced,
    /// Pods absent from the cache count as fenced.
    AbsentIsFenced,
    /// Pods absent from the cache are not listed in a new term.
    AbsentIsDropped,
    /// The old holder is listed only if its label was observed.
    ListOnlyLabelled,
    /// Pods are identified by name.
    NamesForUids,
    /// The label is written before the compare-and-swap.
    LabelBeforeSwap,
    /// The Lease is replaced regardless of its version.
    PutAnyVersion,
    /// A PUT does not carry the UID of the Lease.
    PutWithoutUid,
    /// A blank Lease is filled without its list of pods.
    FillWithoutList,
    /// A blank Lease is filled from the caches.
    FillFromCache,
    /// A Lease is created with a holder, and a term above all others.
    CreateWithHolder,
    /// The term is a counter in the Lease.
    CountTerms,
    /// Cleanup removes the term with the label.
    SweepTerm,
    /// A fence overwrites a higher cached term.
    FenceHigherTerm,
    /// Patches of pods do not carry the UID.
    PatchWithoutUid,
    /// A compare-and-swap names a pod without a claim.
    ElectUnclaimed,
    /// The claim is written regardless of the pod's version.
    ClaimAnyVersion,
    /// A Lease is trusted regardless of its checksum.
    NoChecksum,
    /// A switchover is carried out if its term is not above that of the Lease.
    RequestAtOrBelow,
    /// The next leader is labeled before the former one is fenced.
    LabelBeforeFence,
    /// A leader on a draining node hands over to a pod on another draining node.
    DrainToDraining,
    /// Pods on draining nodes are ineligible.
    DrainIsIneligible,
    /// A pod with the leader's priority preempts it.
    PreemptAtEqualScore,
    /// A pod on a draining node preempts the leader.
    PreemptFromDraining,
    /// An observation of the followed Lease from before the term deposes its leader.
    OldFollowedDeposes,
    /// A consult reads the followed Lease before the Election's own.
    FollowedReadFirst,
    /// The followed Lease expires without a read from the server.
    ExpireWithoutRead,
    /// A controller that has not observed the followed Lease for its duration does not trust the vacancy of another one.
    ForgetExpiry,
    /// The last observed version of a deleted Lease names its holder, however old it is.
    OldDeletedNames,
    /// A write with a successful response counts as applied, regardless of the returned object.
    TrustAnswers,
}

impl Mutation {
    /// Checks of the server without the rule.
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

    /// Changes the input of the decision.
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
            (Self::RequestAtOrBelow, Some(record::Content::Term(record))) => {
                let request = &mut snapshot.election.switchover.term;
                let requested = request.as_deref().and_then(Term::parse);
                if requested.is_some_and(|requested| requested <= record.term) {
                    *request = Some(record.term.number().to_string());
                }
            }
            (Self::DrainIsIneligible, _) => snapshot.pods.iter_mut().for_each(|pod| pod.ready &= !pod.is_draining),
            (
                Self::DrainToDraining | Self::PreemptFromDraining | Self::PreemptAtEqualScore,
                Some(record::Content::Term(record)),
            ) => {
                self.compare_wrongly(&record, &mut snapshot.pods);
            }
            (Self::OldFollowedDeposes, _) => snapshot.followed.iter_mut().for_each(|followed| followed.verified = true),
            (Self::ExpireWithoutRead, _) => {
                snapshot.followed.iter_mut().for_each(|followed| followed.confirmed_for = followed.unchanged_for);
            }
            (Self::ForgetExpiry, Some(record::Content::Term(record))) => {
                let lease = snapshot.lease.as_mut().expect("a term");
                lease.content = record::Content::Term(record::Record { cause: Cause::Unknown, ..record });
            }
            (Self::OldDeletedNames, _) => {
                let newer = controller.lease.map(|lease| revision(lease.rev + 1));
                for followed in snapshot.followed.iter_mut().filter(|followed| !followed.exists && followed.verified) {
                    followed.lease.iter_mut().zip(newer).for_each(|(lease, newer)| lease.resource_version = newer);
                }
            }
            (Self::FillFromCache, _) => snapshot.read_after = snapshot.lease.as_ref().map(|lease| lease.resource_version),
            _ => {}
        }
    }

    /// Changes how pods compare with the leader.
    fn compare_wrongly(self, record: &record::Record, pods: &mut [podium::election::snapshot::Pod]) {
        let leads = |pod: &podium::election::snapshot::Pod| record.holder.as_ref() == Some(&pod.id);
        let drains = pods.iter().any(|pod| leads(pod) && pod.is_draining);
        for pod in pods {
            match self {
                Self::DrainToDraining if drains => pod.is_draining = leads(pod),
                Self::PreemptFromDraining if !drains => pod.is_draining = false,
                Self::PreemptAtEqualScore if leads(pod) => pod.score -= 1,
                _ => {}
            }
        }
    }

    /// Changes the decision.
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
