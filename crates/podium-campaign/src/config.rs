//! The configuration of a campaign, and its validation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The maximum error of a clock's rate, in percent of true time.
const CLOCK_ERROR_PERCENT: u32 = 5;

/// The jitter of retries without leadership: up to this many times the retry period is added, so that campaigners that start together
/// do not stay together. As in client-go.
pub(super) const JITTER: f64 = 1.2;

/// The shortest pause between two requests.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The durations of a campaign. Campaigners for one lock may have different ones: the others wait for the duration that the holder
/// wrote into the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time after which the others expire a holder that does not renew. Whole seconds, because the lock holds no fractions.
    pub lease_duration: Duration,
    /// Time for which a holder leads, from the start of its last successful renewal.
    pub renew_deadline: Duration,
    /// Pause between two renewals, and between two reads of the others.
    pub retry_period: Duration,
}

impl Default for Timing {
    /// Returns client-go's defaults: 15 s, 10 s and 2 s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease_duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) }
    }
}

/// An invalid field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidConfig {
    /// The field: `lease_duration`, `renew_deadline`, `retry_period` or `identity`.
    pub field: &'static str,
    /// Its value, and what it must be.
    pub problem: String,
}

impl Timing {
    /// Checks the durations.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { lease_duration, renew_deadline, retry_period } = *self;
        let invalid = |field, problem| Err(InvalidConfig { field, problem });
        if lease_duration.subsec_nanos() != 0 || lease_duration.as_secs() == 0 {
            return invalid("lease_duration", format!("is {lease_duration:?}: must be whole seconds, at least 1s"));
        }
        if i32::try_from(lease_duration.as_secs()).is_err() {
            return invalid("lease_duration", format!("is {lease_duration:?}: must be at most {} s", i32::MAX));
        }
        // The deadline on the slowest clock of a holder must pass before the fastest clock of another process expires it.
        let waited = lease_duration * (100 - CLOCK_ERROR_PERCENT);
        let led = renew_deadline.checked_mul(100 + CLOCK_ERROR_PERCENT);
        if led.is_none_or(|led| waited < led) {
            let shortest = renew_deadline.as_secs_f64() * f64::from(100 + CLOCK_ERROR_PERCENT);
            let shortest = (shortest / f64::from(100 - CLOCK_ERROR_PERCENT)).ceil();
            let problem = format!(
                "is {lease_duration:?}: must be at least {shortest}s with the renew_deadline {renew_deadline:?}, \
                 because clocks may be wrong by {CLOCK_ERROR_PERCENT} %"
            );
            return invalid("lease_duration", problem);
        }
        if retry_period < SHORTEST_RETRY {
            return invalid("retry_period", format!("is {retry_period:?}: must be at least {SHORTEST_RETRY:?}"));
        }
        if retry_period >= renew_deadline || retry_period.mul_f64(JITTER) >= renew_deadline {
            let problem =
                format!("is {renew_deadline:?}: must be more than {JITTER} times the retry_period, {retry_period:?}");
            return invalid("renew_deadline", problem);
        }
        Ok(())
    }
}

/// Returns whether the process of this identity is known to have ended.
pub type HasEnded = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The configuration of a campaign.
#[derive(Clone)]
pub struct CampaignConfig {
    /// The holder identity of this process. Unique among the campaigners for a lock.
    pub identity: String,
    /// The durations.
    pub timing: Timing,
    /// Recognizes a holder whose process has ended, such as a former process of the same pod, so that the campaign need not wait for
    /// it. Called once, with the holder of the first observation.
    pub has_ended: HasEnded,
    /// The timeout of a request. `None`: half of the time that is left of the renew deadline when a renewal is due, so that one lost
    /// request leaves time for another.
    pub request_timeout: Option<Duration>,
    /// Continues at once with a record of this identity in the first observation, as that of a former process. If false, the campaign
    /// waits until it expires, because another process of this identity may live.
    pub resumes: bool,
    /// Others create the lock and nominate its holder: this process acquires it only while
    /// [`Campaigner::nominate`](crate::Campaigner::nominate) says so, and never creates it. A lock without a holder and without the mark
    /// of a release was created anew or edited, and somebody may lead: it is acquired only after it was observed unchanged for a lease
    /// duration. So no deletion and no edit makes two leaders, also for a process that starts meanwhile.
    pub nominated: bool,
}

impl CampaignConfig {
    /// Returns the configuration with client-go's durations, and without knowledge of ended processes.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            timing: Timing::default(),
            has_ended: Arc::new(|_| false),
            request_timeout: None,
            resumes: true,
            nominated: false,
        }
    }

    /// Returns the longest timeout of a request.
    pub fn request_timeout(&self) -> Duration {
        let Timing { renew_deadline, retry_period, .. } = self.timing;
        self.request_timeout.unwrap_or(renew_deadline.saturating_sub(retry_period) / 2)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { identity, timing, has_ended: _, request_timeout: _, resumes: _, nominated: _ } = self;
        if identity.is_empty() {
            let problem = "must not be empty: an empty holder means that the lock is free".into();
            return Err(InvalidConfig { field: "identity", problem });
        }
        timing.validate()
    }
}

impl fmt::Debug for CampaignConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, timing, has_ended: _, request_timeout: _, resumes: _, nominated: _ } = self;
        formatter.debug_struct("CampaignConfig").field("identity", identity).field("timing", timing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(lease: u64, renew: u64, retry: u64) -> Timing {
        let millis = Duration::from_millis;
        Timing { lease_duration: millis(lease), renew_deadline: millis(renew), retry_period: millis(retry) }
    }

    #[test]
    fn common_durations_are_valid() {
        // client-go's defaults and its example, the old sidecar, OpenShift, and very short ones.
        for (lease, renew, retry) in
            [(15, 10, 2), (60, 15, 5), (10, 5, 2), (137, 107, 26)].map(|(a, b, c)| (a * 1000, b * 1000, c * 1000))
        {
            assert_eq!(timing(lease, renew, retry).validate(), Ok(()));
        }
        assert_eq!(timing(1000, 500, 250).validate(), Ok(()));
        assert_eq!(CampaignConfig::new("me").validate(), Ok(()));
    }

    #[test]
    fn invalid_fields_are_named_with_the_remedy() {
        let longest = (u64::from(u32::MAX) + 1) * 1000;
        for (lease, renew, retry, field, remedy) in [
            (15_000, 10_000, 0, "retry_period", "at least 100ms"),
            (15_000, 2_400, 2_000, "renew_deadline", "must be more than 1.2 times the retry_period, 2s"),
            (15_500, 10_000, 2_000, "lease_duration", "whole seconds"),
            (0, 500, 250, "lease_duration", "at least 1s"),
            (10_000, 10_000, 2_000, "lease_duration", "at least 12s"),
            (11_000, 10_000, 2_000, "lease_duration", "at least 12s"),
            (longest, 10_000, 2_000, "lease_duration", "at most 2147483647 s"),
        ] {
            let error = timing(lease, renew, retry).validate().unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
        }
        assert_eq!(CampaignConfig::new("").validate().unwrap_err().field, "identity");
        let most = Timing { renew_deadline: Duration::MAX / 2, ..timing(15_000, 0, 2_000) };
        assert_eq!(most.validate().unwrap_err().field, "lease_duration");
        let most = Timing { retry_period: Duration::MAX, ..timing(15_000, 10_000, 0) };
        assert_eq!(most.validate().unwrap_err().field, "renew_deadline");
    }
}
