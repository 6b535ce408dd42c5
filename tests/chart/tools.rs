//! helm, kubectl and the files that they are given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// A file or folder of the checkout.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// An empty folder for the files of one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}

/// What `variable` says.
///
/// # Panics
/// Without the variable: a test that was not run must not pass.
fn told(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{variable} is not set: run `make chart`")).into()
}

/// The kubeconfig of the cluster that is tested on.
pub fn kubeconfig() -> PathBuf {
    told("PODIUM_CHART_KUBECONFIG")
}

/// helm with these arguments, and nothing of the user's.
pub fn helm(arguments: &[&str]) -> Output {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    let mut command = Command::new(told("PODIUM_HELM"));
    command.args(arguments).env_clear().env("HOME", home);
    if let Some(kubeconfig) = std::env::var_os("PODIUM_CHART_KUBECONFIG") {
        command.env("KUBECONFIG", kubeconfig);
    }
    command.stdin(Stdio::null()).output().expect("helm runs")
}

/// kubectl with these arguments, as an administrator of the cluster that is tested on.
pub fn kubectl(arguments: &[&str]) -> Output {
    let kubectl = kubeconfig().with_file_name("bin").join("kubectl");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl");
    let mut command = Command::new(kubectl);
    command.args(arguments).env_clear().env("HOME", home).env("KUBECONFIG", kubeconfig());
    command.stdin(Stdio::null()).output().expect("kubectl runs")
}

/// What it printed, if it succeeded.
pub fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), errors(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it printed to stderr.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What kubectl prints, if it succeeds.
pub fn told_by_kubectl(arguments: &[&str]) -> String {
    text(&kubectl(arguments))
}

/// An object, if it is there.
pub fn get(arguments: &[&str]) -> Option<Value> {
    let output = kubectl(&[&["get", "--output=json", "--ignore-not-found"], arguments].concat());
    let text = text(&output);
    (!text.is_empty()).then(|| serde_json::from_str(&text).expect("JSON"))
}

/// Applies these objects.
pub fn apply(folder: &Path, objects: &[Value]) {
    let file = folder.join("objects.json");
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    fs::write(&file, list.to_string()).expect("a writable directory");
    eventually("the objects are accepted", || {
        let output = kubectl(&["apply", "--server-side", "--filename", file.to_str().expect("UTF-8")]);
        if output.status.success() { Ok(()) } else { Err(errors(&output)) }
    });
}

/// The objects in a file of manifests.
pub fn objects(manifests: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(manifests);
    let documents = documents.map(|document| Value::deserialize(document).expect("a manifest"));
    documents.filter(|document| !document.is_null()).collect()
}

/// Looks again and again until `look` finds what it looks for, and returns that.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => panic!("still not: {what}; seen last: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
