//! helm, kubectl and their input files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// Path of a file or directory of the repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Creates an empty directory for the files of one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}

/// Returns the path in an environment variable.
///
/// # Panics
/// If the variable is not set: a test that cannot run must not pass.
fn path_variable(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{variable} is not set: run `make chart`")).into()
}

/// The kubeconfig of the test cluster.
pub fn kubeconfig() -> PathBuf {
    path_variable("PODIUM_CHART_KUBECONFIG")
}

/// Runs helm without the user's configuration.
pub fn helm(arguments: &[&str]) -> Output {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    let mut command = Command::new(path_variable("PODIUM_HELM"));
    command.args(arguments).env_clear().env("HOME", home);
    if let Some(kubeconfig) = std::env::var_os("PODIUM_CHART_KUBECONFIG") {
        command.env("KUBECONFIG", kubeconfig);
    }
    command.stdin(Stdio::null()).output().expect("helm runs")
}

/// Runs kubectl as an administrator of the test cluster.
pub fn kubectl(arguments: &[&str]) -> Output {
    let kubectl = kubeconfig().with_file_name("bin").join("kubectl");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl");
    let mut command = Command::new(kubectl);
    command.args(arguments).env_clear().env("HOME", home).env("KUBECONFIG", kubeconfig());
    command.stdin(Stdio::null()).output().expect("kubectl runs")
}

/// Returns stdout, and panics if the command failed.
pub fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), errors(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns stderr.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs kubectl and returns stdout, and panics if it failed.
pub fn kubectl_output(arguments: &[&str]) -> String {
    text(&kubectl(arguments))
}

/// Gets an object, if it exists.
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
    eventually("the API server accepts the objects", || {
        let output = kubectl(&["apply", "--server-side", "--filename", file.to_str().expect("UTF-8")]);
        if output.status.success() { Ok(()) } else { Err(errors(&output)) }
    });
}

/// Parses a file of manifests.
pub fn objects(manifests: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(manifests);
    let documents = documents.map(|document| Value::deserialize(document).expect("a manifest"));
    documents.filter(|document| !document.is_null()).collect()
}

/// Calls `check` until it succeeds, and returns its result.
pub fn eventually<T>(expected: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match check() {
            Ok(result) => return result,
            Err(observed) if Instant::now() >= deadline => panic!("timeout, expected: {expected}; observed: {observed}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
