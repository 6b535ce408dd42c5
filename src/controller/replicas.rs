//! Election of the active replica on Podium's own Lease. It only reduces API load: several active replicas are safe.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use podium_campaign::{Campaign, CampaignConfig, Claimed, InvalidConfig, Leadership, LeaseLock, Timing};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::key::Scope;
use super::options::Candidacy;
use super::server::ApiServer;
use crate::api::names;
use crate::hash::fnv;

/// Default durations of Podium's own Lease. It is renewed every 2 s, as those of Kubernetes' controllers. It expires after half
/// of their time, because two active replicas are safe, and none at all is worse.
pub const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(8),
    renew_deadline: Duration::from_secs(6),
    retry_period: Duration::from_secs(2),
};

/// Returns the default name of Podium's own Lease. Controllers of different namespaces have different Leases, so that each has
/// an active replica.
pub fn default_name(scope: &Scope) -> String {
    match scope {
        Scope::Cluster => "podium-controller".into(),
        Scope::Namespaces(namespaces) => {
            let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
            format!("podium-controller-{:016x}", fnv(names.join(",").bytes()))
        }
    }
}

/// Activity of this replica: active or standby.
#[derive(Clone, Debug)]
pub struct Activity(Option<Leadership>);

impl Activity {
    /// Returns the activity of a replica that does not campaign: it is always active.
    pub fn always() -> Self {
        Self(None)
    }

    /// Returns whether this replica is active now. It also is where it has no permission for the Lease: several active replicas
    /// cost requests, but without any there is no election.
    pub fn is_active(&self) -> bool {
        self.0.as_ref().is_none_or(|leadership| leadership.leads() || leadership.is_denied())
    }

    /// Returns whether the replica is active without the Lease.
    pub fn is_denied(&self) -> bool {
        self.0.as_ref().is_some_and(|leadership| !leadership.leads() && leadership.is_denied())
    }

    /// Returns why the campaign fails, if it does.
    pub fn trouble(&self) -> Option<String> {
        self.0.as_ref()?.problem()
    }

    /// Waits until this replica is active. Meanwhile it logs which replica is.
    pub async fn begins(&mut self) {
        let Some(leadership) = &mut self.0 else { return };
        let mut reported = None;
        while !leadership.leads() {
            if leadership.is_denied() {
                warn!("active without the Lease of the replicas, so other replicas may be active, too");
                return;
            }
            let holder = leadership.holder().filter(|holder| !holder.expired).map(|holder| holder.identity);
            if holder.is_some() && holder != reported {
                info!(active = holder, "caches in sync, standing by");
                reported = holder;
            }
            if !leadership.changed().await {
                // `Replica::ended` reports the end of the campaign.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until this replica is no longer active.
    pub async fn ends(&mut self) {
        let Some(leadership) = &mut self.0 else { return std::future::pending().await };
        loop {
            leadership.lost().await;
            if !leadership.is_denied() {
                return;
            }
            if !leadership.changed().await {
                return std::future::pending().await;
            }
        }
    }
}

/// The task of the campaign, its result, and the sender that stops it when dropped.
type Running = (AbortHandle, oneshot::Receiver<Result<(), Claimed>>, oneshot::Sender<()>);

/// The campaign of one replica.
pub struct Replica {
    /// Active or standby.
    pub activity: Activity,
    campaign: Option<Running>,
}

impl Replica {
    /// Starts the campaign, if this replica has a candidacy, in a task of this server.
    ///
    /// # Errors
    /// Durations that contradict each other.
    pub fn start<S: ApiServer>(server: &S, client: &Client, candidacy: Option<Candidacy>) -> Result<Self, InvalidConfig> {
        let Some(Candidacy { namespace, name, identity, timing, clock }) = candidacy else {
            return Ok(Self { activity: Activity::always(), campaign: None });
        };
        let lock = LeaseLock::new(client.clone(), &namespace, &name).field_manager(names::MANAGER);
        info!(lease = format!("{namespace}/{name}"), %identity, "campaigning");
        let name_of_process = identity.to_string();
        let settings = CampaignConfig {
            timing,
            has_ended: Arc::new(move |holder| identity.knows_ended(holder)),
            ..CampaignConfig::new(name_of_process)
        };
        let campaign = Campaign::with_clock(lock, settings, clock)?;
        let activity = Activity(Some(campaign.leadership()));
        let (leave, left) = oneshot::channel();
        let (sender, ended) = oneshot::channel();
        let task = tokio::spawn(server.around(async move {
            let campaign = campaign.run(async {
                // An error: the sender was dropped, which stops the campaign as well.
                let _ = left.await;
            });
            let _ = sender.send(campaign.await);
        }));
        Ok(Self { activity, campaign: Some((task.abort_handle(), ended, leave)) })
    }

    /// Waits for the end of the campaign, which only ends by itself when an Election uses its Lease.
    pub async fn ended(&mut self) -> Option<Claimed> {
        match &mut self.campaign {
            None => std::future::pending().await,
            Some((_, ended, _)) => {
                let ended = ended.await;
                self.campaign = None;
                ended.ok()?.err()
            }
        }
    }

    /// Aborts the campaign without releasing the Lease, which expires.
    pub fn abandon(&mut self) {
        if let Some((task, ..)) = self.campaign.take() {
            task.abort();
        }
    }

    /// Releases the Lease within `timeout`, so that another replica need not wait.
    pub async fn leave(self, timeout: Duration) {
        let Some((_, ended, leave)) = self.campaign else { return };
        let was_active = self.activity.is_active();
        let began = Instant::now();
        drop(leave);
        match tokio::time::timeout(timeout, ended).await {
            Ok(_) if was_active => info!(took_ms = began.elapsed().as_millis(), "released the Lease"),
            Ok(_) => {}
            Err(_) => warn!("failed to release the Lease in time: the other replicas wait until it expires"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_different_namespaces_have_different_leases() {
        let scope = |names: &[&str]| Scope::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(default_name(&Scope::Cluster), "podium-controller");
        assert_eq!(default_name(&scope(&["a", "b"])), default_name(&scope(&["b", "a"])));
        let names = [Scope::Cluster, scope(&["a"]), scope(&["b"]), scope(&["a", "b"])].map(|scope| default_name(&scope));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
    }

    #[test]
    fn default_durations_are_valid() {
        assert_eq!(TIMING.validate(), Ok(()));
    }
}
