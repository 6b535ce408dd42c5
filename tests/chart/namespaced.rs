//! Releases that serve some namespaces only.

use serde_json::json;

use crate::release::{Release, await_leader, chart, populate, remove, remove_crd};
use crate::tools::{apply, errors, folder, get, kubectl, text};

#[test]
fn releases_for_different_namespaces_coexist_with_permissions_in_these_only() {
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
        &[
            "--set=nameOverride=second,namespaces={team-c},crds.enabled=false,admission.users={Deny}",
            "--set=rbac.watchNodes=true,rbac.watchNodeLeases=true",
        ],
    );
    let running = [first.run(), second.run()];
    for name in names {
        populate(&first, name);
        await_leader(name);
    }
    for (release, own, other) in [(&first, "team-a", "team-c"), (&second, "team-c", "team-a")] {
        for request in [["patch", "pods"], ["list", "pods"], ["update", "leases"], ["watch", "elections.podium.dev"]] {
            assert!(release.can(&[&request[..], &["--namespace", own]].concat()), "{request:?} in {own}");
            assert!(!release.can(&[&request[..], &["--namespace", other]].concat()), "{request:?} in {other}");
        }
        assert!(!release.can(&["list", "pods", "--all-namespaces"]));
    }
    for verb in ["list", "watch"] {
        for request in [&[verb, "nodes"][..], &[verb, "leases", "--namespace=kube-node-lease"]] {
            assert!(second.can(request) && !first.can(request), "{request:?} only where a value allows it");
        }
    }
    assert!(!second.can(&["update", "leases", "--namespace=kube-node-lease"]));
    assert!(!first.can(&["update", "lease/other", "--namespace=first"]), "only the Lease of the release");
    assert!(first.can(&["update", "lease/first-controller", "--namespace=first"]));

    let can = |account: &str, request: &[&str]| {
        let account = format!("--as=system:serviceaccount:{account}");
        kubectl(&[&["auth", "can-i", "--quiet", &account], request].concat()).status.success()
    };
    for verb in ["get", "list", "watch"] {
        assert!(can("team-a:web", &[verb, "lease/web", "--namespace=team-a"]));
        assert!(!can("team-a:web", &[verb, "lease/other", "--namespace=team-a"]));
    }
    assert!(!can("team-a:web", &["update", "lease/web", "--namespace=team-a"]));
    assert!(can("team-b:jobs", &["update", "lease/jobs", "--namespace=team-b"]));
    assert!(!can("team-b:jobs", &["update", "lease/web", "--namespace=team-b"]));

    // The aggregated roles allow users to write Elections, but not their status.
    let bind = |role: &str| {
        let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": role, "namespace": "team-a" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": role, "namespace": "team-a" }] });
        apply(&first.folder, &[binding]);
    };
    for (role, verb, allowed) in
        [("view", "list", true), ("view", "create", false), ("edit", "create", true), ("admin", "delete", true)]
    {
        bind(role);
        crate::tools::eventually("roles are aggregated", || {
            let result = can(&format!("team-a:{role}"), &[verb, "elections.podium.dev", "--namespace=team-a"]);
            if result == allowed { Ok(()) } else { Err(format!("{role} can {verb}: {result}")) }
        });
    }
    assert!(!can("team-a:admin", &["patch", "elections.podium.dev", "--subresource=status", "--namespace=team-a"]));

    // The second release denies such requests in its namespace, the first one only warns in its own.
    let developer = ["--as=someone", "--as-group=system:authenticated", "--as-group=developers"];
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "developers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "Group", "name": "developers", "apiGroup": "rbac.authorization.k8s.io" }] });
    apply(&first.folder, &[binding]);
    for (namespace, denied) in [("team-c", true), ("team-a", false)] {
        crate::tools::eventually("the policy is in effect", || {
            let label =
                ["label", "pod", "web-0", "leader=other", "--overwrite", "--dry-run=server", "--namespace", namespace];
            let output = kubectl(&[&label[..], &developer].concat());
            let message = errors(&output);
            let applies = message.contains("ValidatingAdmissionPolicy") && output.status.success() != denied;
            if applies { Ok(()) } else { Err(message) }
        });
    }
    text(&kubectl(&["delete", "clusterrolebinding", "developers"]));
    assert!(get(&["lease", "second-controller", "--namespace=second"]).is_some());
    drop(running);
    remove(&names);
    drop((first, second));
    remove_crd();
}
