//! The Lease of `spec.leaderFrom`: on the server, and as a controller observed it.
//!
//! Its revisions come from the counter of the Election's own Lease: both are Leases. Time is a step: the server's version
//! lapses when nobody renews it for its duration. A controller that observed that version notes it later, on its own clock. So
//! does one whose watch was silent for a duration, about an older version.

use std::sync::LazyLock;

use k8s_openapi::jiff::SignedDuration;
use podium::api::HolderForm;
use podium::election::snapshot;
use podium::lease::record;

use crate::controller::{name_text, revision};
use crate::protocol::{Action, Protocol};
use crate::world::{Broken, Content, Lease, Pod, Record, Rev, Uid, World, name};

/// Names of pods, one bit each, and [`VACANT`].
pub type Since = u8;

/// The followed Lease named nobody, or no controller can know that it still named somebody.
const VACANT: Since = 1 << 7;

/// The followed Lease on the server. A deleted one keeps its last version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Followed {
    pub rev: Rev,
    /// The name of a pod. `None`: nobody.
    pub holder: Option<usize>,
    pub exists: bool,
    /// Nobody has renewed this version for its duration.
    pub lapsed: bool,
    /// Everybody whom it named since the Election's own Lease was written last.
    pub since: Since,
}

impl Followed {
    pub fn new(rev: Rev, holder: Option<usize>) -> Self {
        Self { rev, holder, exists: true, lapsed: false, since: 0 }.named()
    }

    /// Another version of the Lease, or another state of this one.
    pub fn becomes(&mut self, after: Self) {
        *self = Self { since: self.since, ..after }.named();
    }

    /// Adds whom it names now. A deleted or lapsed Lease names its last holder until the controller knows.
    fn named(self) -> Self {
        let holder = self.holder.map_or(VACANT, |holder| 1 << holder);
        let vacant = if self.exists && !self.lapsed { 0 } else { VACANT };
        Self { since: self.since | holder | vacant, ..self }
    }
}

/// The followed Lease as a controller observed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Observed {
    /// The revision and the holder of the newest observed version, also if it is deleted.
    pub version: Option<(Rev, Option<usize>)>,
    pub exists: bool,
    /// It was unchanged for its duration.
    pub expired: bool,
    /// A read from the server after that showed no other version.
    pub confirmed: bool,
}

impl Observed {
    /// The observation of a controller that starts.
    pub fn started(server: Followed) -> Self {
        let mut observed = Self::default();
        observed.see(server);
        observed
    }

    /// A watch or response delivers the Lease, or its absence.
    pub fn see(&mut self, server: Followed) {
        let version = Some((server.rev, server.holder));
        if !server.exists {
            self.exists = false;
        } else if (self.exists, self.version) != (true, version) {
            *self = Self { version, exists: true, ..Self::default() };
        }
    }

    /// A read from the server shows the Lease, or its absence.
    pub fn read(&mut self, server: Followed) {
        self.see(server);
        self.confirmed = self.expired;
    }

    /// Returns what becomes of it when one of these is delivered.
    pub fn after(mut self, server: Option<Followed>, deliver: fn(&mut Self, Followed)) -> Self {
        server.into_iter().for_each(|server| deliver(&mut self, server));
        self
    }

    /// Returns whether a watch has something to deliver.
    pub fn is_behind(&self, server: Followed) -> bool {
        let mut seen = *self;
        seen.see(server);
        seen != *self
    }

    /// Returns whether the duration may have passed since the first observation of this version.
    pub fn may_expire(&self, server: Followed) -> bool {
        let is_older = self.version.map_or(server.exists, |(rev, _)| rev != server.rev);
        !self.expired && (is_older || server.lapsed)
    }

    /// The Lease as a decision sees it.
    pub fn snapshot(self, verified: bool) -> snapshot::FollowedLease {
        let elapsed = |has_elapsed| if has_elapsed { SignedDuration::MAX } else { SignedDuration::ZERO };
        snapshot::FollowedLease {
            lease: self.version.map(|(rev, holder)| core_lease(rev, holder)),
            exists: self.exists,
            unchanged_for: elapsed(self.expired),
            confirmed_for: elapsed(self.confirmed),
            verified,
        }
    }
}

static LOCK: LazyLock<record::Lease> = LazyLock::new(|| record::Lease {
    uid: "lock".into(),
    resource_version: revision(1),
    owner: None,
    incarnation: None,
    holder_identity: None,
    renewed: true,
    duration_seconds: Some(15),
    unchanged_for: SignedDuration::ZERO,
    allow_adoption_by: None,
    by_sidecars: false,
    former: std::collections::BTreeSet::new(),
    acquired: None,
    transitions: None,
    content: record::Content::Blank,
});

fn core_lease(rev: Rev, holder: Option<usize>) -> record::Lease {
    let identity = |holder| format!("{}_1", name_text(Uid::try_from(holder).expect("few pods")));
    record::Lease { resource_version: revision(rev), holder_identity: holder.map(identity), ..LOCK.clone() }
}

pub fn leader_from() -> snapshot::LeaderFrom {
    snapshot::LeaderFrom { lease: "lock".into(), holder: HolderForm::PodName, without_effect: Vec::new() }
}

impl World {
    /// Judges a write of the Election's own Lease by what the followed Lease named since the last one. A change of the leader
    /// follows that Lease, however old the observation is that it was decided on.
    pub fn judge_followed(&mut self, after: Content) {
        let Some(followed) = &mut self.followed else { return };
        let since = followed.since;
        followed.since = 0;
        *followed = followed.named();
        let Content::Term(Record { holder: after, expired, .. }) = after else { return };
        let before = match self.lease.map(|lease| lease.content) {
            Some(Content::Term(record)) => record.holder,
            _ => None,
        };
        // Only its next version names the deposed pod again.
        if expired && followed.lapsed && followed.holder == before.map(name) {
            followed.since = VACANT;
        }
        if before == after {
            return;
        }
        let is_named = |uid: Uid| since & (1 << name(uid)) != 0;
        if after.is_some_and(|uid| !is_named(uid)) {
            self.broken = self.broken.or(Some(Broken::ElectedUnnamed));
        }
        let exists = |uid: Uid| self.pods[name(uid)].is_some_and(|pod| pod.uid == uid);
        if before.is_some_and(|uid| since == 1 << name(uid) && exists(uid)) {
            self.broken = self.broken.or(Some(Broken::DeposedWhileNamed));
        }
    }

    /// Returns what happens to the followed Lease in any case. The duration of a deleted one passes. An elector that lives
    /// renews: until then, a version that came between the last read and the vacancy counts as expired.
    pub fn followed_passes(&self) -> Option<Action> {
        let followed = self.followed?;
        let is_vacant = |lease: Lease| matches!(lease.content, Content::Term(record) if record.expired);
        let is_passed = self.lease.is_some_and(|lease| is_vacant(lease) && followed.rev < lease.rev);
        match followed {
            Followed { lapsed: true, .. } | Followed { holder: None, .. } => None,
            Followed { exists: false, .. } => Some(Action::Lapse),
            _ => Some(Action::RenewFollowed).filter(|_| is_passed),
        }
    }

    /// Returns whether this pod should lead if its selector matches it: it is ready, or the followed Lease names it.
    pub fn may_lead(&self, pod: &Pod) -> bool {
        let names = |followed: Followed| followed.exists && !followed.lapsed && followed.holder == Some(name(pod.uid));
        self.followed.map_or(pod.ready, names)
    }
}

impl Protocol {
    /// What happens to the followed Lease.
    pub fn followed_happens(&self, world: &mut World, action: Action, next: Rev) {
        let Some(followed) = &mut world.followed else { return };
        let Followed { rev, holder, .. } = *followed;
        match action {
            Action::Hold(holder) => {
                world.left.hold -= 1;
                followed.becomes(Followed::new(next, holder));
            }
            Action::RenewFollowed => {
                world.left.renew_followed -= 1;
                followed.becomes(Followed::new(next, holder));
            }
            Action::Lapse => {
                world.left.lapse -= 1;
                followed.becomes(Followed { lapsed: true, ..*followed });
            }
            Action::DeleteFollowed => {
                world.left.delete_followed -= 1;
                followed.becomes(Followed { exists: false, rev, ..*followed });
            }
            _ => {}
        }
    }

    /// Adds what may happen to the followed Lease.
    pub fn followed_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let (Some(followed), left) = (world.followed, world.left) else { return };
        let holders = (0..self.begin.pods).map(Some).chain([None]);
        let others = holders.filter(|holder| left.hold > 0 && (!followed.exists || *holder != followed.holder));
        actions.extend(others.map(Action::Hold));
        let is_held = followed.holder.is_some();
        actions.extend((left.renew_followed > 0 && followed.exists && is_held).then_some(Action::RenewFollowed));
        actions.extend((left.lapse > 0 && !followed.lapsed && is_held).then_some(Action::Lapse));
        actions.extend((left.delete_followed > 0 && followed.exists).then_some(Action::DeleteFollowed));
    }
}
