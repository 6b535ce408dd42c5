//! Revisions, renumbered after every step: only their order matters.

use std::collections::BTreeSet;

use crate::world::*;

impl World {
    /// The highest revision still in use.
    pub fn latest(&self) -> Rev {
        let mut latest = 0;
        self.clone().each_revision(&mut |rev| latest = latest.max(*rev));
        latest
    }

    /// Renumbers all revisions from 1, in their order.
    pub fn renumber(&mut self) {
        let mut seen = [false; 256];
        self.forget_terms();
        self.forget_requests();
        self.each_revision(&mut |rev| seen[usize::from(*rev)] = true);
        let mut numbers = [0; 256];
        let mut next = 0;
        for rev in 1..256 {
            if seen[rev] {
                next += 1;
                numbers[rev] = next;
            }
        }
        self.each_revision(&mut |rev| *rev = numbers[usize::from(*rev)]);
    }

    /// Forgets the holders of terms that no write can use.
    fn forget_terms(&mut self) {
        let mut alive = [false; 256];
        let mut lease = |lease: &Option<Lease>| {
            if let Some(Lease { content: Content::Term(record), .. }) = lease {
                alive[usize::from(record.term)] = true;
            }
        };
        lease(&self.lease);
        self.controllers.iter().for_each(|controller| lease(&controller.lease));
        let mut write = |write: &Write| match write {
            Write::Put(_, _, Content::Term(record)) | Write::Create(_, Content::Term(record)) => {
                alive[usize::from(record.term)] = true;
            }
            Write::Pod(patch) => alive[usize::from(patch.term)] = true,
            Write::Create(..) | Write::Put(..) | Write::Status { .. } => {}
        };
        self.late.iter().for_each(&mut write);
        for controller in &self.controllers {
            if let Doing::Act(plan) = &controller.doing {
                plan.lease.iter().for_each(&mut write);
                plan.fence.iter().chain(&plan.label).for_each(|patch| write(&Write::Pod(*patch)));
            }
        }
        self.named.retain(|term, _| alive[usize::from(*term)]);
    }

    /// Forgets carried out requests that no controller can carry out again.
    fn forget_requests(&mut self) {
        if self.acted.is_empty() {
            return;
        }
        let mut alive = BTreeSet::new();
        let elections = self.controllers.iter().map(|controller| &controller.election).chain([&self.election]);
        alive.extend(elections.flatten().map(|election| election.request));
        let doing = self.controllers.iter().filter_map(|controller| match &controller.doing {
            Doing::Act(plan) => plan.lease.as_ref(),
            _ => None,
        });
        alive.extend(doing.chain(&self.late).filter_map(|write| match write {
            Write::Put(_, _, Content::Term(record)) => Some(record.request),
            _ => None,
        }));
        self.acted.retain(|request| alive.contains(request));
    }

    fn each_revision(&mut self, visit: &mut impl FnMut(&mut Rev)) {
        fn lease(lease: &mut Lease, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut lease.uid);
            visit(&mut lease.rev);
            visit(&mut lease.incarnation);
            content(&mut lease.content, visit);
        }
        fn content(content: &mut Content, visit: &mut impl FnMut(&mut Rev)) {
            if let Content::Term(record) = content {
                visit(&mut record.term);
                visit(&mut record.request);
            }
        }
        fn pods(pods: &mut Pods, visit: &mut impl FnMut(&mut Rev)) {
            for pod in pods.iter_mut().flatten() {
                visit(&mut pod.rev);
                visit(&mut pod.term);
            }
        }
        fn election(election: &mut Election, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut election.uid);
            visit(&mut election.rev);
            visit(&mut election.term);
            visit(&mut election.request);
        }
        fn patch(patch: &mut Patch, visit: &mut impl FnMut(&mut Rev)) {
            visit(&mut patch.rev);
            visit(&mut patch.term);
        }
        fn write(write: &mut Write, visit: &mut impl FnMut(&mut Rev)) {
            match write {
                Write::Create(incarnation, created) => {
                    visit(incarnation);
                    content(created, visit);
                }
                Write::Put(version, incarnation, put) => {
                    lease(version, visit);
                    visit(incarnation);
                    content(put, visit);
                }
                Write::Pod(change) => patch(change, visit),
                Write::Status { uid, rev, term } => {
                    visit(uid);
                    visit(rev);
                    visit(term);
                }
            }
        }
        self.lease.iter_mut().for_each(|object| lease(object, visit));
        self.followed.iter_mut().for_each(|object| visit(&mut object.rev));
        self.election.iter_mut().for_each(|object| election(object, visit));
        pods(&mut self.pods, visit);
        for controller in &mut self.controllers {
            controller.lease.iter_mut().for_each(|object| lease(object, visit));
            controller.election.iter_mut().for_each(|object| election(object, visit));
            pods(&mut controller.pods, visit);
            visit(&mut controller.consulted.read_after);
            controller.consulted.verified.iter_mut().for_each(&mut *visit);
            visit(&mut controller.consulted.followed);
            let observed = controller.observed.iter_mut().filter_map(|observed| observed.version.as_mut());
            observed.for_each(|(rev, _)| visit(rev));
            if let Doing::Act(plan) = &mut controller.doing {
                plan.lease.iter_mut().chain(&mut plan.status).for_each(|object| write(object, visit));
                let patches = plan.fence.iter_mut().chain(&mut plan.label).chain(&mut plan.claim);
                patches.for_each(|object| patch(object, visit));
            }
            controller.background.iter_mut().for_each(|object| patch(object, visit));
            controller.outranking.iter_mut().for_each(|outranking| visit(&mut outranking.term));
        }
        self.late.iter_mut().for_each(|object| write(object, visit));
        let named = std::mem::take(&mut self.named);
        let visited = |(mut term, holder)| {
            visit(&mut term);
            (term, holder)
        };
        self.named = named.into_iter().map(visited).collect();
        let acted = std::mem::take(&mut self.acted);
        let visited = |mut request| {
            visit(&mut request);
            request
        };
        self.acted = acted.into_iter().map(visited).collect();
        visit(&mut self.highest);
    }
}
