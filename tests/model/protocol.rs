//! The steps of the modeled world, and its invariants.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::followed::Followed;
use crate::mutation::Mutation;
use crate::world::*;

/// The property that [`Protocol::settles`] checks.
pub const LIVENESS: &str = "a leader, soon";

/// A world to explore: its start, the possible steps, and the removed rule.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub controllers: usize,
    pub begin: Begin,
    pub budget: Budget,
    /// Includes writes of the status.
    pub status: bool,
    pub removed: Option<Mutation>,
    /// Checks liveness: from every state, the remaining steps without faults must lead to a leader.
    pub liveness: bool,
    /// The Election follows a Lease, which names pod a at first.
    pub follows: bool,
    /// Possible selectors of a created or edited Election.
    pub selectors: &'static [Selector],
}

/// The start of the world.
#[derive(Clone, Debug)]
pub struct Begin {
    pub lease: Option<Content>,
    /// Ready pods.
    pub pods: usize,
    /// The initial holder has the label.
    pub led: bool,
    /// UIDs of pods with a claim but no term.
    pub claimed: Uids,
    /// The first controller has a stale Lease with this earlier term; the second one has stale pods, without pod a and with
    /// pod b unready.
    pub stale: Option<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Controller(usize, Step),
    DeletePod(usize),
    CreatePod(usize),
    Flip(usize),
    Unlabel(usize),
    DeleteLease,
    EditLease,
    WipeStatus,
    Suspend,
    Renew,
    DeleteElection,
    CreateElection(Selector),
    EditSelector(Selector),
    MovePod(usize),
    /// A user requests a switchover: which term is to end, and the name of the next leader.
    Request(Asked, Option<usize>),
    /// The node of this pod begins or ceases to drain.
    Drain(usize),
    /// The priority of this pod is raised, or lowered again.
    Prefer(usize),
    /// The followed Lease gets this holder, or none.
    Hold(Option<usize>),
    /// The holder of the followed Lease renews it.
    RenewFollowed,
    /// Nobody renews the followed Lease for its duration.
    Lapse,
    DeleteFollowed,
    /// Garbage collection: the Lease's Election is gone.
    CollectLease,
    /// The server receives the late write of this number.
    Deliver(usize),
}

/// The term of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// One before the present one.
    Past,
    Present,
    /// The one that begins when the Lease is replaced.
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    SeeLease,
    SeePods,
    SeeElection,
    SeeNodes,
    SeeFollowed,
    /// This pod has outranked the leader for the delay.
    Elapse(Uid),
    /// The controller has observed this version of a campaigner's Lease for the lease duration.
    Expire,
    /// The controller has observed this version of the followed Lease for its duration.
    ExpireFollowed,
    Decide,
    ListPods,
    GetElection,
    GetLease,
    GetFollowed,
    Send(What, Fate),
    Crash,
}

/// A write of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Claim,
    Background,
    Lease,
    Fence(usize),
    Label,
    Status,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    Answered,
    AnswerLost,
    Delayed,
    /// The server responds with success but applies only a part.
    Altered(Lie),
}

/// A new pod.
const NEW_POD: Pod =
    Pod { uid: 0, rev: 0, ready: true, label: false, claimed: false, term: 0, moved: false, preferred: false };

const NEW_ELECTION: Election = Election { uid: 1, rev: 1, term: 0, suspend: false, selector: ALL, request: 0, to: None };

impl Protocol {
    fn first_lease(&self) -> Option<Lease> {
        let incarnation = |content| if matches!(content, Content::Campaign(_)) { 0 } else { 1 };
        self.begin.lease.map(|content| Lease { uid: 2, rev: 4, incarnation: incarnation(content), content })
    }

    pub fn happens(&self, world: &mut World, action: Action) {
        let next = world.latest() + 1;
        let left = &mut world.left;
        match action {
            Action::Controller(..) => {}
            Action::DeletePod(index) => {
                left.delete_pod -= 1;
                world.pods[index] = None;
            }
            Action::CreatePod(index) => {
                left.create_pod -= 1;
                let uid = Uid::try_from(index + NAMES * usize::from(world.born[index])).expect("few pods");
                world.born[index] += 1;
                world.pods[index] = Some(Pod { uid, rev: next, ..NEW_POD });
            }
            Action::Flip(index) => {
                left.flip -= 1;
                world.pods[index] = world.pods[index].map(|pod| Pod { rev: next, ready: !pod.ready, ..pod });
            }
            Action::Unlabel(index) => {
                left.unlabel -= 1;
                let swept = self.removed == Some(Mutation::SweepTerm);
                world.pods[index] = world.pods[index].map(|pod| {
                    let term = if swept { 0 } else { pod.term };
                    Pod { rev: next, label: false, claimed: pod.claimed && !swept, term, ..pod }
                });
            }
            Action::DeleteLease => {
                left.delete_lease -= 1;
                world.lease = None;
            }
            Action::EditLease => {
                left.edit_lease -= 1;
                let damaged = |lease: Lease| Lease { rev: next, content: Content::Damaged(lease.named()), ..lease };
                world.lease = world.lease.map(damaged);
            }
            Action::Renew => {
                left.renew -= 1;
                world.lease = world.lease.map(|lease| Lease { rev: next, ..lease });
            }
            Action::WipeStatus => {
                left.wipe_status -= 1;
                world.election = world.election.map(|election| Election { rev: next, term: 0, ..election });
            }
            Action::Suspend => {
                left.suspend -= 1;
                let edited = |election: Election| Election { rev: next, suspend: !election.suspend, ..election };
                world.election = world.election.map(edited);
            }
            Action::DeleteElection => {
                left.delete_election -= 1;
                world.election = None;
            }
            Action::CreateElection(selector) => {
                world.election = Some(Election { uid: next, rev: next, selector, ..NEW_ELECTION });
            }
            Action::EditSelector(selector) => {
                left.edit_selector -= 1;
                world.election = world.election.map(|election| Election { rev: next, selector, ..election });
            }
            Action::MovePod(index) => {
                left.move_pod -= 1;
                world.pods[index] = world.pods[index].map(|pod| Pod { rev: next, moved: !pod.moved, ..pod });
            }
            Action::Request(asked, to) => {
                left.request -= 1;
                let Some(lease) = world.lease else { return };
                let request = match (asked, lease.content) {
                    (Asked::Past, _) => lease.uid,
                    (Asked::Present, Content::Term(record)) => record.term,
                    (Asked::Present | Asked::Next, _) => lease.rev,
                };
                world.election = world.election.map(|election| Election { rev: next, request, to, ..election });
            }
            Action::Drain(index) => {
                left.drain -= 1;
                world.draining ^= 1 << index;
            }
            Action::Prefer(index) => {
                left.prefer -= 1;
                world.pods[index] = world.pods[index].map(|pod| Pod { rev: next, preferred: !pod.preferred, ..pod });
            }
            Action::Hold(_) | Action::RenewFollowed | Action::Lapse | Action::DeleteFollowed => {
                self.followed_happens(world, action, next);
            }
            Action::CollectLease => world.lease = None,
            Action::Deliver(index) => {
                let write = world.late.remove(index);
                world.apply(write, Mutation::guards(self.removed), None);
            }
        }
    }

    /// Returns whether Elections are created, deleted or edited.
    pub fn changes_elections(&self) -> bool {
        !self.selectors.is_empty()
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let lease = self.first_lease();
        let mut pods = Pods::default();
        for (index, pod) in pods.iter_mut().enumerate().take(self.begin.pods) {
            let uid = Uid::try_from(index).expect("few pods");
            *pod = Some(Pod { uid, rev: 5, claimed: has(self.begin.claimed, uid), ..NEW_POD });
        }
        let mut highest = 0;
        let mut named = std::collections::BTreeMap::new();
        if let Some(Content::Term(record)) = self.begin.lease {
            highest = record.term;
            named.insert(record.term, record.holder);
            if let Some(pod) = record.holder.and_then(|holder| pods[name(holder)].as_mut()).filter(|_| self.begin.led) {
                (pod.label, pod.claimed, pod.term) = (true, true, record.term);
            }
        }
        let election = Some(NEW_ELECTION);
        let followed = self.follows.then(|| Followed::new(1, Some(0)));
        let mut controllers = vec![Controller::started(lease, election, pods, followed); self.controllers];
        if let Some(earlier) = self.begin.stale {
            named.insert(earlier.term, earlier.holder);
            controllers[0].lease = Some(Lease { uid: 2, rev: 3, incarnation: 1, content: Content::Term(earlier) });
            controllers[1].pods[0] = None;
            controllers[1].pods[1] = pods[1].map(|pod| Pod { rev: 1, ready: false, ..pod });
        }
        let born = pods.map(|pod| u8::from(pod.is_some()));
        let (late, acted, left) = (Vec::new(), BTreeSet::new(), self.budget);
        let (draining, broken) = (0, None);
        vec![World {
            lease,
            election,
            followed,
            pods,
            draining,
            born,
            controllers,
            late,
            left,
            named,
            acted,
            highest,
            broken,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for number in 0..world.controllers.len() {
            let mut steps = Vec::new();
            self.controller(world, number, &mut steps);
            actions.extend(steps.into_iter().map(|step| Action::Controller(number, step)));
        }
        actions.extend((0..world.late.len()).map(Action::Deliver));
        self.followed_actions(world, actions);
        let left = world.left;
        for (index, pod) in world.pods.iter().enumerate() {
            match pod {
                Some(pod) => {
                    actions.extend((left.delete_pod > 0).then_some(Action::DeletePod(index)));
                    actions.extend((left.flip > 0).then_some(Action::Flip(index)));
                    let swept = self.removed == Some(Mutation::SweepTerm) && pod.term > 0;
                    actions.extend((left.unlabel > 0 && (pod.label || swept)).then_some(Action::Unlabel(index)));
                    actions.extend((left.move_pod > 0).then_some(Action::MovePod(index)));
                    actions.extend((left.prefer > 0).then_some(Action::Prefer(index)));
                    actions.extend((left.drain > 0).then_some(Action::Drain(index)));
                }
                None => actions.extend((left.create_pod > 0 && index < self.begin.pods).then_some(Action::CreatePod(index))),
            }
        }
        if let Some(lease) = world.lease {
            let campaign = matches!(lease.content, Content::Campaign(_));
            actions.extend((left.delete_lease > 0).then_some(Action::DeleteLease));
            let damaged = matches!(lease.content, Content::Damaged(_));
            let orphaned = !campaign && world.election.is_none_or(|election| election.uid != lease.incarnation);
            actions.extend((left.edit_lease > 0 && !damaged).then_some(Action::EditLease));
            actions.extend(orphaned.then_some(Action::CollectLease));
            actions.extend((left.renew > 0 && campaign).then_some(Action::Renew));
        }
        let Some(election) = world.election else {
            return actions.extend(self.selectors.iter().map(|selector| Action::CreateElection(*selector)));
        };
        actions.extend((left.wipe_status > 0 && election.term > 0).then_some(Action::WipeStatus));
        actions.extend((left.suspend > 0).then_some(Action::Suspend));
        if left.request > 0 && world.lease.is_some() {
            let asked = [Asked::Past, Asked::Present, Asked::Next].into_iter();
            actions.extend(asked.flat_map(|asked| [None, Some(1)].map(|to| Action::Request(asked, to))));
        }
        actions.extend((left.delete_election > 0).then_some(Action::DeleteElection));
        let others = self.selectors.iter().filter(|selector| **selector != election.selector);
        actions.extend(others.filter(|_| left.edit_selector > 0).map(|selector| Action::EditSelector(*selector)));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Controller(number, step) => self.step(&mut next, number, step)?,
            action => self.happens(&mut next, action),
        }
        if self.removed != Some(Mutation::CountTerms) {
            next.renumber();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("the promises hold", |_: &Self, world: &World| world.broken.is_none()),
            Property::sometimes("somewhere somebody leads", |_: &Self, world: &World| {
                world.pods.iter().flatten().any(|pod| pod.label)
            }),
            Property::sometimes("somewhere a former holder is fenced and another pod leads", |_: &Self, world: &World| {
                let fenced = |pod: &Pod| !pod.label && pod.term > 0;
                let pods = || world.pods.iter().flatten();
                pods().any(|pod| pod.label) && pods().any(fenced)
            }),
            Property::sometimes("sometimes two controllers would replace the same Lease", |_: &Self, world: &World| {
                let puts = world.controllers.iter().filter_map(|controller| match controller.doing {
                    Doing::Act(Plan { lease: Some(Write::Put(version, ..)), .. }) => Some(version),
                    _ => None,
                });
                let puts: Vec<Lease> = puts.collect();
                puts.len() > 1 && puts.iter().all(|version| Some(*version) == world.lease)
            }),
            Property::sometimes("sometimes a stale write is about to be refused", |_: &Self, world: &World| {
                world.controllers.iter().any(|controller| match &controller.doing {
                    Doing::Act(Plan { lease: None, fence, label, .. }) => fence
                        .iter()
                        .chain(label.iter())
                        .any(|patch| world.pods[name(patch.uid)].is_none_or(|pod| pod.rev != patch.rev)),
                    _ => false,
                })
            }),
        ];
        if self.liveness {
            properties.push(Property::always(LIVENESS, |model: &Self, world: &World| model.settles(world)));
        }
        properties
    }
}
