//! To follow: one watch on the Lease by which others elect, usually that of an Election.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use podium_campaign::{Clock, LeadershipState, Moment};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::follower::{Follower, Sight};
use crate::connect::WATCH_TIMEOUT;
use crate::log_once::LogOnce;
use crate::retry_after;

/// The pauses between two attempts that failed: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Seconds after which the API server is asked to end a watch. In between it sends bookmarks: all sidecars of a cluster need not
/// ask again each minute. Where it sends none, the end says that the connection lives.
const WATCH_SECONDS: u32 = 290;
const WITHOUT_BOOKMARKS: u32 = 60;

/// So long after an event, and then from time to time, it is looked whether another one waits. When none does, everything that
/// was sent before has been heard: the next event is younger.
const SETTLES: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(5);

/// Between two looks where the right to list and watch is missing.
const POLL: Duration = Duration::from_secs(2);

/// So many looks later it is tried again to list and watch.
const LOOKS: usize = 8;

/// 0 where it is no integer: then no event is taken for an old one.
fn revision_of(object: &DeserializeGuard<Object>) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Follows a Lease, and tells who leads.
pub struct Follow {
    api: Api<DeserializeGuard<Object>>,
    describe: String,
    namespace: String,
    only: String,
    name: String,
    follower: Follower,
    clock: Clock,
    standing: watch::Sender<LeadershipState>,
    trouble: LogOnce,
    /// Of the Lease as it was read last.
    revision: u64,
    /// Whether the API server is believed to send bookmarks.
    has_bookmarks: bool,
}

/// Why a watch ended.
enum Ended {
    /// The server ended it, or it said nothing for too long: look again.
    Over,
    /// It is not allowed.
    Denied(String),
    /// It failed.
    Failed(String),
    /// The same, and the server has said when it wants to be asked again.
    Busy(String, Duration),
}

impl Follow {
    /// Of the Lease of this name.
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        follower: Follower,
        clock: Clock,
        standing: watch::Sender<LeadershipState>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            describe: format!("Lease {namespace}/{name}"),
            namespace: namespace.into(),
            only: format!("metadata.name={name}"),
            name: name.into(),
            follower,
            clock,
            standing,
            trouble: LogOnce::default(),
            revision: 0,
            has_bookmarks: true,
        }
    }

    /// Follows for ever.
    pub async fn run(mut self) -> std::convert::Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.watch(&mut pause).await {
                Ended::Over => {}
                Ended::Denied(message) => {
                    self.poll(&message).await;
                    continue;
                }
                Ended::Failed(message) => self.note(Some(message)),
                Ended::Busy(message, after) => {
                    self.note(Some(message));
                    sleep(after.saturating_sub(pause)).await;
                }
            }
            // Also after a watch that ended properly: some end as soon as they begin.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Without the right to list and watch: reads the Lease from time to time. `denied`: what the server said.
    async fn poll(&mut self, denied: &str) {
        for _ in 0..LOOKS {
            let (describe, namespace, every) = (&self.describe, &self.namespace, POLL.as_secs());
            let grant = format!("grant get, list and watch on leases in namespace {namespace}; it is tried every {every} s");
            let list = format!("missing right to list and watch the {describe} ({denied}): {grant}");
            // The same words each time: they are said once.
            let mut rest = POLL;
            let trouble = match self.look().await {
                Ok(()) | Err(Ended::Over) => list,
                Err(Ended::Denied(_)) => list.replace("to list and watch", "to get, list and watch"),
                Err(Ended::Failed(message)) => message,
                Err(Ended::Busy(message, after)) => {
                    rest = after.max(POLL);
                    message
                }
            };
            self.note(Some(trouble));
            sleep(rest).await;
        }
    }

    /// Lists, and then watches until that ends.
    async fn watch(&mut self, pause: &mut Duration) -> Ended {
        let asked = self.clock.moment();
        let list = match self.within(self.api.list(&ListParams::default().fields(&self.only))).await {
            Ok(list) => list,
            Err(ended) => return ended,
        };
        let revision = list.metadata.resource_version.unwrap_or_default();
        let found = list.items.into_iter().next();
        self.revision = found.as_ref().map_or(0, revision_of);
        self.see(found, asked);
        let seconds = if self.has_bookmarks { WATCH_SECONDS } else { WITHOUT_BOOKMARKS };
        let only = WatchParams::default().fields(&self.only).timeout(seconds);
        let mut events = match self.within(self.api.watch(&only, &revision)).await {
            Ok(events) => events.boxed(),
            Err(ended) => return ended,
        };
        self.note(None);
        // What is heard was sent after this.
        let mut after = asked;
        let mut silent = self.clock.moment() + WATCH_TIMEOUT;
        let mut settles = SETTLES;
        loop {
            let waits = self.clock.moment();
            let due = self.follower.look_at().map_or(silent, |look| look.min(silent));
            match timeout(settles.min(due - waits), events.next()).await {
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => self.hear(object, false, after),
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => self.hear(object, true, after),
                Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {
                    self.has_bookmarks = true;
                    self.confirm(after);
                }
                Ok(Some(Ok(WatchEvent::Error(_)) | Err(_)) | None) => return Ended::Over,
                Err(_) => {
                    (after, settles) = (waits, QUIET);
                    let now = self.clock.moment();
                    // Whoever asked for young information gets it by a look; whoever did not, by another watch.
                    if self.follower.look_at().is_some_and(|look| look <= now) {
                        if let Err(ended) = self.look().await {
                            return ended;
                        }
                    } else if silent <= now {
                        self.has_bookmarks = false;
                        return Ended::Failed(self.silent());
                    }
                    continue;
                }
            }
            (silent, settles) = (self.clock.moment() + WATCH_TIMEOUT, SETTLES);
            *pause = FIRST_PAUSE;
        }
    }

    fn silent(&self) -> String {
        let (describe, seconds) = (&self.describe, WATCH_TIMEOUT.as_secs());
        format!(
            "the watch of the {describe} is silent: no event, bookmark or end for {seconds} s, its connection may be dead; \
             watching on another connection"
        )
    }

    /// Reads the Lease once. Not [`Ended::Over`].
    async fn look(&mut self) -> Result<(), Ended> {
        let asked = self.clock.moment();
        let object = match self.within(self.api.get(&self.name)).await {
            Ok(object) => Some(object),
            Err(Ended::Over) => None,
            Err(ended) => return Err(ended),
        };
        if let Some(object) = &object {
            self.revision = revision_of(object);
        }
        self.see(object, asked);
        Ok(())
    }

    /// [`Ended::Over`]: there is no such object.
    async fn within<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Ended> {
        match timeout(PATIENCE, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Ended::Denied(status.message)),
            Ok(Err(kube::Error::Api(status))) if status.code == 410 => Err(Ended::Over),
            Ok(Err(kube::Error::Api(status)))
                if status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "leases") =>
            {
                Err(Ended::Over)
            }
            Ok(Err(error)) => {
                let message = format!("cannot read the {}: {error}", self.describe);
                Err(match retry_after::of(&error) {
                    Some(after) => Ended::Busy(message, after),
                    None => Ended::Failed(message),
                })
            }
            Err(_) => {
                Err(Ended::Failed(format!("cannot read the {}: the API server did not answer in time", self.describe)))
            }
        }
    }

    /// Takes in the Lease as it was at some time after `asked`; `None`: there is none.
    fn see(&mut self, object: Option<DeserializeGuard<Object>>, asked: Moment) {
        self.follower.reads(object.map(Sight::of), asked, self.clock.moment());
        self.publish();
    }

    /// Takes in an event of a watch that was sent after this moment, unless a read was faster.
    fn hear(&mut self, object: DeserializeGuard<Object>, is_deleted: bool, after: Moment) {
        let revision = revision_of(&object);
        if revision < self.revision {
            return;
        }
        self.revision = revision;
        let sight = Some(object).filter(|_| !is_deleted).map(Sight::of);
        self.follower.hears(sight, after, self.clock.moment());
        self.publish();
    }

    fn confirm(&mut self, after: Moment) {
        self.follower.is_confirmed(after);
        self.publish();
    }

    /// Says each trouble once, and when it is over.
    fn note(&mut self, trouble: Option<String>) {
        match trouble {
            Some(message) if self.trouble.is_new(&message) => warn!("{message}"),
            None if self.trouble.clear() => info!("following the {} again", self.describe),
            _ => {}
        }
        self.publish();
    }

    fn publish(&self) {
        self.standing.send_if_modified(|known| {
            // Until the Lease was seen, what was known before stands: that of a campaign, if an Election took its Lease over.
            let seen = self.follower.has_seen().then(|| self.follower.standing());
            let waits_for = self.follower.sees_nothing().then(|| {
                let describe = &self.describe;
                format!(
                    "the {describe} does not exist: create the Election, or correct --election, which names its Lease, and \
                     --election-namespace"
                )
            });
            let trouble = self.trouble.message().map(str::to_owned);
            let standing = LeadershipState { trouble, waits_for, ..seen.unwrap_or_else(|| known.clone()) };
            let news = *known != standing;
            *known = standing;
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::super::follower::Me;
    use super::*;
    use crate::scripted::{Script, event, server};

    #[tokio::test]
    async fn a_lead_that_an_election_took_over_stands_until_its_lease_was_seen() {
        let silent =
            tower::service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, String>>());
        let lead = LeadershipState {
            holder: Some(("web-0".into(), Moment::NEVER)),
            leads_until: Some(Moment::NEVER),
            ..LeadershipState::default()
        };
        let (standing, told) = watch::channel(lead.clone());
        let follower = Follower::new(Me { name: "web-0".into(), uid: None }, None);
        let client = Client::new(silent, "default");
        let mut follow = Follow::new(client, ("default", "web"), follower, Clock::machine(), standing);
        follow.note(Some("not yet".into()));
        assert_eq!(*told.borrow(), LeadershipState { trouble: Some("not yet".into()), ..lead });
        follow.see(None, Moment::START);
        assert_eq!(told.borrow().holder, None);
    }

    fn lease(revision: &str, holder: &str) -> Value {
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "web", "namespace": "default", "uid": "u", "resourceVersion": revision },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 } })
    }

    fn list(holder: &str) -> Script {
        let metadata = json!({ "resourceVersion": "7" });
        Script::whole(&json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": metadata,
            "items": [lease("7", holder)] }))
    }

    /// Follows until this one is named. Says how long it took, and what trouble was reported meanwhile.
    async fn until_named(client: Client, max_age: Option<Duration>, name: &str) -> (Duration, Vec<String>) {
        let began = Instant::now();
        let (standing, mut told) = watch::channel(LeadershipState::default());
        let follower = Follower::new(Me { name: "web-9".into(), uid: None }, max_age);
        let clock = Clock::new(move || Moment::after(Duration::from_secs(1) + began.elapsed()), Timestamp::now);
        let follow = Follow::new(client, ("default", "web"), follower, clock, standing);
        let mut troubles = Vec::new();
        let named = async {
            loop {
                let standing = told.borrow_and_update().clone();
                troubles.extend(standing.trouble);
                if standing.holder.is_some_and(|(holder, _)| holder == name) {
                    return;
                }
                told.changed().await.expect("it follows");
            }
        };
        tokio::select! {
            () = named => {}
            never = follow.run() => match never {},
        }
        (began.elapsed(), troubles)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_is_replaced_within_75_s_and_reported() {
        let (client, _) =
            server([list("web-0"), Script::silent([(1, event("ADDED", &lease("8", "web-0")))]), list("web-1")]);
        let (took, troubles) = until_named(client, None, "web-1").await;
        assert!(took < Duration::from_secs(75), "{took:?}");
        assert!(
            matches!(&troubles[..], [what, ..] if what.contains("the watch of the Lease default/web is silent")),
            "{troubles:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silent_watch_is_replaced_also_where_reads_go_on_beside_it() {
        // Reads, one in 10 s, say nothing new.
        let reads = std::iter::repeat_n(Script::whole(&lease("7", "web-0")), 7);
        let scripts = [list("web-0"), Script::silent([])].into_iter().chain(reads).chain([list("web-1")]);
        let (client, asked) = server(scripts);
        let (took, _) = until_named(client, Some(Duration::from_secs(30)), "web-1").await;
        assert!(took < Duration::from_secs(75), "{took:?}");
        let is_list = |path: &str| path.contains("fieldSelector") && !path.contains("watch=true");
        assert_eq!(asked.lock().unwrap().iter().filter(|(_, path)| is_list(path)).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn watch_without_bookmarks_is_asked_to_end_from_then_on() {
        let metadata = json!({ "resourceVersion": "9" });
        let bookmark =
            event("BOOKMARK", &json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata }));
        let (client, asked) = server([
            list("web-0"),
            Script::silent([]),
            list("web-0"),
            Script::quiet(60),
            list("web-0"),
            Script { chunks: vec![(50, bookmark), (10, String::new())], ends: true },
            list("web-0"),
            Script::silent([(0, event("MODIFIED", &lease("9", "web-1")))]),
        ]);
        until_named(client, None, "web-1").await;
        let asked = asked.lock().unwrap();
        let seconds = asked.iter().filter_map(|(_, path)| path.split("timeoutSeconds=").nth(1)?.split('&').next());
        assert_eq!(seconds.collect::<Vec<_>>(), ["290", "60", "60", "290"]);
    }
}
