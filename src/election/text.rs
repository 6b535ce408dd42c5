//! Text helpers of messages.

use super::candidate::Ineligible;
use super::snapshot::Pod;

/// Returns the first three names and the number of further ones.
pub(super) fn first_names(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

/// Returns why these pods are ineligible, the first three of them.
pub(super) fn obstacles<'a>(ineligible: impl Iterator<Item = &'a (&'a Pod, Ineligible)>) -> String {
    let each: Vec<String> = ineligible.map(|(pod, why)| format!("{} {why}", pod.id.name)).collect();
    first_names(&each.iter().map(String::as_str).collect::<Vec<_>>())
}
