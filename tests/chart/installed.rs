//! The chart with its default values.

use crate::release::{Release, chart, led, populate, remove, remove_resource};
use crate::tools::{errors, eventually, get, text};

#[test]
fn installed_it_elects_with_its_own_account_under_its_own_policies() {
    let release = Release::install("podium", &chart(), &[]);
    let deployment = get(&["deployment", "podium", "--namespace", "podium"]).expect("it is installed");
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    let controller = release.run();
    populate(&release, "installed");
    led("installed");
    let lease =
        get(&["lease", "podium-controller", "--namespace", "podium"]).expect("its own Lease is in its own namespace");
    assert!(lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| holder.starts_with("podium-0_")), "{lease}");
    let tested = release.test();
    let said = text(&tested);
    assert!(said.contains("installed/web-0: leader=true removed (dry run)"), "{said}{}", errors(&tested));
    eventually("no policy has anything against itself", || {
        let policies = get(&["validatingadmissionpolicies"]).expect("there are policies");
        for policy in policies["items"].as_array().expect("a list") {
            let status = &policy["status"];
            if status["observedGeneration"] != policy["metadata"]["generation"] {
                return Err(format!("{} was not looked at", policy["metadata"]["name"]));
            }
            assert_eq!(status["typeChecking"]["expressionWarnings"], serde_json::Value::Null, "{policy}");
        }
        Ok(())
    });
    drop(controller);
    remove(&["installed"]);
    drop(release);
    remove_resource();
}
