//! `podium_campaign` and client-go's own `leaderelection` on one Lease of a real API server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Config};
use podium_campaign::{
    Campaign, CampaignConfig, Claimed, LeaderElectionRecord, Leadership, LeaseLock, Lock, LockError, Timing,
};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{Scenario, eventually, scenario};

/// client-go's example leads for this long after its last renewal: its renew deadline.
pub const CLIENT_GO_DEADLINE: SignedDuration = SignedDuration::from_secs(15);

/// Times of leadership, by the wall clock of this machine. The last one may be open.
type Led = Arc<Mutex<Vec<(Timestamp, Option<Timestamp>)>>>;

/// A `podium_campaign` campaigner in this process.
struct Ours {
    leadership: Leadership,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Claimed>>,
    led: Led,
}

impl Ours {
    async fn start(world: &Scenario, lease: &str, timing: Timing) -> Self {
        let mut config = Config::from_custom_kubeconfig(world.cluster.kubeconfig.clone(), &<_>::default()).await.unwrap();
        config.default_retry = false;
        let lock =
            LeaseLock::new(Client::try_from(config).unwrap(), &world.namespace, lease).annotation("example.com/by", "ours");
        let campaign = Campaign::new(lock, CampaignConfig { timing, ..CampaignConfig::new("ours") }).unwrap();
        let leadership = campaign.leadership();
        let led = Arc::default();
        tokio::spawn(note(leadership.clone(), Arc::clone(&led)));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(campaign.run(async {
            let _ = stopped.await;
        }));
        Self { leadership, stop: Some(stop), task, led }
    }

    async fn stop(&mut self) {
        self.stop = None;
        (&mut self.task).await.expect("no panic").expect("no Election");
    }
}

async fn lock(world: &Scenario, lease: &str) -> LeaseLock {
    let mut config = Config::from_custom_kubeconfig(world.cluster.kubeconfig.clone(), &<_>::default()).await.unwrap();
    config.default_retry = false;
    LeaseLock::new(Client::try_from(config).unwrap(), &world.namespace, lease)
}

async fn note(mut leadership: Leadership, led: Led) {
    while leadership.gained().await {
        led.lock().unwrap().push((Timestamp::now(), None));
        leadership.lost().await;
        led.lock().unwrap().last_mut().unwrap().1 = Some(Timestamp::now());
    }
}

/// Records all holders of the Lease, and their renewal times by the wall clock.
pub fn record(world: &Scenario, lease: &str) -> Arc<Mutex<Vec<(String, Timestamp)>>> {
    let (api, seen) = (world.api::<Lease>(), Arc::<Mutex<Vec<_>>>::default());
    let (only, records) = (WatchParams::default().fields(&format!("metadata.name={lease}")), seen.clone());
    tokio::spawn(async move {
        let mut events = api.watch(&only, "0").await.expect("a watch").boxed();
        while let Some(event) = events.next().await {
            if let Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) = event {
                let spec = lease.spec.unwrap_or_default();
                let renewed = spec.renew_time.map(|MicroTime(time)| time).unwrap_or_default();
                records.lock().unwrap().push((spec.holder_identity.unwrap_or_default(), renewed));
            }
        }
    });
    seen
}

async fn held_by(world: &Scenario, lease: &str, holder: &str) -> Lease {
    eventually(&format!("{holder:?} holds the Lease"), async || {
        let found = world.api::<Lease>().get(lease).await.map_err(|error| error.to_string())?;
        let now = found.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if now == holder { Ok(found) } else { Err(now) }
    })
    .await
}

/// Asserts that `ours` never led while client-go's did: from its first renewal to its release or deadline.
fn assert_no_overlap(ours: &Ours, records: &[(String, Timestamp)]) {
    let led = ours.led.lock().unwrap().clone();
    let others = records.iter().filter(|(holder, _)| !holder.is_empty() && holder != "ours").count();
    assert!(!led.is_empty() && others > 0, "nothing to compare: {led:?} {records:?}");
    for (index, (holder, from)) in records.iter().enumerate() {
        if holder.is_empty() || holder == "ours" {
            continue;
        }
        // The next revision may be a release, a renewal, or the successor's after it expired.
        let next = records.get(index + 1);
        let until = next.map_or(Timestamp::MAX, |(_, time)| (*time).min(*from + CLIENT_GO_DEADLINE));
        for (gained, lost) in &led {
            let apart = *gained >= until || lost.is_some_and(|lost| lost <= *from);
            assert!(apart, "{holder} led from {from} to {until}, ours from {gained} to {lost:?}");
        }
    }
}

#[tokio::test]
async fn client_go_and_ours_hand_over_to_each_other_without_overlap() {
    scenario(async |world| {
        let records = record(world, "shared");
        let first = world.elector("shared", "client-go-1");
        first.leads().await;
        let mut ours = Ours::start(world, "shared", Timing::default()).await;
        eventually("ours knows who leads", async || {
            let holder = ours.leadership.holder().map(|holder| holder.identity);
            if holder.as_deref() == Some("client-go-1") { Ok(()) } else { Err(format!("{holder:?}")) }
        })
        .await;
        assert!(!ours.leadership.leads());

        // From client-go to Podium.
        first.terminate().await;
        let taken = held_by(world, "shared", "ours").await;
        let released = records.lock().unwrap().iter().find(|(holder, _)| holder.is_empty()).cloned();
        let spec = taken.spec.unwrap_or_default();
        if let (Some((_, released)), Some(MicroTime(acquired))) = (released, spec.acquire_time) {
            println!("from client-go's release to ours: {:?}", acquired.duration_since(released));
        }
        assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(15)));
        assert_eq!(taken.metadata.annotations.and_then(|all| all.get("example.com/by").cloned()).as_deref(), Some("ours"));

        // And back: client-go respects Podium's renewals and its release.
        let second = world.elector("shared", "client-go-2");
        second.says("ew leader elected", 1).await;
        ours.stop().await;
        let stopped = Timestamp::now();
        second.leads().await;
        println!("from our release to client-go: {:?}", Timestamp::now().duration_since(stopped));
        let taken = held_by(world, "shared", "client-go-2").await;
        assert_eq!(taken.spec.and_then(|spec| spec.lease_transitions), Some(2));
        assert_no_overlap(&ours, &records.lock().unwrap());
    })
    .await;
}

#[tokio::test]
async fn client_go_waits_until_ours_has_expired_when_it_was_killed() {
    scenario(async |world| {
        let records = record(world, "shared");
        let seconds = Duration::from_secs;
        let timing = Timing { lease_duration: seconds(8), renew_deadline: seconds(6), retry_period: seconds(1) };
        let mut ours = Ours::start(world, "shared", timing).await;
        assert!(ours.leadership.gained().await);
        let other = world.elector("shared", "client-go");
        other.says("ew leader elected", 1).await;
        // As if killed: it stops to renew, and its claim is true until its deadline.
        ours.task.abort();
        other.leads().await;
        held_by(world, "shared", "client-go").await;
        assert_no_overlap(&ours, &records.lock().unwrap());
        assert!(!ours.leadership.leads());
    })
    .await;
}

#[tokio::test]
async fn deleted_lease_is_recreated_after_its_duration() {
    scenario(async |world| {
        let seconds = Duration::from_secs;
        let timing = Timing { lease_duration: seconds(4), renew_deadline: seconds(3), retry_period: seconds(1) };
        let mut ours = Ours::start(world, "shared", timing).await;
        assert!(ours.leadership.gained().await);
        let before = held_by(world, "shared", "ours").await.metadata.uid;
        world.api::<Lease>().delete("shared", &DeleteParams::default()).await.expect("the Lease is deleted");
        let deleted = Timestamp::now();
        let after = held_by(world, "shared", "ours").await;
        assert_ne!(after.metadata.uid, before);
        let MicroTime(acquired) = after.spec.and_then(|spec| spec.acquire_time).expect("a full record");
        let waited = acquired.duration_since(deleted);
        assert!(waited >= SignedDuration::from_millis(3_900), "{waited:?}");
        assert!(ours.leadership.gained().await);
        let led = ours.led.lock().unwrap().clone();
        let stopped = led[0].1.expect("it noticed").duration_since(deleted);
        assert!(stopped < waited, "{stopped:?}");
    })
    .await;
}

#[tokio::test]
async fn half_filled_leases_are_acquired_when_they_expire() {
    scenario(async |world| {
        let seconds = Duration::from_secs;
        let timing =
            Timing { lease_duration: seconds(2), renew_deadline: seconds(1), retry_period: Duration::from_millis(500) };
        for (name, spec) in [
            ("empty", json!({})),
            ("released", json!({ "holderIdentity": "", "leaseDurationSeconds": 1 })),
            ("no-duration", json!({ "holderIdentity": "somebody" })),
            ("no-times", json!({ "holderIdentity": "somebody", "leaseDurationSeconds": 1 })),
        ] {
            let lease = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a Lease");
            world.api::<Lease>().create(&PostParams::default(), &lease).await.expect("the Lease is created");
            let mut ours = Ours::start(world, name, timing).await;
            assert!(ours.leadership.gained().await, "{name}");
            ours.stop().await;
            let spec = held_by(world, name, "").await.spec.unwrap_or_default();
            assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn late_renewal_does_not_recreate_a_deleted_lease() {
    scenario(async |world| {
        let lock = lock(world, "shared").await;
        let record = LeaderElectionRecord {
            holder: "ours".into(),
            lease_duration_seconds: Some(15),
            ..LeaderElectionRecord::default()
        };
        let seen = lock.create(record.clone()).await.expect("there is none");
        assert!(matches!(lock.create(record.clone()).await, Err(LockError::Conflict(_))), "there is one");
        world.api::<Lease>().delete("shared", &DeleteParams::default()).await.expect("the Lease is deleted");
        let late = lock.update(seen.clone(), record.clone()).await;
        assert!(matches!(late, Err(LockError::Conflict(_))), "{late:?}");
        assert_eq!(lock.get().await, Ok(None));
        // Nor does it change its successor's.
        let next = lock.create(record.clone()).await.expect("there is none");
        assert!(matches!(lock.update(seen, LeaderElectionRecord::default()).await, Err(LockError::Conflict(_))));
        assert_eq!(lock.get().await.map(|seen| seen.map(|seen| seen.version)), Ok(Some(next.version)));
    })
    .await;
}
