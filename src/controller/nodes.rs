//! Watches nodes and their Leases while an Election asks for them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::key::Key;
use super::monitor::silence::WATCH_SECONDS;
use super::observe::cached::NODE_LEASES;
use super::observe::nodes::{NodeObject, NodeWatch};
use super::observe::world::Changes;
use super::server::ApiServer;
use super::shared::Shared;
use super::watch::status;

/// Interval at which the controller looks for Elections that ask, and for silent nodes.
const TICK: Duration = Duration::from_secs(1);

/// Pause after a watch failed.
const RETRY: Duration = Duration::from_secs(3);

/// The least time between two lists because of a doubt.
const LEAST_LIST: Duration = Duration::from_secs(5);

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// One of the two watches.
struct Observed<K> {
    watch: NodeWatch,
    api: Api<K>,
    events: Option<Events<K>>,
    started: Instant,
    retry_at: Instant,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Observed<K>
where
    K::DynamicType: Default,
{
    fn new(watch: NodeWatch, api: Api<K>) -> Self {
        Self { watch, api, events: None, started: Instant::now(), retry_at: Instant::now() }
    }

    /// Starts the watch while an Election asks for it, and stops it otherwise.
    fn follow_demand<S: ApiServer>(&mut self, shared: &Shared<S>) {
        let mut world = shared.world();
        let is_wanted = world.nodes.asking(self.watch).next().is_some();
        if !is_wanted && (self.events.take().is_some() || world.nodes.problem(self.watch).is_some()) {
            info!("no Election asks for {} any more", what(self.watch));
            world.nodes.clear(self.watch);
        }
        if is_wanted && self.events.is_none() && self.retry_at <= Instant::now() {
            debug!("watching {}", what(self.watch));
            self.started = Instant::now();
            self.events = Some(watcher(self.api.clone(), watcher::Config::default().timeout(WATCH_SECONDS)).boxed());
        }
    }

    /// Lists again what is in doubt: a watch may be silent for a while, and two controllers that observe different nodes would
    /// change the leader or the status in turn.
    fn follow_doubt<S: ApiServer>(&mut self, shared: &Shared<S>) {
        if self.started.elapsed() >= LEAST_LIST && shared.world().nodes.take_doubt() {
            debug!("another controller observes other {}, listing them", what(self.watch));
            self.events = None;
        }
    }

    async fn next(&mut self) -> watcher::Result<Event<K>> {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Returns the event of a watch that works, and reports one that does not.
    fn event_or_problem<S: ApiServer>(&mut self, shared: &Shared<S>, event: watcher::Result<Event<K>>) -> Option<Event<K>> {
        match event {
            Ok(event) => {
                // `Init` precedes the request of a list, so it is no success.
                if !matches!(event, Event::Init) {
                    self.report(shared, None);
                }
                Some(event)
            }
            Err(error) => {
                (self.events, self.retry_at) = (None, Instant::now() + RETRY);
                match status(&error).filter(|status| (400..500).contains(&status.code) && status.code != 410) {
                    Some(status) => self.report(shared, Some(explain(self.watch, &status.message))),
                    None => debug!("cannot watch {}: {error}", what(self.watch)),
                }
                None
            }
        }
    }

    /// Stores whether the watch is denied, which the Elections that ask report.
    fn report<S: ApiServer>(&self, shared: &Shared<S>, problem: Option<String>) {
        let affected: BTreeSet<Key> = {
            let mut world = shared.world();
            if !world.nodes.set_problem(self.watch, problem.clone()) {
                return;
            }
            world.nodes.asking(self.watch).cloned().collect()
        };
        match problem {
            Some(problem) => warn!("{problem}; retrying"),
            None => info!("watching {} again", what(self.watch)),
        }
        shared.queue(Changes { affected, ..Changes::default() });
    }
}

/// Observes nodes until the end of the process.
pub async fn observe<S: ApiServer>(shared: Arc<Shared<S>>, client: Client) {
    let mut nodes = Observed::<NodeObject>::new(NodeWatch::Drains, Api::all(client.clone()));
    let leases = Api::namespaced(client, NODE_LEASES);
    let mut heartbeats = Observed::<PartialObjectMeta<Lease>>::new(NodeWatch::Heartbeats, leases);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_before = BTreeSet::new();
    loop {
        tokio::select! {
            event = nodes.next() => {
                let Some(event) = nodes.event_or_problem(&shared, event) else { continue };
                let affected = {
                    let mut world = shared.world();
                    let changed = world.nodes.node(event);
                    world.on_nodes(NodeWatch::Drains, |node| changed.contains(node))
                };
                shared.queue(Changes { affected, ..Changes::default() });
            }
            event = heartbeats.next() => {
                let Some(event) = heartbeats.event_or_problem(&shared, event) else { continue };
                shared.world().nodes.heartbeat(event, Instant::now());
            }
            _ = ticks.tick() => {
                nodes.follow_doubt(&shared);
                nodes.follow_demand(&shared);
                heartbeats.follow_demand(&shared);
                let affected = {
                    let world = shared.world();
                    let silent: BTreeSet<String> = world.nodes.silent(Instant::now()).into_iter().map(str::to_owned).collect();
                    let before = std::mem::replace(&mut silent_before, silent);
                    if before.is_empty() && silent_before.is_empty() {
                        continue;
                    }
                    // Pods on a node that is silent no more are eligible again.
                    world.on_nodes(NodeWatch::Heartbeats, |node| before.contains(node) || silent_before.contains(node))
                };
                shared.queue(Changes { affected, ..Changes::default() });
            }
        }
    }
}

fn what(watch: NodeWatch) -> &'static str {
    match watch {
        NodeWatch::Drains => "Nodes",
        NodeWatch::Heartbeats => "Leases of nodes",
    }
}

fn explain(watch: NodeWatch, message: &str) -> String {
    let (field, resource, value) = match watch {
        NodeWatch::Drains => ("whenNodeDrains: Switchover", "Nodes", "rbac.watchNodes"),
        NodeWatch::Heartbeats => {
            ("nodeHeartbeatTimeoutSeconds", "Leases in namespace kube-node-lease", "rbac.watchNodeLeases")
        }
    };
    format!(
        "spec.{field} has no effect, because the controller may not list and watch {resource} ({message}): set the chart's value {value}=true, or remove the field"
    )
}
