//! Waits for a state, never for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Default timeout of a wait: far longer than on an idle machine, so that a busy one fails no test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats `look` until it succeeds, and returns its value.
///
/// # Panics
/// After [`DEADLINE`], with `what` and the last error.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually_within(DEADLINE, what, look).await
}

/// Like [`eventually`], with another deadline.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("after {} s still not: {what}; seen last: {seen}", patience.as_secs())
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
