//! The steps of one controller: `act` and `consult` around `decide`.

use crate::followed::Observed;
use crate::mutation::Mutation;
use crate::protocol::{Fate, Protocol, Step, What};
use crate::server::Answer;
use crate::world::*;

impl Protocol {
    pub fn controller(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        let me = &world.controllers[number];
        if me.lease != world.lease {
            steps.push(Step::SeeLease);
        }
        if me.pods != world.pods {
            steps.push(Step::SeePods);
        }
        if me.election != world.election {
            steps.push(Step::SeeElection);
        }
        if let Some((observed, server)) = me.observed.zip(world.followed) {
            steps.extend(observed.is_behind(server).then_some(Step::SeeFollowed));
            steps.extend(observed.may_expire(server).then_some(Step::ExpireFollowed));
        }
        if me.draining != world.draining {
            steps.push(Step::SeeNodes);
        }
        if let Some(Outranking { pods, due, .. }) = me.outranking {
            steps.extend((0..16).filter(|uid| has(pods & !due, *uid)).map(Step::Elapse));
        }
        if matches!(me.lease, Some(Lease { content: Content::Campaign(_), .. })) && !me.expired {
            steps.push(Step::Expire);
        }
        if world.left.crash > 0 {
            steps.push(Step::Crash);
        }
        if let Some(patch) = me.background {
            self.fates(world, What::Background, &Write::Pod(patch), steps);
        }
        match &me.doing {
            Doing::Decide => steps.push(Step::Decide),
            Doing::ListPods => steps.push(Step::ListPods),
            Doing::GetElection => steps.push(Step::GetElection),
            Doing::GetLease => steps.push(Step::GetLease),
            Doing::GetFollowed | Doing::GetFollowedFirst => steps.push(Step::GetFollowed),
            Doing::Act(plan) => {
                for what in self.next_writes(plan) {
                    self.fates(world, what, &plan.clone().take(what), steps);
                }
            }
        }
    }

    /// Adds the possible outcomes of a write.
    fn fates(&self, world: &World, what: What, write: &Write, steps: &mut Vec<Step>) {
        steps.push(Step::Send(what, Fate::Answered));
        steps.extend((world.left.lose_answer > 0).then_some(Step::Send(what, Fate::AnswerLost)));
        steps.extend((world.left.delay > 0).then_some(Step::Send(what, Fate::Delayed)));
        let lies = write.lies().iter().filter(|_| world.left.lie > 0);
        steps.extend(lies.map(|lie| Step::Send(what, Fate::Altered(*lie))));
    }

    /// The possible next writes: fences in any order, then the others in the plan's order.
    fn next_writes(&self, plan: &Plan) -> Vec<What> {
        if self.removed == Some(Mutation::LabelBeforeSwap) && plan.label.is_some() {
            return vec![What::Label];
        }
        if plan.claim.is_some() {
            vec![What::Claim]
        } else if plan.lease.is_some() {
            vec![What::Lease]
        } else if self.removed == Some(Mutation::LabelBeforeFence) && plan.label.is_some() {
            vec![What::Label]
        } else if !plan.fence.is_empty() {
            (0..plan.fence.len()).map(What::Fence).collect()
        } else if plan.label.is_some() {
            vec![What::Label]
        } else if plan.status.is_some() {
            vec![What::Status]
        } else {
            Vec::new()
        }
    }

    /// `None`: no change.
    pub fn step(&self, world: &mut World, number: usize, step: Step) -> Option<()> {
        let (server, latest) = (world.clone(), world.latest());
        let me = &mut world.controllers[number];
        match step {
            Step::SeeLease => me.see_lease(server.lease),
            Step::Expire => me.expired = true,
            Step::SeeFollowed => me.observed = me.observed.map(|observed| observed.after(server.followed, Observed::see)),
            Step::ExpireFollowed => me.observed.iter_mut().for_each(|observed| observed.expired = true),
            Step::SeePods => me.see_pods(&server.pods),
            Step::SeeElection => me.see_election(server.election),
            Step::SeeNodes => me.draining = server.draining,
            Step::Elapse(uid) => me.outranking.iter_mut().for_each(|outranking| outranking.due |= one(uid)),
            Step::Crash => {
                world.left.crash -= 1;
                *me = Controller {
                    draining: server.draining,
                    ..Controller::started(server.lease, server.election, server.pods, server.followed)
                };
            }
            Step::ListPods => {
                me.list(&server.pods);
                if self.changes_elections() {
                    me.doing = Doing::GetElection;
                } else {
                    me.get_election(server.election);
                    me.doing = self.first_lease_to_read(me);
                }
            }
            Step::GetElection => {
                me.get_election(server.election);
                me.doing = self.first_lease_to_read(me);
            }
            Step::GetLease => {
                me.see_lease(server.lease);
                me.doing = if me.observed.is_some() { Doing::GetFollowed } else { Doing::Decide };
                if self.removed == Some(Mutation::FollowedReadFirst) {
                    me.note_followed_read();
                    me.doing = Doing::Decide;
                }
            }
            Step::GetFollowed => {
                me.note_followed_read();
                me.observed = me.observed.map(|observed| observed.after(server.followed, Observed::read));
                me.doing = if me.doing == Doing::GetFollowedFirst { Doing::GetLease } else { Doing::Decide };
            }
            Step::Decide => return self.decide(world, number, latest),
            Step::Send(what, fate) => self.send(world, number, what, fate),
        }
        Some(())
    }

    /// The Lease that a consult reads first.
    fn first_lease_to_read(&self, me: &Controller) -> Doing {
        let is_first = self.removed == Some(Mutation::FollowedReadFirst) && me.observed.is_some();
        if is_first { Doing::GetFollowedFirst } else { Doing::GetLease }
    }

    fn decide(&self, world: &mut World, number: usize, latest: Rev) -> Option<()> {
        let elections = world.left.elect;
        let me = &mut world.controllers[number];
        let (background, outranking) = (me.background, me.outranking);
        let Some((mut plan, known)) = me.decide(latest, self.removed) else {
            // Without an Election, the reconcile ends.
            let consulted = std::mem::take(&mut me.consulted);
            return (consulted != Consulted::default()).then_some(());
        };
        if !self.status {
            plan.status = None;
        }
        let begins = matches!(plan.lease, Some(Write::Put(_, _, Content::Term(_)) | Write::Create(_, Content::Term(_))));
        if begins && elections == 0 {
            return None; // Beyond the bound of this exploration.
        }
        if self.next_writes(&plan).is_empty() {
            let idle = plan.then == Then::Rest && me.consulted == Consulted::default();
            let rests = idle && me.background == background && me.outranking == outranking;
            me.conclude(plan.then, known);
            return (!rests).then_some(());
        }
        // `known`: the Lease that the decision was based on.
        me.read_after(plan.then, known);
        me.doing = Doing::Act(plan);
        if begins {
            world.left.elect -= 1;
        }
        Some(())
    }

    fn send(&self, world: &mut World, number: usize, what: What, fate: Fate) {
        let me = &mut world.controllers[number];
        if what == What::Background {
            let write = Write::Pod(me.background.take().expect("a write"));
            match self.carry(world, write, fate) {
                Some(answer) if answer.is_success() => world.controllers[number].merge(answer),
                _ => self.see_again(world, number, write),
            }
            return;
        }
        let Doing::Act(mut plan) = std::mem::replace(&mut me.doing, Doing::Decide) else { return };
        let write = plan.take(what);
        let answer = self.carry(world, write, fate);
        let Some(answer) = answer.filter(Answer::is_success) else {
            // Rejected or unanswered: read the object. After a missing response, the reconcile ends.
            self.see_again(world, number, write);
            if answer.is_none() {
                world.controllers[number].consulted = Consulted::default();
            }
            return;
        };
        let me = &mut world.controllers[number];
        me.merge(answer);
        let trusted = self.removed == Some(Mutation::TrustAnswers);
        if !trusted && !answer.shows(&write, Mutation::guards(self.removed)) {
            // Like a rejection that needs a person: the reconcile ends.
            me.consulted = Consulted::default();
            return;
        }
        // After the compare-and-swap, a pod that changed in the cache would make the server reject its patch.
        let cached = |patch: &Patch| me.pods[name(patch.uid)].map(|pod| (pod.uid, pod.rev));
        let outdated = |patch: &Patch| cached(patch) != Some((patch.uid, patch.rev));
        let put = matches!(write, Write::Put(..) | Write::Create(..));
        let swapped = put && self.removed != Some(Mutation::LabelBeforeSwap);
        if swapped && plan.fence.iter().chain(&plan.label).any(outdated) {
            return;
        }
        if self.next_writes(&plan).is_empty() {
            me.conclude(plan.then, me.consulted.read_after);
        } else {
            me.doing = Doing::Act(plan);
        }
    }

    /// Sends the write. Returns the response, if any.
    fn carry(&self, world: &mut World, write: Write, fate: Fate) -> Option<Answer> {
        let guards = Mutation::guards(self.removed);
        match fate {
            Fate::Delayed => {
                world.left.delay -= 1;
                world.late.push(write);
                world.late.sort_unstable();
                None
            }
            Fate::AnswerLost => {
                world.left.lose_answer -= 1;
                world.apply(write, guards, None);
                None
            }
            Fate::Answered => Some(world.apply(write, guards, None)),
            Fate::Altered(lie) => {
                world.left.lie -= 1;
                Some(world.apply(write, guards, Some(lie)))
            }
        }
    }

    /// The controller reads the object of its write.
    fn see_again(&self, world: &mut World, number: usize, write: Write) {
        let (lease, election, pods) = (world.lease, world.election, world.pods);
        let me = &mut world.controllers[number];
        match write {
            Write::Create(..) | Write::Put(..) => me.see_lease(lease),
            Write::Status { .. } => me.see_election(election),
            Write::Pod(patch) => match pods[name(patch.uid)] {
                Some(pod) => me.merge(Answer::Pod(pod)),
                None => me.forget(patch.uid),
            },
        }
    }
}

impl Plan {
    fn take(&mut self, what: What) -> Write {
        match what {
            What::Claim => Write::Pod(self.claim.take().expect("a write")),
            What::Background => unreachable!("it is not part of the plan"),
            What::Lease => self.lease.take().expect("a write"),
            What::Fence(index) => Write::Pod(self.fence.remove(index)),
            What::Label => Write::Pod(self.label.take().expect("a write")),
            What::Status => self.status.take().expect("a write"),
        }
    }
}

impl Controller {
    fn read_after(&mut self, then: Then, known: Rev) {
        if then == Then::Consult {
            self.consulted = Consulted { read_after: known, ..Consulted::default() };
        }
    }

    fn conclude(&mut self, then: Then, known: Rev) {
        self.doing = Doing::Decide;
        match then {
            Then::Rest => self.consulted = Consulted::default(),
            Then::Again => {}
            Then::Consult => {
                self.read_after(then, known);
                self.doing = Doing::ListPods;
            }
            Then::ReadFollowed => self.doing = Doing::GetFollowed,
        }
    }
}
