//! A release with default values.

use crate::release::{Release, await_leader, chart, populate, remove, remove_crd};
use crate::tools::{errors, eventually, get, text};

#[test]
fn default_release_elects_with_its_service_account_under_its_policies() {
    let release = Release::install("podium", &chart(), &[]);
    let deployment = get(&["deployment", "podium", "--namespace", "podium"]).expect("the Deployment exists");
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    let controller = release.run();
    populate(&release, "installed");
    await_leader("installed");
    let lease = get(&["lease", "podium-controller", "--namespace", "podium"])
        .expect("the controller's Lease exists in the release namespace");
    assert!(lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| holder.starts_with("podium-0_")), "{lease}");
    let tested = release.test();
    let printed = text(&tested);
    assert!(printed.contains("installed/web-0: leader=true removed (dry run)"), "{printed}{}", errors(&tested));
    eventually("the type check of the policies has no warnings", || {
        let policies = get(&["validatingadmissionpolicies"]).expect("policies exist");
        for policy in policies["items"].as_array().expect("a list") {
            let status = &policy["status"];
            if status["observedGeneration"] != policy["metadata"]["generation"] {
                return Err(format!("{} was not type-checked", policy["metadata"]["name"]));
            }
            assert_eq!(status["typeChecking"]["expressionWarnings"], serde_json::Value::Null, "{policy}");
        }
        Ok(())
    });
    drop(controller);
    remove(&["installed"]);
    drop(release);
    remove_crd();
}
