//! Releases that serve some namespaces only.

use serde_json::json;

use crate::release::{Release, chart, led, populate, remove, remove_resource};
use crate::tools::{apply, errors, folder, get, kubectl, text};

#[test]
fn releases_that_serve_different_namespaces_have_rights_in_these_only_and_live_side_by_side() {
    let names = ["team-a", "team-b", "team-c"];
    let namespaces = names.map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
    apply(&folder("namespaces"), &namespaces);
    let first = Release::install(
        "first",
        &chart(),
        &[
            "--set=nameOverride=first,namespaces={team-a,team-b}",
            "--set=sidecars[0].namespace=team-a,sidecars[0].election=web,sidecars[0].serviceAccount=web,sidecars[0].mode=follow",
            "--set=sidecars[1].namespace=team-b,sidecars[1].election=jobs,sidecars[1].serviceAccount=jobs,sidecars[1].mode=campaign",
        ],
    );
    let second = Release::install(
        "second",
        &chart(),
        &["--set=nameOverride=second,namespaces={team-c},crds.enabled=false,admission.users={Deny}"],
    );
    let running = [first.run(), second.run()];
    for name in names {
        populate(&first, name);
        led(name);
    }
    for (release, own, other) in [(&first, "team-a", "team-c"), (&second, "team-c", "team-a")] {
        for what in [["patch", "pods"], ["list", "pods"], ["update", "leases"], ["watch", "elections.podium.dev"]] {
            assert!(release.may(&[&what[..], &["--namespace", own]].concat()), "{what:?} in {own}");
            assert!(!release.may(&[&what[..], &["--namespace", other]].concat()), "{what:?} in {other}");
        }
        assert!(!release.may(&["list", "pods", "--all-namespaces"]));
    }
    assert!(!first.may(&["update", "lease/other", "--namespace=first"]), "its own Lease only");
    assert!(first.may(&["update", "lease/first-controller", "--namespace=first"]));

    let may = |account: &str, what: &[&str]| {
        let account = format!("--as=system:serviceaccount:{account}");
        kubectl(&[&["auth", "can-i", "--quiet", &account], what].concat()).status.success()
    };
    for verb in ["get", "list", "watch"] {
        assert!(may("team-a:web", &[verb, "lease/web", "--namespace=team-a"]));
        assert!(!may("team-a:web", &[verb, "lease/other", "--namespace=team-a"]));
    }
    assert!(!may("team-a:web", &["update", "lease/web", "--namespace=team-a"]));
    assert!(may("team-b:jobs", &["update", "lease/jobs", "--namespace=team-b"]));
    assert!(!may("team-b:jobs", &["update", "lease/web", "--namespace=team-b"]));

    // Whoever may edit a namespace may edit its Elections, but not what they say happened.
    let person = |role: &str| {
        let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": role, "namespace": "team-a" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": role, "namespace": "team-a" }] });
        apply(&first.folder, &[binding]);
    };
    for (role, verb, allowed) in
        [("view", "list", true), ("view", "create", false), ("edit", "create", true), ("admin", "delete", true)]
    {
        person(role);
        crate::tools::eventually("roles are aggregated", || {
            let may = may(&format!("team-a:{role}"), &[verb, "elections.podium.dev", "--namespace=team-a"]);
            if may == allowed { Ok(()) } else { Err(format!("{role} may {verb}: {may}")) }
        });
    }
    assert!(!may("team-a:admin", &["patch", "elections.podium.dev", "--subresource=status", "--namespace=team-a"]));

    // What is denied in the one's namespaces is only warned of in the other's.
    let developer = ["--as=someone", "--as-group=system:authenticated", "--as-group=developers"];
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "developers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "Group", "name": "developers", "apiGroup": "rbac.authorization.k8s.io" }] });
    apply(&first.folder, &[binding]);
    for (namespace, denied) in [("team-c", true), ("team-a", false)] {
        crate::tools::eventually("the policy is in force", || {
            let label =
                ["label", "pod", "web-0", "leader=other", "--overwrite", "--dry-run=server", "--namespace", namespace];
            let output = kubectl(&[&label[..], &developer].concat());
            let said = errors(&output);
            if said.contains("ValidatingAdmissionPolicy") && output.status.success() != denied { Ok(()) } else { Err(said) }
        });
    }
    text(&kubectl(&["delete", "clusterrolebinding", "developers"]));
    assert!(get(&["lease", "second-controller", "--namespace=second"]).is_some());
    drop(running);
    remove(&names);
    drop((first, second));
    remove_resource();
}
