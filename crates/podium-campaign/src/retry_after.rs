//! `Retry-After`: how long an overloaded API server asks its clients to wait, from `details.retryAfterSeconds` of a Status.

use std::time::Duration;

use kube::core::Status;

/// The longest pause that is honored. Admission webhooks of users respond, too, and must not stop an election for hours.
const LONGEST: Duration = Duration::from_secs(60);

/// Returns how long to wait before the next request, if the error says so.
pub fn of(error: &kube::Error) -> Option<Duration> {
    match error {
        kube::Error::Api(status) => of_status(status),
        _ => None,
    }
}

/// Returns how long to wait before the next request, if the Status says so and its code [asks for a pause](asks_for_pause).
pub fn of_status(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let asked = (asks_for_pause(status.code) && seconds > 0).then(|| Duration::from_secs(seconds.into()));
    asked.map(|asked| asked.min(LONGEST))
}

/// Returns whether `Retry-After` of a response with this code means a pause. As in client-go: 429 and server errors.
pub fn asks_for_pause(code: u16) -> bool {
    code == 429 || code >= 500
}
