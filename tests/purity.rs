//! The pure files must not name a Kubernetes client, an async runtime or a clock.

use std::path::Path;

/// Words that the pure files must not contain. `api` and `lease::record` are plain data, so they are allowed.
const FORBIDDEN: [&str; 9] =
    ["kube::", "tokio", "futures", "async ", "SystemTime", "Instant", "::now()", "crate::controller", "lease::object"];

#[test]
fn pure_files_name_no_client_no_runtime_and_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files_of = |folder: &str| std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let core = files_of("src/election").chain(files_of("src/election/decide"));
    let others = [
        "src/ids.rs",
        "src/lease/cause.rs",
        "src/lease/record.rs",
        "src/sidecar/readiness.rs",
        "src/watchdog/schedule.rs",
        "crates/podium-campaign/src/action.rs",
        "crates/podium-campaign/src/campaigner.rs",
        "crates/podium-campaign/src/campaigner/state.rs",
        "crates/podium-campaign/src/config.rs",
        "crates/podium-campaign/src/record.rs",
    ];
    let others = others.map(|file| root.join(file));
    let files: Vec<_> = core.filter(|path| path.is_file()).chain(others).collect();
    assert!(files.len() > 11, "{files:?}");
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        for (number, line) in source.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = FORBIDDEN.iter().find(|word| line.contains(*word));
            assert_eq!(found, None, "{}:{}: {line}", file.display(), number + 1);
        }
    }
}
