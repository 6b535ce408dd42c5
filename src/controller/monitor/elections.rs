//! The series of each Election. Each scrape builds them from the caches, so they go when the Election is deleted.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::add;
use super::table;
use crate::api::{ElectionStatus, READY};

type Labels = [(&'static str, String); 2];
type InfoLabels = [(&'static str, String); 5];

/// An Election in the caches.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The label's key, if the spec is usable.
    pub label_key: Option<&'a str>,
    /// Its status.
    pub status: &'a ElectionStatus,
}

/// Returns the series of these Elections, in the OpenMetrics format without its end.
pub fn series<'a>(elections: impl Iterator<Item = Observed<'a>>) -> String {
    let mut registry = Registry::default();
    let all = &mut registry;
    let info: Family<InfoLabels, Gauge> = add(all, &table::ELECTION_INFO, Family::default());
    let ready: Family<Labels, Gauge> = add(all, &table::ELECTION_READY, Family::default());
    let term: Family<Labels, Gauge> = add(all, &table::ELECTION_TERM, Family::default());
    let transitions: Family<Labels, Counter<u64, AtomicU64>> = add(all, &table::ELECTION_TRANSITIONS, Family::default());
    let eligible: Family<Labels, Gauge> = add(all, &table::ELECTION_ELIGIBLE, Family::default());
    for Observed { namespace, name, label_key, status } in elections {
        let labels = || [("namespace", namespace.to_owned()), ("election", name.to_owned())];
        let [in_namespace, of_election] = labels();
        let leader = ("leader", status.leader.clone().unwrap_or_default());
        let next = ("next_leader", status.next_leader.clone().unwrap_or_default());
        let key = ("label_key", label_key.unwrap_or_default().to_owned());
        info.get_or_create(&[in_namespace, of_election, leader, next, key]).set(1);
        let is_ready = status.condition(READY).is_some_and(|condition| condition.status == "True");
        ready.get_or_create(&labels()).set(is_ready.into());
        term.get_or_create(&labels()).set(status.term.unwrap_or_default());
        transitions.get_or_create(&labels()).inc_by(status.leader_transitions.try_into().unwrap_or_default());
        eligible.get_or_create(&labels()).set(status.eligible_candidates.into());
    }
    let mut series = String::new();
    // Writing to a string does not fail.
    let _ = text::encode_registry(&mut series, &registry);
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Reason, condition};

    #[test]
    fn each_election_has_series_with_the_leader_and_the_next_one_as_labels() {
        let ready = condition(None, READY, true, (Reason::LeaderElected, String::new()), 1, Default::default());
        let led = ElectionStatus {
            leader: Some("web-1".into()),
            next_leader: Some("web-0".into()),
            term: Some(41),
            leader_transitions: 3,
            eligible_candidates: 2,
            conditions: Some(vec![ready]),
            ..ElectionStatus::default()
        };
        let pending = ElectionStatus::default();
        let web = Observed { namespace: "a", name: "web", label_key: Some("leader"), status: &led };
        let db = Observed { namespace: "b", name: "db", label_key: None, status: &pending };
        let text = series([web, db].into_iter());
        let of_web = "{namespace=\"a\",election=\"web\"";
        let of_db = "{namespace=\"b\",election=\"db\"";
        for line in [
            format!("podium_election_info{of_web},leader=\"web-1\",next_leader=\"web-0\",label_key=\"leader\"}} 1"),
            format!("podium_election_info{of_db},leader=\"\",next_leader=\"\",label_key=\"\"}} 1"),
            format!("podium_election_ready{of_web}}} 1"),
            format!("podium_election_ready{of_db}}} 0"),
            format!("podium_election_term{of_web}}} 41"),
            format!("podium_election_transitions_total{of_web}}} 3"),
            format!("podium_election_eligible_candidates{of_web}}} 2"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF"));
        assert_eq!(series([web].into_iter()).matches("election=\"db\"").count(), 0, "the series of a deleted Election go");
    }
}
