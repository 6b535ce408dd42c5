//! The options of replicas, named as those of Kubernetes' own controllers.

use std::time::Duration;

use clap::{ArgAction, Args};
use k8s_openapi::jiff::SignedDuration;
use podium::controller::identity::Identity;
use podium::controller::key::Scope;
use podium::controller::options::Candidacy;
use podium::controller::replicas::default_name;
use podium_campaign::{Clock, InvalidConfig, Timing};

use super::client::Place;

#[derive(Debug, Args)]
pub struct LeaderElectArgs {
    /// Elect one active replica on a Lease; the others are standby. `--leader-elect=false`: this replica is always active. Several
    /// active replicas are safe, and increase the API load.
    #[arg(
        long,
        env = "PODIUM_LEADER_ELECT",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    leader_elect: bool,
    /// Namespace of that Lease. Default: the namespace of the pod ($POD_NAMESPACE, or that of its ServiceAccount); outside a pod the
    /// first of --namespaces, or that of the kubeconfig.
    #[arg(long, env = "PODIUM_LEADER_ELECT_RESOURCE_NAMESPACE")]
    leader_elect_resource_namespace: Option<String>,
    /// Name of that Lease. Default: podium-controller, with --namespaces followed by a hash of them, so that controllers of different
    /// namespaces are all active.
    #[arg(long, env = "PODIUM_LEADER_ELECT_RESOURCE_NAME")]
    leader_elect_resource_name: Option<String>,
    /// Time after which a standby replaces an active replica that does not renew. Whole seconds.
    #[arg(long, env = "PODIUM_LEADER_ELECT_LEASE_DURATION", default_value = "8s", value_parser = duration)]
    leader_elect_lease_duration: Duration,
    /// Time for which a replica stays active without a successful renewal.
    #[arg(long, env = "PODIUM_LEADER_ELECT_RENEW_DEADLINE", default_value = "6s", value_parser = duration)]
    leader_elect_renew_deadline: Duration,
    /// Pause between two renewals. Each renewal is a write to the API server.
    #[arg(long, env = "PODIUM_LEADER_ELECT_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    leader_elect_retry_period: Duration,
}

/// Namespace and name.
type OwnLease = (String, String);

impl LeaderElectArgs {
    /// Returns namespace and name of Podium's own Lease, and the candidacy of this replica, if it campaigns.
    ///
    /// # Errors
    /// Invalid durations, by the names of their options.
    pub fn candidacy(
        self,
        scope: &Scope,
        place: Place,
        identity: Identity,
    ) -> Result<(OwnLease, Option<Candidacy>), String> {
        let Self {
            leader_elect,
            leader_elect_resource_namespace: namespace,
            leader_elect_resource_name: name,
            leader_elect_lease_duration: lease_duration,
            leader_elect_renew_deadline: renew_deadline,
            leader_elect_retry_period: retry_period,
        } = self;
        let timing = Timing { lease_duration, renew_deadline, retry_period };
        timing.validate().map_err(|error| explain(&error))?;
        let first = match scope {
            Scope::Cluster => None,
            // The controller's permissions on Leases there are enough.
            Scope::Namespaces(namespaces) => namespaces.first().cloned(),
        };
        let namespace = given(namespace).or(place.pod_namespace).or(first).unwrap_or(place.default_namespace);
        let name = given(name).unwrap_or_else(|| default_name(scope));
        let own_lease = (namespace.clone(), name.clone());
        let candidacy = Candidacy { namespace, name, identity, timing, clock: Clock::machine() };
        Ok((own_lease, leader_elect.then_some(candidacy)))
    }
}

/// Returns `None` for an empty option, which templates may leave.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn explain(error: &InvalidConfig) -> String {
    let option = |text: &str| {
        ["lease_duration", "renew_deadline", "retry_period"]
            .iter()
            .fold(text.to_owned(), |text, field| text.replace(field, &format!("--leader-elect-{}", field.replace('_', "-"))))
    };
    option(&error.to_string())
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "a duration must be a number with its unit, such as 15s or 500ms".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(timing: Timing) -> LeaderElectArgs {
        LeaderElectArgs {
            leader_elect: true,
            leader_elect_resource_namespace: Some(String::new()),
            leader_elect_resource_name: None,
            leader_elect_lease_duration: timing.lease_duration,
            leader_elect_renew_deadline: timing.renew_deadline,
            leader_elect_retry_period: timing.retry_period,
        }
    }

    fn namespace(scope: &Scope, pod_namespace: Option<&str>) -> String {
        let place =
            Place { pod_namespace: pod_namespace.map(str::to_owned), default_namespace: "context".into(), pod: None };
        args(Timing::default()).candidacy(scope, place, Identity::of_host("host")).unwrap().0.0
    }

    #[test]
    fn lease_namespace_is_the_pods_then_the_first_served_then_the_contexts() {
        let served = Scope::Namespaces(["b".to_owned(), "a".to_owned()].into());
        assert_eq!(namespace(&served, Some("own")), "own");
        assert_eq!(namespace(&served, None), "a");
        assert_eq!(namespace(&Scope::Cluster, None), "context");
    }

    #[test]
    fn invalid_durations_are_rejected_by_the_names_of_the_options() {
        let timing = Timing { lease_duration: Duration::from_secs(10), ..Timing::default() };
        let place = Place { pod_namespace: None, default_namespace: "default".into(), pod: None };
        let error = args(timing).candidacy(&Scope::Cluster, place, Identity::of_host("host")).unwrap_err();
        assert!(error.starts_with("--leader-elect-lease-duration is 10s: must be at least 12s"), "{error}");
        assert!(error.contains("with the --leader-elect-renew-deadline 10s"), "{error}");
    }

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: LeaderElectArgs,
    }

    #[test]
    fn leader_election_is_on_by_default() {
        for (arguments, expected) in [
            (&["podium"][..], true),
            (&["podium", "--leader-elect"], true),
            (&["podium", "--leader-elect=true"], true),
            (&["podium", "--leader-elect=false"], false),
        ] {
            let args = <Command as clap::Parser>::try_parse_from(arguments).unwrap().args;
            let timing =
                [args.leader_elect_lease_duration, args.leader_elect_renew_deadline, args.leader_elect_retry_period];
            let default = podium::controller::replicas::TIMING;
            assert_eq!(timing, [default.lease_duration, default.renew_deadline, default.retry_period]);
            let place = Place { pod_namespace: None, default_namespace: "default".into(), pod: None };
            let (own_lease, candidacy) = args.candidacy(&Scope::Cluster, place, Identity::of_host("host")).unwrap();
            assert_eq!(own_lease, ("default".into(), "podium-controller".into()));
            assert_eq!(candidacy.is_some(), expected, "{arguments:?}");
        }
        assert!(<Command as clap::Parser>::try_parse_from(["podium", "--leader-elect-lease-duration", "15"]).is_err());
    }

    #[test]
    fn durations_have_the_format_of_kubernetes() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["15", "", "-3s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
