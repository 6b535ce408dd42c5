//! The events of a directed world.

use podium_test_support::checker::Watched;
use podium_test_support::random::Random;
use podium_test_support::server::Resource::{Elections, Leases, Pods};
use serde_json::{Value, json};

use crate::cluster::{Cluster, lock};
use crate::controller::Controller;
use crate::directed::Directed;
use crate::electors;
use crate::policies;
use crate::schedule::Actor;
use crate::steering;
use crate::workload;

/// Caller in the history.
pub const WHO: &str = "director";

const ELECTION: &str = "e0";

const KEY: &str = "leader";

/// Maximum number of pods in a directed world.
const PODS: usize = 3;

/// The focus of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Pods become Ready and NotReady.
    Readiness,
    /// Pods are re-created under their names.
    Recreation,
    /// The Lease is deleted or edited.
    LostLease,
    /// The Election is deleted and re-created.
    Deletion,
    /// Watches restart with a list.
    Relists,
    /// Selectors and pod labels are edited, so that the leader no longer matches.
    Selectors,
    /// Mutating admission.
    Admission,
    /// Switchovers, priorities and preferences, and nodes that drain.
    Steering,
    /// The Election follows a Lease, which changes hands.
    Followed,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// The leader's readiness changes.
    FlipLeader,
    /// Any pod's readiness changes.
    Flip,
    /// A pod is deleted and re-created under its name.
    Recreate,
    /// A pod is deleted with a grace period, or ends, or is re-created.
    Delete,
    /// A pod changes irrelevantly.
    Note,
    /// The leader loses its label.
    Unlabel,
    /// A pod leaves the selector, or returns.
    Leave,
    DeleteLease,
    /// The Lease gets another holder, or none.
    EditLease,
    /// The Election is deleted or re-created.
    Election,
    Suspend,
    /// A controller is killed or restarted.
    Kill,
    /// A controller is paused or resumed.
    Pause,
    /// Its watches end.
    Drop,
    /// Its watches end, and cannot be resumed.
    Compact,
    /// The selector is edited to exclude the holder, or to match all pods.
    Reselect,
    /// The same, and the Lease is deleted.
    ReselectAnew,
    /// The Election is deleted with its Lease, and re-created with a selector that excludes the holder.
    Replace,
    /// The holder's labels are edited so that no selector matches, or restored.
    LeaveHolder,
    /// A mutating policy is added or removed.
    Admit,
    /// An API server's watch cache of one kind stalls or resumes.
    Stall,
    /// A switchover is requested.
    Switchover,
    /// Preferences, preemption, tie-break or the policy for drains change.
    Tune,
    /// The priority of a pod changes.
    Prioritize,
    /// A node begins or ceases to drain.
    Drain,
    /// A pod acquires the followed Lease, or it is released.
    Hold,
    /// The followed Lease is renewed.
    Renew,
    /// The followed Lease is deleted, or edited by hand.
    Tamper,
}

impl Focus {
    pub const ALL: [Self; 9] = [
        Self::Readiness,
        Self::Recreation,
        Self::LostLease,
        Self::Deletion,
        Self::Relists,
        Self::Selectors,
        Self::Admission,
        Self::Steering,
        Self::Followed,
    ];

    /// Weights of the events.
    fn acts(self) -> &'static [(Act, u64)] {
        use Act::*;
        match self {
            Self::Readiness => {
                &[(FlipLeader, 6), (Flip, 5), (Note, 1), (Unlabel, 2), (Leave, 1), (Suspend, 1), (Pause, 4), (Kill, 1)]
            }
            Self::Recreation => {
                &[(Recreate, 6), (FlipLeader, 4), (Flip, 3), (Delete, 2), (Unlabel, 1), (Pause, 3), (Kill, 1)]
            }
            Self::LostLease => &[
                (DeleteLease, 6),
                (EditLease, 1),
                (Unlabel, 1),
                (FlipLeader, 3),
                (Flip, 3),
                (Recreate, 3),
                (Pause, 3),
                (Kill, 1),
            ],
            Self::Deletion => {
                &[(Election, 4), (FlipLeader, 3), (Flip, 2), (Recreate, 1), (Leave, 1), (Pause, 2), (Kill, 1), (Drop, 1)]
            }
            Self::Relists => &[
                (Drop, 4),
                (Compact, 3),
                (Kill, 1),
                (Recreate, 4),
                (DeleteLease, 2),
                (FlipLeader, 2),
                (Flip, 1),
                (Delete, 2),
                (Stall, 4),
            ],
            Self::Selectors => &[
                (Reselect, 3),
                (ReselectAnew, 3),
                (Replace, 4),
                (LeaveHolder, 3),
                (DeleteLease, 3),
                (FlipLeader, 4),
                (Flip, 3),
                (Pause, 2),
                (Kill, 1),
                (Stall, 2),
            ],
            Self::Admission => &[
                (Admit, 5),
                (FlipLeader, 5),
                (Flip, 3),
                (Recreate, 1),
                (Delete, 1),
                (DeleteLease, 1),
                (Pause, 2),
                (Kill, 1),
            ],
            Self::Steering => &[
                (Switchover, 6),
                (Tune, 2),
                (Prioritize, 4),
                (Drain, 4),
                (FlipLeader, 2),
                (Flip, 2),
                (Recreate, 1),
                (DeleteLease, 1),
                (Suspend, 1),
                (Pause, 3),
                (Kill, 1),
                (Stall, 2),
            ],
            Self::Followed => &[
                (Hold, 8),
                (Renew, 2),
                (Tamper, 2),
                (DeleteLease, 1),
                (Suspend, 1),
                (Flip, 1),
                (Recreate, 2),
                (Delete, 1),
                (Pause, 3),
                (Kill, 1),
                (Drop, 1),
                (Compact, 1),
                (Stall, 2),
            ],
        }
    }

    /// Returns whether this actor takes part.
    pub fn has(self, actor: Actor) -> bool {
        self.acts().iter().any(|(act, _)| act.by() == actor)
    }
}

impl Act {
    fn by(self) -> Actor {
        match self {
            Self::FlipLeader | Self::Flip | Self::Recreate | Self::Delete | Self::Note | Self::Prioritize | Self::Drain => {
                Actor::Workload
            }
            Self::Unlabel
            | Self::Leave
            | Self::DeleteLease
            | Self::EditLease
            | Self::Election
            | Self::Suspend
            | Self::Reselect
            | Self::ReselectAnew
            | Self::Replace
            | Self::LeaveHolder
            | Self::Switchover
            | Self::Tune
            | Self::Hold
            | Self::Renew
            | Self::Tamper
            | Self::Admit => Actor::People,
            Self::Kill | Self::Pause | Self::Drop | Self::Compact | Self::Stall => Actor::Fate,
        }
    }
}

impl Directed {
    pub fn create_election(&self, cluster: &Cluster) {
        self.create_selecting(cluster, &all());
    }

    fn create_selecting(&self, cluster: &Cluster, selector: &Value) {
        let mut spec = json!({
            "selector": selector,
            "label": { "key": KEY, "value": "true", "followerValue": self.followers.then_some("false") },
            "whenNoneEligible": if self.hold { "Retain" } else { "Release" },
        });
        for (field, value) in self.settings.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        cluster.ask(WHO, "POST", (Elections, ELECTION), json!({ "metadata": { "name": ELECTION }, "spec": spec }));
        let election = ELECTION.to_owned();
        let watched = Watched { lease: election.clone(), election, key: KEY.into(), value: "true".into() };
        let mut notes = lock(&cluster.notes);
        if !notes.watched.contains(&watched) {
            notes.watched.push(watched);
        }
    }

    /// Draws an event of this actor.
    pub fn act(&self, actor: Actor, cluster: &Cluster, controllers: &mut [Controller], random: &mut Random) {
        let acts: Vec<(Act, u64)> = self.focus.acts().iter().filter(|(act, _)| act.by() == actor).copied().collect();
        let mut drawn = random.between(0, acts.iter().map(|(_, often)| often).sum());
        for (act, often) in acts {
            if drawn < often {
                return match actor {
                    Actor::Workload => change_pods(act, &self.pick_pod(random), cluster, random),
                    Actor::People => self.meddle(act, cluster, random),
                    Actor::Fate => strike(act, cluster, controllers, random),
                };
            }
            drawn -= often;
        }
    }

    fn pick_pod(&self, random: &mut Random) -> String {
        pod_name(usize::try_from(random.between(0, self.pods as u64)).unwrap_or_default())
    }

    fn meddle(&self, act: Act, cluster: &Cluster, random: &mut Random) {
        let before = cluster.server().revision();
        match act {
            Act::Unlabel => {
                let Some((leader, _)) = leader(cluster) else { return };
                cluster.ask(WHO, "PATCH", (Pods, &leader), json!({ "metadata": { "labels": { KEY: null } } }));
                return;
            }
            Act::Leave | Act::LeaveHolder => {
                let holder = holder(cluster).filter(|_| act == Act::LeaveHolder).map(|(name, _)| name);
                let name = holder.unwrap_or_else(|| self.pick_pod(random));
                let app = cluster.all(Pods).remove(&name).map(|pod| pod["metadata"]["labels"]["app"].clone());
                let app = if app == Some("web".into()) { "none" } else { "web" };
                cluster.ask(WHO, "PATCH", (Pods, &name), json!({ "metadata": { "labels": { "app": app } } }));
                return;
            }
            Act::Suspend => {
                let suspend = cluster.all(Elections).get(ELECTION).is_none_or(|e| e["spec"]["suspend"] != true);
                cluster.ask(WHO, "PATCH", (Elections, ELECTION), json!({ "spec": { "suspend": suspend } }));
                return;
            }
            Act::Election => {
                if cluster.ask(WHO, "DELETE", (Elections, ELECTION), Value::Null).is_none() {
                    self.create_election(cluster);
                }
                return;
            }
            Act::Reselect => return reselect(cluster, random),
            Act::Admit => return policies::come_or_go(cluster, random),
            Act::Switchover => return steering::request_switchover(cluster, WHO, ELECTION, random),
            Act::Hold => {
                let pod = Some(self.pick_pod(random)).filter(|_| random.permille(800));
                return electors::hold(cluster, WHO, pod.as_deref());
            }
            Act::Renew => return electors::renew(cluster, WHO),
            Act::Tamper => return electors::tamper(cluster, WHO, random),
            Act::Tune => return steering::tune(cluster, WHO, ELECTION, random),
            Act::ReselectAnew => {
                reselect(cluster, random);
                cluster.ask(WHO, "DELETE", (Leases, ELECTION), Value::Null);
            }
            Act::Replace => {
                let selector = without_holder(cluster);
                cluster.ask(WHO, "DELETE", (Elections, ELECTION), Value::Null);
                // Otherwise the garbage collector deletes the Lease.
                if random.permille(700) {
                    cluster.ask(WHO, "DELETE", (Leases, ELECTION), Value::Null);
                }
                self.create_selecting(cluster, &selector);
            }
            Act::EditLease => {
                let holder = if random.permille(500) { "somebody" } else { "" };
                cluster.ask(WHO, "PATCH", (Leases, ELECTION), json!({ "spec": { "holderIdentity": holder } }));
            }
            _ => drop(cluster.ask(WHO, "DELETE", (Leases, ELECTION), Value::Null)),
        }
        let after = cluster.server().revision();
        lock(&cluster.notes).forged.extend(before + 1..=after);
    }
}

pub fn pod_name(index: usize) -> String {
    format!("pod-{index}")
}

fn leader(cluster: &Cluster) -> Option<(String, Value)> {
    cluster.all(Pods).into_iter().find(|(_, pod)| pod["metadata"]["labels"][KEY] == "true")
}

/// The pod that the Lease names, labeled or not.
fn holder(cluster: &Cluster) -> Option<(String, Value)> {
    let lease = cluster.all(Leases).remove(ELECTION)?;
    cluster.all(Pods).remove_entry(lease["spec"]["holderIdentity"].as_str()?)
}

fn all() -> Value {
    json!({ "matchLabels": { "app": "web" } })
}

/// Matches all pods but the holder; all, if there is none.
fn without_holder(cluster: &Cluster) -> Value {
    match holder(cluster).or_else(|| leader(cluster)) {
        Some((name, _)) => json!({ "matchLabels": { "app": "web", format!("not-{name}"): "yes" } }),
        None => all(),
    }
}

/// Edits the selector.
fn reselect(cluster: &Cluster, random: &mut Random) {
    // A merge patch keeps the labels of the former selector unless they are removed.
    let mut labels = json!({});
    for index in 0..PODS {
        labels[format!("not-{}", pod_name(index))] = Value::Null;
    }
    if random.permille(700) {
        let wanted = without_holder(cluster)["matchLabels"].as_object().cloned().unwrap_or_default();
        wanted.into_iter().for_each(|(key, value)| labels[key] = value);
    }
    let spec = json!({ "selector": { "matchLabels": labels } });
    cluster.ask(WHO, "PATCH", (Elections, ELECTION), json!({ "spec": spec }));
}

/// Creates a pod; it is usually Running and Ready at once.
pub fn create_pod(cluster: &Cluster, name: &str, random: &mut Random) {
    // Usually the re-created pod has a higher priority than the others.
    let priority = random.pick(&["0", "1", "2", "3"]).copied().unwrap_or_default();
    let others = (0..PODS).map(pod_name).filter(|other| other != name);
    let mut labels = json!({ "app": "web", "zone": steering::zone(random) });
    others.for_each(|other| labels[format!("not-{other}")] = "yes".into());
    let body = json!({
        "metadata": { "name": name, "labels": labels, "annotations": { "podium.dev/priority": priority } },
        "spec": { "nodeName": steering::node(random), "terminationGracePeriodSeconds": 5 },
    });
    if cluster.ask(WHO, "POST", (Pods, name), body).is_some() && random.permille(850) {
        workload::run_it(cluster, name, random.permille(900));
    }
}

fn change_pods(act: Act, name: &str, cluster: &Cluster, random: &mut Random) {
    if act == Act::Drain {
        return steering::drain(cluster, WHO, random);
    }
    let led = match act {
        Act::FlipLeader if random.permille(500) => leader(cluster),
        Act::FlipLeader => holder(cluster),
        Act::Recreate if random.permille(500) => leader(cluster),
        _ => None,
    };
    let found = led.or_else(|| cluster.all(Pods).remove_entry(name));
    let Some((name, pod)) = found else { return create_pod(cluster, name, random) };
    let terminating = pod["metadata"]["deletionTimestamp"].is_string();
    if pod["status"]["phase"] == "Pending" || terminating && act != Act::Recreate {
        return workload::finish(cluster, &name, &pod);
    }
    match act {
        Act::Recreate => {
            cluster.ask(WHO, "DELETE", (Pods, &name), json!({ "gracePeriodSeconds": 0 }));
            create_pod(cluster, &name, random);
        }
        Act::Prioritize => steering::prioritize(cluster, WHO, &name, random),
        Act::Delete => drop(cluster.ask(WHO, "DELETE", (Pods, &name), Value::Null)),
        Act::Note => {
            let note = json!({ "metadata": { "annotations": { "example.com/note": random.between(0, 999).to_string() } } });
            cluster.ask(WHO, "PATCH", (Pods, &name), note);
        }
        _ => workload::set_ready(cluster, &name, pod["status"]["conditions"][0]["status"] != "True"),
    }
}

fn strike(act: Act, cluster: &Cluster, controllers: &mut [Controller], random: &mut Random) {
    let index = usize::try_from(random.between(0, controllers.len() as u64)).unwrap_or_default();
    let controller = &mut controllers[index];
    match act {
        Act::Kill => controller.kill_or_start(),
        Act::Pause => controller.stop_or_go_on(),
        Act::Stall => cluster.stall(random),
        _ => {
            if act == Act::Compact {
                cluster.server().compact();
            }
            controller.link.drop_watches();
        }
    }
}

/// If the Election is gone, a user labels one of its former pods. Returns whether one exists.
pub fn label_after_deletion(cluster: &Cluster) -> bool {
    if cluster.all(Elections).contains_key(ELECTION) {
        return false;
    }
    let claim = format!("term.podium.dev/{ELECTION}");
    let claimed = |pod: &Value| !pod["metadata"]["annotations"][&claim].is_null();
    let Some((name, _)) = cluster.all(Pods).into_iter().find(|(_, pod)| claimed(pod)) else { return false };
    cluster.forge(WHO, (Pods, &name), &json!({ "labels": { KEY: "true" } }));
    true
}

/// Ends deleted pods, runs the others, and ends suspension.
pub async fn end(cluster: &Cluster) {
    workload::finish_all(cluster).await;
    cluster.ask(WHO, "PATCH", (Elections, ELECTION), json!({ "spec": { "suspend": false } }));
}
