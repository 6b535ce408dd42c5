//! The kinds of changes that a fault can interrupt.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use podium::api::Election;
use serde_json::json;

use super::goal::{Goal, Term};
use super::world::World;
use crate::harness::observer::View;

/// A change in a world of three pods. `web-0` leads, unless noted otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    FirstElection,
    /// The leader's pod is deleted gracefully and stays terminating.
    LeaderTerminating,
    /// The leader's pod was deleted while no controller ran.
    LeaderGone,
    /// The leader becomes NotReady.
    LeaderUnready,
    /// The selector changes and excludes the leader.
    SelectorChanged,
    /// The leader was the only eligible pod, and becomes NotReady.
    Vacancy,
    /// No pod was eligible, then one is.
    VacancyEnds,
    LeaseDeleted,
    LeaseEdited,
    Removed,
    /// A follower gets the label by hand.
    LabelForged,
    /// The Election was deleted and re-created while no controller ran. The Lease still exists.
    Recreated,
    /// The user lets the Election adopt a foreign Lease.
    Adopted,
}

pub const ALL: [Change; 13] = [
    Change::FirstElection,
    Change::LeaderTerminating,
    Change::LeaderGone,
    Change::LeaderUnready,
    Change::SelectorChanged,
    Change::Vacancy,
    Change::VacancyEnds,
    Change::LeaseDeleted,
    Change::LeaseEdited,
    Change::Removed,
    Change::LabelForged,
    Change::Recreated,
    Change::Adopted,
];

impl Change {
    /// Creates the pods and other objects that precede the first leader.
    pub async fn begin(self, world: &World) {
        let one_only = self == Self::Vacancy || self == Self::VacancyEnds;
        for name in ["web-0", "web-1", "web-2"] {
            let first = name == "web-0";
            let tier = if first { "old" } else { "new" };
            world.pod(name, first || !one_only, json!({ "app": "web", "tier": tier })).await;
        }
        if self == Self::Adopted {
            world.foreign_lease().await;
            world.election().await;
            let stalled = |view: &View| {
                let status = view.elections.get("web").map(|seen| &seen.status);
                let stalled = status.and_then(|status| status.condition("Stalled"));
                stalled.is_some_and(|condition| condition.status == "True")
            };
            world.sees("the Election is stalled", stalled).await;
        }
    }

    /// Returns whether there is a leader before the change.
    pub fn has_leader(self) -> bool {
        self != Self::FirstElection && self != Self::Adopted
    }

    /// Returns whether the change happens while no controller runs.
    pub fn is_unseen(self) -> bool {
        self == Self::Recreated || self == Self::LeaderGone
    }

    /// Returns whether Kubernetes may write to a pod: its pod garbage collector marks terminating pods without a node.
    pub fn is_interfered_with(self) -> bool {
        self == Self::LeaderTerminating
    }

    /// Prepares the change once there is a leader. Returns the goal of that.
    pub async fn prepare(self, world: &World, term: i64) -> Option<Goal> {
        match self {
            Self::LeaderTerminating => {
                let held = json!({ "metadata": { "finalizers": ["e2e.example/stay"] } });
                world.patch::<Pod>("web-0", held).await;
                None
            }
            Self::Removed | Self::Recreated => {
                world.disown_lease().await;
                None
            }
            Self::VacancyEnds => {
                world.set_ready("web-0", false).await;
                Some(Goal::Vacancy(term))
            }
            _ => None,
        }
    }

    /// Makes the change. Returns its goal, for `term`.
    pub async fn apply(self, world: &World, term: i64) -> Goal {
        let next = Goal::Leader(Some("web-1"), Term::Above(term));
        let again = Goal::Leader(Some("web-0"), Term::Above(term));
        match self {
            Self::FirstElection => {
                world.election().await;
                again
            }
            Self::LeaderTerminating => {
                world.delete::<Pod>("web-0").await;
                next
            }
            Self::LeaderGone => {
                world.delete::<Pod>("web-0").await;
                world.sees("web-0 is gone", |view| !view.pods.contains_key("web-0")).await;
                next
            }
            Self::LeaderUnready => {
                world.set_ready("web-0", false).await;
                next
            }
            Self::SelectorChanged => {
                let selector = json!({ "spec": { "selector": { "matchLabels": { "tier": "new" } } } });
                world.patch::<Election>("web", selector).await;
                next
            }
            Self::Vacancy => {
                world.set_ready("web-0", false).await;
                Goal::Vacancy(term)
            }
            Self::VacancyEnds => {
                world.set_ready("web-1", true).await;
                next
            }
            Self::LeaseDeleted => {
                world.delete::<Lease>("web").await;
                again
            }
            Self::LeaseEdited => {
                world.forge::<Lease>("web", json!({ "spec": { "holderIdentity": "web-1" } })).await;
                again
            }
            Self::Removed => {
                world.delete::<Election>("web").await;
                Goal::NoLabel
            }
            Self::LabelForged => {
                world.forge::<Pod>("web-1", json!({ "metadata": { "labels": { "leader": "true" } } })).await;
                Goal::Leader(Some("web-0"), Term::Still(term))
            }
            Self::Recreated => {
                world.delete::<Election>("web").await;
                world.election().await;
                again
            }
            Self::Adopted => {
                let consent = json!({ "metadata": { "annotations": { "podium.dev/allow-adoption-by": "web" } } });
                world.patch::<Lease>("web", consent).await;
                again
            }
        }
    }

    /// Makes another change that invalidates what was planned for the first one.
    pub async fn move_on(self, world: &World, term: i64) -> Goal {
        match self {
            Self::Vacancy => {
                world.set_ready("web-1", true).await;
                Goal::Leader(Some("web-1"), Term::Above(term))
            }
            Self::Removed => {
                world.election().await;
                Goal::Leader(Some("web-0"), Term::Above(term))
            }
            Self::VacancyEnds => {
                world.set_ready("web-1", false).await;
                Goal::Vacancy(term)
            }
            Self::LeaderTerminating | Self::LeaderGone | Self::LeaderUnready | Self::SelectorChanged => {
                world.set_ready("web-1", false).await;
                Goal::Leader(Some("web-2"), Term::Above(term))
            }
            Self::FirstElection
            | Self::LeaseDeleted
            | Self::LeaseEdited
            | Self::LabelForged
            | Self::Recreated
            | Self::Adopted => {
                world.set_ready("web-0", false).await;
                Goal::Leader(Some("web-1"), Term::Above(term))
            }
        }
    }

    /// Makes it possible to delete the namespace.
    pub async fn clear(self, world: &World) {
        if self == Self::LeaderTerminating {
            world.patch::<Pod>("web-0", json!({ "metadata": { "finalizers": null } })).await;
        }
    }
}
