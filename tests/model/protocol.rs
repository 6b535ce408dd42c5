//! The steps that the modelled world can take, and what must hold in it.

use stateright::{Model, Property};

use crate::controller::name_text;
use crate::mutation::Mutation;
use crate::world::*;

/// A world to explore: where it begins, what may happen in it, and which rule is removed.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub controllers: usize,
    pub begin: Begin,
    pub budget: Budget,
    /// The status is written, too.
    pub status: bool,
    pub removed: Option<Mutation>,
    /// From every state on, the rest is carried out without faults, and must end with a leader.
    pub liveness: bool,
}

/// The world at the beginning.
#[derive(Clone, Debug)]
pub struct Begin {
    pub lease: Option<Content>,
    /// Ready pods.
    pub pods: usize,
    /// The holder of the Lease at the beginning carries its label.
    pub led: bool,
    /// The first controller still has the Lease of this earlier term, and the second one the pods of a time when there was no
    /// pod a and pod b was unready.
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
    /// The server gets the late write of this number.
    Deliver(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    SeeLease,
    SeePods,
    SeeElection,
    /// It has seen this version of a campaigner's Lease for as long as the Lease lasts.
    Expire,
    Decide,
    ListPods,
    GetLease,
    Send(What, Fate),
    Crash,
}

/// Which write of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Lease,
    Fence(usize),
    Label,
    Status,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    Answered,
    AnswerLost,
    Delayed,
}

impl Protocol {
    fn first_lease(&self) -> Option<Lease> {
        self.begin.lease.map(|content| Lease { uid: 2, rev: 4, content })
    }

    fn controller(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        let me = &world.controllers[number];
        if me.lease != world.lease {
            steps.push(Step::SeeLease);
        }
        if me.pods != world.pods {
            steps.push(Step::SeePods);
        }
        if me.election != Some(world.election) {
            steps.push(Step::SeeElection);
        }
        if matches!(me.lease, Some(Lease { content: Content::Campaign(_), .. })) && !me.expired {
            steps.push(Step::Expire);
        }
        if world.left.crash > 0 {
            steps.push(Step::Crash);
        }
        match &me.doing {
            Doing::Decide => steps.push(Step::Decide),
            Doing::ListPods => steps.push(Step::ListPods),
            Doing::GetLease => steps.push(Step::GetLease),
            Doing::Act(plan) => {
                for what in self.next_writes(plan) {
                    steps.push(Step::Send(what, Fate::Answered));
                    if world.left.lose_answer > 0 {
                        steps.push(Step::Send(what, Fate::AnswerLost));
                    }
                    if world.left.delay > 0 {
                        steps.push(Step::Send(what, Fate::Delayed));
                    }
                }
            }
        }
    }

    /// The writes that may be sent next: fences in any order, everything else in the plan's.
    fn next_writes(&self, plan: &Plan) -> Vec<What> {
        if self.removed == Some(Mutation::LabelBeforeSwap) && plan.label.is_some() {
            return vec![What::Label];
        }
        if plan.lease.is_some() {
            vec![What::Lease]
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

    /// `None`: nothing changes.
    fn step(&self, world: &mut World, number: usize, step: Step) -> Option<()> {
        let (server, latest) = (world.clone(), world.latest());
        let me = &mut world.controllers[number];
        match step {
            Step::SeeLease => me.see_lease(server.lease),
            Step::Expire => me.expired = true,
            Step::SeePods => me.see_pods(&server.pods),
            Step::SeeElection => me.election = Some(server.election),
            Step::Crash => {
                world.left.crash -= 1;
                *me = Controller::started(server.lease, server.election, server.pods);
            }
            Step::ListPods => {
                me.list(&server.pods, server.election);
                me.doing = Doing::GetLease;
            }
            Step::GetLease => {
                me.see_lease(server.lease);
                me.doing = Doing::Decide;
            }
            Step::Decide => return self.decide(world, number, latest),
            Step::Send(what, fate) => self.send(world, number, what, fate),
        }
        Some(())
    }

    fn decide(&self, world: &mut World, number: usize, latest: Rev) -> Option<()> {
        let elections = world.left.elect;
        let me = &mut world.controllers[number];
        let (mut plan, known) = me.decide(latest, self.removed)?;
        if !self.status {
            plan.status = None;
        }
        let begins = matches!(plan.lease, Some(Write::Put(_, Content::Term(_)) | Write::Create(Content::Term(_))));
        if begins && elections == 0 {
            return None; // Beyond the bound of this exploration.
        }
        if self.next_writes(&plan).is_empty() {
            let rests = plan.then == Then::Rest && me.consulted == Consulted::default();
            me.conclude(plan.then, known);
            return (!rests).then_some(());
        }
        // What was known of the Lease when this was decided.
        me.read_after(plan.then, known);
        me.doing = Doing::Act(plan);
        if begins {
            world.left.elect -= 1;
        }
        Some(())
    }

    fn send(&self, world: &mut World, number: usize, what: What, fate: Fate) {
        let Doing::Act(mut plan) = std::mem::replace(&mut world.controllers[number].doing, Doing::Decide) else { return };
        let write = match what {
            What::Lease => plan.lease.take().expect("a write"),
            What::Fence(index) => Write::Pod(plan.fence.remove(index)),
            What::Label => Write::Pod(plan.label.take().expect("a write")),
            What::Status => plan.status.take().expect("a write"),
        };
        let answer = match fate {
            Fate::Delayed => {
                world.left.delay -= 1;
                world.late.push(write);
                world.late.sort_unstable();
                None
            }
            Fate::AnswerLost => {
                world.left.lose_answer -= 1;
                world.apply(write, Mutation::guards(self.removed));
                None
            }
            Fate::Answered => Some(world.apply(write, Mutation::guards(self.removed))),
        };
        let (lease, election, pods) = (world.lease, world.election, world.pods);
        let me = &mut world.controllers[number];
        match answer {
            Some(answer @ (Answer::Lease(_) | Answer::Pod(_) | Answer::Election(_))) => {
                me.merge(answer);
                // After the compare-and-swap, a pod that changed in the cache meanwhile would refuse what was decided.
                let cached = |patch: &Patch| me.pods[name(patch.uid)].map(|pod| (pod.uid, pod.rev));
                let outdated = |patch: &Patch| cached(patch) != Some((patch.uid, patch.rev));
                let put = matches!(write, Write::Put(..) | Write::Create(_));
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
            // Refused, or not answered: the object is read, and after an answer that was none the pass is over.
            _ => {
                match write {
                    Write::Create(_) | Write::Put(..) => me.see_lease(lease),
                    Write::Status { .. } => me.election = Some(election),
                    Write::Pod(patch) => match pods[name(patch.uid)] {
                        Some(pod) => me.merge(Answer::Pod(pod)),
                        None => me.forget(patch.uid),
                    },
                }
                if answer.is_none() {
                    me.consulted = Consulted::default();
                }
            }
        }
    }

    fn happens(&self, world: &mut World, action: Action) {
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
                world.pods[index] = Some(Pod { uid, rev: next, ready: true, label: false, term: 0 });
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
                    Pod { rev: next, label: false, term, ..pod }
                });
            }
            Action::DeleteLease => {
                left.delete_lease -= 1;
                world.lease = None;
            }
            Action::EditLease => {
                left.edit_lease -= 1;
                world.lease = world.lease.map(|lease| Lease { rev: next, content: Content::Damaged, ..lease });
            }
            Action::Renew => {
                left.renew -= 1;
                world.lease = world.lease.map(|lease| Lease { rev: next, ..lease });
            }
            Action::WipeStatus => {
                left.wipe_status -= 1;
                world.election = Election { rev: next, term: 0, ..world.election };
            }
            Action::Suspend => {
                left.suspend -= 1;
                world.election = Election { rev: next, suspend: !world.election.suspend, ..world.election };
            }
            Action::Deliver(index) => {
                let write = world.late.remove(index);
                world.apply(write, Mutation::guards(self.removed));
            }
        }
    }

    /// Whether one controller that is left alone, without further faults, comes to rest with a leader if somebody may lead.
    fn settles(&self, world: &World) -> bool {
        let mut world = world.clone();
        world.left = Budget { elect: 9, ..Budget::default() };
        world.controllers.truncate(1);
        world.late.clear();
        for _ in 0..80 {
            let mut steps = Vec::new();
            self.controller(&world, 0, &mut steps);
            let moved = steps.into_iter().any(|step| self.step(&mut world, 0, step).is_some());
            world.renumber();
            if !moved {
                return self.is_right(&world);
            }
        }
        false
    }

    fn is_right(&self, world: &World) -> bool {
        let labelled: Vec<Pod> = world.pods.into_iter().flatten().filter(|pod| pod.label).collect();
        let Some(Lease { content, .. }) = world.lease else { return world.election.suspend };
        match content {
            _ if world.election.suspend => labelled.len() <= 1,
            Content::Term(Record { holder: Some(holder), term, .. }) => {
                labelled.iter().all(|pod| pod.uid == holder && pod.term == term && pod.ready) && labelled.len() == 1
            }
            // The consent of a campaign is its holder's: without that pod there is none, and a person is needed.
            Content::Campaign(holder) if !world.pods.iter().flatten().any(|pod| pod.uid == holder) => labelled.is_empty(),
            Content::Term(Record { holder: None, .. }) | Content::Blank | Content::Campaign(_) => {
                labelled.is_empty() && !world.pods.iter().flatten().any(|pod| pod.ready)
            }
            Content::Damaged => false,
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
        }
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
            *pod = Some(Pod { uid, rev: 5, ready: true, label: false, term: 0 });
        }
        let mut highest = 0;
        let mut named = std::collections::BTreeMap::new();
        if let Some(Content::Term(record)) = self.begin.lease {
            highest = record.term;
            named.insert(record.term, record.holder);
            if let Some(pod) = record.holder.and_then(|holder| pods[name(holder)].as_mut()).filter(|_| self.begin.led) {
                (pod.label, pod.term) = (true, record.term);
            }
        }
        let election = Election { rev: 1, term: 0, suspend: false };
        let mut controllers = vec![Controller::started(lease, election, pods); self.controllers];
        if let Some(earlier) = self.begin.stale {
            named.insert(earlier.term, earlier.holder);
            controllers[0].lease = Some(Lease { uid: 2, rev: 3, content: Content::Term(earlier) });
            controllers[1].pods[0] = None;
            controllers[1].pods[1] = pods[1].map(|pod| Pod { rev: 1, ready: false, ..pod });
        }
        let born = pods.map(|pod| u8::from(pod.is_some()));
        let late = Vec::new();
        vec![World { lease, election, pods, born, controllers, late, left: self.budget, named, highest, broken: None }]
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
        let left = world.left;
        for (index, pod) in world.pods.iter().enumerate() {
            match pod {
                Some(pod) => {
                    actions.extend((left.delete_pod > 0).then_some(Action::DeletePod(index)));
                    actions.extend((left.flip > 0).then_some(Action::Flip(index)));
                    let swept = self.removed == Some(Mutation::SweepTerm) && pod.term > 0;
                    actions.extend((left.unlabel > 0 && (pod.label || swept)).then_some(Action::Unlabel(index)));
                }
                None => actions.extend((left.create_pod > 0 && index < self.begin.pods).then_some(Action::CreatePod(index))),
            }
        }
        if let Some(lease) = world.lease {
            let campaign = matches!(lease.content, Content::Campaign(_));
            actions.extend((left.delete_lease > 0).then_some(Action::DeleteLease));
            actions.extend((left.edit_lease > 0 && lease.content != Content::Damaged).then_some(Action::EditLease));
            actions.extend((left.renew > 0 && campaign).then_some(Action::Renew));
        }
        actions.extend((left.wipe_status > 0 && world.election.term > 0).then_some(Action::WipeStatus));
        actions.extend((left.suspend > 0).then_some(Action::Suspend));
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
                    Doing::Act(Plan { lease: Some(Write::Put(version, _)), .. }) => Some(version),
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
            properties.push(Property::always("a leader, soon", |model: &Self, world: &World| model.settles(world)));
        }
        properties
    }
}

/// An action in words.
pub fn words(action: Action) -> String {
    let pod = |index: usize| name_text(Uid::try_from(index).expect("few pods"));
    match action {
        Action::Controller(number, step) => {
            let what = match step {
                Step::SeeLease => "its watch shows it the Lease".to_owned(),
                Step::SeePods => "its watch shows it the pods".into(),
                Step::SeeElection => "its watch shows it the Election".into(),
                Step::Expire => "has seen that version of the Lease until it expired".into(),
                Step::Decide => "decides".into(),
                Step::ListPods => "lists the pods and reads the Election".into(),
                Step::GetLease => "reads the Lease".into(),
                Step::Crash => "crashes and starts again".into(),
                Step::Send(what, fate) => {
                    let what = match what {
                        What::Lease => "writes the Lease".to_owned(),
                        What::Fence(index) => format!("fences (number {index} of its plan)"),
                        What::Label => "labels".into(),
                        What::Status => "writes the status".into(),
                    };
                    match fate {
                        Fate::Answered => what,
                        Fate::AnswerLost => format!("{what}; the answer is lost"),
                        Fate::Delayed => format!("{what}; the request is held up in the network"),
                    }
                }
            };
            format!("C{}: {what}", number + 1)
        }
        Action::DeletePod(index) => format!("pod {} is deleted", pod(index)),
        Action::CreatePod(index) => format!("pod {} is created anew", pod(index)),
        Action::Flip(index) => format!("pod {} turns ready or unready", pod(index)),
        Action::Unlabel(index) => format!("the label of pod {} is removed by hand", pod(index)),
        Action::DeleteLease => "the Lease is deleted".into(),
        Action::EditLease => "the Lease is edited by hand".into(),
        Action::WipeStatus => "the status is wiped".into(),
        Action::Suspend => "elections are suspended or resumed".into(),
        Action::Renew => "the sidecar renews the Lease".into(),
        Action::Deliver(index) => format!("the server gets the late write number {index}"),
    }
}

/// A world in words.
pub fn look(world: &World) -> String {
    let pods = world.pods.iter().flatten().map(|pod| {
        let (label, ready) = (if pod.label { " LABELLED" } else { "" }, if pod.ready { "" } else { " unready" });
        format!("{}#{}@{}:{}{label}{ready}", name_text(pod.uid), usize::from(pod.uid) / NAMES, pod.rev, pod.term)
    });
    let lease = world.lease.map_or("no Lease".into(), |lease| match lease.content {
        Content::Term(Record { holder, term, unfenced }) => {
            let holder =
                holder.map_or("nobody".to_owned(), |uid| format!("{}#{}", name_text(uid), usize::from(uid) / NAMES));
            let unfenced: Vec<_> = (0..16).filter(|uid| has(unfenced, *uid)).map(name_text).collect();
            format!("Lease@{} ({holder}, {term}, {unfenced:?})", lease.rev)
        }
        other => format!("Lease@{} {other:?}", lease.rev),
    });
    format!("{lease}; {}", pods.collect::<Vec<_>>().join(", "))
}
