//! The kinds of change that a controller can be interrupted in.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use podium::api::Election;
use serde_json::json;

use super::goal::{Goal, Term};
use super::world::World;
use crate::harness::observer::View;

/// What changes in a world of three pods, of which `web-0` leads, unless it is said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The Election is created.
    FirstElection,
    /// The leader's pod is deleted gracefully: it is terminating and stays so.
    LeaderTerminating,
    /// The leader's pod went while no controller ran.
    LeaderGone,
    /// The leader turns NotReady.
    LeaderUnready,
    /// The selector changes, and the leader does not match it any more.
    SelectorChanged,
    /// The leader was the last that may lead, and turns NotReady.
    Vacancy,
    /// Nobody could lead, and then somebody can.
    VacancyEnds,
    /// The Lease is deleted.
    LeaseDeleted,
    /// The Lease is edited by hand.
    LeaseEdited,
    /// The Election is deleted.
    Removed,
    /// A pod that does not lead gets the label by hand.
    LabelForged,
    /// The Election was deleted and created again, with the Lease still there, while no controller ran.
    Recreated,
    /// Whoever owns a Lease that Podium did not make lets the Election have it.
    Adopted,
}

/// All of them.
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
    /// Creates the pods, and what else there is before the first leader.
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

    /// Whether somebody leads before the change.
    pub fn has_leader(self) -> bool {
        self != Self::FirstElection && self != Self::Adopted
    }

    /// Whether the change happens while no controller runs.
    pub fn is_unseen(self) -> bool {
        self == Self::Recreated || self == Self::LeaderGone
    }

    /// Whether Kubernetes may write to a pod of its own accord: it marks one that terminates without a node, when it comes by.
    pub fn is_interfered_with(self) -> bool {
        self == Self::LeaderTerminating
    }

    /// What has to change once there is a leader, and what that leads to.
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

    /// The change itself. Returns where it leads to from `term`.
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

    /// Another change after it, which makes whatever was planned for the first one wrong.
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
