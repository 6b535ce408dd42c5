//! An API server that rejects requests: by an admission policy, a quota, or because it is overloaded.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::harness::proxy::{Asked, Fate, Proxy};
use crate::harness::{Scenario, eventually, scenario};

/// Rejects every change of this Lease in the test's namespace, once the policy is in force.
async fn freeze(world: &Scenario, lease: &str) {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.cluster.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.cluster.client.clone());
    let name = &world.namespace;
    let policy = json!({ "metadata": { "name": name }, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["leases"],
        }]},
        "validations": [{ "expression": format!("object.metadata.name != '{lease}'"), "message": "the platform team has frozen it" }],
    }});
    let binding = json!({ "metadata": { "name": name }, "spec": {
        "policyName": name, "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } },
    }});
    let create = PostParams::default();
    policies.create(&create, &serde_json::from_value(policy).expect("a policy")).await.expect("the policy is created");
    bindings.create(&create, &serde_json::from_value(binding).expect("a binding")).await.expect("the binding is created");
    eventually("the policy is in force", async || {
        let attempt = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/attempt": "1" } } }));
        let how = PatchParams { dry_run: true, ..PatchParams::default() };
        match world.api::<Lease>().patch(lease, &how, &attempt).await {
            Err(kube::Error::Api(status)) if status.message.contains("frozen") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn thaw(world: &Scenario) {
    let how = DeleteParams::default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.cluster.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.cluster.client.clone());
    bindings.delete(&world.namespace, &how).await.expect("the binding is deleted");
    policies.delete(&world.namespace, &how).await.expect("the policy is deleted");
}

/// Waits for this many requests of this kind.
async fn requests(proxy: &Proxy, count: usize, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
    eventually(&format!("there are {count} such requests"), async || {
        let asked = proxy.asked(&wanted);
        if asked.len() >= count { Ok(asked) } else { Err(format!("{asked:?}")) }
    })
    .await
}

/// Asserts exponential backoff from 50 ms. Load makes the waits longer, never shorter.
fn assert_patient(attempts: &[Asked]) {
    let gaps: Vec<Duration> = attempts.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (number, gap) in gaps.iter().enumerate() {
        let least = Duration::from_millis(50) * 2_u32.pow(u32::try_from(number).expect("few attempts"));
        assert!(*gap >= least.min(Duration::from_secs(15)), "attempt {number} after {gap:?}, not {least:?}: {gaps:?}");
    }
}

/// Creates a second Election with pods of its own, and waits until it fails over.
async fn fails_over(world: &Scenario, election: &str) {
    let leader = world.leader(election).await;
    world.set_ready(&leader.name, false).await;
    world.leader_after(election, &leader).await;
    world.set_ready(&leader.name, true).await;
}

async fn second_election(world: &Scenario) {
    for pod in ["db-0", "db-1"] {
        world.pod(pod, json!({ "labels": { "app": "db" } })).await;
    }
    world.election_with("db", json!({ "selector": { "matchLabels": { "app": "db" } } })).await;
    world.leader("db").await;
}

#[tokio::test]
async fn policy_denial_is_quoted_and_retried_with_backoff() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let leader = world.led().await;
        second_election(world).await;
        freeze(world, "web").await;
        proxy.take();
        world.set_ready("web-0", false).await;
        let attempts = requests(&proxy, 6, |asked| asked.writes("leases/web")).await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("the platform team has frozen it"), "{message}");
        assert_patient(&attempts);
        let statuses = proxy.asked(|asked| asked.writes("elections/web/status"));
        assert!(statuses.len() <= 2, "it is said once: {statuses:?}");
        let log = controller.log();
        let told = log.lines().filter(|line| line.contains("WARN") && line.contains("the platform team has frozen it"));
        assert_eq!(told.count(), 1, "and logged once: {log}");
        fails_over(world, "db").await;
        thaw(world).await;
        world.leader_after("web", &leader).await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn a_quota_without_room_for_a_lease_is_quoted_until_there_is_room() {
    scenario(async |world| {
        let controller = world.controller();
        // Its own Lease exists before the quota leaves no room.
        controller.elects().await;
        let quota =
            json!({ "metadata": { "name": "none" }, "spec": { "hard": { "count/leases.coordination.k8s.io": "0" } } });
        let quota = serde_json::from_value(quota).expect("a quota");
        let quotas = world.api::<ResourceQuota>();
        quotas.create(&PostParams::default(), &quota).await.expect("the quota is created");
        eventually("the quota is in force", async || {
            let quota = quotas.get("none").await.map_err(|error| error.to_string())?;
            let hard = quota.status.and_then(|status| status.hard).unwrap_or_default();
            if hard.is_empty() { Err("its status is empty".into()) } else { Ok(()) }
        })
        .await;
        world.pods(["web-0", "web-1"]).await;
        world.election("web").await;
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains("exceeded quota: none"), "{message}");
        quotas.delete("none", &DeleteParams::default()).await.expect("the quota is deleted");
        world.leader("web").await;
        world.recovered("web").await;
    })
    .await;
}

#[tokio::test]
async fn throttled_write_backs_off_without_delaying_other_elections() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let mut leader = world.led().await;
        second_election(world).await;
        for code in [429, 500, 503, 504] {
            proxy.take();
            proxy.rule(move |asked| if asked.writes("leases/web") { Fate::Refuse(code) } else { Fate::Forward });
            world.set_ready(&leader.name, false).await;
            let attempts = requests(&proxy, 5, |asked| asked.writes("leases/web")).await;
            assert_patient(&attempts);
            controller.says(&["WARN", &format!("answers {code}"), "web"]).await;
            fails_over(world, "db").await;
            proxy.heal();
            let next = world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            leader = next;
        }
    })
    .await;
}

#[tokio::test]
async fn lost_responses_still_lead_to_one_leader() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let _controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let mut leader = world.led().await;
        // Each kind of write in turn is applied, but answered as if it had failed.
        for object in ["/leases/web", "/pods/", "/elections/web/status", "/events"] {
            let mut left = 3;
            proxy.rule(move |asked| {
                let lost = left > 0 && asked.method != "GET" && asked.path.contains(object);
                left -= i32::from(lost);
                if lost { Fate::Lose(504) } else { Fate::Forward }
            });
            world.set_ready(&leader.name, false).await;
            let next = world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            leader = next;
        }
    })
    .await;
}

#[tokio::test]
async fn failure_of_every_fifth_request_is_tolerated() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let codes = [429, 500, 503, 504];
        let mut number = 0;
        proxy.rule(move |_| {
            number += 1;
            match number % 10 {
                0 => Fate::Refuse(codes[number / 10 % 4]),
                5 => Fate::Lose(codes[number / 10 % 4]),
                _ => Fate::Forward,
            }
        });
        let _controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let mut leader = world.led().await;
        for _ in 0..3 {
            world.set_ready(&leader.name, false).await;
            let next = world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            leader = next;
        }
        world.api::<Lease>().delete("web", &DeleteParams::default()).await.expect("the Lease is deleted");
        let next = world.leader_after("web", &leader).await;
        let lease = world.api::<Lease>().get("web").await.expect("the Lease is there");
        assert_eq!(lease.annotations().get("podium.dev/term"), Some(&next.term.to_string()));
    })
    .await;
}

#[tokio::test]
async fn expired_watch_restarts_for_both_forms_of_the_error() {
    scenario(async |world| {
        let proxy = Proxy::to(&world.cluster.controllers).await;
        let _controller = world.controller_with(&proxy.kubeconfig(), &[]);
        let mut leader = world.led().await;
        // By an event, as an API server does, and by the status code, as a proxy may.
        for fate in [Fate::Expire, Fate::Refuse(410)] {
            let mut listed = false;
            proxy.rule(move |asked| {
                listed |= asked.method == "GET" && asked.path.contains("/pods?") && !asked.is_watch();
                if asked.is_watch() && asked.path.contains("/pods?") && !listed { fate } else { Fate::Forward }
            });
            proxy.cut();
            world.set_ready(&leader.name, false).await;
            let next = world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            world.eligible("web", 2, 2).await;
            leader = next;
        }
    })
    .await;
}
