//! Whether a controller knows what it decides on: what was heard from the API server, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch as channel;
use tokio::time::{Instant, timeout};
use tower::service_fn;
use tracing::info;

use super::{Monitor, requests};
use crate::controller::observe::stream::Kind;
use crate::controller::replicas::Candidacy;
use crate::sync;

/// How much longer than the own Lease lasts nothing may be heard.
const LENIENCE: Duration = Duration::from_secs(2);

/// After how long without a word a connection counts as dead where nobody campaigns: watches are asked for anew after 290 s,
/// and nothing else need ever be said.
const WITHOUT_CAMPAIGN: Duration = Duration::from_secs(300);

/// How long the answer to a list or a watch may take to begin, and a list to go on.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// One watch: its kind, and its namespace if it does not watch the cluster.
pub type Watch = (Kind, Option<String>);

/// What was heard, and what was not.
#[derive(Debug)]
pub struct Health {
    silence: Duration,
    state: Mutex<State>,
    /// Counts the outages that are over.
    outages: channel::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// When anything came from the API server. At first: when the controller started.
    heard: Instant,
    anything: bool,
    /// When something came on each watch. At first: when it was made.
    watches: BTreeMap<Watch, Instant>,
    troubles: BTreeMap<Watch, Trouble>,
    ending: bool,
    halted: Option<String>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    what: String,
    /// It is a right that is missing.
    denied: bool,
    /// Whether its watch is silent: whatever comes ends it.
    is_silence: bool,
}

/// What there is to say about a controller, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What speaks against it. Nothing: it is ready.
    pub obstacles: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Health {
    /// Nothing was heard yet.
    ///
    /// An active replica renews the own Lease, and the others look whether it does, every `retry_period`, far more often than
    /// the Lease lasts: after that much silence nobody leads any more. So a lost API server is noticed within the Lease's
    /// duration, without a request that is made for it.
    pub fn new(candidacy: Option<&Candidacy>) -> Self {
        let silence = candidacy.map_or(WITHOUT_CAMPAIGN, |candidacy| candidacy.timing.lease_duration + LENIENCE);
        let (watches, troubles) = (BTreeMap::new(), BTreeMap::new());
        let state = State { heard: Instant::now(), anything: false, watches, troubles, ending: false, halted: None };
        Self { silence, state: Mutex::new(state), outages: channel::Sender::new(0) }
    }

    /// Something came from the API server: an answer, or a piece of one. Bad news is news, too.
    pub fn heard(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let silent = now - state.heard;
        state.heard = now;
        state.anything = true;
        drop(state);
        if silent > self.silence {
            self.outages.send_modify(|outages| *outages += 1);
        }
    }

    /// Tells when an outage is over during which nothing at all came. What was open before may be dead without knowing it: where
    /// packets vanish, nobody says so to those who only listen.
    pub fn outages(&self) -> channel::Receiver<u64> {
        self.outages.subscribe()
    }

    /// A watch does not work. What is wrong, in a sentence. `denied`: the right to it is missing.
    pub fn trouble(&self, watch: Watch, what: &str, denied: bool) {
        let mut state = self.lock();
        let trouble = state.note(watch, what);
        (trouble.denied, trouble.is_silence) = (denied, false);
    }

    /// The namespaces that are not served, or not any more: of a watch in them, `unlisted` or in trouble.
    pub fn unserved(&self, unlisted: &[Watch]) -> BTreeSet<String> {
        let state = self.lock();
        unlisted.iter().chain(state.troubles.keys()).filter_map(|(_, namespace)| namespace.clone()).collect()
    }

    /// A watch delivers nothing. What that means, in a sentence.
    pub fn silent(&self, watch: &Watch, what: &str) {
        self.lock().note(watch.clone(), what).is_silence = true;
    }

    /// A watch will be asked for.
    pub fn watches(&self, watch: Watch) {
        self.lock().watches.insert(watch, Instant::now());
    }

    /// The API server accepted a list or a watch. Returns whether that ended a silence.
    pub fn accepted(&self, watch: &Watch) -> bool {
        let mut state = self.lock();
        state.touch(watch);
        state.troubles.remove(watch).is_some_and(|trouble| trouble.is_silence)
    }

    /// Something came on a watch.
    pub fn delivered(&self, watch: &Watch) {
        let mut state = self.lock();
        state.touch(watch);
        if state.troubles.get(watch).is_some_and(|trouble| trouble.is_silence) {
            state.troubles.remove(watch);
        }
    }

    /// How long nothing has come on the watch of each kind, in the namespace where it is longest.
    pub fn silences(&self) -> [(Kind, Duration); 3] {
        let (now, state) = (Instant::now(), self.lock());
        Kind::ALL.map(|kind| {
            let of_kind = state.watches.iter().filter(|((watched, _), _)| *watched == kind);
            (kind, of_kind.map(|(_, heard)| now - *heard).max().unwrap_or_default())
        })
    }

    /// The controller was told to stop, or cannot go on.
    pub fn end(&self) {
        self.lock().ending = true;
    }

    /// The controller writes nothing any more, for this reason.
    pub fn halt(&self, why: &str) {
        self.lock().halted = Some(why.to_owned());
    }

    /// Whether that is so.
    pub fn is_halted(&self) -> bool {
        self.lock().halted.is_some()
    }

    /// What there is to say. `scope`: the namespaces that are to be served, if it is not the whole cluster. `unlisted`: the watches
    /// that have delivered no list yet. `campaign`: why the campaign does not get on.
    ///
    /// A namespace in which rights are missing is no obstacle while another one is served: no other replica would serve it either,
    /// so that taking this one out, or waiting for it, would help nobody.
    pub fn report(&self, scope: &BTreeSet<&str>, unlisted: &[Watch], campaign: Option<String>) -> Report {
        let unserved = self.unserved(unlisted);
        let serves_another = scope.iter().any(|namespace| !unserved.contains(*namespace));
        let now = Instant::now();
        let state = self.lock();
        let mut report = Report::default();
        let obstacles = &mut report.obstacles;
        if state.ending {
            obstacles.push("it is about to end".to_owned());
        }
        obstacles.extend(state.halted.clone());
        let silent = now - state.heard;
        if silent > self.silence {
            let since = if state.anything { "for" } else { "since the start," };
            obstacles.push(format!("nothing was heard from the API server {since} {} s", silent.as_secs()));
        }
        let denied = |watch: &Watch| serves_another && state.troubles.get(watch).is_some_and(|trouble| trouble.denied);
        for watch in unlisted.iter().filter(|watch| !denied(watch)) {
            obstacles.push(format!("no list of {} yet", describe(watch)));
        }
        for (watch, Trouble { since, what, .. }) in &state.troubles {
            let seconds = (now - *since).as_secs();
            match &watch.1 {
                Some(namespace) if denied(watch) => {
                    report.notes.push(format!("namespace {namespace} is not served for {seconds} s: {what}"));
                }
                _ => obstacles.push(format!("for {seconds} s: {what}")),
            }
        }
        obstacles.extend(campaign.map(|why| format!("cannot campaign to be the active replica: {why}")));
        report
    }

    /// What speaks against a controller that serves the whole cluster.
    #[cfg(test)]
    pub fn obstacles(&self, unlisted: &[Watch], campaign: Option<String>) -> Vec<String> {
        self.report(&BTreeSet::new(), unlisted, campaign).obstacles
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }
}

impl State {
    fn note(&mut self, watch: Watch, what: &str) -> &mut Trouble {
        let since = Instant::now();
        let new = || Trouble { since, what: String::new(), denied: false, is_silence: false };
        let trouble = self.troubles.entry(watch).or_insert_with(new);
        trouble.what = what.to_owned();
        trouble
    }

    fn touch(&mut self, watch: &Watch) {
        if let Some(heard) = self.watches.get_mut(watch) {
            *heard = Instant::now();
        }
    }
}

impl Monitor {
    /// The client of one watch. That its requests are accepted is noted: a watch on which nothing happens says nothing else. One that
    /// is not answered at all, or that falls silent, perhaps because its connection is dead, is given up.
    pub fn watching(self: &Arc<Self>, client: &Client, watch: Watch) -> Client {
        if !self.listens {
            return client.clone();
        }
        self.health.watches(watch.clone());
        let (inner, monitor) = (client.clone(), self.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (inner, monitor, watch) = (inner.clone(), monitor.clone(), watch.clone());
            async move {
                let is_watch = requests::describe(&request).0 == "watch";
                let silent = |_| kube::Error::Service(format!("no answer within {} s", ANSWER.as_secs()).into());
                let response = timeout(ANSWER, inner.send(request)).await.map_err(silent)??;
                if response.status().is_success() && monitor.health.accepted(&watch) {
                    info!("watching {} again", describe(&watch));
                }
                Ok::<_, kube::Error>(response.map(|body| match is_watch {
                    true => monitor.bounded_watch(watch, body),
                    false => Self::bounded_list(body),
                }))
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// The client of everything: whatever comes from the API server is noted, and each request counted.
    pub fn listening(self: &Arc<Self>, client: &Client) -> Client {
        if !self.listens {
            return client.clone();
        }
        let (inner, monitor) = (client.clone(), self.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (inner, monitor) = (inner.clone(), monitor.clone());
            async move {
                let pending = monitor.metrics.request(&request);
                let response: Response<Body> = inner.send(request).await?;
                pending.answered(response.status());
                monitor.health.heard();
                // Of a watch, each event, and the bookmarks.
                Ok::<_, kube::Error>(response.map(|body| {
                    body.map_frame(move |frame| {
                        monitor.health.heard();
                        frame
                    })
                }))
            }
        });
        Client::new(service, client.default_namespace())
    }
}

/// The objects of a watch, in words.
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
        health.heard();
        health
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_said_in_words() {
        let health = health();
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        let unlisted = [pods(), (Kind::Elections, None)];
        assert_eq!(health.obstacles(&unlisted, None), ["no list of pods in namespace a yet", "no list of elections yet"]);
        let campaign = health.obstacles(&[], Some("no right".into()));
        assert_eq!(campaign, ["cannot campaign to be the active replica: no right"]);
        health.end();
        assert_eq!(health.obstacles(&[], None), ["it is about to end"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_lasts_from_its_beginning_until_the_next_request_is_accepted_whatever_others_hear() {
        let health = health();
        health.trouble(pods(), "one thing", false);
        tokio::time::advance(Duration::from_secs(7)).await;
        health.trouble(pods(), "another", true);
        health.heard();
        health.accepted(&(Kind::Pods, Some("b".into())));
        assert_eq!(health.obstacles(&[], None), ["for 7 s: another"]);
        health.accepted(&pods());
        assert_eq!(health.obstacles(&[], None), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_at_its_bound_and_over_with_the_first_word() {
        let health = Health::new(None);
        tokio::time::advance(WITHOUT_CAMPAIGN).await;
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let said = health.obstacles(&[], None);
        assert_eq!(said, ["nothing was heard from the API server since the start, 301 s"]);
        health.heard();
        assert_eq!(health.obstacles(&[], None), [""; 0]);
        let mut outages = health.outages();
        tokio::time::advance(WITHOUT_CAMPAIGN).await;
        health.heard();
        assert!(!outages.has_changed().unwrap(), "that was none");
        tokio::time::advance(WITHOUT_CAMPAIGN + Duration::from_secs(2)).await;
        assert_eq!(health.obstacles(&[], None), ["nothing was heard from the API server for 302 s"]);
        assert!(!outages.has_changed().unwrap(), "it is not over");
        health.heard();
        assert!(outages.has_changed().unwrap());
        outages.mark_unchanged();
        health.heard();
        assert!(!outages.has_changed().unwrap(), "it was over before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_without_rights_is_no_obstacle_while_another_one_is_served() {
        let watch = |namespace: &str| (Kind::Pods, Some(namespace.to_owned()));
        let health = health();
        let scope = BTreeSet::from(["a", "b"]);
        let report = |unlisted: &[Watch]| health.report(&scope, unlisted, None);
        let unlisted = [watch("b")];
        assert_eq!(report(&unlisted).obstacles, ["no list of pods in namespace b yet"], "it may come at any time");
        health.trouble(watch("b"), "cannot reach the API server", false);
        assert_eq!(report(&unlisted).obstacles.len(), 2, "that may be this replica's own trouble");
        health.trouble(watch("b"), "missing rights", true);
        tokio::time::advance(Duration::from_secs(7)).await;
        let note = "namespace b is not served for 7 s: missing rights";
        assert_eq!(report(&unlisted), Report { obstacles: vec![], notes: vec![note.into()] });
        assert_eq!(report(&[]), Report { obstacles: vec![], notes: vec![note.into()] }, "one that was served before");
        assert_eq!(health.unserved(&[]), BTreeSet::from(["b".to_owned()]));
        let none = [watch("a"), watch("b")];
        let said = "no list of pods in namespace b yet";
        assert!(report(&none).obstacles.contains(&said.to_owned()), "while no other one is served, it is one");
        health.trouble(watch("a"), "missing rights", true);
        assert_eq!(report(&[]).obstacles.len(), 2);
        health.accepted(&watch("a"));
        health.accepted(&watch("b"));
        assert_eq!(report(&[]), Report::default());
        assert_eq!(health.report(&BTreeSet::new(), &[(Kind::Pods, None)], None).obstacles.len(), 1, "the whole cluster");
    }
}
