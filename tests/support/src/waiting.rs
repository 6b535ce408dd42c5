//! Waiting for a state of the world, never for time to pass.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take. Far beyond what it takes on an idle machine, so that a busy one fails no test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds what it looks for, and returns that.
///
/// # Panics
/// After [`DEADLINE`], with `what` was awaited and what was seen last.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually_within(DEADLINE, what, look).await
}

/// As [`eventually`], with a deadline of its own.
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
