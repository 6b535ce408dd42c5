//! The API server accepts the manifests of the how-to guides.

use std::fs;

use crate::release::remove_crd;
use crate::tools::{errors, eventually, folder, kubectl, path, text};

/// Returns the blocks of YAML in a page that are whole manifests.
fn manifests(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("\n```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.filter(|block| block.starts_with("apiVersion:"))
}

#[test]
fn manifests_of_the_how_to_guides_are_accepted_without_a_warning() {
    let folder = folder("documented");
    let crd = path("crds/elections.podium.dev.yaml");
    text(&kubectl(&["apply", "--server-side", "--filename", crd.to_str().expect("UTF-8")]));
    eventually("the CRD is served", || {
        let output = kubectl(&["get", "elections"]);
        if output.status.success() { Ok(()) } else { Err(errors(&output)) }
    });
    let (mut accepted, mut problems) = (0, Vec::new());
    for page in fs::read_dir(path("docs/how-to")).expect("a directory") {
        let page = page.expect("an entry").path();
        for manifest in manifests(&fs::read_to_string(&page).expect("text")) {
            let file = folder.join("manifest.yaml");
            fs::write(&file, manifest).expect("a writable directory");
            let file = file.to_str().expect("UTF-8");
            let output = kubectl(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file]);
            match errors(&output) {
                none if none.is_empty() && output.status.success() => accepted += 1,
                printed => problems.push(format!("{}: {printed}{manifest}", page.display())),
            }
        }
    }
    remove_crd();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(accepted >= 8, "{accepted}");
}
