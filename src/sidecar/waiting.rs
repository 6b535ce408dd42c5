//! Logs what a sidecar waits for: when the wait begins, then at growing intervals.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Error};
use podium_campaign::Leadership;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::follower::PodIdentity;
use super::view::View;

/// The first and the longest pause between two equal log lines.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The timeout of a read of the pod, and the pause before the second read: the kubelet may start a container before its pod exists at
/// the API server.
const TIMEOUT: Duration = Duration::from_secs(10);
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The length of a pod's host name that the kubelet truncated: 63, less the trailing characters that it trims.
const HOST_NAME: std::ops::RangeInclusive<usize> = 60..=63;

/// Logs what this process waits for.
pub async fn remind(mut view: View) {
    loop {
        let Some((what, _)) = view.leader().waiting else {
            view.changed().await;
            continue;
        };
        // Problems are logged where they are detected.
        if view.is_only_waiting() {
            info!("waiting: {what}");
        }
        let mut pause = FIRST_PAUSE;
        let mut next = Instant::now() + pause;
        while let Some((what, waited)) = view.leader().waiting {
            if Instant::now() >= next {
                if !view.is_permanent(&what) {
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

/// Checks that a pod has the name by which this process would recognize itself as the leader, and warns once if none has. A known UID
/// makes the name irrelevant. Without permission to read pods, only a leader whose name resembles this one shows the mismatch.
pub async fn find_own_pod(
    client: Client,
    namespace: &str,
    me: &PodIdentity,
    leadership: Leadership,
    view: &View,
) -> Infallible {
    if me.uid.is_none()
        && let Some(why) = wait_for_mismatch(client, namespace, &me.name, leadership).await
    {
        let message = format!("{why}: this sidecar cannot lead; set POD_NAME and POD_UID by the downward API");
        warn!("{message}");
        view.never_leads(message);
    }
    std::future::pending().await
}

async fn wait_for_mismatch(client: Client, namespace: &str, name: &str, mut leadership: Leadership) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut is_absent = is_absent(&pods, name).await;
    if is_absent == Some(true) {
        sleep(READ_AGAIN).await;
        is_absent = self::is_absent(&pods, name).await;
    }
    loop {
        // Only the leaders of Elections are pods.
        let leader = leadership.term().and_then(|_| leadership.holder()).map(|holder| holder.identity);
        match (leader, is_absent) {
            (Some(_), Some(false)) => return None,
            (Some(leader), _) if leader == name => return None,
            (Some(_), Some(true)) => return Some(format!("no pod in namespace {namespace} has the name {name}")),
            (Some(leader), None) if may_be_host_of(name, &leader) => {
                return Some(format!("{name} seems to be the host name of the leader {leader}, not the name of a pod"));
            }
            _ => {}
        }
        if !leadership.changed().await {
            return None;
        }
    }
}

/// Returns whether the pod does not exist. `None`: unknown.
async fn is_absent(pods: &Api<Pod>, name: &str) -> Option<bool> {
    match timeout(TIMEOUT, pods.get_metadata(name)).await {
        Ok(Ok(_)) => Some(false),
        Ok(Err(Error::Api(status))) if status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "pods") => {
            Some(true)
        }
        Ok(Err(error)) => {
            debug!("cannot read the pod {name}: {error}");
            None
        }
        Err(_) => None,
    }
}

/// Returns whether a pod of this name could have that host name: with a domain, or truncated.
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

    /// Searches the pod of this name while the server answers with this code. Returns the message, and how
    /// often the server was asked.
    async fn reported_by(name: &str, uid: Option<&str>, code: u16, leader: &str) -> (Option<String>, usize) {
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
        let state = LeadershipState { holder, term: Some(7), confirmed: Some(Moment::START), ..LeadershipState::default() };
        let (_sender, receiver) = watch::channel(state);
        let leadership = Leadership::new(receiver, Clock::machine());
        let view = View::new(name, leadership.clone(), None);
        let me = PodIdentity { name: name.into(), uid: uid.map(str::to_owned) };
        let looking = find_own_pod(Client::new(server, "default"), "default", &me, leadership, &view);
        let _ = timeout(Duration::from_secs(60), looking).await;
        let times = *asked.lock().unwrap();
        (view.leader().waiting.map(|(what, _)| what), times)
    }

    #[tokio::test(start_paused = true)]
    async fn name_that_no_pod_has_is_reported() {
        let (reported, asked) = reported_by("node-1", None, 404, "web-0").await;
        assert!(reported.is_some_and(|reported| reported.starts_with("no pod in namespace default has the name node-1")));
        assert_eq!(asked, 2);
        for (name, uid, code) in
            [("web-1", None, 200), ("web-0", None, 404), ("web-1", None, 403), ("node-1", Some("u"), 404)]
        {
            assert_eq!(reported_by(name, uid, code, "web-0").await.0, None, "{name} {code}");
        }
        assert_eq!(reported_by("node-1", Some("u"), 404, "web-0").await.1, 0, "the UID decides");
    }

    #[tokio::test(start_paused = true)]
    async fn without_permission_to_read_pods_a_similar_leader_name_is_reported() {
        let long = "a".repeat(70);
        for (host, leader, is_reported) in [
            ("web-0.web.default.svc.cluster.local", "web-0", true),
            (&long[..63], &long, true),
            ("web-0", "web-01", false),
            ("web-01", "web-0", false),
            ("web-1", "web-0", false),
        ] {
            assert_eq!(reported_by(host, None, 403, leader).await.0.is_some(), is_reported, "{host} {leader}");
        }
    }
}
