//! What the loops of one controller share: the caches, the queues, the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch as channel};
use tokio::time::Instant;
use tracing::error;

use super::answer;
use super::complaints::Complaints;
use super::disputes::Disputes;
use super::joint::Joint;
use super::monitor::Monitor;
use super::observe::cached::CachedLease;
use super::observe::settings::Limits;
use super::observe::snapshot::Consulted;
use super::observe::stream::Kind;
use super::observe::world::{Changes, Key, World, went_back};
use super::queue::Queue;
use super::server::{Read, Refusal, Server, Write};
use super::{Clock, Options, workers};
use crate::api::{DEGRADED, Reason};
use crate::election::Snapshot;
use crate::ids::{Uid, Version};
use crate::sync;

/// How many pods may be remembered as written to before those that are not any more are forgotten.
const MANY_TURNS: usize = 1_024;

/// The state of one controller.
pub struct Shared<S> {
    /// The API server.
    pub server: S,
    /// What Elections may make it do.
    pub limits: Limits,
    /// The wall clock: it tunes stability and dates Events, never safety.
    pub clock: Clock,
    /// Who this controller is, for Events.
    pub instance: String,
    /// Elections to decide about.
    pub elections: Arc<Queue<Key>>,
    /// Elections with writes that nobody waits for.
    pub background: Arc<Queue<Key>>,
    /// Names of Elections whose leftovers are to be removed.
    pub cleanups: Arc<Queue<Key>>,
    /// What is known of the Elections' labels beside the caches.
    pub disputes: Disputes,
    /// What was already logged.
    pub complaints: Complaints,
    /// What is told about this controller.
    pub monitor: Arc<Monitor>,
    world: Mutex<World>,
    turns: Mutex<Turns>,
    /// Whether nothing may be written any more.
    halted: channel::Sender<bool>,
    /// By namespace.
    lists: Joint<Result<Arc<BTreeSet<Uid>>, Refusal>>,
}

/// By namespace and name: the pods that are being written to.
type Turns = HashMap<(String, String), Arc<Turn>>;

/// Whose turn it is to write to one pod.
#[derive(Debug, Default)]
struct Turn {
    free: tokio::sync::Mutex<()>,
    /// Somebody waits for the turn whom a write in the background must not hold up.
    urgent: Notify,
}

/// What a write is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// The version that the decision saw. `None`: none, it is to be created.
    pub decided_on: Option<Version>,
}

impl<S: Server> Shared<S> {
    /// A controller that knows nothing yet.
    pub fn new(server: S, options: Options, monitor: Arc<Monitor>) -> Self {
        let Options { scope, limits, instance, clock, candidacy: _, http: _ } = options;
        let world = Mutex::new(World::new(&scope, clock.clone()));
        Self {
            server,
            limits,
            clock,
            instance,
            elections: workers::elections(),
            background: workers::background(),
            disputes: Disputes::default(),
            cleanups: workers::cleanups(),
            complaints: Complaints::default(),
            monitor,
            world,
            turns: Mutex::default(),
            halted: channel::Sender::new(false),
            lists: Joint::default(),
        }
    }

    /// The caches. Never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic while they were held ends the process; until then, others may still read.
        sync::lock(&self.world)
    }

    /// What a decision about the Election looks at, and its Lease as it must be written back. `None`: no such Election is known.
    pub fn snapshot(&self, key: &Key, consulted: Consulted) -> Option<(Snapshot, Option<CachedLease>)> {
        let (mut snapshot, lease) = self.world().snapshot(key, consulted)?;
        let said = snapshot.election.status.is(DEGRADED, Reason::LabelContested);
        (snapshot.contest, snapshot.refused) = self.disputes.of(key, said);
        Some((snapshot, lease))
    }

    /// Writes nothing any more: what is known is of a state that the API server has lost, and whatever is decided on it may take a
    /// number for a term that was one already. A new process knows nothing of it, and does what the restored state says.
    pub fn halt(&self, why: &str) {
        if !self.halted.send_replace(true) {
            error!("{why}");
            self.monitor.health.halt(why);
        }
    }

    /// Whether that is so.
    pub fn is_halted(&self) -> bool {
        *self.halted.borrow()
    }

    /// Completes when it is.
    pub fn halted(&self) -> impl Future<Output = ()> + use<S> {
        let mut halted = self.halted.subscribe();
        async move {
            if halted.wait_for(|halted| *halted).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Queues what a change of the caches asks for.
    pub fn queue(&self, changes: Changes) {
        let now = Instant::now();
        let Changes { affected, orphaned, gone } = changes;
        // A last time, so that whoever works on it forgets it.
        gone.iter().for_each(|key| self.complaints.forget(key));
        for key in affected.into_iter().chain(gone) {
            self.elections.add(key, now);
        }
        for key in orphaned {
            self.cleanups.add(key, now);
        }
    }

    /// Writes, and takes the answer into the caches. A write to the same pod that nobody waits for is given up.
    ///
    /// # Errors
    /// Any answer but success, and an object that is not as it was asked for. Where the server says that there is no object of
    /// this name, the caches know it too.
    pub async fn write(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let turn = self.turn(target);
        let _turn = match &turn {
            Some(turn) => {
                turn.urgent.notify_waiters();
                Some(turn.free.lock().await)
            }
            None => None,
        };
        self.send(target, write).await
    }

    /// As [`Shared::write`], for a write that nobody waits for: it gives way to every other one to the same pod.
    ///
    /// # Errors
    /// As [`Shared::write`]; it may have been applied when it gave way.
    pub async fn write_in_background(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let Some(turn) = self.turn(target) else { return self.send(target, write).await };
        let urgent = turn.urgent.notified();
        tokio::pin!(urgent);
        urgent.as_mut().enable();
        tokio::select! {
            biased;
            () = urgent => Err(Refusal::Outdated("it gave way to a more urgent write to the pod".into())),
            answer = async {
                let _turn = turn.free.lock().await;
                self.send(target, write).await
            } => answer,
        }
    }

    async fn send(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let Target { kind, namespace, name, decided_on } = target;
        if *kind == Kind::Pods && self.knows_better(target) {
            return Err(Refusal::Outdated("another write to the pod came first".into()));
        }
        if self.is_halted() {
            return Err(Refusal::Ending("nothing is written any more".into()));
        }
        let (ticket, newest) = {
            let mut world = self.world();
            (world.ticket(*kind, namespace), world.newest(*kind))
        };
        let (shown, answer) = answer::write(&self.server, namespace, write).await;
        if let (Some(item), Some(newest)) = (&shown, newest) {
            let now = item.object.version();
            // What changed nothing leaves the revision as it was.
            if now.resource_version < newest && decided_on.as_ref() != Some(&now) {
                self.halt(&went_back(*kind, newest, now.resource_version));
            }
        }
        let changes = match (shown, &answer, decided_on) {
            (Some(item), _, _) => self.world().answered(ticket, item),
            (None, Err(Refusal::NotFound { named: true, .. }), Some(version)) => {
                self.world().answered_gone(*kind, namespace, name, &version.uid)
            }
            _ => Changes::default(),
        };
        self.queue(changes);
        answer
    }

    /// The turns to write to a pod. Many Elections may share one, and each write outdates what the others decided: sent all at
    /// once, all but one would be refused, again and again.
    fn turn(&self, Target { kind, namespace, name, .. }: &Target) -> Option<Arc<Turn>> {
        if *kind != Kind::Pods {
            return None;
        }
        let mut turns = sync::lock(&self.turns);
        if turns.len() >= MANY_TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Some(turns.entry((namespace.clone(), name.clone())).or_default().clone())
    }

    /// Whether the caches have come beyond the version that was decided on.
    pub fn knows_better(&self, target: &Target) -> bool {
        let Target { kind, namespace, name, decided_on } = target;
        self.world().version(*kind, namespace, name) != *decided_on
    }

    /// Lists the pods of a namespace, and takes them into the caches, as [`Shared::read`] does. Whoever else wants that meanwhile
    /// shares the next list: where many Elections of a large namespace begin at once, each would list all of it.
    ///
    /// # Errors
    /// As [`Shared::read`].
    pub async fn list_pods(&self, namespace: &str) -> Result<Arc<BTreeSet<Uid>>, Refusal> {
        self.lists.ask(namespace, || async { self.read(namespace, Read::Pods).await.map(Arc::new) }).await
    }

    /// Reads from the server, and takes the answer into the caches: afterwards they are at least as new as the answer.
    /// Returns the UIDs that were found.
    ///
    /// # Errors
    /// Any answer but success or a plain absence; also a list of the same kind that is arriving meanwhile, because
    /// answers cannot be merged into it.
    pub async fn read(&self, namespace: &str, read: Read) -> Result<BTreeSet<Uid>, Refusal> {
        let (kind, name) = match &read {
            Read::Pods => (Kind::Pods, None),
            Read::Pod(name) => (Kind::Pods, Some(name.clone())),
            Read::Lease(name) => (Kind::Leases, Some(name.clone())),
            Read::Election(name) => (Kind::Elections, Some(name.clone())),
            Read::Elections => (Kind::Elections, None),
        };
        let (ticket, known, listed) = {
            let mut world = self.world();
            let known = name.as_deref().and_then(|name| world.version(kind, namespace, name));
            let listed = if name.is_none() { world.all(kind, namespace) } else { BTreeMap::new() };
            (world.ticket(kind, namespace), known, listed)
        };
        let answer = self.server.read(namespace, read).await;
        for item in answer.iter().flatten() {
            let now = item.object.version();
            let before = known.iter().chain(listed.get(&item.name)).find(|known| known.uid == now.uid);
            if let Some(before) = before.filter(|before| before.resource_version > now.resource_version) {
                self.halt(&went_back(kind, before.resource_version, now.resource_version));
            }
        }
        let mut world = self.world();
        let (found, changes) = match (answer, name) {
            (Ok(items), _) => {
                let found: BTreeSet<Uid> = items.iter().map(|item| item.object.version().uid).collect();
                let mut changes: Vec<Changes> = items.into_iter().map(|item| world.answered(ticket, item)).collect();
                // Known before the list was asked for, and not in it: gone since, whatever the watch has shown so far.
                let absent = listed.into_iter().filter(|(_, known)| !found.contains(&known.uid));
                changes.extend(absent.map(|(name, known)| world.answered_gone(kind, namespace, &name, &known.uid)));
                (found, changes)
            }
            (Err(Refusal::NotFound { named: true, .. }), Some(name)) => {
                let gone = known.map(|known| world.answered_gone(kind, namespace, &name, &known.uid));
                (BTreeSet::new(), gone.into_iter().collect::<Vec<_>>())
            }
            (Err(refusal), _) => return Err(refusal),
        };
        let current = world.is_current(kind, namespace, ticket);
        drop(world);
        changes.into_iter().for_each(|changes| self.queue(changes));
        if current { Ok(found) } else { Err(Refusal::Outdated("the caches are being filled anew".into())) }
    }
}
