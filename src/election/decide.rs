//! The decision: what is seen in, the complete plan out.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::candidate::{Ineligible, eligible};
use super::order;
use super::plan::{LabelChange, LeaseWrite, Plan, PodWrite, Then};
use super::project::{Projection, Reign, project};
use super::snapshot::{CONTEST_TIMEOUT, Contest, Pod, PodState, REPAIR_INTERVAL, Settings, Snapshot};
use super::status::{self, Leadership, Outlook};
use super::text::first_names;
use super::title::Title;
use crate::api::Reason;
use crate::ids::{PodRef, Term, Uid, Version};
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Lease, Record};

/// As many pods as their UIDs fit into an annotation, with room to spare: the list of former holders may name all of them.
pub const MOST_PODS: usize = 5_000;

/// How many followers one plan writes to.
pub const FOLLOWERS_AT_ONCE: usize = 64;

/// Decides what is to be done about one Election.
///
/// `now` is the local wall clock. It dates what is written and decides nothing.
pub fn decide(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let settings = match &snapshot.election.settings {
        Ok(settings) => settings,
        Err(problem) => return stalled(snapshot, None, problem.reason, problem.message.clone(), now),
    };
    let matching = snapshot.pods.iter().filter(|pod| pod.matches).count();
    if matching > MOST_PODS {
        let message = format!("spec.selector must match at most {MOST_PODS} pods and matches {matching}: narrow it");
        return stalled(snapshot, Some(settings), Reason::TooManyPods, message, now);
    }
    let Some(lease) = &snapshot.lease else {
        return Plan { lease: Some(LeaseWrite::Create), then: Then::DecideAgain, ..Plan::default() };
    };
    let title = Title::of(lease, snapshot, settings);
    if let Title::Theirs { message, left } = title {
        let then = left.map_or(Then::Rest, Then::LookAgain);
        return Plan { then, ..stalled(snapshot, Some(settings), Reason::LeaseConflict, message, now) };
    }
    let decision = Decision::new(snapshot, settings, lease, &title, now);
    if decision.status_may_be_newer() {
        return consult("the status has a term above the Lease's");
    }
    let of_this_election = lease.incarnation.as_ref() == Some(&snapshot.election.uid);
    match &lease.content {
        Content::Term(record) if of_this_election => decision.rule(record),
        // To empty a Lease is to end its term, to fill it is to begin one.
        _ if settings.suspend => Plan { status: status::suspended(snapshot, settings, now), ..Plan::default() },
        _ if decision.adopts => decision.fill(),
        Content::Damaged(why) => decision.blank(why),
        Content::Blank if of_this_election => decision.fill(),
        // Or for a later one, if it is this Election that is gone: two controllers would take the Lease from each other for ever.
        Content::Blank | Content::Term(_) if !snapshot.election.verified => consult("the Lease is of another incarnation"),
        Content::Blank | Content::Term(_) => decision.blank("it was written for a former Election of this name"),
    }
}

fn stalled(snapshot: &Snapshot, settings: Option<&Settings>, reason: Reason, message: String, now: Timestamp) -> Plan {
    Plan { status: status::stalled(snapshot, settings, (reason, message), now), ..Plan::default() }
}

/// One decision about a Lease that is ours.
struct Decision<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    lease: &'a Lease,
    now: Timestamp,
    /// The Lease is somebody else's, who lets this Election have it.
    adopts: bool,
    /// Its holder is a pod that goes on leading.
    holder_stays: bool,
    /// The UID of the pod that leads, as far as the Lease says; where the Lease lost it, of the pod that still has the label.
    incumbent: Option<Uid>,
    eligible: Vec<&'a Pod>,
    ineligible: Vec<(&'a Pod, Ineligible)>,
    newest: order::Newest<'a>,
}

impl<'a> Decision<'a> {
    fn new(snapshot: &'a Snapshot, settings: &'a Settings, lease: &'a Lease, title: &Title<'_>, now: Timestamp) -> Self {
        let incumbent = match (&lease.content, title) {
            (_, Title::Adoptable { holder: Some(pod) }) => Some(pod.id.uid.clone()),
            (Content::Term(Record { holder, .. }), _) => holder.as_ref().map(|holder| holder.uid.clone()),
            (Content::Blank | Content::Damaged(_), _) => {
                let labelled = snapshot.pods.iter().filter(|pod| pod.is_labelled(&settings.label));
                labelled
                    .max_by_key(|pod| (pod.term_unless_forged(lease.resource_version), &pod.id))
                    .map(|pod| pod.id.uid.clone())
            }
        };
        let (mut can, mut cannot) = (Vec::new(), Vec::new());
        for pod in &snapshot.pods {
            match eligible(pod, settings, incumbent.as_ref() == Some(&pod.id.uid)) {
                Ok(()) => can.push(pod),
                Err(why) => cannot.push((pod, why)),
            }
        }
        let adopts = matches!(title, Title::Adoptable { .. });
        let holder_stays = matches!(title, Title::Adoptable { holder: Some(_) });
        let newest = order::Newest::of(&snapshot.pods);
        let (eligible, ineligible) = (can, cannot);
        Self { snapshot, settings, lease, now, adopts, holder_stays, incumbent, eligible, ineligible, newest }
    }

    fn first(&self) -> Option<&'a Pod> {
        order::first(&self.eligible, self.incumbent.as_ref(), &self.newest)
    }

    /// Rule 3: what cannot be trusted is emptied first, so that a plan that somebody still holds on the old version fails.
    fn blank(&self, why: &'static str) -> Plan {
        Plan { lease: Some(LeaseWrite::Blank(self.guard(), why)), then: Then::DecideAgain, ..Plan::default() }
    }

    /// Rule 3: a blank Lease, or one that somebody else lets us have, knows no former holders of ours, so every pod that may be
    /// one is listed, as the server itself lists them after that Lease was seen.
    fn fill(&self) -> Plan {
        let election = &self.snapshot.election;
        let pods = &self.snapshot.pods;
        // The follower's value comes with the pod template where a Service must never miss a follower.
        let foreign = |pod: &Pod| pod.label.is_some() && pod.label != self.settings.label.follower_value;
        let in_use = pods.iter().filter(|pod| pod.matches && pod.rival.is_none() && foreign(pod) && !pod.claimed);
        let in_use: Vec<&str> = in_use.map(|pod| pod.id.name.as_str()).collect();
        if election.status.term.is_none() && !in_use.is_empty() {
            let message = format!(
                "label {} is in use on {} before the first election: remove it from these pods and their template, or create the Election with another spec.label.key",
                self.settings.label.key,
                first_names(&in_use),
            );
            return stalled(self.snapshot, Some(self.settings), Reason::LabelConflict, message, self.now);
        }
        let holder = self.successor();
        if holder.is_none() && !pods.iter().any(|pod| pod.is_labelled(&self.settings.label)) {
            return self.report(None, false);
        }
        // A fence is a claim, and a pod that a rival has is not ours to claim. It may nevertheless be a former holder that
        // was never labelled: nobody can be elected beside it.
        if let Some(pod) = pods.iter().find(|pod| pod.matches && pod.rival.is_some() && !pod.claimed) {
            let (reason, message) = status::overlap(pod, self.settings);
            return stalled(self.snapshot, Some(self.settings), reason, message, self.now);
        }
        if self.adopts && !self.adopts_as_it_is() {
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

    /// Whether a Lease that was handed over may be filled without being emptied first, so that its holder leads all the time.
    /// The term would be its revision, which may be older than terms that this name had on another Lease.
    fn adopts_as_it_is(&self) -> bool {
        let Snapshot { pods, election, .. } = self.snapshot;
        let above = |term: Term| !term.precedes(self.lease.resource_version);
        let named = election.status.term.is_some_and(|term| term >= Term::replacing(self.lease.resource_version).number());
        self.holder_stays && !named && !pods.iter().any(|pod| pod.term.is_some_and(above))
    }

    /// Rules 4 and 10 where the leader changes; rules 5 to 9 where it stays.
    fn rule(&self, record: &Record) -> Plan {
        if self.is_unverified(record) {
            return consult("a pod carries a term above the Lease's");
        }
        if self.settings.suspend {
            return self.uphold(record);
        }
        if self.incumbent.as_ref().is_some_and(|uid| self.snapshot.pod(uid).is_none() && !self.snapshot.gone.contains(uid)) {
            return consult("the holder is not seen");
        }
        let successor = self.successor();
        if successor.map(|pod| &pod.id.uid) != self.incumbent.as_ref() && self.holder_is_outdated(record) {
            return consult("the holder was last seen before its term");
        }
        if successor.is_some_and(|pod| self.is_deposed_unseen(pod, record)) {
            return consult("the next leader was last seen before it was deposed");
        }
        let reason = if let Some(pod) = self.above(record.term).next() {
            (Cause::TermRepaired, format!("{} carries a term above the Lease's", pod.id.name))
        } else if self.status_is_above(record.term) {
            (Cause::TermRepaired, "the status has a term above the Lease's".into())
        } else if successor.map(|pod| &pod.id.uid) == self.incumbent.as_ref() {
            return self.uphold(record);
        } else {
            self.reason(record, successor)
        };
        let holder = record.holder.iter().map(|holder| holder.uid.clone());
        let fenced = self.fenced(record);
        let unfenced = record.unfenced.iter().filter(|uid| !fenced.contains(uid)).cloned();
        self.elect(successor, holder.chain(unfenced).collect(), reason)
    }

    /// Who leads from now on. A holder that is merely not Ready stays while its delay is not over, and, if it is to be held,
    /// while there is no other.
    fn successor(&self) -> Option<&'a Pod> {
        let patient = self.patience().is_some();
        let first = self.first().filter(|_| !patient);
        first.or_else(|| self.unready_holder().filter(|_| patient || self.settings.retain))
    }

    fn unready_holder(&self) -> Option<&'a Pod> {
        let unready = self.ineligible.iter().filter(|(_, why)| *why == Ineligible::NotReady);
        unready.map(|(pod, _)| *pod).find(|pod| self.incumbent.as_ref() == Some(&pod.id.uid))
    }

    /// For how much longer a holder that is not Ready any more is given time.
    fn patience(&self) -> Option<SignedDuration> {
        let left = self.settings.failover_delay.saturating_sub(self.unready_holder()?.unchanged_for);
        Some(left).filter(SignedDuration::is_positive)
    }

    /// Whether what speaks against the holder may be from before its term: whoever elected it has seen it since, and found it
    /// well. A controller that was paused gets to know what happened to pods and Lease in any order. (A pod that ends does
    /// not come back.)
    fn holder_is_outdated(&self, record: &Record) -> bool {
        use PodState::{Pending, Running};
        let holder = self.incumbent.as_ref().and_then(|uid| self.snapshot.pod(uid));
        let holder = holder.filter(|pod| matches!(pod.state, Pending | Running));
        holder.is_some_and(|pod| !pod.verified && pod.term < Some(record.term))
    }

    /// Whether what speaks for the pod is from before it was deposed: whoever did that has seen it since, and found it not well.
    /// It is a former holder, and its fence has not been seen.
    fn is_deposed_unseen(&self, pod: &Pod, record: &Record) -> bool {
        record.unfenced.contains(&pod.id.uid) && !pod.verified && pod.term < Some(record.term)
    }

    /// Whether a term that matters is above the Lease's, and only the server can tell whether it is the Lease that is old.
    fn is_unverified(&self, record: &Record) -> bool {
        let beyond = |pod: &Pod| !pod.verified && pod.term.is_some_and(|own| own.is_beyond(self.lease.resource_version));
        let former = |pod: &&Pod| record.unfenced.contains(&pod.id.uid);
        self.above(record.term).any(|pod| !pod.verified)
            || self.successor().is_some_and(beyond)
            || self.snapshot.pods.iter().filter(former).any(beyond)
    }

    /// Pods whose own term only a new term can overrule: rule 8, and its counterpart for a labelled pod.
    fn above(&self, term: Term) -> impl Iterator<Item = &'a Pod> {
        let revision = self.lease.resource_version;
        self.snapshot.pods.iter().filter(move |pod| {
            let counts = self.incumbent.as_ref() == Some(&pod.id.uid) || pod.is_labelled(&self.settings.label);
            counts && pod.term_unless_forged(revision) > Some(term)
        })
    }

    /// Rule 4: an entry may be dropped only if its pod was seen unlabelled with a term at or above that of the Lease being
    /// replaced, or is gone for ever. One set for all entries: after a first election the list names all pods but one.
    fn fenced(&self, record: &Record) -> HashSet<&'a Uid> {
        let seen_fenced = |pod: &&Pod| {
            let own = pod.term_unless_forged(self.lease.resource_version);
            !pod.is_labelled(&self.settings.label) && own >= Some(record.term)
        };
        let seen = self.snapshot.pods.iter().filter(seen_fenced).map(|pod| &pod.id.uid);
        seen.chain(&self.snapshot.gone).collect()
    }

    fn reason(&self, record: &Record, first: Option<&Pod>) -> (Cause, String) {
        match (&record.holder, first) {
            (None, Some(pod)) => (Cause::BecameEligible, format!("{} became eligible", pod.id.name)),
            (None, None) => (Cause::Unknown, "no candidate is eligible".into()),
            (Some(holder), _) => match self.ineligible.iter().find(|(pod, _)| pod.id.uid == holder.uid) {
                Some((pod, why)) => (Cause::from(why), format!("previous leader {} {why}", pod.id.name)),
                None => (Cause::Gone, format!("previous leader {} is gone", holder.name)),
            },
        }
    }

    /// The compare-and-swap, and what it means for the pods. The term is the revision that it replaces.
    ///
    /// Rule 4: it names only a pod that carries the claim. Whoever loses the Lease later finds the pod by that, whatever became
    /// of the selector.
    fn elect(&self, holder: Option<&Pod>, mut unfenced: BTreeSet<Uid>, (cause, reason): (Cause, String)) -> Plan {
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
        let mut plan = self.projected(&record, Leadership { record: &record, acquired: Some(acquired), transitions });
        plan.lease = Some(LeaseWrite::Elect { guard: self.guard(), record, acquired, transitions });
        plan
    }

    /// How often the leader changed, for people. Vacancies and new terms of the same leader do not count.
    fn transitions(&self, holder: Option<&Pod>) -> i32 {
        let status = &self.snapshot.election.status;
        let blank = self.lease.content == Content::Blank;
        // A Lease that was lost takes its count with it; the status still knows.
        let known = status.term.map(|_| status.leader_transitions);
        let so_far = if blank { self.lease.transitions.max(known) } else { self.lease.transitions };
        let before = if blank { status.leader_uid.as_deref() } else { self.incumbent.as_ref().map(AsRef::as_ref) };
        match (so_far, holder) {
            (None, _) => 0,
            (Some(count), Some(pod)) if before != Some(pod.id.uid.as_ref()) => count.saturating_add(1),
            (Some(count), _) => count,
        }
    }

    fn uphold(&self, record: &Record) -> Plan {
        let Lease { acquired, transitions, .. } = *self.lease;
        self.projected(record, Leadership { record, acquired, transitions: transitions.unwrap_or(0) })
    }

    fn projected(&self, record: &Record, leadership: Leadership<'_>) -> Plan {
        let Self { snapshot, settings, lease, .. } = *self;
        let value = settings.label.follower_value.as_ref();
        // A follower is not asked again how long it has been Ready: the clocks of two controllers differ.
        let young = self.ineligible.iter().filter(|(pod, why)| {
            matches!(why, Ineligible::ReadyTooShort(_)) && pod.label.as_ref() == value && pod.label.is_some()
        });
        let followers = self.eligible.iter().copied().chain(young.map(|(pod, _)| *pod));
        let followers = followers.filter(|_| value.is_some()).map(|pod| &pod.id.uid).collect();
        let projection = project(snapshot, &Reign { settings, record, revision: lease.resource_version, followers });
        if projection.unaccounted {
            return Plan { fence: projection.fence, then: Then::Consult("a former holder is not seen"), ..Plan::default() };
        }
        let Projection { mut fence, mut label, mut follow, mut labelled, .. } = projection;
        follow.truncate(FOLLOWERS_AT_ONCE);
        let pause = self.snapshot.contest.filter(|contest| contest.repaired_ago < REPAIR_INTERVAL);
        if pause.is_some() {
            // What may be a former leader's label is no repair, and waits for nothing.
            labelled &= label.as_ref().is_none_or(|write| !write.is_repair);
            label = label.filter(|write| !write.is_repair);
            fence.retain(|write| !write.is_repair);
            follow.clear();
        }
        // Every other write to the pod claims it as well.
        let written = |pod: &&Pod| fence.iter().chain(&follow).any(|write| write.pod == pod.id);
        let claim_next = self.next_in_line(record).filter(|pod| !pod.claimed && !written(pod)).map(claim);
        Plan { fence, label, claim_next, follow, ..self.report(Some(leadership), labelled) }
    }

    /// The pod that would be elected if the holder's pod went now.
    fn next_leader(&self, holder: Option<&PodRef>) -> Option<&'a Pod> {
        let others: Vec<&Pod> = self.eligible.iter().copied().filter(|pod| holder != Some(&pod.id)).collect();
        order::first(&others, None, &self.newest).filter(|_| !self.settings.suspend && holder.is_some())
    }

    /// [`Self::next_leader`]; where no other pod is eligible, the one that may become so first.
    fn next_in_line(&self, record: &Record) -> Option<&'a Pod> {
        use Ineligible::{NotReady, Pending, ReadyTooShort};
        if self.settings.suspend || self.snapshot.pods.iter().all(|pod| pod.claimed) {
            return None;
        }
        let other = |pod: &&Pod| record.holder.as_ref() != Some(&pod.id);
        let coming = self.ineligible.iter().filter(|(_, why)| matches!(why, NotReady | Pending | ReadyTooShort(_)));
        let free = |pod: &&Pod| {
            let label = pod.label.as_ref().is_none_or(|value| self.settings.label.owns(value));
            !pod.opted_out && pod.rival.is_none() && label
        };
        let coming: Vec<&Pod> = coming.map(|(pod, _)| *pod).filter(other).filter(free).collect();
        self.next_leader(record.holder.as_ref()).or_else(|| order::first(&coming, None, &self.newest))
    }

    /// Rule 9, and when to look again.
    fn report(&self, leadership: Option<Leadership<'_>>, labelled: bool) -> Plan {
        let Self { settings, eligible, ineligible, .. } = self;
        let next = self.next_leader(leadership.and_then(|leadership| leadership.record.holder.as_ref()));
        let outlook = Outlook { settings, leadership, labelled, eligible, ineligible, next };
        let status = status::ruled(self.snapshot, outlook, self.now);
        let later = self.ineligible.iter().filter_map(|(_, why)| match why {
            Ineligible::ReadyTooShort(left) => Some(*left),
            _ => None,
        });
        let later = later.chain(self.patience()).chain(self.repairs_again());
        Plan { status, then: later.min().map_or(Then::Rest, Then::LookAgain), ..Plan::default() }
    }

    /// How long until a contested label may be repaired again, or is not contested any more.
    fn repairs_again(&self) -> Option<SignedDuration> {
        let Contest { repaired_ago } = self.snapshot.contest?;
        let waits = if repaired_ago < REPAIR_INTERVAL { REPAIR_INTERVAL } else { CONTEST_TIMEOUT };
        Some(waits.saturating_sub(repaired_ago))
    }

    /// Rule 9: a status with a higher term that a Lease up to this revision may have had is followed by a still higher one.
    fn status_is_above(&self, term: Term) -> bool {
        let revision = Term::replacing(self.lease.resource_version).number();
        self.snapshot.election.status.term.is_some_and(|named| named > term.number() && named <= revision)
    }

    /// Rule 9: never to a lower term. A status with one that our version of the Lease cannot know was written after it, unless
    /// the server itself shows that no Lease ever had it.
    fn status_may_be_newer(&self) -> bool {
        let election = &self.snapshot.election;
        let named = election.status.term;
        !election.verified && named.is_some_and(|named| named >= Term::replacing(self.lease.resource_version).number())
    }

    fn guard(&self) -> Version {
        Version { uid: self.lease.uid.clone(), resource_version: self.lease.resource_version }
    }
}

fn consult(why: &'static str) -> Plan {
    Plan { then: Then::Consult(why), ..Plan::default() }
}

/// The claim on a pod that no Lease has named yet. It carries no term, so it outdates nothing and proves nothing fenced.
fn claim(pod: &Pod) -> PodWrite {
    let Pod { id, resource_version, .. } = pod;
    let (pod, resource_version) = (id.clone(), *resource_version);
    PodWrite { pod, resource_version, label: LabelChange::Keep, term: None, is_repair: false }
}
