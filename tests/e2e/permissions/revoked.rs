//! The chart's permissions, revoked one verb at a time.
//!
//! The controller names what is missing. Work that does not need it continues, here and in other namespaces, and the rest
//! recovers once it is granted again. So every permission is necessary.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::DeleteParams;
use podium::api::Election;
use serde_json::{Value, json};

use crate::harness::chart::{self, CLUSTER, NAMESPACES, RIGHTS};
use crate::harness::controller::Controller;
use crate::harness::proxy::{Fate, Proxy};
use crate::harness::{Leader, Scenario, eventually, scenario};

/// The report of a missing permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// No leader can be elected: in the status.
    InTheStatus,
    /// The election continues, or the status cannot be written: in the log.
    InTheLog,
}

/// A change that makes the controller use the permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The leader becomes NotReady.
    LeaderFails,
    /// The Lease is deleted: the controller reads everything from the server, and re-creates it.
    LeaseIsLost,
}

/// Write permissions, their use, and the report when missing.
const WRITES: [(&str, &str, Use, Shows); 5] = [
    ("patch", "pods", Use::LeaderFails, Shows::InTheStatus),
    ("update", "leases", Use::LeaderFails, Shows::InTheStatus),
    ("create", "leases", Use::LeaseIsLost, Shows::InTheStatus),
    ("patch", "elections/status", Use::LeaderFails, Shows::InTheLog),
    ("create", "events", Use::LeaderFails, Shows::InTheLog),
];

/// Read permissions that complement the caches.
const READS: [(&str, &str); 3] = [("list", "pods"), ("get", "elections"), ("get", "leases")];

/// The read after a write without a response.
const READ_AGAIN: (&str, &str) = ("get", "pods");

/// Permissions that fill the caches.
const WATCHES: [(&str, &str); 6] = [
    ("watch", "pods"),
    ("list", "pods"),
    ("watch", "leases"),
    ("list", "leases"),
    ("watch", "elections"),
    ("list", "elections"),
];

/// Permissions on the controller's own Lease, and the message without each.
const OWN_LEASE: [(&str, &str); 4] = [
    ("get", "missing permission to get the Lease"),
    ("create", "missing permission to create the Lease"),
    ("update", "missing permission to update the Lease"),
    ("watch", "missing permission to watch the Lease"),
];

/// The same for a follower sidecar.
const FOLLOW: [(&str, &str); 3] = [
    ("get", "missing permission to get, list and watch the Lease"),
    ("list", "missing permission to list and watch the Lease"),
    ("watch", "missing permission to list and watch the Lease"),
];

/// The same for a campaigning sidecar.
const CAMPAIGN: [(&str, &str); 3] = [
    ("get", "missing permission to get the Lease"),
    ("create", "missing permission to create the Lease"),
    ("update", "missing permission to update the Lease"),
];

/// Runs the test with an elected leader in two namespaces, the second one with all permissions.
async fn with_two_namespaces(test: impl AsyncFnOnce(&Scenario, &Proxy, &Controller)) {
    scenario(async |world| {
        scenario(async |other| {
            let account = world.account("podium").await;
            world.grant("podium", &*RIGHTS).await;
            other.admit(world, "podium").await;
            let proxy = Proxy::to(&account).await;
            let controller = world.controller_with(&proxy.kubeconfig(), &["--namespaces", &other.namespace]);
            world.led().await;
            other.led().await;
            test(world, &proxy, &controller).await;
            let leader = other.leader("web").await;
            other.set_ready(&leader.name, false).await;
            other.leader_after("web", &leader).await;
        })
        .await;
    })
    .await;
}

async fn use_it(world: &Scenario, how: Use) -> Leader {
    let leader = world.leader("web").await;
    match how {
        Use::LeaderFails => drop(world.set_ready(&leader.name, false).await),
        Use::LeaseIsLost => drop(world.api::<Lease>().delete("web", &DeleteParams::default()).await),
    }
    leader
}

/// Revokes the permission, has it used, and grants it again.
async fn lose(world: &Scenario, controller: &Controller, verb: &str, resource: &str, how: Use, shows: Shows) {
    world.grant_all_but("podium", verb, resource).await;
    let leader = use_it(world, how).await;
    let words = format!("cannot {verb} resource \"{resource}\"");
    // Not the campaign for the controller's own Lease, which may lack the same permission.
    controller.says(&["WARN", &words, &world.namespace, "web"]).await;
    if shows == Shows::InTheStatus {
        let message = world.condition("web", "Stalled", "True", "RequestDenied").await;
        assert!(message.contains(&words), "{message}");
    }
    world.grant_all("podium", verb, resource).await;
    world.leader_after("web", &leader).await;
    world.recovered("web").await;
    world.set_ready(&leader.name, true).await;
    world.eligible("web", 2, 2).await;
}

#[tokio::test]
async fn revoked_write_permission_is_reported_and_affects_nothing_else() {
    with_two_namespaces(async |world, _, controller| {
        for (verb, resource, how, shows) in WRITES {
            lose(world, controller, verb, resource, how, shows).await;
        }
    })
    .await;
}

#[tokio::test]
async fn revoked_read_permission_is_reported_when_a_request_needs_it() {
    with_two_namespaces(async |world, proxy, controller| {
        for (verb, resource) in READS {
            lose(world, controller, verb, resource, Use::LeaseIsLost, Shows::InTheStatus).await;
        }
        // The controller reads a pod after a write without a response.
        proxy.rule(
            |asked| if asked.method == "PATCH" && asked.path.contains("/pods/") { Fate::Refuse(500) } else { Fate::Forward },
        );
        let (verb, resource) = READ_AGAIN;
        world.grant_all_but("podium", verb, resource).await;
        let leader = use_it(world, Use::LeaderFails).await;
        controller.says(&["WARN", "cannot get resource \"pods\"", &world.namespace]).await;
        world.condition("web", "Stalled", "True", "RequestDenied").await;
        proxy.heal();
        world.grant_all("podium", verb, resource).await;
        world.leader_after("web", &leader).await;
    })
    .await;
}

#[tokio::test]
async fn revoked_watch_permission_is_reported_and_the_watch_resumes() {
    with_two_namespaces(async |world, proxy, controller| {
        for (verb, resource) in WATCHES {
            let told = |log: &str| log.matches(&format!("get, list and watch on {resource} in namespace")).count();
            let before = told(&controller.log());
            let leader = world.leader("web").await;
            world.grant_all_but("podium", verb, resource).await;
            if verb == "list" {
                // Only a watch that cannot be resumed starts with a list.
                proxy.rule(move |asked| match asked.is_watch() && asked.path.contains(&format!("/{resource}?")) {
                    true => Fate::Expire,
                    false => Fate::Forward,
                });
            }
            proxy.cut();
            eventually("the missing right is named", async || {
                let log = controller.log();
                if told(&log) > before { Ok(()) } else { Err(log) }
            })
            .await;
            assert!(controller.log().contains(&format!("{resource} in namespace {}", world.namespace)));
            assert_eq!(world.leader("web").await, leader, "nobody is stripped by a blind controller");
            proxy.heal();
            world.set_ready(&leader.name, false).await;
            world.grant_all("podium", verb, resource).await;
            world.leader_after("web", &leader).await;
            world.set_ready(&leader.name, true).await;
            world.eligible("web", 2, 2).await;
        }
    })
    .await;
}

#[tokio::test]
async fn labels_of_a_deleted_election_stay_until_the_crd_can_be_read() {
    scenario(async |world| {
        let account = world.account("podium").await;
        world.grant("podium", &*RIGHTS).await;
        let controller = world.controller_with(&account, &[]);
        let leader = world.led().await;
        world.api::<Election>().delete("web", &DeleteParams::default()).await.expect("the Election is deleted");
        let words = "cannot get resource \"customresourcedefinitions\"";
        controller.says(&["WARN", "failed to clean up", &world.namespace, words, "elections.podium.dev"]).await;
        let pod = world.ready(&leader.name).await;
        assert_eq!(pod.metadata.labels.expect("labels").get("leader").map(String::as_str), Some("true"));
        // The chart's cluster-wide part, if it serves only some namespaces.
        let (mut role, mut binding) = (
            chart::object(NAMESPACES, "ClusterRole", "podium-podium"),
            chart::object(NAMESPACES, "ClusterRoleBinding", "podium-podium"),
        );
        let name = format!("podium-{}", world.namespace);
        for object in [&mut role, &mut binding] {
            object["metadata"]["name"] = json!(name);
        }
        binding["roleRef"]["name"] = json!(name);
        binding["subjects"][0]["namespace"] = json!(world.namespace);
        world.cluster.apply(role).await;
        world.cluster.apply(binding).await;
        world.unlabeled(&leader.name).await;
        let (client, how) = (&world.cluster.client, DeleteParams::default());
        Api::<ClusterRoleBinding>::all(client.clone()).delete(&name, &how).await.expect("the binding is deleted");
        Api::<ClusterRole>::all(client.clone()).delete(&name, &how).await.expect("the role is deleted");
    })
    .await;
}

/// The rules without this verb.
fn without(rules: &[Value], verb: &str) -> Vec<Value> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule["verbs"].as_array_mut().expect("verbs").retain(|other| other != verb);
    }
    rules.retain(|rule| rule["verbs"] != json!([]));
    rules
}

/// Waits until the API server allows this to the account on the Lease of this name, or denies it.
async fn until(world: &Scenario, verb: &str, lease: &str, allowed: bool) {
    world.until_allowed_with("podium", verb, ("coordination.k8s.io", "leases", Some(lease)), allowed).await;
}

#[tokio::test]
async fn controller_reports_the_missing_permission_on_its_lease_and_recovers() {
    scenario(async |home| {
        scenario(async |served| {
            // The Lease is in a namespace that the controller does not serve, so its permissions there do not help.
            let account = home.account("podium").await;
            served.admit(home, "podium").await;
            let role = chart::object(NAMESPACES, "Role", "podium-controller");
            let (rules, name) = (chart::rules(&role), "podium-controller");
            let place = ["--leader-elect-resource-namespace", &home.namespace, "--leader-elect-resource-name", name];
            for (verb, words) in OWN_LEASE {
                home.grant_rules("podium", without(&rules, verb)).await;
                until(home, verb, name, false).await;
                let controller = served.controller_with(&account, &place);
                let lease = format!("{words} {}/{name}", home.namespace);
                controller.says(&[&lease, &format!("cannot {verb} resource \"leases\"")]).await;
                home.grant_rules("podium", rules.clone()).await;
                eventually("the controller has the Lease", async || {
                    let lease = home.api::<Lease>().get(name).await.map_err(|error| error.to_string())?;
                    let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
                    holder.ok_or_else(|| "nobody holds it".into())
                })
                .await;
                drop(controller);
                home.api::<Lease>().delete(name, &DeleteParams::default()).await.expect("there is a Lease");
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn sidecar_reports_the_missing_permission_on_the_lease_and_recovers() {
    scenario(async |world| {
        let account = world.account("podium").await;
        let _controller = world.controller();
        let leader = world.led().await;
        let rules = chart::rules(&chart::object(NAMESPACES, "Role", "podium-follow-web-web"));
        for (verb, words) in FOLLOW {
            world.grant_rules("podium", without(&rules, verb)).await;
            until(world, verb, "web", false).await;
            // `--max-age` also makes it get the Lease.
            let sidecar = world.follower("web-1", &account).arguments(&["--max-age=3s"]).start().await;
            sidecar.says(&["WARN", words, &format!("cannot {verb} resource \"leases\"")]).await;
            world.grant_rules("podium", rules.clone()).await;
            sidecar.names(&leader.name).await;
        }
        let rules = chart::rules(&chart::object(NAMESPACES, "Role", "podium-campaign-jobs-jobs"));
        for (verb, words) in CAMPAIGN {
            world.grant_rules("podium", without(&rules, verb)).await;
            until(world, verb, "jobs", false).await;
            let place = format!("--election-namespace={}", world.namespace);
            let arguments = ["sidecar", "--mode=campaign", "--election=jobs", "--lock=lease", "--ttl=2s", &place];
            let sidecar = world.sidecar("job-0", &account).arguments(&arguments).variable("POD_NAMESPACE", &world.namespace);
            let sidecar = sidecar.start().await;
            sidecar.says(&["WARN", words, &format!("cannot {verb} resource \"leases\"")]).await;
            world.grant_rules("podium", rules.clone()).await;
            sidecar.names("job-0").await;
            drop(sidecar);
            world.api::<Lease>().delete("jobs", &DeleteParams::default()).await.expect("there is a Lease");
        }
    })
    .await;
}

/// Resource (with its resourceName, if any) and verb.
type Verb = (String, String);

fn verbs(rendering: &str, kind: &str, role: &str) -> BTreeSet<Verb> {
    let rules = chart::rules(&chart::object(rendering, kind, role));
    let each = |rule: &Value| {
        let (_, resource, verbs) = chart::right(rule);
        let name = rule["resourceNames"][0].as_str().map(|name| format!("/{name}")).unwrap_or_default();
        verbs.iter().map(|verb| (format!("{resource}{name}"), (*verb).to_owned())).collect::<Vec<_>>()
    };
    rules.iter().flat_map(each).collect()
}

#[test]
fn each_permission_of_the_chart_is_revoked_by_a_test() {
    let owned = |(verb, resource): (&str, &str)| (resource.to_owned(), verb.to_owned());
    let mut taken: BTreeSet<Verb> = WRITES.map(|(verb, resource, ..)| owned((verb, resource))).into();
    taken.extend(READS.into_iter().chain([READ_AGAIN]).chain(WATCHES).map(owned));
    // Needed only on another API server: `owner_references.rs`.
    taken.insert(owned(("delete", "leases")));
    assert_eq!(verbs(NAMESPACES, "Role", "podium"), taken);
    let served = owned(("get", "customresourcedefinitions/elections.podium.dev"));
    assert_eq!(verbs(NAMESPACES, "ClusterRole", "podium-podium"), [served.clone()].into());
    taken.insert(served);
    assert_eq!(verbs(CLUSTER, "ClusterRole", "podium"), taken, "for the whole cluster, its own Lease is one among others");
    // `create` cannot be limited to a resourceName.
    let named = |verbs: &[(&str, &str)], name: &str| -> BTreeSet<Verb> {
        let on = |verb: &str| if verb == "create" { "leases".to_owned() } else { format!("leases/{name}") };
        verbs.iter().map(|(verb, _)| (on(verb), (*verb).to_owned())).collect()
    };
    assert_eq!(verbs(NAMESPACES, "Role", "podium-controller"), named(&OWN_LEASE, "podium-controller"));
    assert_eq!(verbs(NAMESPACES, "Role", "podium-follow-web-web"), named(&FOLLOW, "web"));
    assert_eq!(verbs(NAMESPACES, "Role", "podium-campaign-jobs-jobs"), named(&CAMPAIGN, "jobs"));
}
