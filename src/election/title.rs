//! Whose a Lease is, and who has to consent before it is written (`docs/design.md`, section 6).

use k8s_openapi::jiff::SignedDuration;

use super::candidate::eligible;
use super::snapshot::{Pod, Settings, Snapshot};
use crate::lease::record::{Content, Lease, NEVER_EXPIRES};

/// The right to write a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Title<'a> {
    /// It was made for an Election of this name.
    Ours,
    /// Somebody else made it and lets this Election have it, now.
    Adoptable {
        /// Its present holder, if that is a pod which may go on leading: an elector that understands Podium runs there.
        holder: Option<&'a Pod>,
    },
    /// It is somebody else's, or somebody else has it now.
    Theirs {
        /// What is in the way and what to do about it.
        message: String,
        /// How long until it may be free.
        left: Option<SignedDuration>,
    },
}

impl<'a> Title<'a> {
    /// The right of this Election to write this Lease.
    pub fn of(lease: &Lease, snapshot: &'a Snapshot, settings: &Settings) -> Self {
        let (name, election) = (&settings.lease_name, &snapshot.election.name);
        let remedy = "set spec.leaseName of a new Election to an unused name, or delete the Lease if nobody needs it";
        let theirs = |message| Self::Theirs { message, left: None };
        if let Some(owner) = lease.owner.as_ref().filter(|owner| *owner != election) {
            return theirs(format!("Lease {name} belongs to Election {owner}: {remedy}"));
        }
        let campaigner = lease.campaigner();
        if lease.owner.is_some() || lease.incarnation.is_some() {
            // An edit is put right at once; an elector that took the Lease while nobody held it is not pushed out.
            let elector = lease.renewed && lease.duration_seconds != Some(NEVER_EXPIRES);
            let taken = elector && matches!(lease.content, Content::Damaged(_));
            return campaigner.filter(|_| taken).map_or(Self::Ours, |(holder, left)| Self::Theirs {
                message: format!(
                    "Lease {name} was taken by {holder}, which renews it and is no elector of Podium's: stop it; Podium goes on once the Lease has expired"
                ),
                left: Some(left),
            });
        }
        let holder = snapshot.pods.iter().find(|pod| pod.matches && Some(&pod.id.name) == lease.holder_identity.as_ref());
        let by_owner = lease.allow_adoption_by.as_ref() == Some(election);
        let by_sidecars = lease.by_sidecars && name == election && holder.is_some();
        if !by_owner && !by_sidecars {
            let holder = lease.holder_identity.as_deref().unwrap_or("nobody");
            return theirs(format!(
                "Lease {name} was not made by Podium (its holder is {holder}): {remedy}, or let Podium have it: kubectl annotate lease {name} podium.dev/allow-adoption-by={election}"
            ));
        }
        // A sidecar that finds its Lease taken over follows from then on: nothing has to be waited for if its pod stays leader.
        let holder = holder.filter(|pod| lease.by_sidecars && eligible(pod, settings, true).is_ok());
        match campaigner {
            Some((campaigner, left)) if holder.is_none() => Self::Theirs {
                message: format!(
                    "Lease {name} may be taken over, but {campaigner} holds it and renews it: stop that elector; Podium begins once the Lease is released or has expired"
                ),
                left: Some(left),
            },
            _ => Self::Adoptable { holder },
        }
    }
}
