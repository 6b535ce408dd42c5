//! Replicas of the controller elect an active one on Podium's own Lease, to save work: that several elect at once does no
//! harm, so nothing but the number of requests hangs on it.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use podium_campaign::{Campaign, CampaignConfig, Claimed, Clock, InvalidConfig, Leadership, LeaseLock, Timing};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::identity::Identity;
use super::observe::world::Scope;
use super::server::Server;
use crate::hash::fnv;

use crate::api::names;

/// How a replica campaigns: on Podium's own Lease, which no Election may have
/// ([`Limits`](super::observe::settings::Limits)).
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
    /// How often it renews, and how long the others wait for it.
    pub timing: Timing,
    /// The clocks that the campaign runs on.
    pub clock: Clock,
}

/// The durations of Podium's own Lease, unless told otherwise. One renewal in 2 s, as with Kubernetes' own controllers; but
/// the others wait half as long, because two at once do no harm here and nobody at all is worse.
pub const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(8),
    renew_deadline: Duration::from_secs(6),
    retry_period: Duration::from_secs(2),
};

/// The name of the own Lease of controllers that serve this scope: controllers that serve different namespaces do not stand
/// in each other's way.
pub fn default_name(scope: &Scope) -> String {
    match scope {
        Scope::Cluster => "podium-controller".into(),
        Scope::Namespaces(namespaces) => {
            let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
            format!("podium-controller-{:016x}", fnv(names.join(",").bytes()))
        }
    }
}

/// Whether this replica is the active one.
#[derive(Clone, Debug)]
pub struct Activity(Option<Leadership>);

impl Activity {
    /// That of one that does not campaign: it always is.
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether it is, at this moment. Also where it is denied the Lease: several that are active cost requests, and none at all
    /// costs every election.
    pub fn is_active(&self) -> bool {
        self.0.as_ref().is_none_or(|leadership| leadership.leads() || leadership.is_denied())
    }

    /// Whether it is active without the Lease.
    pub fn is_denied(&self) -> bool {
        self.0.as_ref().is_some_and(|leadership| !leadership.leads() && leadership.is_denied())
    }

    /// Why the campaign does not get on, if it does not.
    pub fn trouble(&self) -> Option<String> {
        self.0.as_ref()?.problem()
    }

    /// Waits until it is. Says meanwhile which one is, and that this one is ready.
    pub async fn begins(&mut self) {
        let Some(leadership) = &mut self.0 else { return };
        let mut told = None;
        while !leadership.leads() {
            if leadership.is_denied() {
                warn!("active without the Lease of the replicas, so that others may be active as well");
                return;
            }
            let holder = leadership.holder().filter(|holder| !holder.expired).map(|holder| holder.identity);
            if holder.is_some() && holder != told {
                info!(active = holder, "caches in sync, standing by");
                told = holder;
            }
            if !leadership.changed().await {
                // The end of the campaign is somebody else's to tell.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until it is not any more.
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

/// The task that campaigns, its end, and what makes it leave when it is dropped.
type UnderWay = (AbortHandle, oneshot::Receiver<Result<(), Claimed>>, oneshot::Sender<()>);

/// The campaign of one replica.
pub struct Replica {
    /// Whether it is the active one.
    pub activity: Activity,
    campaign: Option<UnderWay>,
}

impl Replica {
    /// Begins to campaign, if this replica is to, in a task of this server.
    ///
    /// # Errors
    /// Durations that do not work together.
    pub fn start<S: Server>(server: &S, client: &Client, candidacy: Option<Candidacy>) -> Result<Self, InvalidConfig> {
        let Some(Candidacy { namespace, name, identity, timing, clock }) = candidacy else {
            return Ok(Self { activity: Activity::always(), campaign: None });
        };
        let lock = LeaseLock::new(client.clone(), &namespace, &name).field_manager(names::MANAGER);
        info!(lease = format!("{namespace}/{name}"), %identity, "campaigning");
        let settings = CampaignConfig {
            timing,
            identity: identity.to_string(),
            has_ended: Arc::new(move |holder| identity.knows_ended(holder)),
            request_timeout: None,
            resumes: true,
        };
        let campaign = Campaign::with_clock(lock, settings, clock)?;
        let activity = Activity(Some(campaign.leadership()));
        let (leave, left) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        let task = tokio::spawn(server.around(async move {
            let campaign = campaign.run(async {
                // Or the sender is gone: as well a reason to leave.
                let _ = left.await;
            });
            let _ = tell.send(campaign.await);
        }));
        Ok(Self { activity, campaign: Some((task.abort_handle(), ended, leave)) })
    }

    /// Waits for the end of the campaign, which has none unless the Lease is an Election's.
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

    /// Ends the campaign where it stands. Nothing is written any more, not even the release: the Lease expires.
    pub fn abandon(&mut self) {
        if let Some((task, ..)) = self.campaign.take() {
            task.abort();
        }
    }

    /// Gives up the Lease, so that another replica need not wait. Takes no longer than `patience`.
    pub async fn leave(self, patience: Duration) {
        let Some((_, ended, leave)) = self.campaign else { return };
        let was_active = self.activity.is_active();
        let began = Instant::now();
        drop(leave);
        match tokio::time::timeout(patience, ended).await {
            Ok(_) if was_active => info!(took_ms = began.elapsed().as_millis(), "released the Lease"),
            Ok(_) => {}
            Err(_) => warn!("the Lease could not be released in time: the others wait until it expires"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_different_namespaces_have_different_leases_and_replicas_the_same() {
        let scope = |names: &[&str]| Scope::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(default_name(&Scope::Cluster), "podium-controller");
        assert_eq!(default_name(&scope(&["a", "b"])), default_name(&scope(&["b", "a"])));
        let names = [Scope::Cluster, scope(&["a"]), scope(&["b"]), scope(&["a", "b"])].map(|scope| default_name(&scope));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
    }

    #[test]
    fn the_durations_work_together() {
        assert_eq!(TIMING.validate(), Ok(()));
    }
}
