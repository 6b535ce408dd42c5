//! What stays when a release is uninstalled, and how to get rid of it.

use crate::release::{Release, chart, is_labelled, led, populate, remove, remove_resource, sweep};
use crate::tools::{errors, eventually, get, helm, told_by_kubectl};

#[test]
fn uninstalled_it_leaves_elections_leases_and_labels_until_they_are_taken_away_and_goes_on_when_it_comes_back() {
    let release = Release::install("podium", &chart(), &[]);
    let controller = release.run();
    populate(&release, "uninstalled");
    led("uninstalled");
    drop(controller);
    let said = release.uninstall();
    assert!(said.contains("elections.podium.dev"), "it says what it keeps: {said}");
    let inside = "deployment,serviceaccount,role,rolebinding,service,poddisruptionbudget,networkpolicy";
    let outside = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding";
    for kinds in [inside, outside] {
        let left = get(&[kinds, "--namespace=podium", "--selector=app.kubernetes.io/name=podium"]);
        assert_eq!(left, None, "nothing else stays");
    }
    let election = get(&["election", "web", "--namespace=uninstalled"]).expect("the Election stays");
    assert!(get(&["lease", "web", "--namespace=uninstalled"]).is_some() && is_labelled("uninstalled"));

    // Another release may not take the resource over by mistake, and says so.
    let other = helm(&["install", "other", chart().to_str().expect("UTF-8"), "--namespace=other", "--create-namespace"]);
    assert!(!other.status.success() && errors(&other).contains("elections.podium.dev"), "{}", errors(&other));

    // The same one goes on.
    release.upgrade(&chart(), &["--install"]);
    let controller = release.run();
    led("uninstalled");
    let again = get(&["election", "web", "--namespace=uninstalled"]).expect("the Election");
    assert_eq!(again["status"]["term"], election["status"]["term"]);
    drop(controller);
    release.uninstall();

    assert!(sweep(&["--all-namespaces"]).contains("uninstalled/web-0: leader=true removed"));
    assert!(!is_labelled("uninstalled"));
    // Before the resource: Kubernetes collects what belonged to an Election only while it knows what that is.
    told_by_kubectl(&["delete", "elections", "--all", "--all-namespaces"]);
    eventually("the Lease follows its Election", || {
        let lease = get(&["lease", "web", "--namespace=uninstalled"]);
        lease.map_or(Ok(()), |lease| Err(lease.to_string()))
    });
    remove_resource();
    remove(&["uninstalled"]);
}

#[test]
fn without_the_keep_policy_the_resource_and_its_elections_go_and_the_labels_can_be_swept() {
    let release = Release::install("podium", &chart(), &["--set=crds.keep=false"]);
    let controller = release.run();
    populate(&release, "unkept");
    led("unkept");
    drop(controller);
    release.uninstall();
    eventually("the resource is gone", || {
        get(&["crd", "elections.podium.dev"]).map_or(Ok(()), |found| Err(found["status"].to_string()))
    });
    assert!(is_labelled("unkept"), "nobody was there to take the label");
    assert!(sweep(&["--namespaces=unkept"]).contains("unkept/web-0: leader=true removed"));
    assert!(!is_labelled("unkept"));
    remove(&["unkept"]);
}
