//! `leader NAME`: the name of the leader's pod, for scripts.

use super::cluster::{Cluster, is_ready};
use super::console;
use super::failure::Failure;
use crate::api::{ElectionStatus, READY};

/// Prints the name of the pod that leads.
///
/// # Errors
/// No pod leads.
pub async fn run(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    let election = cluster.get(name).await?;
    let leader = leader(&format!("{}/{name}", cluster.namespace), &election.status())?;
    console::data(&format!("{leader}\n"))
}

/// The leader, if its label is confirmed.
fn leader(election: &str, status: &ElectionStatus) -> Result<String, Failure> {
    if let Some(leader) = status.leader.clone().filter(|_| is_ready(status)) {
        return Ok(leader);
    }
    let why = match status.condition(READY) {
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => "the controller has not reported yet: check that a controller serves the namespace".into(),
    };
    Err(Failure::Failed(format!("Election {election} has no leader: {why}")))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::{Reason, condition};

    #[test]
    fn unconfirmed_leader_is_not_printed() {
        let status = |holds, reason| {
            let ready = condition(None, READY, holds, (reason, "the message".into()), 1, Timestamp::UNIX_EPOCH);
            ElectionStatus { leader: Some("web-0".into()), conditions: Some(vec![ready]), ..ElectionStatus::default() }
        };
        assert_eq!(leader("default/web", &status(true, Reason::LeaderElected)), Ok("web-0".into()));
        let Err(Failure::Failed(why)) = leader("default/web", &status(false, Reason::LeaderNotActive)) else { panic!() };
        assert_eq!(why, "Election default/web has no leader: LeaderNotActive: the message");
        assert!(leader("default/web", &ElectionStatus::default()).is_err());
    }
}
