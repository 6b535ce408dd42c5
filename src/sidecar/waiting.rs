//! What a sidecar waits for, said in the log: once when it begins to wait, and then ever more rarely.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Error};
use podium_campaign::Leadership;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::follower::Me;
use super::view::View;

/// The pauses between two lines of the log that say the same: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long one look for the pod may take, and when it is looked for again: the pod of a container that the kubelet started
/// without the API server is created there afterwards.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The longest name that a pod's host can have, less the characters that are cut off at its end because no name ends with them.
const HOST_NAME: std::ops::RangeInclusive<usize> = 60..=63;

/// Says what is waited for.
pub async fn remind(mut view: View) {
    loop {
        let Some((what, _)) = view.answer().waiting else {
            view.changed().await;
            continue;
        };
        // What hinders it is logged where it is noticed.
        if view.waits_only() {
            info!("waiting: {what}");
        }
        let mut pause = FIRST_PAUSE;
        let mut next = Instant::now() + pause;
        while let Some((what, waited)) = view.answer().waiting {
            if Instant::now() >= next {
                if !view.is_final(&what) {
                    warn!("waiting for {} s: {what}", waited.as_secs());
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                next = Instant::now() + pause;
            }
            tokio::select! {
                () = view.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }
}

/// Looks whether a pod has the name by which this process would know itself as the leader, and says once if none has. Where the pod's
/// UID is known, the name does not matter. Without the right to read pods, only a leader whose name looks like another form of the own
/// one shows it.
pub async fn look_for_pod(client: Client, namespace: &str, me: &Me, leadership: Leadership, view: &View) -> Infallible {
    if me.uid.is_none()
        && let Some(why) = find_out(client, namespace, &me.name, leadership).await
    {
        let sentence = format!("{why}: this sidecar cannot lead; set POD_NAME and POD_UID by the downward API");
        warn!("{sentence}");
        view.never_leads(sentence);
    }
    std::future::pending().await
}

async fn find_out(client: Client, namespace: &str, name: &str, mut leadership: Leadership) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut is_absent = is_absent(&pods, name).await;
    if is_absent == Some(true) {
        sleep(LOOK_AGAIN).await;
        is_absent = self::is_absent(&pods, name).await;
    }
    loop {
        // Only the leaders of Elections are pods.
        let leader = leadership.term().and_then(|_| leadership.holder()).map(|holder| holder.identity);
        match (leader, is_absent) {
            (Some(_), Some(false)) => return None,
            (Some(leader), _) if leader == name => return None,
            (Some(_), Some(true)) => return Some(format!("no pod in the namespace {namespace} is called {name}")),
            (Some(leader), None) if may_be_host_of(name, &leader) => {
                return Some(format!("{name} is the name of a host and of no pod, perhaps that of the leader, {leader}"));
            }
            _ => {}
        }
        if !leadership.changed().await {
            return None;
        }
    }
}

/// Whether the server says that there is no such pod. `None`: it does not say.
async fn is_absent(pods: &Api<Pod>, name: &str) -> Option<bool> {
    match timeout(PATIENCE, pods.get_metadata(name)).await {
        Ok(Ok(_)) => Some(false),
        Ok(Err(Error::Api(status))) if status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "pods") => {
            Some(true)
        }
        Ok(Err(error)) => {
            debug!("cannot look for the pod {name}: {error}");
            None
        }
        Err(_) => None,
    }
}

/// Whether a pod of this name could have a host of that name: with its domain behind it, or cut off.
fn may_be_host_of(host: &str, pod: &str) -> bool {
    let has_domain = host.strip_prefix(pod).is_some_and(|rest| rest.starts_with('.'));
    has_domain || pod.starts_with(host) && HOST_NAME.contains(&host.len())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::sync::watch;

    use super::*;
    use podium_campaign::{Clock, LeadershipState, Moment};

    /// Looks for a pod of this name where the server answers with this code, and the leader is this one. Returns what was said, and how
    /// often the server was asked.
    async fn said(name: &str, uid: Option<&str>, code: u16, leader: &str) -> (Option<String>, usize) {
        let asked = Arc::<Mutex<usize>>::default();
        let count = asked.clone();
        let server = tower::service_fn(move |_: Request<Body>| {
            *count.lock().unwrap() += 1;
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code,
                "details": { "kind": "pods" }, "metadata": {},
            });
            let body = if code == 200 { serde_json::json!({ "metadata": { "name": "x" } }) } else { status };
            let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { answer.map_err(|error| error.to_string()) }
        });
        let holder = Some((leader.to_owned(), Moment::NEVER));
        let standing =
            LeadershipState { holder, term: Some(7), confirmed: Some(Moment::START), ..LeadershipState::default() };
        let (_standing, told) = watch::channel(standing);
        let leadership = Leadership::new(told, Clock::machine());
        let view = View::new(name, leadership.clone(), None);
        let me = Me { name: name.into(), uid: uid.map(str::to_owned) };
        let looking = look_for_pod(Client::new(server, "default"), "default", &me, leadership, &view);
        let _ = timeout(Duration::from_secs(60), looking).await;
        let times = *asked.lock().unwrap();
        (view.answer().waiting.map(|(what, _)| what), times)
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_no_pod_has_is_told_and_one_that_a_pod_has_is_not() {
        let (told, asked) = said("node-1", None, 404, "web-0").await;
        assert!(told.is_some_and(|told| told.starts_with("no pod in the namespace default is called node-1")));
        assert_eq!(asked, 2);
        for (name, uid, code) in
            [("web-1", None, 200), ("web-0", None, 404), ("web-1", None, 403), ("node-1", Some("u"), 404)]
        {
            assert_eq!(said(name, uid, code, "web-0").await.0, None, "{name} {code}");
        }
        assert_eq!(said("node-1", Some("u"), 404, "web-0").await.1, 0, "the UID decides");
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_right_to_read_pods_a_leader_whose_host_may_be_called_so_shows_it() {
        let long = "a".repeat(70);
        for (host, leader, told) in [
            ("web-0.web.default.svc.cluster.local", "web-0", true),
            (&long[..63], &long, true),
            ("web-0", "web-01", false),
            ("web-01", "web-0", false),
            ("web-1", "web-0", false),
        ] {
            assert_eq!(said(host, None, 403, leader).await.0.is_some(), told, "{host} {leader}");
        }
    }
}
