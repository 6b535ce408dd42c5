//! Planned changes of a leader that could stay: a requested switchover, a draining node, and preemption.
//!
//! They only choose another next holder. Rules 4 to 8 carry out the change like any other, so it breaks before it makes.

use k8s_openapi::jiff::SignedDuration;

use super::Decision;
use crate::api::names::{SWITCHOVER_TERM, SWITCHOVER_TO};
use crate::election::plan::Outranking;
use crate::election::snapshot::{Pod, SwitchoverRequest};
use crate::election::text::{first_of, shortened};
use crate::ids::Term;
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Record};

/// A planned change of leader.
#[derive(Debug)]
pub(super) struct Handover<'a> {
    /// The next leader.
    pub(super) to: &'a Pod,
    pub(super) cause: Cause,
    pub(super) reason: String,
}

/// A switchover as the annotations of the Election request it.
enum Request<'a> {
    /// None, or one that is done.
    None,
    /// It has no effect, for this reason.
    Ignored(String),
    /// The present term ends; this pod is elected, if one is named.
    Active(Option<&'a str>),
}

impl<'a> Decision<'a> {
    /// The change that is due. A leader that cannot stay is replaced without a plan, which ends its term and with it a request.
    pub(super) fn handover_due(&self) -> Option<Handover<'a>> {
        let (record, leader) = self.steady_leader()?;
        if self.settings.suspend {
            return None;
        }
        self.switchover(record, leader).or_else(|| self.drain(leader)).or_else(|| self.preemption(leader))
    }

    /// The Lease's record and its holder, if the holder is observed and could stay.
    fn steady_leader(&self) -> Option<(&'a Record, &'a Pod)> {
        let Content::Term(record) = &self.lease.content else { return None };
        let leader = self.snapshot.pod(&record.holder.as_ref()?.uid)?;
        let stays = self.next_without_handover().is_some_and(|pod| pod.id == leader.id);
        (self.is_of_this_election() && stays).then_some((record, leader))
    }

    fn switchover(&self, record: &Record, leader: &Pod) -> Option<Handover<'a>> {
        let Request::Active(to) = self.request(record) else { return None };
        // A pod on a draining node would have to hand over at once, perhaps back to this leader.
        let targets = self.others(leader).filter(|pod| !pod.is_draining || leader.is_draining);
        let to = self.order.first(targets.filter(|pod| to.is_none_or(|to| pod.id.name == to)), None)?;
        let reason = format!("a switchover from {} was requested", leader.id.name);
        Some(Handover { to, cause: Cause::Switchover, reason })
    }

    fn request(&self, record: &Record) -> Request<'a> {
        let SwitchoverRequest { term, to } = &self.snapshot.election.switchover;
        let to = to.as_deref().filter(|to| !to.is_empty());
        let current = record.term;
        if let Some(from) = &self.settings.leader_from {
            let annotation = if term.is_some() { SWITCHOVER_TERM } else { SWITCHOVER_TO };
            return match (term, to) {
                (None, None) => Request::None,
                _ => Request::Ignored(format!("{annotation} is ignored: Lease {} decides who leads", from.lease)),
            };
        }
        let Some(requested) = term else {
            return to.map_or(Request::None, |_| {
                Request::Ignored(format!("{SWITCHOVER_TO} is ignored without {SWITCHOVER_TERM}: set that to {current}"))
            });
        };
        let Some(term) = Term::parse(requested) else {
            return Request::Ignored(format!(
                "{SWITCHOVER_TERM} {:?} is ignored: it is not a term, set it to {current}",
                shortened(requested),
            ));
        };
        if term > current {
            return Request::Ignored(format!("{SWITCHOVER_TERM} {term} is ignored: the term is {current}"));
        }
        if term < current {
            return Request::None;
        }
        let leads = |to: &str| record.holder.as_ref().is_some_and(|holder| holder.name == to);
        match to {
            Some(to) if leads(to) => Request::Ignored(format!("{SWITCHOVER_TO} is ignored: {to} is the leader")),
            to => Request::Active(to),
        }
    }

    fn drain(&self, leader: &Pod) -> Option<Handover<'a>> {
        let elsewhere = self.others(leader).filter(|pod| !pod.is_draining);
        let to = self.order.first(elsewhere.filter(|_| leader.is_draining), None)?;
        Some(Handover { to, cause: Cause::NodeDraining, reason: format!("the node of {} drains", leader.id.name) })
    }

    fn preemption(&self, leader: &Pod) -> Option<Handover<'a>> {
        let due = self.outranking_pods(leader).filter(|pod| !self.preemption_left(pod).is_positive());
        let to = self.order.first(due, None)?;
        let reason = format!("{} has a higher score ({}) than {} ({})", to.id.name, to.score, leader.id.name, leader.score);
        Some(Handover { to, cause: Cause::Preempted, reason })
    }

    /// The pods that outrank the leader, if the Election lets them preempt it. A tie-break never preempts.
    fn outranking_pods(&self, leader: &Pod) -> impl Iterator<Item = &'a Pod> {
        let preempts = self.settings.preempt_after.is_some();
        let score = leader.score;
        self.others(leader).filter(move |pod| preempts && pod.score > score && !pod.is_draining)
    }

    /// The rest of the preemption delay of a pod that outranks the leader.
    ///
    /// It counts from the decision that first found the pod to outrank this leader, by the clock of this controller, and again if
    /// the pod was not Ready meanwhile.
    fn preemption_left(&self, pod: &Pod) -> SignedDuration {
        let known = self.snapshot.outranking.get(&pod.id.uid).copied().unwrap_or_default();
        self.settings.preempt_after.unwrap_or(SignedDuration::MAX).saturating_sub(known.min(pod.unchanged_for))
    }

    /// The pods that outrank the leader now, for the next decision. None does while the leader could not stay.
    pub(super) fn outranking(&self, record: &Record) -> Option<Outranking> {
        self.settings.preempt_after?;
        let leader = self.steady_leader().map(|(_, leader)| leader);
        let pods = leader.into_iter().flat_map(|leader| self.outranking_pods(leader)).map(|pod| pod.id.uid.clone());
        Some(Outranking { term: record.term, pods: pods.collect() })
    }

    /// The time until the first preemption, if no pod loses its rank before.
    pub(super) fn preemption_in(&self) -> Option<SignedDuration> {
        let (_, leader) = self.steady_leader().filter(|_| !self.settings.suspend)?;
        self.outranking_pods(leader).map(|pod| self.preemption_left(pod)).filter(SignedDuration::is_positive).min()
    }

    /// The eligible pods but the leader.
    fn others(&self, leader: &Pod) -> impl Iterator<Item = &'a Pod> {
        let leader = leader.id.clone();
        self.candidates.eligible.iter().copied().filter(move |pod| pod.id != leader)
    }

    /// What a planned change of the leader waits for, if one waits.
    pub(super) fn pending_handover(&self, record: &Record) -> Option<String> {
        let leader = self.snapshot.pod(&record.holder.as_ref()?.uid)?;
        if self.handover.as_ref().is_some_and(|handover| handover.to.id != leader.id) {
            return None;
        }
        let (what, where_to) = match self.request(record) {
            Request::Active(Some(to)) => (format!("The switchover to {} waits", shortened(to)), Some(to)),
            Request::Active(None) => (format!("The switchover from {} waits", leader.id.name), None),
            Request::None | Request::Ignored(_) if leader.is_draining => {
                (format!("The node of leader {} drains, and the switchover waits", leader.id.name), None)
            }
            Request::None | Request::Ignored(_) => return None,
        };
        let why = match where_to {
            _ if self.settings.suspend => "elections are suspended by spec.suspend".into(),
            Some(to) => self.obstacle(leader, to),
            None => self.obstacles(leader),
        };
        Some(format!("{what}: {why}"))
    }

    /// Why the pod of this name cannot be elected.
    fn obstacle(&self, leader: &Pod, to: &str) -> String {
        if self.others(leader).any(|pod| pod.id.name == to) {
            return "the node of that pod drains".into();
        }
        let mut ineligible = self.candidates.ineligible.iter().filter(|(pod, _)| pod.matches && pod.id.name == to);
        ineligible.next().map_or_else(|| "no such pod matches spec.selector".into(), |(_, why)| format!("that pod {why}"))
    }

    /// Why no pod but the leader can be elected.
    fn obstacles(&self, leader: &Pod) -> String {
        let draining = self.others(leader).map(|pod| format!("the node of {} drains", pod.id.name));
        let ineligible = self.candidates.ineligible.iter().filter(|(pod, _)| pod.matches && pod.id != leader.id);
        let each: Vec<String> = draining.chain(ineligible.map(|(pod, why)| format!("{} {why}", pod.id.name))).collect();
        match each.is_empty() {
            true => "there is no other candidate".into(),
            false => format!("no other candidate is eligible ({})", first_of(&each)),
        }
    }

    /// Why the annotations that request a switchover have no effect.
    pub(super) fn ignored_request(&self, record: &Record) -> Option<String> {
        match self.request(record) {
            Request::Ignored(why) => Some(why),
            Request::None | Request::Active(_) => None,
        }
    }
}
