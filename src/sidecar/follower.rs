//! What a follower makes of what it sees. Pure: time comes in.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::core::DeserializeGuard;
use podium_campaign::{LeaderElectionRecord, LeadershipState, LeaseFormat, LockFormat, Moment};

use crate::lease::object::{self, readable};
use crate::lease::record::Content;

/// Who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its pod's name.
    pub name: String,
    /// Its pod's UID, if it was told. Names are used again, UIDs are not.
    pub uid: Option<String>,
}

/// A Lease as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// An Election's, by which its controller elects. The holder's name and UID, and the term.
    Election {
        /// Name and UID; `None`: a vacancy, or not elected yet.
        holder: Option<(String, String)>,
        /// The term.
        term: Option<u64>,
        /// When it began.
        since: Option<k8s_openapi::jiff::Timestamp>,
    },
    /// One by which others elect, by client-go's protocol.
    Campaign(LeaderElectionRecord),
}

impl Sight {
    /// What is to be seen of the Lease.
    pub fn of(guard: DeserializeGuard<Object>) -> Self {
        let object = readable(guard);
        match object::read(&object) {
            Ok(lease) if lease.incarnation.is_some() || lease.owner.is_some() => match lease.content {
                Content::Term(term) => Self::Election {
                    holder: term.holder.map(|holder| (holder.name, holder.uid.to_string())),
                    term: u64::try_from(term.term.number()).ok(),
                    since: lease.acquired,
                },
                // The controller is about to mend it, and nobody knows how.
                Content::Blank | Content::Damaged(_) => Self::Election { holder: None, term: None, since: None },
            },
            _ => Self::Campaign(LeaseFormat::record(&object)),
        }
    }
}

/// One who follows.
#[derive(Clone, Debug)]
pub struct Follower {
    me: Me,
    /// How old an Election's word may be. `None`: it stands until there is another.
    max_age: Option<Duration>,
    /// How long a holder by client-go's protocol is waited for that does not say how long.
    duration: Duration,
    sight: Option<Sight>,
    /// When that was seen first.
    since: Moment,
    /// When the last read that was answered was sent.
    read: Option<Moment>,
    /// Before the last event was sent: it may have waited in a buffer since then.
    heard: Option<Moment>,
}

impl Follower {
    /// One that has seen nothing yet. `max_age`: what an Election's Lease said is not repeated when it is older; `None`: it stands
    /// until something else is seen, so that an outage of the API server deposes nobody.
    pub fn new(me: Me, max_age: Option<Duration>) -> Self {
        let duration = podium_campaign::Timing::default().lease_duration;
        Self { me, max_age, duration, sight: None, since: Moment::START, read: None, heard: None }
    }

    /// Takes in the answer to a read: the Lease as the server had it at some moment between `asked` and `now`; `None`: there was
    /// none.
    pub fn reads(&mut self, sight: Option<Sight>, asked: Moment, now: Moment) {
        self.sees(sight, now);
        self.read = Some(asked);
    }

    /// Takes in an event: the Lease as the server had it at some moment between `after` and `now`; `None`: it was deleted.
    pub fn hears(&mut self, sight: Option<Sight>, after: Moment, now: Moment) {
        self.sees(sight, now);
        self.heard = Some(after);
    }

    /// Takes in that the server has said since `after` that nothing has changed.
    pub fn is_confirmed(&mut self, after: Moment) {
        self.heard = Some(after);
    }

    fn sees(&mut self, sight: Option<Sight>, now: Moment) {
        if self.sight != sight {
            self.since = now;
        }
        self.sight = sight;
    }

    /// Whether it has seen anything yet, be it that there is no Lease.
    pub fn has_seen(&self) -> bool {
        self.read.is_some()
    }

    /// Whether there is no Lease.
    pub fn sees_nothing(&self) -> bool {
        self.has_seen() && self.sight.is_none()
    }

    /// When the server is to be asked, whatever a watch tells. `None`: a watch will do.
    pub fn look_at(&self) -> Option<Moment> {
        let age = self.max_age?;
        Some(self.read.map_or(Moment::START, |read| read + age / 3))
    }

    /// Who leads, and until when that counts.
    pub fn standing(&self) -> LeadershipState {
        let nobody = LeadershipState { confirmed: self.read.max(self.heard), ..LeadershipState::default() };
        match &self.sight {
            Some(Sight::Election { holder: Some((name, uid)), term, since }) => {
                // By reads only: an event may be as old as the pause of this process.
                let until = match (self.max_age, self.read) {
                    (Some(age), Some(read)) => read + age,
                    _ => Moment::NEVER,
                };
                let same_name = *name == self.me.name;
                // Whatever this host is called.
                let is_me = self.me.uid.as_ref().map_or(same_name, |mine| mine == uid);
                if same_name && !is_me {
                    // A former pod of the same name. Whoever compares names would take itself for the leader.
                    return nobody;
                }
                LeadershipState {
                    holder: Some((name.clone(), until)),
                    leads_until: is_me.then_some(until),
                    term: *term,
                    since: *since,
                    ..nobody
                }
            }
            // Those who campaign decide themselves until when they lead: nobody can tell from outside, so this never claims to.
            Some(Sight::Campaign(record)) if record.is_held() => LeadershipState {
                holder: Some((record.holder.clone(), self.since + record.lease_duration(self.duration))),
                since: record.acquire_time,
                ..nobody
            },
            _ => nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};

    use super::*;
    use crate::ids::{PodRef, Term};
    use crate::lease::record::Record;

    fn at(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    fn follower(uid: Option<&str>) -> Follower {
        Follower::new(Me { name: "web-0".into(), uid: uid.map(str::to_owned) }, None)
    }

    fn seen(value: Value) -> Option<Sight> {
        Some(Sight::of(serde_json::from_value(value).unwrap()))
    }

    /// As the controller writes it.
    fn elected(holder: &str, uid: &str) -> Option<Sight> {
        let record = Record {
            holder: Some(PodRef { name: holder.into(), uid: uid.into() }),
            term: Term::parse("41").unwrap(),
            unfenced: BTreeSet::new(),
            cause: crate::lease::cause::Cause::InitialElection,
            reason: "initial election".into(),
        };
        let mut annotations: BTreeMap<_, _> =
            record.annotations("e").into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        annotations.insert("podium.dev/election", "e".into());
        seen(json!({
            "metadata": { "resourceVersion": "42", "annotations": annotations },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": i32::MAX },
        }))
    }

    fn leader(follower: &Follower) -> (String, bool) {
        let standing = follower.standing();
        (standing.holder.map(|(name, _)| name).unwrap_or_default(), standing.leads_until.is_some())
    }

    #[test]
    fn the_holder_of_an_elections_lease_leads_until_another_is_seen() {
        let mut follower = follower(Some("u0"));
        assert_eq!(leader(&follower), (String::new(), false));
        follower.reads(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&follower), ("web-0".into(), true));
        let standing = follower.standing();
        assert_eq!((standing.term, standing.leads_until), (Some(41), Some(Moment::NEVER)));
        follower.reads(elected("web-1", "u1"), at(2), at(2));
        assert_eq!(leader(&follower), ("web-1".into(), false));
        follower.reads(None, at(3), at(3));
        assert_eq!(leader(&follower), (String::new(), false));
    }

    #[test]
    fn a_former_pod_of_the_same_name_is_not_this_one() {
        let mut of_another_life = follower(Some("u9"));
        of_another_life.reads(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&of_another_life), (String::new(), false), "not even by name: applications compare it");
        let mut untold = follower(None);
        untold.reads(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&untold), ("web-0".into(), true), "without a UID the name has to do");
    }

    #[test]
    fn where_the_uid_is_known_it_alone_decides_whatever_the_host_is_called() {
        for host in ["web-0.web.default.svc.cluster.local", "node-1", "another", "web-1"] {
            let me = |uid: Option<&str>| Me { name: host.into(), uid: uid.map(str::to_owned) };
            let mut mine = Follower::new(me(Some("u0")), None);
            mine.reads(elected("web-0", "u0"), at(1), at(1));
            assert_eq!(leader(&mine), ("web-0".into(), true), "{host}");
            mine.reads(elected("web-1", "u1"), at(2), at(2));
            let named = if host == "web-1" { "" } else { "web-1" };
            assert_eq!(leader(&mine), (named.into(), false), "{host}");
            let mut untold = Follower::new(me(None), None);
            untold.reads(elected("web-0", "u0"), at(1), at(1));
            assert_eq!(leader(&untold), ("web-0".into(), false), "{host}");
        }
    }

    #[test]
    fn a_lease_that_is_blank_or_was_edited_names_nobody() {
        let mut follower = follower(Some("u0"));
        for edited in [
            json!({ "metadata": { "resourceVersion": "42", "annotations": { "podium.dev/election": "e" } } }),
            json!({
                "metadata": { "resourceVersion": "42", "annotations": { "podium.dev/election": "e" } },
                "spec": { "holderIdentity": "web-0" },
            }),
        ] {
            follower.reads(elected("web-0", "u0"), at(1), at(1));
            follower.reads(seen(edited), at(2), at(2));
            assert_eq!(leader(&follower), (String::new(), false));
        }
    }

    #[test]
    fn those_who_campaign_are_named_as_long_as_they_are_seen_renewing_and_followed_without_a_claim() {
        let renewed = |second: u32| {
            seen(json!({
                "metadata": { "resourceVersion": "42" },
                "spec": { "holderIdentity": "web-0", "leaseDurationSeconds": 10,
                    "renewTime": format!("2026-11-20T10:00:{second:02}.000000Z") },
            }))
        };
        let mut follower = follower(Some("u0"));
        let until = |follower: &Follower| follower.standing().holder.map(|(_, until)| until);
        follower.reads(renewed(1), at(100), at(100));
        assert_eq!((until(&follower), leader(&follower)), (Some(at(110)), ("web-0".into(), false)));
        follower.reads(renewed(1), at(105), at(105));
        assert_eq!(until(&follower), Some(at(110)), "seen again is not renewed");
        follower.reads(renewed(3), at(106), at(106));
        assert_eq!(until(&follower), Some(at(116)));
    }

    #[test]
    fn with_a_bound_old_information_is_not_repeated() {
        let mut follower = Follower { max_age: Some(Duration::from_secs(30)), ..follower(None) };
        follower.reads(elected("web-0", "u0"), at(100), at(100));
        assert_eq!(follower.standing().leads_until, Some(at(130)));
        assert_eq!(follower.look_at(), Some(at(110)));
        // What a watch says may have waited in a buffer while this process was paused.
        follower.is_confirmed(at(101));
        follower.hears(elected("web-0", "u0"), at(101), at(120));
        let standing = follower.standing();
        assert_eq!((standing.leads_until, standing.confirmed), (Some(at(130)), Some(at(101))));
        assert_eq!(follower.look_at(), Some(at(110)));
        follower.reads(elected("web-0", "u0"), at(120), at(121));
        let standing = follower.standing();
        assert_eq!((standing.leads_until, standing.confirmed), (Some(at(150)), Some(at(120))));
    }
}
