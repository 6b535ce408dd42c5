//! Health of a controller: when it last received anything from the API server, and which watches fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::Instant;

use crate::controller::key::Kind;
use crate::controller::options::Candidacy;
use crate::sync;

/// Silence of the API server that is tolerated beyond the duration of Podium's own Lease.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Timeout of the API server where replicas do not campaign: watches end after 65 s, and nothing else need ever be sent.
const WITHOUT_CAMPAIGN: Duration = Duration::from_secs(300);

/// Timeout of a response to a list or a watch, and of each part of a list.
pub(super) const RESPONSE: Duration = Duration::from_secs(10);

/// One watch: its kind, and its namespace unless it watches the cluster.
pub type Watch = (Kind, Option<String>);

/// Receptions, and failed watches.
#[derive(Debug)]
pub struct Health {
    timeout: Duration,
    state: Mutex<State>,
    /// Number of outages that are over.
    outages: channel::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// When the API server last sent anything; before that, the start of the controller.
    received: Instant,
    has_received: bool,
    /// When each watch last received anything; before that, its creation.
    watches: BTreeMap<Watch, Instant>,
    problems: BTreeMap<Watch, WatchProblem>,
    ending: bool,
    halted: Option<String>,
}

#[derive(Debug)]
struct WatchProblem {
    since: Instant,
    message: String,
    /// A permission is missing.
    denied: bool,
    /// The watch is silent: any event ends the problem.
    is_silence: bool,
}

/// Readiness of a controller, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Causes of unreadiness. Empty: the controller is ready.
    pub obstacles: Vec<String>,
    /// Other information for an operator.
    pub notes: Vec<String>,
}

impl Health {
    /// Returns the health of a controller that starts.
    ///
    /// Active and standby replicas access Podium's own Lease every `retry_period`. When they receive nothing for longer than
    /// the Lease lasts, no replica holds it. So a replica notices a lost API server within the duration of that Lease,
    /// without additional requests.
    pub fn new(candidacy: Option<&Candidacy>) -> Self {
        let timeout = candidacy.map_or(WITHOUT_CAMPAIGN, |candidacy| candidacy.timing.lease_duration + TOLERANCE);
        let (watches, problems) = (BTreeMap::new(), BTreeMap::new());
        let received = Instant::now();
        let state = State { received, has_received: false, watches, problems, ending: false, halted: None };
        Self { timeout, state: Mutex::new(state), outages: channel::Sender::new(0) }
    }

    /// Notes that the API server sent a response or a part of one. An error counts, too.
    pub fn received(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let idle = now - state.received;
        state.received = now;
        state.has_received = true;
        drop(state);
        if idle > self.timeout {
            self.outages.send_modify(|outages| *outages += 1);
        }
    }

    /// Changes when an outage is over in which the API server sent nothing at all. Open connections may be dead then: where
    /// packets are dropped, a client that only receives gets no error.
    pub fn outages(&self) -> channel::Receiver<u64> {
        self.outages.subscribe()
    }

    /// Notes that a watch failed. `denied`: its permission is missing.
    pub fn watch_failed(&self, watch: Watch, message: &str, denied: bool) {
        let mut state = self.lock();
        let problem = state.note(watch, message);
        (problem.denied, problem.is_silence) = (denied, false);
    }

    /// Returns the namespaces that are not served: a watch in them is `unlisted` or fails.
    pub fn unserved(&self, unlisted: &[Watch]) -> BTreeSet<String> {
        let state = self.lock();
        unlisted.iter().chain(state.problems.keys()).filter_map(|(_, namespace)| namespace.clone()).collect()
    }

    /// Notes that a watch delivers nothing.
    pub fn silent(&self, watch: &Watch, message: &str) {
        self.lock().note(watch.clone(), message).is_silence = true;
    }

    /// Adds a watch.
    pub fn watches(&self, watch: Watch) {
        self.lock().watches.insert(watch, Instant::now());
    }

    /// Notes that the API server accepted a list or a watch. Returns whether that ended a silence.
    pub fn accepted(&self, watch: &Watch) -> bool {
        let mut state = self.lock();
        state.touch(watch);
        state.problems.remove(watch).is_some_and(|problem| problem.is_silence)
    }

    /// Notes that a watch delivered something.
    pub fn delivered(&self, watch: &Watch) {
        let mut state = self.lock();
        state.touch(watch);
        if state.problems.get(watch).is_some_and(|problem| problem.is_silence) {
            state.problems.remove(watch);
        }
    }

    /// Returns by kind how long its watch has delivered nothing, in the namespace where it is longest.
    pub fn idle_times(&self) -> [(Kind, Duration); 3] {
        let (now, state) = (Instant::now(), self.lock());
        Kind::ALL.map(|kind| {
            let of_kind = state.watches.iter().filter(|((watched, _), _)| *watched == kind);
            (kind, of_kind.map(|(_, received)| now - *received).max().unwrap_or_default())
        })
    }

    /// Notes that the controller shuts down.
    pub fn end(&self) {
        self.lock().ending = true;
    }

    /// Notes that the controller stopped all writes, and why.
    pub fn halt(&self, why: &str) {
        self.lock().halted = Some(why.to_owned());
    }

    /// Returns whether the controller stopped all writes.
    pub fn is_halted(&self) -> bool {
        self.lock().halted.is_some()
    }

    /// Returns the report. `scope`: the namespaces to serve, unless it is the whole cluster. `unlisted`: the watches without a
    /// complete list. `campaign`: why the campaign fails.
    ///
    /// A namespace without permissions is no obstacle while another one is served: no other replica would serve it either, so
    /// taking this one out of service would not help.
    pub fn report(&self, scope: &BTreeSet<&str>, unlisted: &[Watch], campaign: Option<String>) -> Report {
        let unserved = self.unserved(unlisted);
        let serves_another = scope.iter().any(|namespace| !unserved.contains(*namespace));
        let now = Instant::now();
        let state = self.lock();
        let mut report = Report::default();
        let obstacles = &mut report.obstacles;
        if state.ending {
            obstacles.push("shutting down".to_owned());
        }
        obstacles.extend(state.halted.clone());
        let idle = now - state.received;
        if idle > self.timeout {
            let since = if state.has_received { "for" } else { "since the start," };
            obstacles.push(format!("API server unavailable {since} {} s", idle.as_secs()));
        }
        let denied = |watch: &Watch| serves_another && state.problems.get(watch).is_some_and(|problem| problem.denied);
        for watch in unlisted.iter().filter(|watch| !denied(watch)) {
            obstacles.push(format!("waiting for the first list of {}", describe(watch)));
        }
        for (watch, WatchProblem { since, message, .. }) in &state.problems {
            let seconds = (now - *since).as_secs();
            match &watch.1 {
                Some(namespace) if denied(watch) => {
                    report.notes.push(format!("namespace {namespace} not served for {seconds} s: {message}"));
                }
                _ => obstacles.push(format!("for {seconds} s: {message}")),
            }
        }
        obstacles.extend(campaign.map(|why| format!("cannot campaign to be the active replica: {why}")));
        report
    }

    /// Returns the obstacles of a controller that serves the whole cluster.
    #[cfg(test)]
    pub fn obstacles(&self, unlisted: &[Watch], campaign: Option<String>) -> Vec<String> {
        self.report(&BTreeSet::new(), unlisted, campaign).obstacles
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

impl State {
    fn note(&mut self, watch: Watch, message: &str) -> &mut WatchProblem {
        let since = Instant::now();
        let new = || WatchProblem { since, message: String::new(), denied: false, is_silence: false };
        let problem = self.problems.entry(watch).or_insert_with(new);
        problem.message = message.to_owned();
        problem
    }

    fn touch(&mut self, watch: &Watch) {
        if let Some(received) = self.watches.get_mut(watch) {
            *received = Instant::now();
        }
    }
}

/// Returns the objects of a watch, as messages name them.
pub fn describe((kind, namespace): &Watch) -> String {
    match namespace {
        None => kind.plural().to_owned(),
        Some(namespace) => format!("{} in namespace {namespace}", kind.plural()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Watch {
        (Kind::Pods, Some("a".into()))
    }

    fn health() -> Health {
        let health = Health::new(None);
        health.received();
        health
    }

    #[tokio::test(start_paused = true)]
    async fn report_names_each_obstacle() {
        let health = health();
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        let unlisted = [pods(), (Kind::Elections, None)];
        assert_eq!(
            health.obstacles(&unlisted, None),
            ["waiting for the first list of pods in namespace a", "waiting for the first list of elections"]
        );
        let campaign = health.obstacles(&[], Some("no permission".into()));
        assert_eq!(campaign, ["cannot campaign to be the active replica: no permission"]);
        health.end();
        assert_eq!(health.obstacles(&[], None), ["shutting down"]);
    }

    #[tokio::test(start_paused = true)]
    async fn watch_failure_lasts_until_its_next_request_is_accepted() {
        let health = health();
        health.watch_failed(pods(), "one thing", false);
        tokio::time::advance(Duration::from_secs(7)).await;
        health.watch_failed(pods(), "another", true);
        health.received();
        health.accepted(&(Kind::Pods, Some("b".into())));
        assert_eq!(health.obstacles(&[], None), ["for 7 s: another"]);
        health.accepted(&pods());
        assert_eq!(health.obstacles(&[], None), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn unavailable_api_server_is_reported_after_the_timeout_until_it_responds() {
        let health = Health::new(None);
        tokio::time::advance(WITHOUT_CAMPAIGN).await;
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.obstacles(&[], None), ["API server unavailable since the start, 301 s"]);
        health.received();
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        let mut outages = health.outages();
        tokio::time::advance(WITHOUT_CAMPAIGN).await;
        health.received();
        assert!(!outages.has_changed().unwrap(), "not an outage");
        tokio::time::advance(WITHOUT_CAMPAIGN + Duration::from_secs(2)).await;
        assert_eq!(health.obstacles(&[], None), ["API server unavailable for 302 s"]);
        assert!(!outages.has_changed().unwrap(), "the outage lasts");
        health.received();
        assert!(outages.has_changed().unwrap());
        outages.mark_unchanged();
        health.received();
        assert!(!outages.has_changed().unwrap(), "the outage was over before");
    }

    #[tokio::test(start_paused = true)]
    async fn namespace_without_permissions_is_no_obstacle_while_another_is_served() {
        let watch = |namespace: &str| (Kind::Pods, Some(namespace.to_owned()));
        let health = health();
        let scope = BTreeSet::from(["a", "b"]);
        let report = |unlisted: &[Watch]| health.report(&scope, unlisted, None);
        let unlisted = [watch("b")];
        assert_eq!(report(&unlisted).obstacles, ["waiting for the first list of pods in namespace b"]);
        health.watch_failed(watch("b"), "cannot reach the API server", false);
        assert_eq!(report(&unlisted).obstacles.len(), 2, "the network of this replica may have failed");
        health.watch_failed(watch("b"), "missing permission", true);
        tokio::time::advance(Duration::from_secs(7)).await;
        let note = "namespace b not served for 7 s: missing permission";
        assert_eq!(report(&unlisted), Report { obstacles: vec![], notes: vec![note.into()] });
        assert_eq!(report(&[]), Report { obstacles: vec![], notes: vec![note.into()] }, "b was served before");
        assert_eq!(health.unserved(&[]), BTreeSet::from(["b".to_owned()]));
        let none = [watch("a"), watch("b")];
        let said = "waiting for the first list of pods in namespace b";
        assert!(report(&none).obstacles.contains(&said.to_owned()), "an obstacle while no other namespace is served");
        health.watch_failed(watch("a"), "missing permission", true);
        assert_eq!(report(&[]).obstacles.len(), 2);
        health.accepted(&watch("a"));
        health.accepted(&watch("b"));
        assert_eq!(report(&[]), Report::default());
        assert_eq!(health.report(&BTreeSet::new(), &[(Kind::Pods, None)], None).obstacles.len(), 1, "the whole cluster");
    }
}
