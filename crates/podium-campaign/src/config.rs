//! What a campaigner is told, and which settings do not work together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How far the rates of two machines' clocks may differ, each in percent of true time.
const CLOCK_ERROR_PERCENT: u32 = 5;

/// How the pauses between attempts of those who do not lead vary: up to this many times the retry period is added, so that
/// campaigners that start together do not stay together. client-go's own figure.
pub(super) const JITTER: f64 = 1.2;

/// The shortest pause between two requests.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The durations of a campaign. All who campaign for one lock may have their own: how long a holder is waited for is what it
/// wrote into the lock itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the others wait for a holder that they no longer see renewing. Whole seconds: the lock holds no fractions.
    pub lease_duration: Duration,
    /// How long a holder leads on after it began the last renewal that succeeded.
    pub renew_deadline: Duration,
    /// The pause between two renewals, and between two looks of those who wait.
    pub retry_period: Duration,
}

impl Default for Timing {
    /// client-go's defaults: 15 s, 10 s and 2 s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease_duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) }
    }
}

/// CampaignConfig that cannot work. Says which, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidConfig {
    /// The field: `lease_duration`, `renew_deadline`, `retry_period` or `identity`.
    pub field: &'static str,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

impl Timing {
    /// Checks that these durations work together.
    ///
    /// # Errors
    /// The first field that does not, with the remedy.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { lease_duration, renew_deadline, retry_period } = *self;
        let invalid = |field, problem| Err(InvalidConfig { field, problem });
        if lease_duration.subsec_nanos() != 0 || lease_duration.as_secs() == 0 {
            return invalid("lease_duration", format!("is {lease_duration:?}: use whole seconds, at least 1s"));
        }
        if i32::try_from(lease_duration.as_secs()).is_err() {
            return invalid("lease_duration", format!("is {lease_duration:?}: use at most {} s", i32::MAX));
        }
        // What the slowest clock of a holder takes for its deadline has to pass before the fastest clock of another expires it.
        let waited = lease_duration * (100 - CLOCK_ERROR_PERCENT);
        let led = renew_deadline.checked_mul(100 + CLOCK_ERROR_PERCENT);
        if led.is_none_or(|led| waited < led) {
            let shortest = renew_deadline.as_secs_f64() * f64::from(100 + CLOCK_ERROR_PERCENT);
            let shortest = (shortest / f64::from(100 - CLOCK_ERROR_PERCENT)).ceil();
            let problem = format!(
                "is {lease_duration:?}: use at least {shortest}s with the renew_deadline {renew_deadline:?}, \
                 because clocks may go wrong by {CLOCK_ERROR_PERCENT} %"
            );
            return invalid("lease_duration", problem);
        }
        if retry_period < SHORTEST_RETRY {
            return invalid("retry_period", format!("is {retry_period:?}: use at least {SHORTEST_RETRY:?}"));
        }
        if retry_period >= renew_deadline || retry_period.mul_f64(JITTER) >= renew_deadline {
            let problem = format!("is {renew_deadline:?}: use more than {JITTER} times the retry_period, {retry_period:?}");
            return invalid("renew_deadline", problem);
        }
        Ok(())
    }
}

/// Whether the holder of this identity is known to have ended.
pub type HasEnded = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Who campaigns, and how.
#[derive(Clone)]
pub struct CampaignConfig {
    /// Who this is: what the lock names as its holder. Unique among those who campaign.
    pub identity: String,
    /// The durations.
    pub timing: Timing,
    /// Tells holders that are known to have ended, so that they need not be waited for: a former life of the same process,
    /// for example. Asked once, about the holder that is found at the first look.
    pub has_ended: HasEnded,
    /// How long one request may take. `None`: half of what is left of the renew deadline when a renewal is due, so that after one
    /// lost request there is time for another.
    pub request_timeout: Option<Duration>,
    /// Whether a record of this identity that is found at the first look is taken for that of a former life, and gone on with at
    /// once. If not, it is waited for, as for anybody else's: another process of that name may live.
    pub resumes: bool,
}

impl CampaignConfig {
    /// With client-go's durations, and without knowledge of former lives.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            timing: Timing::default(),
            has_ended: Arc::new(|_| false),
            request_timeout: None,
            resumes: true,
        }
    }

    /// How long one request may take where nothing shorter bounds it.
    pub fn request_timeout(&self) -> Duration {
        let Timing { renew_deadline, retry_period, .. } = self.timing;
        self.request_timeout.unwrap_or(renew_deadline.saturating_sub(retry_period) / 2)
    }

    /// Checks that these settings work.
    ///
    /// # Errors
    /// The first field that does not, with the remedy.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { identity, timing, has_ended: _, request_timeout: _, resumes: _ } = self;
        if identity.is_empty() {
            let problem = "is empty: an empty holder means that nobody leads".into();
            return Err(InvalidConfig { field: "identity", problem });
        }
        timing.validate()
    }
}

impl fmt::Debug for CampaignConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, timing, has_ended: _, request_timeout: _, resumes: _ } = self;
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
    fn settings_in_use_elsewhere_are_accepted() {
        // client-go's defaults and its example, the old sidecar, OpenShift's, a very short one.
        for (lease, renew, retry) in
            [(15, 10, 2), (60, 15, 5), (10, 5, 2), (137, 107, 26)].map(|(a, b, c)| (a * 1000, b * 1000, c * 1000))
        {
            assert_eq!(timing(lease, renew, retry).validate(), Ok(()));
        }
        assert_eq!(timing(1000, 500, 250).validate(), Ok(()));
        assert_eq!(CampaignConfig::new("me").validate(), Ok(()));
    }

    #[test]
    fn settings_that_do_not_work_together_name_the_field_and_the_remedy() {
        let longest = (u64::from(u32::MAX) + 1) * 1000;
        for (lease, renew, retry, field, remedy) in [
            (15_000, 10_000, 0, "retry_period", "at least 100ms"),
            (15_000, 2_400, 2_000, "renew_deadline", "more than 1.2 times the retry_period, 2s"),
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
