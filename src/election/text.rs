//! Text helpers of messages.

/// Returns the first three names and the number of further ones.
pub(super) fn first_names(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}
