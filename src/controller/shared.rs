//! State that the tasks of one controller share: caches, queues and the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch as channel};
use tokio::time::Instant;
use tracing::error;

use super::answer;
use super::coalesced::Coalesced;
use super::disputes::Disputes;
use super::key::{Key, Kind};
use super::limits::Limits;
use super::monitor::Monitor;
use super::observe::cached::CachedLease;
use super::observe::snapshot::Consulted;
use super::observe::world::{Changes, World, went_back};
use super::options::{Options, WallClock};
use super::problem_log::ProblemLog;
use super::queue::Queue;
use super::server::{ApiServer, Read, Refusal, Write};
use super::slots;
use crate::api::{DEGRADED, Reason};
use crate::election::Snapshot;
use crate::ids::{Uid, Version};
use crate::sync;

/// Number of write locks above which unused ones are removed.
const MAX_LOCKS: usize = 1_024;

/// The state of one controller.
pub struct Shared<S> {
    /// The API server.
    pub server: S,
    /// Limits of what Elections may make it write.
    pub limits: Limits,
    /// The wall clock. It tunes stability and dates Events; safety never depends on it.
    pub clock: WallClock,
    /// Reporting instance of Events.
    pub instance: String,
    /// Elections to reconcile.
    pub elections: Arc<Queue<Key>>,
    /// Elections with background writes.
    pub background: Arc<Queue<Key>>,
    /// Deleted Elections whose labels are to be removed.
    pub cleanups: Arc<Queue<Key>>,
    /// Contested labels and denied follower writes.
    pub disputes: Disputes,
    /// Problems that were logged.
    pub problems: ProblemLog,
    /// Health and metrics.
    pub monitor: Arc<Monitor>,
    world: Mutex<World>,
    pod_locks: Mutex<PodLocks>,
    /// The controller stopped all writes.
    halted: channel::Sender<bool>,
    /// Lists of pods by namespace.
    lists: Coalesced<Result<Arc<BTreeSet<Uid>>, Refusal>>,
}

/// Write locks by namespace and name of the pod.
type PodLocks = HashMap<(String, String), Arc<PodLock>>;

/// Serializes the writes to one pod.
#[derive(Debug, Default)]
struct PodLock {
    free: tokio::sync::Mutex<()>,
    /// Wakes background writes, which give way to the notifier.
    urgent: Notify,
}

/// Target of a write.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Version that the decision used. `None`: the object is to be created.
    pub decided_on: Option<Version>,
}

impl<S: ApiServer> Shared<S> {
    /// Returns the state of a controller that starts.
    pub fn new(server: S, options: Options, monitor: Arc<Monitor>) -> Self {
        let Options { scope, limits, instance, clock, candidacy: _, http: _ } = options;
        let world = Mutex::new(World::new(&scope, clock.clone()));
        Self {
            server,
            limits,
            clock,
            instance,
            elections: slots::elections(),
            background: slots::background(),
            disputes: Disputes::default(),
            cleanups: slots::cleanups(),
            problems: ProblemLog::default(),
            monitor,
            world,
            pod_locks: Mutex::default(),
            halted: channel::Sender::new(false),
            lists: Coalesced::default(),
        }
    }

    /// The caches. Never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic under this lock ends the process; until then, others may still read.
        sync::lock(&self.world)
    }

    /// Returns the snapshot for a decision, and the Lease object to write back. `None`: there is no such Election.
    pub fn snapshot(&self, key: &Key, consulted: Consulted) -> Option<(Snapshot, Option<CachedLease>)> {
        let (mut snapshot, lease) = self.world().snapshot(key, consulted)?;
        let reported = snapshot.election.status.is(DEGRADED, Reason::LabelContested);
        (snapshot.contest, snapshot.refused) = self.disputes.of(key, reported);
        Some((snapshot, lease))
    }

    /// Stops all writes: the caches are of a state that the API server has lost, and a decision on them might reuse the number of
    /// a former term. A new process starts from the restored state.
    pub fn halt(&self, why: &str) {
        if !self.halted.send_replace(true) {
            error!("{why}");
            self.monitor.health.halt(why);
        }
    }

    /// Returns whether the controller stopped all writes.
    pub fn is_halted(&self) -> bool {
        *self.halted.borrow()
    }

    /// Completes when the controller stops all writes.
    pub fn halted(&self) -> impl Future<Output = ()> + use<S> {
        let mut halted = self.halted.subscribe();
        async move {
            if halted.wait_for(|halted| *halted).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Queues the Elections that a change of the caches affects.
    pub fn queue(&self, changes: Changes) {
        let now = Instant::now();
        let Changes { affected, orphaned, gone } = changes;
        gone.iter().for_each(|key| self.problems.forget(key));
        // The last reconcile of a deleted Election forgets its state.
        for key in affected.into_iter().chain(gone) {
            self.elections.add(key, now);
        }
        for key in orphaned {
            self.cleanups.add(key, now);
        }
    }

    /// Writes, and stores the response in the caches. A background write to the same pod gives way.
    ///
    /// # Errors
    /// Any response but success, and a returned object that differs from the request. After a response that the object does not
    /// exist, the caches do not have it either.
    pub async fn write(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let lock = self.pod_lock(target);
        let _guard = match &lock {
            Some(lock) => {
                lock.urgent.notify_waiters();
                Some(lock.free.lock().await)
            }
            None => None,
        };
        self.send(target, write).await
    }

    /// Writes as [`Shared::write`] does, but gives way to every other write to the same pod.
    ///
    /// # Errors
    /// As [`Shared::write`]. A write that gave way may have been applied.
    pub async fn write_in_background(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let Some(lock) = self.pod_lock(target) else { return self.send(target, write).await };
        let urgent = lock.urgent.notified();
        tokio::pin!(urgent);
        urgent.as_mut().enable();
        tokio::select! {
            biased;
            () = urgent => Err(Refusal::Outdated("the write gave way to a more urgent one to the pod".into())),
            answer = async {
                let _guard = lock.free.lock().await;
                self.send(target, write).await
            } => answer,
        }
    }

    async fn send(&self, target: &Target, write: Write) -> Result<(), Refusal> {
        let Target { kind, namespace, name, decided_on } = target;
        if *kind == Kind::Pods && self.is_stale(target) {
            return Err(Refusal::Outdated("another write to the pod came first".into()));
        }
        if self.is_halted() {
            return Err(Refusal::Ending("the controller stopped all writes".into()));
        }
        let (ticket, newest) = {
            let mut world = self.world();
            (world.ticket(*kind, namespace), world.newest(*kind))
        };
        let (shown, answer) = answer::write(&self.server, namespace, write).await;
        if let (Some(item), Some(newest)) = (&shown, newest) {
            let now = item.object.version();
            // A write without a change leaves the revision as it was.
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

    /// Returns the lock of the writes to a pod. Many Elections may share a pod, and each write makes the decisions of the others
    /// stale: sent at once, all but one would be rejected, at every retry.
    fn pod_lock(&self, Target { kind, namespace, name, .. }: &Target) -> Option<Arc<PodLock>> {
        if *kind != Kind::Pods {
            return None;
        }
        let mut locks = sync::lock(&self.pod_locks);
        if locks.len() >= MAX_LOCKS {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Some(locks.entry((namespace.clone(), name.clone())).or_default().clone())
    }

    /// Returns whether the caches have another version than the one that the decision used.
    pub fn is_stale(&self, target: &Target) -> bool {
        let Target { kind, namespace, name, decided_on } = target;
        self.world().version(*kind, namespace, name) != *decided_on
    }

    /// Lists the pods of a namespace as [`Shared::read`] does. Concurrent calls are coalesced: many Elections of a large namespace
    /// that start together share one list.
    ///
    /// # Errors
    /// As [`Shared::read`].
    pub async fn list_pods(&self, namespace: &str) -> Result<Arc<BTreeSet<Uid>>, Refusal> {
        self.lists.request(namespace, || async { self.read(namespace, Read::Pods).await.map(Arc::new) }).await
    }

    /// Reads from the server, and stores the response in the caches, which are then at least as new as the response. Returns
    /// the UIDs that it has.
    ///
    /// # Errors
    /// Any response but success or a plain absence. Also when the watch of this kind lists meanwhile, because responses cannot be
    /// merged into its list.
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
                // Cached before the request of the list, and not in it: deleted, whatever the watch has delivered so far.
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
        if current { Ok(found) } else { Err(Refusal::Outdated("the watch is listing again".into())) }
    }
}
