//! The committed manifests are up to date, and the chart rejects invalid values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tools::{errors, folder, helm, objects, path, text};

/// Reads all files below a directory, by their path relative to `root`.
fn files(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            found.insert(name, fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn committed_files_are_up_to_date() {
    let into = folder("rendered");
    let output = Command::new(path("charts/render")).arg(&into).output().expect("charts/render runs");
    assert!(output.status.success(), "{}", errors(&output));
    let mut generated = BTreeMap::new();
    files(&into, &into, &mut generated);
    assert!(generated.len() >= 5, "{:?}", generated.keys());
    for (name, text) in &generated {
        let committed = fs::read_to_string(path("charts").join(name)).unwrap_or_default();
        assert!(committed == *text, "charts/{name} is out of date: run `make generate`");
    }
    for rendering in fs::read_dir(path("charts/rendered")).expect("a directory") {
        let name = format!("rendered/{}", rendering.expect("an entry").file_name().to_string_lossy());
        assert!(generated.contains_key(&name), "charts/{name} has no values file in charts/podium/ci: delete it");
    }
}

#[test]
fn helm_lint_passes() {
    let chart = path("charts/podium");
    let chart = chart.to_str().expect("UTF-8");
    text(&helm(&["lint", "--strict", chart]));
    for values in fs::read_dir(path("charts/podium/ci")).expect("a directory") {
        let values = values.expect("an entry").path();
        text(&helm(&["lint", "--strict", chart, "--values", values.to_str().expect("UTF-8")]));
    }
}

#[test]
fn each_value_is_in_readme_and_schema() {
    let values: Value =
        serde_yaml::from_str(&fs::read_to_string(path("charts/podium/values.yaml")).expect("values.yaml")).expect("YAML");
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(path("charts/podium/values.schema.json")).expect("values.schema.json"))
            .expect("JSON");
    let readme = fs::read_to_string(path("charts/podium/README.md")).expect("README.md");
    let properties = schema["properties"].as_object().expect("properties");
    assert_eq!(schema["additionalProperties"], false);
    for (name, value) in values.as_object().expect("values") {
        assert!(properties.contains_key(name), "{name} is not in values.schema.json");
        let listed = readme.contains(&format!("| `{name}` |")) || readme.contains(&format!("| `{name}."));
        assert!(listed, "{name} is not in README.md: describe it in values.yaml, and run `make generate`");
        let parts = properties[name]["properties"].as_object();
        for part in parts.iter().flat_map(|parts| parts.keys()) {
            assert!(!value[part].is_null(), "{name}.{part} is in values.schema.json only");
        }
    }
}

#[test]
fn monitoring_objects_contain_the_committed_alerts_and_dashboard() {
    let read = |file: &str| fs::read_to_string(path("charts").join(file)).expect("a committed file");
    let rendered = objects(&read("rendered/monitored.yaml"));
    let of_kind = |kind: &str| rendered.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));

    let alerts: Value = serde_yaml::from_str(&read("podium/files/alerts.yaml")).expect("YAML");
    assert_eq!(of_kind("PrometheusRule")["spec"], alerts);
    let dashboard: Value = serde_json::from_str(&read("podium/files/dashboard.json")).expect("JSON");
    let embedded = of_kind("ConfigMap")["data"]["podium.json"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(embedded).expect("JSON"), dashboard);

    // The PodMonitor selects the pods and their port.
    let (monitor, template) = (&of_kind("PodMonitor")["spec"], &of_kind("Deployment")["spec"]["template"]);
    for (key, value) in monitor["selector"]["matchLabels"].as_object().expect("labels") {
        assert_eq!(template["metadata"]["labels"][key], *value, "{key}");
    }
    let port = monitor["podMetricsEndpoints"][0]["port"].as_str().expect("a port");
    assert_eq!(template["spec"]["containers"][0]["ports"][0]["name"], port);
    assert_eq!(of_kind("PodMonitor")["metadata"]["namespace"], of_kind("Deployment")["metadata"]["namespace"]);

    // A cluster without the Prometheus Operator has no such kinds.
    for kind in ["PodMonitor", "PrometheusRule", "ConfigMap"] {
        assert!(!objects(&read("podium.yaml")).iter().any(|object| object["kind"] == kind), "{kind} is rendered by default");
    }
}

#[test]
fn permissions_to_watch_nodes_are_rendered_only_on_request() {
    let chart = path("charts/podium");
    let rendered = |values: &str| {
        let rendered = text(&helm(&["template", "podium", chart.to_str().expect("UTF-8"), "--set", values]));
        let rules = objects(&rendered).into_iter().filter(|object| {
            let mut rules = object["rules"].as_array().into_iter().flatten();
            let of_node_leases = object["metadata"]["namespace"] == "kube-node-lease" && object["kind"] == "Role";
            of_node_leases || rules.any(|rule| rule["resources"][0] == "nodes")
        });
        rules.map(|object| object["kind"].as_str().expect("a kind").to_owned()).collect::<Vec<_>>()
    };
    let (nodes, leases, some) = ("rbac.watchNodes=true", "rbac.watchNodeLeases=true", "namespaces={a}");
    assert_eq!(rendered(some), [""; 0]);
    assert_eq!(rendered(nodes), ["ClusterRole"]);
    assert_eq!(rendered(&format!("{nodes},{some}")), ["ClusterRole"]);
    assert_eq!(rendered(&format!("{leases},{some}")), ["Role"]);
    // The rules for the whole cluster include these Leases.
    assert_eq!(rendered(leases), [""; 0]);
    assert_eq!(rendered(&format!("{nodes},{leases},{some},rbac.create=false")), [""; 0]);
}

#[test]
fn invalid_values_are_rejected_by_name() {
    let cases = [
        ("replica=3", "'replica' not allowed"),
        ("replicas=two", "/replicas"),
        ("admission.user={Deny}", "'user' not allowed"),
        ("admission.users={deny}", "'Deny', 'Warn', 'Audit'"),
        ("admission.users={Deny,Warn}", "use [Deny], [Deny, Audit], or any of Warn and Audit"),
        ("admission.exempt.users={it's}", "/admission/exempt/users/0"),
        ("allowedLabelKeys={a b}", "/allowedLabelKeys/0"),
        ("allowedLabelKeys=null", "missing property 'allowedLabelKeys'"),
        ("namespaces={Team}", "/namespaces/0"),
        ("leaderElection.leaseDuration=8", "/leaderElection/leaseDuration"),
        ("serviceAccount.create=false", "serviceAccount.name must not be empty"),
        ("sidecars[0].namespace=a", "missing properties"),
        ("image.digest=abc", "/image/digest"),
        ("monitoring.podMonitor.interval=30", "/monitoring/podMonitor/interval"),
        ("monitoring.podMonitor.interval=30 s", "/monitoring/podMonitor/interval"),
        ("monitoring.dashboard.labels.grafana_dashboard=a b", "/monitoring/dashboard/labels/grafana_dashboard"),
        ("monitoring.serviceMonitor.enabled=true", "'serviceMonitor' not allowed"),
        ("terminationGracePeriodSeconds=1", "/terminationGracePeriodSeconds"),
        ("rbac.watchNodes=yes", "/rbac/watchNodes"),
        ("rbac.watchNodeLease=true", "'watchNodeLease' not allowed"),
    ];
    let chart = path("charts/podium");
    for (value, message) in cases {
        let output = helm(&["template", "podium", chart.to_str().expect("UTF-8"), "--set", value]);
        let printed = errors(&output);
        assert!(!output.status.success() && printed.contains(message), "{value}: {printed}");
    }
}
