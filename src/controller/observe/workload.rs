//! Workload of a pod, and the label that names its revision. Only revisions of one workload are comparable.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::names::REVISION_LABELS;
use crate::election::snapshot::Workload;

/// Returns the pod's workload, and the index of its revision label in [`REVISION_LABELS`], if it has one.
///
/// The owner of a pod is its workload. Deployments and Rollouts create a ReplicaSet `<workload>-<revision>` for each
/// revision; then the workload is the rest of the name. Pods without an owner are one workload.
pub fn of(owner: Option<&OwnerReference>, labels: &BTreeMap<String, String>) -> (Workload, Option<u8>) {
    let kind = owner.map_or("", |owner| owner.kind.as_str());
    let name = owner.map_or("", |owner| owner.name.as_str());
    let group = owner.and_then(|owner| owner.api_version.rsplit_once('/')).map_or("", |(group, _)| group);
    let mut present: Vec<(u8, &str, &str)> = (0..)
        .zip(REVISION_LABELS)
        .filter_map(|(number, label)| Some((number, label, labels.get(label)?.as_str())))
        .collect();
    let revised = |revision: &str| name.strip_suffix(revision).and_then(|rest| rest.strip_suffix('-'));
    let workload = |name: &str, label: &str| Workload::of(&[group, kind, name, label]);
    if kind == "ReplicaSet" {
        let found = present.iter().find_map(|(number, label, revision)| Some((*number, *label, revised(revision)?)));
        if let Some((number, label, name)) = found {
            return (workload(name, label), Some(number));
        }
    } else if owner.is_some() {
        // The owner writes the last one. The template may copy others from elsewhere.
        present.reverse();
    }
    match present.first() {
        Some((number, label, _)) => (workload(name, label), Some(*number)),
        None => (workload(name, ""), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(owner: &str, labels: &[(&str, &str)]) -> (Workload, Option<&'static str>) {
        let owner = owner.split_once(' ').map(|(kind, name)| {
            let (group, kind) = kind.rsplit_once('/').unwrap_or(("apps", kind));
            OwnerReference { api_version: format!("{group}/v1"), kind: kind.into(), name: name.into(), ..Default::default() }
        });
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (workload, label) = of(owner.as_ref(), &labels);
        (workload, label.map(|number| REVISION_LABELS[usize::from(number)]))
    }

    const DEPLOYMENT: &str = "pod-template-hash";
    const ROLLOUT: &str = "rollouts-pod-template-hash";
    const CONTROLLER: &str = "controller-revision-hash";

    #[test]
    fn replica_sets_of_one_deployment_or_rollout_are_one_workload() {
        for label in [DEPLOYMENT, ROLLOUT] {
            let of = |owner: &str, revision: &str| pod(owner, &[(label, revision)]);
            assert_eq!(of("ReplicaSet web-5d4b", "5d4b"), of("ReplicaSet web-7f9c", "7f9c"));
            assert_ne!(of("ReplicaSet web-5d4b", "5d4b"), of("ReplicaSet db-7f9c", "7f9c"));
            assert_ne!(of("ReplicaSet web-a-5d4b", "5d4b"), of("ReplicaSet web-b-5d4b", "5d4b"));
            assert_ne!(of("ReplicaSet one", "5d4b"), of("ReplicaSet two", "7f9c"), "they tell nothing of each other");
            assert_eq!(of("ReplicaSet one", "5d4b"), of("ReplicaSet one", "7f9c"));
            assert_eq!(of("ReplicaSet web-5d4b", "5d4b").1, Some(label));
        }
        let migrated = pod("ReplicaSet web-7f9c", &[(ROLLOUT, "7f9c")]);
        assert_ne!(
            pod("ReplicaSet web-5d4b", &[(DEPLOYMENT, "5d4b")]),
            migrated,
            "a Rollout that takes over from a Deployment"
        );
    }

    #[test]
    fn the_label_that_names_the_revision_is_the_one_that_the_owner_writes() {
        let copied = [(DEPLOYMENT, "5d4b"), (CONTROLLER, "db-6c8d")];
        assert_eq!(pod("StatefulSet db", &copied).1, Some(CONTROLLER));
        let copied = [(DEPLOYMENT, "5d4b"), (ROLLOUT, "7f9c")];
        assert_eq!(pod("ReplicaSet web-7f9c", &copied).1, Some(ROLLOUT));
        assert_eq!(pod("ReplicaSet web-5d4b", &copied).1, Some(DEPLOYMENT));
        assert_eq!(pod("StatefulSet db", &[(ROLLOUT, "1")]).1, Some(ROLLOUT));
        assert_eq!(pod("ReplicaSet web", &[("app", "web")]).1, None);
    }

    #[test]
    fn other_owners_are_the_workload_by_group_kind_and_name() {
        let of = |owner: &str| pod(owner, &[(CONTROLLER, "x")]);
        assert_ne!(of("StatefulSet db-a"), of("StatefulSet db-b"));
        assert_ne!(of("StatefulSet db"), of("DaemonSet db"));
        assert_ne!(of("StatefulSet db"), of("apps.kruise.io/StatefulSet db"));
        assert_eq!(of("StatefulSet db"), pod("StatefulSet db", &[(CONTROLLER, "y")]));
    }

    #[test]
    fn pods_that_nobody_owns_are_one_workload() {
        assert_eq!(pod("", &[(ROLLOUT, "5d4b")]), pod("", &[(ROLLOUT, "7f9c")]));
        assert_ne!(pod("", &[(ROLLOUT, "5d4b")]), pod("StatefulSet db", &[(ROLLOUT, "5d4b")]));
    }
}
