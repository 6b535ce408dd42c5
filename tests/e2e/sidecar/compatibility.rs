//! The sidecar replaces two leader-electors: their command lines, permissions and responses.

use std::process::Command;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Endpoints;
use kube::ResourceExt;
use serde_json::Value;

use crate::harness::access::{CONTRIB, SUPPORTTOOLS};
use crate::harness::door::Door;
use crate::harness::elector::binaries;
use crate::harness::proxy::Proxy;
use crate::harness::{Scenario, eventually, scenario};

/// The annotation with the old leader-elector's record.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The old sidecar's response, byte for byte except the date.
fn old_answer(name: &str, with_body: bool) -> String {
    let body = format!(r#"{{"name":"{name}"}}"#);
    let length = body.len();
    let body = if with_body { body } else { String::new() };
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: <date>\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Replaces the date in the response, if it is one: `Fri, 20 Nov 2026 18:08:27 GMT`.
fn without_date(answer: &str) -> String {
    let date = answer.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap_or_default();
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_date = shape.get(3..8) == Some(", 00 ") && shape.get(11..) == Some(" 0000 00:00:00 GMT");
    if is_date { answer.replace(date, "<date>") } else { answer.to_owned() }
}

/// Returns the old sidecar's record and holder, or an error if the format differs.
async fn record(world: &Scenario) -> Result<(String, i64), String> {
    let endpoints = world.api::<Endpoints>().get("example").await.map_err(|error| error.to_string())?;
    let text = endpoints.annotations().get(LEADER).cloned().ok_or("no annotation")?;
    let record: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    let time = |name: &str| record[name].as_str().filter(|time| time.len() == 20 && time.ends_with('Z')).unwrap_or("none");
    let expected = format!(
        r#"{{"holderIdentity":{},"leaseDurationSeconds":{},"acquireTime":"{}","renewTime":"{}","leaderTransitions":{}}}"#,
        record["holderIdentity"],
        record["leaseDurationSeconds"],
        time("acquireTime"),
        time("renewTime"),
        record["leaderTransitions"]
    );
    assert_eq!(text, expected, "these fields in this order, times in whole seconds");
    assert_eq!(endpoints.subsets, None);
    assert_eq!(endpoints.annotations().len(), 1);
    let holder = record["holderIdentity"].as_str().unwrap_or_default().to_owned();
    Ok((holder, record["leaseDurationSeconds"].as_i64().unwrap_or_default()))
}

#[tokio::test]
async fn sidecar_serves_before_the_api_server_the_same_bytes_as_the_old_one() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let mut door = Door::closed(&account).await;
        let first = world.contrib("pod-a", &door.through(&account)).start().await;
        let paths = ["/", "/x/y?z=1", "/index.html", "/leaders", "/x/leader", "/readyz"];
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            for path in paths {
                let answer = without_date(&first.raw(method, path).await);
                assert_eq!(answer, old_answer("", method != "HEAD"), "{method} {path}");
            }
        }
        for path in ["/leader", "/leader/", "//leader"] {
            assert_eq!(first.get(path).await, (503, "not leader\n".into()), "{path}");
        }
        assert_eq!(first.status().await["age"], Value::Null, "nothing is known");

        door.open().await;
        first.names("pod-a").await;
        let second = world.contrib("pod-b", &account).start().await;
        second.names("pod-a").await;
        for sidecar in [&first, &second] {
            for method in ["GET", "HEAD", "POST", "PUT"] {
                let answer = without_date(&sidecar.raw(method, "/").await);
                assert_eq!(answer, old_answer("pod-a", method != "HEAD"), "{method} of {}", sidecar.name);
            }
        }
        assert_eq!((first.get("/leader").await.0, second.get("/leader").await.0), (200, 503));
    })
    .await;
}

#[tokio::test]
async fn old_permissions_suffice_to_elect_on_endpoints_and_to_hand_over() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let start = async |name: &str| {
            // Like the image's entrypoint, followed by a Deployment's options.
            let id = format!("--id={name}");
            let call = world.contrib("nobody", &account).without("PODIUM_HTTP");
            call.arguments(&[&id, "--http=127.0.0.1:0", "--ttl=10s"]).start().await
        };
        let mut first = start("pod-a").await;
        first.names("pod-a").await;
        let mut second = start("pod-b").await;
        second.names("pod-a").await;
        assert_eq!(record(world).await, Ok(("pod-a".into(), 10)));
        let shown = Command::new(binaries().join("kubectl"))
            .args(["get", "endpoints", "example", "-o", "yaml", "--namespace", &world.namespace, "--kubeconfig"])
            .arg(world.kubeconfig("kubectl"))
            .output()
            .expect("kubectl runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(&format!(r#"{LEADER}: '{{"holderIdentity":"pod-a","#)), "{shown}");

        assert!(first.terminate().await.success());
        let ended = tokio::time::Instant::now();
        second.names("pod-b").await;
        println!("from the end of the leader to the next one: {:?}", ended.elapsed());
        assert_eq!(record(world).await, Ok(("pod-b".into(), 10)));
        assert!(second.leads().await);
        let printed: Vec<_> = second.out().lines().map(str::to_owned).filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(printed, ["pod-a is the leader", "pod-b is the leader"]);
        assert!(second.terminate().await.success());
        assert_eq!(record(world).await, Ok((String::new(), 1)), "released");
        for sidecar in [&first, &second] {
            assert!(!sidecar.log().contains("WARN"), "no right is missing: {}", sidecar.log());
        }
    })
    .await;
}

#[tokio::test]
async fn supporttools_environment_and_permissions_suffice_to_elect_on_a_lease() {
    scenario(async |world| {
        let account = world.account_with("pods", &SUPPORTTOOLS).await;
        let spec = async || {
            let spec = world.api::<Lease>().get("example").await.expect("there is a Lease").spec.unwrap_or_default();
            (spec.holder_identity.unwrap_or_default(), spec.lease_duration_seconds, spec.lease_transitions)
        };
        let mut first = world.supporttools("pod-a", &account).start().await;
        first.names("pod-a").await;
        let second = world.supporttools("pod-b", &account).start().await;
        second.names("pod-a").await;
        assert_eq!(spec().await, ("pod-a".into(), Some(15), Some(0)));
        assert_eq!(first.out(), "", "it prints nothing to stdout");
        assert!(first.terminate().await.success());
        second.names("pod-b").await;
        assert_eq!(spec().await, ("pod-b".into(), Some(15), Some(1)));
        assert!(!second.log().contains("WARN"), "no right is missing: {}", second.log());
    })
    .await;
}

#[tokio::test]
async fn hostname_identifies_a_pod_without_a_name() {
    scenario(async |world| {
        let account = world.account_with("pods", &CONTRIB).await;
        let mut command = Command::new("unshare");
        let script = "echo pod-by-host > /proc/sys/kernel/hostname && exec \"$0\" \"$@\"";
        command.args(["--map-root-user", "--uts", "sh", "-c", script, env!("CARGO_BIN_EXE_podium"), "--election=example"]);
        let call = world.sidecar_by(command, "pod", &account).without("POD_NAME");
        let path = std::env::var("PATH").expect("a PATH");
        let namespace = format!("--election-namespace={}", world.namespace);
        let sidecar = call.variable("PATH", &path).arguments(&[&namespace]).start().await;
        sidecar.names("pod-by-host").await;
        assert!(sidecar.leads().await);
    })
    .await;
}

#[tokio::test]
async fn startup_error_is_one_sentence_and_usage_errors_have_their_own_exit_code() {
    scenario(async |world| {
        let kubeconfig = &world.cluster.kubeconfig;
        let contrib = || world.contrib("pod-a", kubeconfig).without("PODIUM_HTTP");
        let running = world.contrib("pod-b", kubeconfig).start().await;
        let busy = format!("--http={}", running.address);
        let empty = || world.sidecar("pod-a", kubeconfig);
        for (call, code, words) in [
            (contrib().arguments(&["--v=4"]), 2, vec!["unexpected argument '--v'", "Usage: podium"]),
            (contrib().arguments(&["--ttl=0"]), 2, vec!["--ttl", "such as"]),
            (contrib().arguments(&["--ttl=900ms"]), 2, vec!["--ttl 900ms is too short: must be at least 1s"]),
            (
                empty().arguments(&["--election="]),
                2,
                vec!["--election must not be empty: name the Lease of the Election, or the lock"],
            ),
            (empty().arguments(&["--http=127.0.0.1:0"]), 2, vec!["--election must not be empty"]),
            (empty().variable("LEASE_NAME", "x"), 2, vec!["NAMESPACE is not set"]),
            (contrib().arguments(&[&busy]), 1, vec!["cannot listen on --http", &running.address.to_string(), "in use"]),
            (contrib().arguments(&["--http=nowhere"]), 1, vec!["cannot listen on --http nowhere"]),
            (contrib().variable("KUBECONFIG", "/nowhere/at/all"), 1, vec!["KUBECONFIG", "/nowhere/at/all"]),
            (contrib().without("KUBECONFIG"), 1, vec!["no cluster is configured", "KUBECONFIG"]),
        ] {
            let (status, out, said) = call.end().await;
            assert_eq!((status.code(), out.as_str()), (Some(code), ""), "{said}");
            assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
            let sentences = said.lines().filter(|line| line.starts_with("podium: ") || line.starts_with("error: ")).count();
            assert_eq!(sentences, 1, "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    })
    .await;
}

#[tokio::test]
async fn missing_permission_is_logged_once_and_retried_until_granted() {
    scenario(async |world| {
        let account = world.account_with("pods", &[]).await;
        let proxy = Proxy::to(&account).await;
        let call = world.contrib("pod-a", &proxy.kubeconfig()).arguments(&["--ttl=4s"]);
        let mut sidecar = call.start().await;
        let object = format!("the Endpoints {}/example", world.namespace);
        let remedy = format!("grant get, create and update on endpoints in namespace {}", world.namespace);
        for (granted, verb) in [(&[][..], "get"), (&["get"][..], "create"), (&["get", "create"][..], "update")] {
            world.grant("pods", &[("", "endpoints", granted)]).await;
            let missing = format!("missing permission to {verb} {object}");
            sidecar.says(&["WARN", &missing, &remedy]).await;
            // It retries, and logs the error once.
            proxy.take();
            eventually("it tries on", async || {
                let tries = proxy.asked(|asked| !asked.is_watch()).len();
                if tries >= 4 { Ok(()) } else { Err(format!("{tries} requests")) }
            })
            .await;
            assert_eq!(sidecar.said(&missing), 1, "{}", sidecar.log());
            // With permission to create the lock, it leads while the lock is valid.
            assert!(verb == "update" || sidecar.leader().await.is_empty());
        }
        world.grant("pods", &CONTRIB).await;
        sidecar.names("pod-a").await;
        assert!(sidecar.leads().await && sidecar.runs());
        sidecar.says(&["campaigning for the Endpoints", "again"]).await;
    })
    .await;
}
