//! Text helpers of messages.

/// Returns the first three of these texts and the number of further ones.
pub(super) fn first_of<T: AsRef<str>>(texts: &[T]) -> String {
    let shown = texts.iter().take(3).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if texts.len() > 3 { format!("{shown} and {} more", texts.len() - 3) } else { shown }
}

/// Returns the beginning of a text that a user wrote, which may be longer than a message.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
