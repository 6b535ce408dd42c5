//! The Lease of `spec.leaderFrom`: which pod it names as the leader.

use k8s_openapi::jiff::SignedDuration;

use super::snapshot::{FollowedLease, LeaderFrom, Pod, Snapshot};
use super::text::{first_of, shortened};
use crate::api::HolderForm;
use crate::ids::Uid;
use crate::lease::cause::Cause;
use crate::lease::record::{Content, Lease, Record};

/// Whom a followed Lease names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// This pod. Whether it may lead is not said.
    Pod(&'a Pod),
    /// No pod, for this reason. The cause, if the Lease itself ended the leadership.
    Nobody(Option<Cause>, String),
}

impl FollowedLease {
    /// The Election that this Lease belongs to: nobody else elects on it.
    pub fn election(&self) -> Option<&str> {
        let lease = self.lease.as_ref().filter(|_| self.exists)?;
        let owner = lease.owner.as_deref();
        owner.or_else(|| lease.incarnation.as_ref().map(|_| "of another incarnation"))
    }

    /// Why only the server can tell whether this version is still the newest.
    ///
    /// A watch may be silent for a while, and an elector that renews must not be deposed for that.
    pub fn unconfirmed(&self) -> Option<&'static str> {
        let duration = self.duration();
        let is_held = !self.exists || self.holder().is_some();
        let is_due = is_held && self.unchanged_for >= duration && self.confirmed_for < duration;
        is_due.then_some("the followed Lease seems to have expired")
    }

    /// Returns whether a controller found this version expired, which names this pod: `own`, the Election's Lease, is newer, and
    /// the vacancy that deposed the pod for that reason. So a controller that starts, or a second one, elects no holder that does
    /// not renew. Another pod may have acquired the Lease just before the vacancy.
    fn was_expired(&self, pod: &Pod, own: &Lease) -> bool {
        let Content::Term(Record { holder: None, cause: Cause::LeaseExpired, unfenced, .. }) = &own.content else {
            return false;
        };
        let is_older = self.lease.as_ref().is_some_and(|lease| lease.resource_version < own.resource_version);
        is_older && unfenced.contains(&pod.id.uid)
    }

    /// Returns whether its last version was observed. `own`: the Election's Lease.
    ///
    /// A controller that starts does not know the last version of a deleted Lease. One whose watch had a gap knows an older one.
    /// Another controller may have begun the term by a later one, and the two would change the leader in turn.
    fn is_known(&self, own: &Lease) -> bool {
        self.lease.as_ref().is_some_and(|lease| self.exists || lease.resource_version > own.resource_version)
    }

    /// Whom it names among the pods. `own`: the Election's Lease. A Lease whose last version is unknown leaves the `incumbent`
    /// for one duration.
    pub fn named<'a>(&self, from: &LeaderFrom, snapshot: &'a Snapshot, own: &Lease, incumbent: Option<&Uid>) -> Named<'a> {
        let name = &from.lease;
        let expired = self.confirmed_for >= self.duration();
        if !self.is_known(own) {
            return match incumbent.and_then(|uid| snapshot.pod(uid)).filter(|_| !expired) {
                Some(pod) => Named::Pod(pod),
                None => Named::Nobody(Some(Cause::LeaseExpired), format!("Lease {name} does not exist")),
            };
        }
        let Some(holder) = self.holder() else {
            let state = if self.exists { "has no holder" } else { "does not exist" };
            return Named::Nobody(Some(Cause::LeaseReleased), format!("Lease {name} {state}"));
        };
        let shown = shortened(holder);
        let matching: Vec<&Pod> = snapshot.pods.iter().filter(|pod| pod.matches).collect();
        let named: Vec<&Pod> = matching.iter().copied().filter(|pod| is_named(pod, holder, from.holder)).collect();
        if expired || named.iter().any(|pod| self.was_expired(pod, own)) {
            let seconds = self.duration().as_secs();
            let why = match self.exists {
                true => format!("Lease {name} expired: its holder {shown:?} has not renewed it for {seconds} s"),
                false => format!("Lease {name} was deleted, and its holder {shown:?} has not renewed it for {seconds} s"),
            };
            return Named::Nobody(Some(Cause::LeaseExpired), why);
        }
        match named.as_slice() {
            [pod] => Named::Pod(pod),
            [] => Named::Nobody(
                None,
                format!("Lease {name} is held by {shown:?}, {}", mismatch(&matching, holder, from.holder)),
            ),
            several => {
                let names: Vec<&str> = several.iter().map(|pod| pod.id.name.as_str()).collect();
                Named::Nobody(
                    None,
                    format!("Lease {name} is held by {shown:?}, which names several pods: {}", first_of(&names)),
                )
            }
        }
    }

    fn holder(&self) -> Option<&str> {
        self.lease.as_ref()?.holder_identity.as_deref()
    }

    /// The time after which an unchanged version expires.
    pub fn duration(&self) -> SignedDuration {
        self.lease.as_ref().map_or(Lease::DEFAULT_DURATION, Lease::duration)
    }
}

/// Returns whether this identity is the pod's. Names of pods and nodes contain no `_`, by which electors append more to them.
fn is_named(pod: &Pod, identity: &str, form: HolderForm) -> bool {
    let name = identity.split('_').next().unwrap_or_default();
    match form {
        HolderForm::PodName => pod.id.name == name || pod.id.uid.as_ref() == identity,
        HolderForm::NodeName => pod.node_name.as_deref() == Some(name),
    }
}

/// Why no pod matches the identity, and which one would.
fn mismatch(matching: &[&Pod], identity: &str, form: HolderForm) -> String {
    let Some(example) = matching.first() else { return "and no pod matches spec.selector".into() };
    let other = match form {
        HolderForm::PodName => HolderForm::NodeName,
        HolderForm::NodeName => HolderForm::PodName,
    };
    if matching.iter().any(|pod| is_named(pod, identity, other)) {
        let (what, value) = match other {
            HolderForm::PodName => ("a pod", "PodName"),
            HolderForm::NodeName => ("a pod's node", "NodeName"),
        };
        return format!("the name of {what}: create the Election with spec.leaderFrom.lease.holder: {value}");
    }
    let name = &example.id.name;
    match (form, &example.node_name) {
        (HolderForm::PodName, _) => {
            format!("which names no matching pod: of {name} it would be \"{name}\", \"{name}_…\" or its UID")
        }
        (HolderForm::NodeName, Some(node)) => {
            format!("which names the node of no matching pod: of {name} it would be \"{node}\" or \"{node}_…\"")
        }
        (HolderForm::NodeName, None) => format!("which names the node of no matching pod: {name} has no node yet"),
    }
}
