//! The manifests in `examples/singleton`: the API server accepts them, and `podium` their command lines.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::elector::binaries;
use crate::harness::{Scenario, scenario};

/// Applies the manifest as a user does, to a server that rejects unknown fields. Nothing is stored.
fn accepted(world: &Scenario, manifest: &Path) {
    let output = Command::new(binaries().join("kubectl"))
        .args(["apply", "--dry-run=server", "--validate=strict", "--namespace", &world.namespace, "--kubeconfig"])
        .arg(world.kubeconfig("kubectl"))
        .arg("-f")
        .arg(manifest)
        .output()
        .expect("kubectl runs");
    assert!(output.status.success(), "{}: {}", manifest.display(), String::from_utf8_lossy(&output.stderr));
}

/// The containers of the manifest.
fn containers(manifest: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(manifest).expect("a manifest");
    let objects = text.split("\n---\n").map(|object| serde_yaml::from_str::<Value>(object).expect("YAML"));
    let containers = objects.map(|object| object["spec"]["template"]["spec"]["containers"].clone());
    containers.filter_map(|containers| containers.as_array().cloned()).flatten().collect()
}

#[tokio::test]
async fn examples_of_podium_run_are_accepted_and_their_standbys_are_ready() {
    scenario(async |world| {
        let account = world.account("pods").await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/singleton");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect("the examples").flatten() {
            accepted(world, &entry.path());
            for container in containers(&entry.path()) {
                let command = container["command"].as_array().expect("a command").iter();
                let words: Vec<&str> = command.map(|word| word.as_str().expect("a word")).collect();
                assert_eq!((words[0], words.contains(&"--http=:4040")), ("/podium", true), "{words:?}");
                let arguments: Vec<&str> = words[1..]
                    .iter()
                    .map(|word| if *word == "--http=:4040" { "--http=127.0.0.1:0" } else { word })
                    .collect();
                // Without permissions it stays a standby.
                let sidecar = world.sidecar("web-0", &account).variable("POD_NAMESPACE", &world.namespace);
                let sidecar = sidecar.arguments(&arguments).start().await;
                for probe in ["readinessProbe", "livenessProbe"] {
                    let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
                    let (code, body) = sidecar.get(path).await;
                    assert!(code == 200 && (body.starts_with("standby: ") || body == "ok"), "{probe}: {code} {body}");
                }
                count += 1;
            }
        }
        assert_eq!(count, 3);
    })
    .await;
}
