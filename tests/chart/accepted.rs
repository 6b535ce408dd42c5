//! Everything that is rendered is accepted by the API server, without a warning: it knows each field, and the pods are what the
//! restricted profile allows.

use serde_json::json;

use crate::tools::{apply, errors, folder, kubectl, objects, path, text, told_by_kubectl};

#[test]
fn what_is_rendered_is_accepted_without_a_warning() {
    let folder = folder("accepted");
    let restricted =
        json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" });
    let namespaces = ["podium", "team-a", "team-b"];
    let objects_of =
        |name: &&str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": restricted } });
    apply(&folder, &namespaces.iter().map(objects_of).collect::<Vec<_>>());
    // The account of the pod that `helm test` runs.
    apply(
        &folder,
        &[json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "podium", "namespace": "podium" } })],
    );
    for rendering in ["podium.yaml", "rendered/namespaces.yaml", "rendered/strict.yaml"] {
        let file = path("charts").join(rendering);
        let manifests = objects(&std::fs::read_to_string(&file).expect("it is committed"));
        let output = kubectl(&[
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            file.to_str().expect("UTF-8"),
        ]);
        assert_eq!(errors(&output), "", "{rendering}");
        assert_eq!(text(&output).lines().count(), manifests.len(), "{rendering}");
        // A pod is judged by the profile only when it is made.
        let deployment = manifests.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let template = &deployment["spec"]["template"];
        let mut pod =
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
        pod["metadata"]["name"] = json!("some");
        pod["metadata"]["namespace"] = json!("podium");
        let file = folder.join("pod.json");
        std::fs::write(&file, pod.to_string()).expect("a writable directory");
        let output = kubectl(&["create", "--dry-run=server", "--filename", file.to_str().expect("UTF-8")]);
        text(&output);
        assert_eq!(errors(&output), "", "{rendering}");
    }
    told_by_kubectl(&["delete", "namespace", "podium", "team-a", "team-b"]);
}
