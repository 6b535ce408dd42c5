//! The state of a follower: from observations of a Lease to the leader. Pure: time is an argument.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::core::DeserializeGuard;
use podium_campaign::{LeaderElectionRecord, LeadershipState, LeaseFormat, LockFormat, Moment};

use crate::lease::object::{self, readable};
use crate::lease::record::Content;

/// The pod that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`, if known. Names are reused, UIDs are not.
    pub uid: Option<String>,
}

/// The content of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The Lease of an Election, which its controller writes.
    Election {
        /// Name and UID; `None`: a vacancy, or no leader was elected yet.
        holder: Option<(String, String)>,
        /// The term.
        term: Option<u64>,
        /// When the term began.
        since: Option<k8s_openapi::jiff::Timestamp>,
    },
    /// The Lease of a campaign, by client-go's protocol.
    Campaign(LeaderElectionRecord),
}

impl Observation {
    /// Reads the Lease.
    pub fn of(guard: DeserializeGuard<Object>) -> Self {
        let object = readable(guard);
        match object::read(&object) {
            Ok(lease) if lease.incarnation.is_some() || lease.owner.is_some() => match lease.content {
                Content::Term(term) => Self::Election {
                    holder: term.holder.map(|holder| (holder.name, holder.uid.to_string())),
                    term: u64::try_from(term.term.number()).ok(),
                    since: lease.acquired,
                },
                // The controller will repair it, and may elect another leader.
                Content::Blank | Content::Damaged(_) => Self::Election { holder: None, term: None, since: None },
            },
            _ => Self::Campaign(LeaseFormat::record(&object)),
        }
    }
}

/// Follows a Lease.
#[derive(Clone, Debug)]
pub struct Follower {
    me: PodIdentity,
    /// The maximum age of an observation of an Election. `None`: unlimited.
    max_age: Option<Duration>,
    /// The lease duration of a campaign whose record has none.
    duration: Duration,
    observation: Option<Observation>,
    /// When the observation was new.
    since: Moment,
    /// When the last successful read was sent.
    read: Option<Moment>,
    /// A moment before the last event was sent: the event may have been buffered since.
    heard: Option<Moment>,
}

impl Follower {
    /// Returns a follower that has observed nothing. `max_age`: the maximum age of an observation of an Election; `None`: the
    /// observation stands until the next one, so that an outage of the API server deposes no leader.
    pub fn new(me: PodIdentity, max_age: Option<Duration>) -> Self {
        let duration = podium_campaign::Timing::default().lease_duration;
        Self { me, max_age, duration, observation: None, since: Moment::START, read: None, heard: None }
    }

    /// Stores the response to a read: the Lease as it was at some moment between `asked` and `now`; `None`: it did not exist.
    pub fn observe_read(&mut self, observation: Option<Observation>, asked: Moment, now: Moment) {
        self.observe(observation, now);
        self.read = Some(asked);
    }

    /// Stores an event: the Lease as it was at some moment between `after` and `now`; `None`: it was deleted.
    pub fn observe_event(&mut self, observation: Option<Observation>, after: Moment, now: Moment) {
        self.observe(observation, now);
        self.heard = Some(after);
    }

    /// Stores that the server confirmed the last observation after this moment.
    pub fn confirm(&mut self, after: Moment) {
        self.heard = Some(after);
    }

    fn observe(&mut self, observation: Option<Observation>, now: Moment) {
        if self.observation != observation {
            self.since = now;
        }
        self.observation = observation;
    }

    /// Returns whether the Lease was read, also if it does not exist.
    pub fn has_observed(&self) -> bool {
        self.read.is_some()
    }

    /// Returns whether the Lease is known not to exist.
    pub fn lease_is_absent(&self) -> bool {
        self.has_observed() && self.observation.is_none()
    }

    /// Returns when the next read is due. `None`: events of the watch are enough.
    pub fn read_due(&self) -> Option<Moment> {
        let age = self.max_age?;
        Some(self.read.map_or(Moment::START, |read| read + age / 3))
    }

    /// Returns the leader, and until when the observation counts.
    pub fn state(&self) -> LeadershipState {
        let vacant = LeadershipState { confirmed: self.read.max(self.heard), ..LeadershipState::default() };
        match &self.observation {
            Some(Observation::Election { holder: Some((name, uid)), term, since }) => {
                // Only reads count: an event may have been buffered while this process was paused.
                let until = match (self.max_age, self.read) {
                    (Some(age), Some(read)) => read + age,
                    _ => Moment::NEVER,
                };
                let same_name = *name == self.me.name;
                // A known UID decides, whatever the name of the host is.
                let is_me = self.me.uid.as_ref().map_or(same_name, |mine| mine == uid);
                if same_name && !is_me {
                    // A former pod of the same name. An application that compares names would believe that it leads.
                    return vacant;
                }
                LeadershipState {
                    holder: Some((name.clone(), until)),
                    leads_until: is_me.then_some(until),
                    term: *term,
                    since: *since,
                    ..vacant
                }
            }
            // Only a campaigner itself knows until when it leads, so a follower of a campaign never claims to lead.
            Some(Observation::Campaign(record)) if record.is_held() => LeadershipState {
                holder: Some((record.holder.clone(), self.since + record.lease_duration(self.duration))),
                since: record.acquire_time,
                ..vacant
            },
            _ => vacant,
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
        Follower::new(PodIdentity { name: "web-0".into(), uid: uid.map(str::to_owned) }, None)
    }

    fn seen(value: Value) -> Option<Observation> {
        Some(Observation::of(serde_json::from_value(value).unwrap()))
    }

    /// Returns a Lease as the controller writes it.
    fn elected(holder: &str, uid: &str) -> Option<Observation> {
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
        let state = follower.state();
        (state.holder.map(|(name, _)| name).unwrap_or_default(), state.leads_until.is_some())
    }

    #[test]
    fn holder_of_an_election_leads_until_another_holder_is_observed() {
        let mut follower = follower(Some("u0"));
        assert_eq!(leader(&follower), (String::new(), false));
        follower.observe_read(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&follower), ("web-0".into(), true));
        let state = follower.state();
        assert_eq!((state.term, state.leads_until), (Some(41), Some(Moment::NEVER)));
        follower.observe_read(elected("web-1", "u1"), at(2), at(2));
        assert_eq!(leader(&follower), ("web-1".into(), false));
        follower.observe_read(None, at(3), at(3));
        assert_eq!(leader(&follower), (String::new(), false));
    }

    #[test]
    fn former_pod_of_the_same_name_is_not_this_pod() {
        let mut recreated = follower(Some("u9"));
        recreated.observe_read(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&recreated), (String::new(), false), "its name is not published: applications compare names");
        let mut without_uid = follower(None);
        without_uid.observe_read(elected("web-0", "u0"), at(1), at(1));
        assert_eq!(leader(&without_uid), ("web-0".into(), true), "without a UID the name decides");
    }

    #[test]
    fn known_uid_decides_whatever_the_host_name_is() {
        for host in ["web-0.web.default.svc.cluster.local", "node-1", "another", "web-1"] {
            let me = |uid: Option<&str>| PodIdentity { name: host.into(), uid: uid.map(str::to_owned) };
            let mut mine = Follower::new(me(Some("u0")), None);
            mine.observe_read(elected("web-0", "u0"), at(1), at(1));
            assert_eq!(leader(&mine), ("web-0".into(), true), "{host}");
            mine.observe_read(elected("web-1", "u1"), at(2), at(2));
            let named = if host == "web-1" { "" } else { "web-1" };
            assert_eq!(leader(&mine), (named.into(), false), "{host}");
            let mut without_uid = Follower::new(me(None), None);
            without_uid.observe_read(elected("web-0", "u0"), at(1), at(1));
            assert_eq!(leader(&without_uid), ("web-0".into(), false), "{host}");
        }
    }

    #[test]
    fn blank_or_edited_lease_names_no_leader() {
        let mut follower = follower(Some("u0"));
        for edited in [
            json!({ "metadata": { "resourceVersion": "42", "annotations": { "podium.dev/election": "e" } } }),
            json!({
                "metadata": { "resourceVersion": "42", "annotations": { "podium.dev/election": "e" } },
                "spec": { "holderIdentity": "web-0" },
            }),
        ] {
            follower.observe_read(elected("web-0", "u0"), at(1), at(1));
            follower.observe_read(seen(edited), at(2), at(2));
            assert_eq!(leader(&follower), (String::new(), false));
        }
    }

    #[test]
    fn campaigning_holder_is_named_until_it_expires_and_never_led_by_the_follower() {
        let renewed = |second: u32| {
            seen(json!({
                "metadata": { "resourceVersion": "42" },
                "spec": { "holderIdentity": "web-0", "leaseDurationSeconds": 10,
                    "renewTime": format!("2026-11-20T10:00:{second:02}.000000Z") },
            }))
        };
        let mut follower = follower(Some("u0"));
        let until = |follower: &Follower| follower.state().holder.map(|(_, until)| until);
        follower.observe_read(renewed(1), at(100), at(100));
        assert_eq!((until(&follower), leader(&follower)), (Some(at(110)), ("web-0".into(), false)));
        follower.observe_read(renewed(1), at(105), at(105));
        assert_eq!(until(&follower), Some(at(110)), "a repeated observation is no renewal");
        follower.observe_read(renewed(3), at(106), at(106));
        assert_eq!(until(&follower), Some(at(116)));
    }

    #[test]
    fn leader_is_unknown_after_the_maximum_age() {
        let mut follower = Follower { max_age: Some(Duration::from_secs(30)), ..follower(None) };
        follower.observe_read(elected("web-0", "u0"), at(100), at(100));
        assert_eq!(follower.state().leads_until, Some(at(130)));
        assert_eq!(follower.read_due(), Some(at(110)));
        // An event may have been buffered while this process was paused.
        follower.confirm(at(101));
        follower.observe_event(elected("web-0", "u0"), at(101), at(120));
        let state = follower.state();
        assert_eq!((state.leads_until, state.confirmed), (Some(at(130)), Some(at(101))));
        assert_eq!(follower.read_due(), Some(at(110)));
        follower.observe_read(elected("web-0", "u0"), at(120), at(121));
        let state = follower.state();
        assert_eq!((state.leads_until, state.confirmed), (Some(at(150)), Some(at(120))));
    }
}
