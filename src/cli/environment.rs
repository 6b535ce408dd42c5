//! The environment variables of SupportTools' leader-elector and of its forks.

use std::path::PathBuf;
use std::time::Duration;

use podium_campaign::Timing;

use super::leader_elect::duration;

/// The durations of a fork.
const DURATIONS: [&str; 3] = ["LE_LEASE_DURATION", "LE_RENEW_DEADLINE", "LE_RETRY_PERIOD"];

/// The prefix of a fork's variables for the election.
const ELECTION: &str = "LE_";

/// Returns the directory of a fork's status file. The sidecar creates it, as the forks do.
pub fn status_directory(given: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let directory = given("STATUS_DIR").or_else(|| given("LEASE_DIRECTORY"))?;
    Some(format!("{}/", directory.trim_end_matches('/')).into())
}

/// Returns the durations. Default: those that all the forks have.
///
/// # Errors
/// The variable whose value is no duration, or does not fit the others.
pub fn timing(given: impl Fn(&str) -> Option<String>) -> Result<Timing, String> {
    let read = |name: &str, default: Duration| match given(name) {
        Some(text) => duration(text.trim()).map_err(|error| format!("{name} {text:?} is not understood: {error}")),
        None => Ok(default),
    };
    let defaults = Timing::default();
    let [lease, renew, retry] = DURATIONS;
    let timing = Timing {
        lease_duration: read(lease, defaults.lease_duration)?,
        renew_deadline: read(renew, defaults.renew_deadline)?,
        retry_period: read(retry, defaults.retry_period)?,
    };
    timing.validate().map_err(|error| {
        let fields = ["lease_duration", "renew_deadline", "retry_period"];
        fields.iter().zip(DURATIONS).fold(error.to_string(), |text, (field, name)| text.replace(field, name))
    })?;
    Ok(timing)
}

/// Returns a message about each variable without effect. `campaigns`: the durations have an effect.
pub fn without_effect(
    names: impl IntoIterator<Item = String>,
    given: impl Fn(&str) -> Option<String>,
    campaigns: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    let is_set =
        |name: &str| given(name).is_some_and(|value| !["false", "0", "no"].contains(&value.to_lowercase().as_str()));
    if is_set("LABEL_POD_ROLE") {
        notes.push(
            "LABEL_POD_ROLE is not supported: a sidecar labels no pod, so a Service that selects role=leader has no endpoint. Create \
             an Election with the label {key: role, value: leader, followerValue: follower}"
                .into(),
        );
    }
    if is_set("STATUS_DIR") {
        notes.push(
            "STATUS_DIR: the leader has the file leader in it; the file follower of some forks is not supported".into(),
        );
    }
    let mut names: Vec<String> = names.into_iter().filter(|name| name.starts_with(ELECTION)).collect();
    names.retain(|name| !(campaigns && DURATIONS.contains(&name.as_str())));
    names.sort();
    if !names.is_empty() {
        notes.push(format!("{} has no effect: it is not supported here", names.join(", ")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn durations_of_the_forks_override_the_defaults() {
        let seconds = Duration::from_secs;
        let all = [("LE_LEASE_DURATION", "30s"), ("LE_RENEW_DEADLINE", "20s"), ("LE_RETRY_PERIOD", "5s")];
        let expected = Timing { lease_duration: seconds(30), renew_deadline: seconds(20), retry_period: seconds(5) };
        assert_eq!(timing(given(&all)), Ok(expected));
        assert_eq!(timing(given(&[])), Ok(Timing::default()));
        let expected = Timing { lease_duration: seconds(60), ..Timing::default() };
        assert_eq!(timing(given(&[("LE_LEASE_DURATION", "1m")])), Ok(expected));
    }

    #[test]
    fn invalid_durations_are_rejected_by_the_names_of_their_variables() {
        for (name, value, words) in [
            (
                "LE_LEASE_DURATION",
                "30",
                "LE_LEASE_DURATION \"30\" is not understood: a duration must be a number with its unit",
            ),
            ("LE_LEASE_DURATION", "5s", "LE_LEASE_DURATION is 5s: must be at least 12s with the LE_RENEW_DEADLINE 10s"),
            ("LE_RETRY_PERIOD", "9s", "LE_RENEW_DEADLINE is 10s: must be more than 1.2 times the LE_RETRY_PERIOD, 9s"),
        ] {
            let error = timing(given(&[(name, value)])).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn variables_without_effect_are_named() {
        let names = || ["LE_RETRY_PERIOD", "LE_RELEASE_ON_CANCEL", "LEASE_NAME"].map(str::to_owned);
        let notes = without_effect(names(), given(&[("LABEL_POD_ROLE", "true"), ("STATUS_DIR", "/x")]), true);
        assert!(notes[0].starts_with("LABEL_POD_ROLE is not supported") && notes[1].starts_with("STATUS_DIR"), "{notes:?}");
        assert_eq!(notes[2], "LE_RELEASE_ON_CANCEL has no effect: it is not supported here");
        let follows = without_effect(names(), given(&[("LABEL_POD_ROLE", "false")]), false);
        assert_eq!(follows, ["LE_RELEASE_ON_CANCEL, LE_RETRY_PERIOD has no effect: it is not supported here"]);
    }

    #[test]
    fn status_directory_is_a_directory_whether_it_exists_or_not() {
        assert_eq!(status_directory(given(&[("STATUS_DIR", "/shared/x")])), Some("/shared/x/".into()));
        assert_eq!(status_directory(given(&[("LEASE_DIRECTORY", "/shared/x/")])), Some("/shared/x/".into()));
        assert_eq!(status_directory(given(&[])), None);
    }
}
