//! The ownership of a Lease, and the consent that writing a foreign one needs (`docs/design.md`, section 6).

use k8s_openapi::jiff::SignedDuration;

use super::candidate::eligible;
use super::snapshot::{Pod, Settings, Snapshot};
use crate::lease::record::{Content, Lease, NEVER_EXPIRES};

/// The ownership of a Lease, from one Election's view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership<'a> {
    /// The Lease was created for an Election of this name.
    Owned,
    /// Another client created the Lease, and this Election may adopt it at once.
    Adoptable {
        /// The holder, if it is a pod that may stay leader: its sidecar follows the adopted Lease.
        holder: Option<&'a Pod>,
    },
    /// Another client created the Lease, or holds it.
    Foreign {
        /// The message of the condition: cause and remedy.
        message: String,
        /// The time until the Lease may expire.
        left: Option<SignedDuration>,
    },
}

impl<'a> Ownership<'a> {
    /// Returns the ownership of this Lease.
    pub fn of(lease: &Lease, snapshot: &'a Snapshot, settings: &Settings) -> Self {
        let (name, election) = (&settings.lease_name, &snapshot.election.name);
        let remedy = "create a new Election with an unused spec.leaseName, or delete the Lease if no client needs it";
        let foreign = |message| Self::Foreign { message, left: None };
        if let Some(owner) = lease.owner.as_ref().filter(|owner| *owner != election) {
            return foreign(format!("Lease {name} belongs to Election {owner}: {remedy}"));
        }
        let campaigner = lease.campaigner();
        if lease.owner.is_some() || lease.incarnation.is_some() {
            // An edit is repaired at once. An elector that acquired the Lease while it had no holder is not deposed.
            let elector = lease.renewed && lease.duration_seconds != Some(NEVER_EXPIRES);
            let taken = elector && matches!(lease.content, Content::Damaged(_));
            return campaigner.filter(|_| taken).map_or(Self::Owned, |(holder, left)| Self::Foreign {
                message: format!(
                    "Lease {name} was taken by {holder}, which renews it and is not Podium: stop that elector, Podium continues when the Lease expires"
                ),
                left: Some(left),
            });
        }
        let holder = snapshot.pods.iter().find(|pod| pod.matches && Some(&pod.id.name) == lease.holder_identity.as_ref());
        let by_owner = lease.allow_adoption_by.as_ref() == Some(election);
        let by_sidecars = lease.by_sidecars && name == election && holder.is_some();
        if !by_owner && !by_sidecars {
            let holder = lease.holder_identity.as_deref().unwrap_or("none");
            return foreign(format!(
                "Lease {name} was not created by Podium (its holder is {holder}): {remedy}, or allow its adoption: kubectl annotate lease {name} podium.dev/allow-adoption-by={election}"
            ));
        }
        // A sidecar whose Lease was adopted becomes a follower by itself, so no expiry is needed if its pod stays leader.
        let holder = holder
            .filter(|pod| lease.by_sidecars && settings.leader_from.is_none() && eligible(pod, settings, true).is_ok());
        match campaigner {
            Some((campaigner, left)) if holder.is_none() => Self::Foreign {
                message: format!(
                    "Lease {name} may be adopted, but {campaigner} holds and renews it: stop that elector, Podium adopts the Lease when it is released or expires"
                ),
                left: Some(left),
            },
            _ => Self::Adoptable { holder },
        }
    }
}
