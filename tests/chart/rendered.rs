//! What is made from the chart and committed is what it makes, and it refuses values that make no sense.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tools::{errors, folder, helm, objects, path, text};

/// Everything below a folder, by its path in there.
fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
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
fn what_is_committed_is_what_the_chart_makes() {
    let into = folder("rendered");
    let made = Command::new(path("charts/render")).arg(&into).output().expect("charts/render runs");
    assert!(made.status.success(), "{}", errors(&made));
    let mut made = BTreeMap::new();
    files(&into, &into, &mut made);
    assert!(made.len() >= 5, "{:?}", made.keys());
    for (name, text) in &made {
        let committed = fs::read_to_string(path("charts").join(name)).unwrap_or_default();
        assert!(committed == *text, "charts/{name} is not what the chart makes: run `make generate`");
    }
    for rendering in fs::read_dir(path("charts/rendered")).expect("a folder") {
        let name = format!("rendered/{}", rendering.expect("an entry").file_name().to_string_lossy());
        assert!(made.contains_key(&name), "charts/{name} is made from nothing: delete it");
    }
}

#[test]
fn helm_finds_nothing_wrong() {
    let chart = path("charts/podium");
    let chart = chart.to_str().expect("UTF-8");
    text(&helm(&["lint", "--strict", chart]));
    for values in fs::read_dir(path("charts/podium/ci")).expect("a folder") {
        let values = values.expect("an entry").path();
        text(&helm(&["lint", "--strict", chart, "--values", values.to_str().expect("UTF-8")]));
    }
}

#[test]
fn each_value_is_listed_and_known_to_the_schema() {
    let values: Value =
        serde_yaml::from_str(&fs::read_to_string(path("charts/podium/values.yaml")).expect("the values")).expect("YAML");
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(path("charts/podium/values.schema.json")).expect("the schema"))
            .expect("JSON");
    let readme = fs::read_to_string(path("charts/podium/README.md")).expect("the page");
    let known = schema["properties"].as_object().expect("properties");
    assert_eq!(schema["additionalProperties"], false);
    for (name, value) in values.as_object().expect("values") {
        assert!(known.contains_key(name), "{name} is not in values.schema.json");
        let listed = readme.contains(&format!("| `{name}` |")) || readme.contains(&format!("| `{name}."));
        assert!(listed, "{name} is not in README.md: say in values.yaml what it is, and run `make generate`");
        let parts = known[name]["properties"].as_object();
        for part in parts.iter().flat_map(|parts| parts.keys()) {
            assert!(!value[part].is_null(), "{name}.{part} is in values.schema.json only");
        }
    }
}

#[test]
fn prometheus_and_grafana_are_given_what_was_tested() {
    let read = |file: &str| fs::read_to_string(path("charts").join(file)).expect("it is committed");
    let rendered = objects(&read("rendered/monitored.yaml"));
    let of_kind = |kind: &str| rendered.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));

    let alerts: Value = serde_yaml::from_str(&read("podium/files/alerts.yaml")).expect("YAML");
    assert_eq!(of_kind("PrometheusRule")["spec"], alerts);
    let dashboard: Value = serde_json::from_str(&read("podium/files/dashboard.json")).expect("JSON");
    let given = of_kind("ConfigMap")["data"]["podium.json"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(given).expect("JSON"), dashboard);

    // Who scrapes finds the pods, and the port.
    let (monitor, template) = (&of_kind("PodMonitor")["spec"], &of_kind("Deployment")["spec"]["template"]);
    for (key, value) in monitor["selector"]["matchLabels"].as_object().expect("labels") {
        assert_eq!(template["metadata"]["labels"][key], *value, "{key}");
    }
    let scraped = monitor["podMetricsEndpoints"][0]["port"].as_str().expect("a port");
    assert_eq!(template["spec"]["containers"][0]["ports"][0]["name"], scraped);
    assert_eq!(of_kind("PodMonitor")["metadata"]["namespace"], of_kind("Deployment")["metadata"]["namespace"]);

    // A cluster need not know these kinds.
    for kind in ["PodMonitor", "PrometheusRule", "ConfigMap"] {
        assert!(
            !objects(&read("podium.yaml")).iter().any(|object| object["kind"] == kind),
            "{kind} without being asked for"
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_names() {
    let cases = [
        ("replica=3", "'replica' not allowed"),
        ("replicas=two", "/replicas"),
        ("admission.user={Deny}", "'user' not allowed"),
        ("admission.users={deny}", "'Deny', 'Warn', 'Audit'"),
        ("admission.users={Deny,Warn}", "write [Deny], [Deny, Audit], or any of Warn and Audit"),
        ("admission.exempt.users={it's}", "/admission/exempt/users/0"),
        ("labelKeys={a b}", "/labelKeys/0"),
        ("labelKeys=null", "missing property 'labelKeys'"),
        ("namespaces={Team}", "/namespaces/0"),
        ("leaderElection.leaseDuration=8", "/leaderElection/leaseDuration"),
        ("serviceAccount.create=false", "serviceAccount.name: name the account"),
        ("sidecars[0].namespace=a", "missing properties"),
        ("image.digest=abc", "/image/digest"),
        ("monitoring.podMonitor.interval=30", "/monitoring/podMonitor/interval"),
        ("monitoring.podMonitor.interval=30 s", "/monitoring/podMonitor/interval"),
        ("monitoring.dashboard.labels.grafana_dashboard=a b", "/monitoring/dashboard/labels/grafana_dashboard"),
        ("monitoring.serviceMonitor.enabled=true", "'serviceMonitor' not allowed"),
        ("terminationGracePeriodSeconds=1", "/terminationGracePeriodSeconds"),
    ];
    let chart = path("charts/podium");
    for (value, words) in cases {
        let output = helm(&["template", "podium", chart.to_str().expect("UTF-8"), "--set", value]);
        let said = errors(&output);
        assert!(!output.status.success() && said.contains(words), "{value}: {said}");
    }
}
