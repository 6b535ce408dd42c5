//! The state after a change, on which Lease, pods and status must agree.

use crate::harness::observer::{Seen, View};

/// The expected term.
#[derive(Clone, Copy, Debug)]
pub enum Term {
    /// A new term, above this one.
    Above(i64),
    /// Exactly this term.
    Still(i64),
}

/// The expected outcome of a change.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// One pod has the label, this one if named, and Lease and status agree.
    Leader(Option<&'static str>, Term),
    /// No pod has the label, the Lease has no holder, and the status agrees, in a term above this.
    Vacancy(i64),
    /// No pod has the label.
    NoLabel,
}

impl Goal {
    /// Returns the term, if the goal is reached.
    ///
    /// # Errors
    /// The actual state.
    pub fn check(&self, view: &View) -> Result<i64, String> {
        let labeled: Vec<_> =
            view.pods.values().filter(|pod| pod.labels.get("leader").is_some_and(|value| value == "true")).collect();
        let lease = view.leases.get("web");
        let annotation = |name: &str| lease.and_then(|lease| lease.annotations.get(name)).cloned();
        let (holder, lease_term) = (annotation("podium.dev/holder"), annotation("podium.dev/term"));
        let names: Vec<_> = labeled.iter().map(|pod| &pod.name).collect();
        let election = view.elections.get("web");
        let seen = || format!("labeled: {names:?}, Lease: {holder:?} {lease_term:?}, Election: {election:?}");
        let status = |ready: &str| {
            let is_ready = |seen: &&Seen| seen.status.condition("Ready").is_some_and(|condition| condition.status == ready);
            election.filter(|seen| seen.current).filter(is_ready).map(|seen| &seen.status).ok_or_else(seen)
        };
        match self {
            Self::NoLabel => labeled.is_empty().then_some(0).ok_or_else(seen),
            Self::Vacancy(above) => {
                let status = status("False")?;
                let term = status.term.filter(|term| term > above).ok_or_else(seen)?;
                let vacant = labeled.is_empty() && holder.is_none() && status.leader.is_none();
                (vacant && lease_term == Some(term.to_string())).then_some(term).ok_or_else(seen)
            }
            Self::Leader(name, wanted) => {
                let status = status("True")?;
                let [leader] = labeled[..] else { return Err(seen()) };
                let term = status.term.ok_or_else(seen)?;
                let in_time = match wanted {
                    Term::Above(former) => term > *former,
                    Term::Still(former) => term == *former,
                };
                let one_voice = status.leader.as_ref() == Some(&leader.name)
                    && status.leader_uid.as_ref() == Some(&leader.uid)
                    && holder == Some(format!("{}/{}", leader.name, leader.uid))
                    && lease_term == Some(term.to_string())
                    && leader.annotations.get("term.podium.dev/web") == lease_term.as_ref();
                let right = name.is_none_or(|name| leader.name == name);
                (in_time && one_voice && right).then_some(term).ok_or_else(seen)
            }
        }
    }
}
