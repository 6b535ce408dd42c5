//! The API server accepts the rendered manifests without a warning, in namespaces that enforce the restricted profile.

use serde_json::json;

use crate::tools::{apply, errors, folder, kubectl, kubectl_output, objects, path, text};

#[test]
fn rendered_manifests_are_accepted_without_a_warning() {
    let folder = folder("accepted");
    let restricted =
        json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" });
    let namespaces = ["podium", "team-a", "team-b"];
    let objects_of =
        |name: &&str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": restricted } });
    apply(&folder, &namespaces.iter().map(objects_of).collect::<Vec<_>>());
    // The ServiceAccount of the pod that `helm test` runs.
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
        // The profile applies to pods, not to their template.
        let deployment = manifests.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let template = &deployment["spec"]["template"];
        let mut pod =
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
        pod["metadata"]["name"] = json!("pod");
        pod["metadata"]["namespace"] = json!("podium");
        let file = folder.join("pod.json");
        std::fs::write(&file, pod.to_string()).expect("a writable directory");
        let output = kubectl(&["create", "--dry-run=server", "--filename", file.to_str().expect("UTF-8")]);
        text(&output);
        assert_eq!(errors(&output), "", "{rendering}");
    }
    kubectl_output(&["delete", "namespace", "podium", "team-a", "team-b"]);
}
