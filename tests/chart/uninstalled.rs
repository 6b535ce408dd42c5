//! Objects and labels that are kept when a release is uninstalled, and their removal.

use crate::release::{Release, await_leader, chart, cleanup, is_labeled, populate, remove, remove_crd};
use crate::tools::{errors, eventually, get, helm, kubectl_output};

#[test]
fn elections_leases_and_labels_survive_uninstall_and_a_reinstalled_release_continues() {
    let release = Release::install("podium", &chart(), &[]);
    let controller = release.run();
    populate(&release, "uninstalled");
    await_leader("uninstalled");
    drop(controller);
    let printed = release.uninstall();
    assert!(printed.contains("elections.podium.dev"), "helm names what it keeps: {printed}");
    let namespaced = "deployment,serviceaccount,role,rolebinding,service,poddisruptionbudget,networkpolicy";
    let cluster_scoped = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding";
    for kinds in [namespaced, cluster_scoped] {
        let left = get(&[kinds, "--namespace=podium", "--selector=app.kubernetes.io/name=podium"]);
        assert_eq!(left, None, "nothing else is kept");
    }
    let election = get(&["election", "web", "--namespace=uninstalled"]).expect("the Election is kept");
    assert!(get(&["lease", "web", "--namespace=uninstalled"]).is_some() && is_labeled("uninstalled"));

    // A release of another name cannot adopt the CRD by mistake.
    let other = helm(&["install", "other", chart().to_str().expect("UTF-8"), "--namespace=other", "--create-namespace"]);
    assert!(!other.status.success() && errors(&other).contains("elections.podium.dev"), "{}", errors(&other));

    // The same release continues.
    release.upgrade(&chart(), &["--install"]);
    let controller = release.run();
    await_leader("uninstalled");
    let after = get(&["election", "web", "--namespace=uninstalled"]).expect("the Election");
    assert_eq!(after["status"]["term"], election["status"]["term"]);
    drop(controller);
    release.uninstall();

    assert!(cleanup(&["--all-namespaces"]).contains("uninstalled/web-0: leader=true removed"));
    assert!(!is_labeled("uninstalled"));
    // Before the CRD: Kubernetes garbage-collects the Leases of Elections only while the CRD exists.
    kubectl_output(&["delete", "elections", "--all", "--all-namespaces"]);
    eventually("the Lease is garbage-collected", || {
        let lease = get(&["lease", "web", "--namespace=uninstalled"]);
        lease.map_or(Ok(()), |lease| Err(lease.to_string()))
    });
    remove_crd();
    remove(&["uninstalled"]);
}

#[test]
fn cleanup_removes_labels_after_uninstall_without_keep() {
    let release = Release::install("podium", &chart(), &["--set=crds.keep=false"]);
    let controller = release.run();
    populate(&release, "removed");
    await_leader("removed");
    drop(controller);
    release.uninstall();
    eventually("the CRD is deleted", || {
        get(&["crd", "elections.podium.dev"]).map_or(Ok(()), |found| Err(found["status"].to_string()))
    });
    assert!(is_labeled("removed"), "no controller ran that would remove the label");
    assert!(cleanup(&["--namespaces=removed"]).contains("removed/web-0: leader=true removed"));
    assert!(!is_labeled("removed"));
    remove(&["removed"]);
}
