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
    let mut checked = 0;
    for page in fs::read_dir(path("docs/how-to")).expect("a directory") {
        let page = page.expect("an entry").path();
        for manifest in manifests(&fs::read_to_string(&page).expect("text")) {
            let file = folder.join("manifest.yaml");
            fs::write(&file, manifest).expect("a writable directory");
            let file = file.to_str().expect("UTF-8");
            // The CRD is served a moment after its creation.
            eventually(&format!("a manifest of {} is accepted", page.display()), || {
                let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file];
                let output = kubectl(&apply);
                let printed = errors(&output);
                if output.status.success() && printed.is_empty() { Ok(()) } else { Err(format!("{printed}{manifest}")) }
            });
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
    remove_crd();
}
