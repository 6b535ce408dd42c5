//! The sidecar's metrics.

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::view::{Counts, LeaderInfo};

/// The format of [`encode`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encodes what is known at this moment. Metrics whose value is unknown are absent.
pub fn encode(leader: &LeaderInfo, counts: Counts, is_ready: Option<bool>) -> String {
    let LeaderInfo { name, is_leader, term, since: _, age, waiting: _ } = leader;
    let Counts { changes, renewals } = counts;
    let mut registry = Registry::with_prefix("podium_sidecar");
    let boolean = |value: bool| ConstGauge::new(i64::from(value));
    registry.register("is_leader", "1 if this pod leads", boolean(*is_leader));
    registry.register("leader_known", "1 if the leader is known", boolean(!name.is_empty()));
    if let Some(is_ready) = is_ready {
        registry.register("ready", "1 if /readyz answers 200", boolean(is_ready));
    }
    if let Some(term) = term {
        registry.register("term", "Term of the leader, if known", ConstGauge::new(*term));
    }
    if let Some(age) = age {
        let help = "Maximum age of the leader information";
        registry.register_with_unit("information_age", help, Unit::Seconds, ConstGauge::new(age.as_secs_f64()));
    }
    let help = "Leaders that were named after another one, or after none";
    registry.register("leader_changes", help, ConstCounter::new(changes));
    if let Some((succeeded, failed)) = renewals {
        let results: Family<[(&str, &str); 1], Counter> = Family::default();
        for (result, count) in [("success", succeeded), ("failure", failed)] {
            results.get_or_create(&[("result", result)]).inc_by(count);
        }
        registry.register("renewals", "Renewals of this pod while it led, by result", results);
    }
    let mut encoded = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut encoded, &registry);
    encoded
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leader(name: &str) -> LeaderInfo {
        let age = Some(Duration::from_millis(1500));
        LeaderInfo { name: name.into(), is_leader: false, term: Some(41), since: None, age, waiting: None }
    }

    #[test]
    fn unknown_values_are_absent() {
        let counts = Counts { changes: 3, renewals: None };
        let known = encode(&leader("web-0"), counts, Some(true));
        assert!(known.contains("\npodium_sidecar_term 41\n"), "{known}");
        assert!(known.contains("\npodium_sidecar_information_age_seconds 1.5\n"), "{known}");
        let unknown = encode(&LeaderInfo { term: None, age: None, ..leader("") }, counts, None);
        assert!(unknown.contains("\npodium_sidecar_leader_known 0\n"), "{unknown}");
        assert!(known.contains("\npodium_sidecar_ready 1\n") && !unknown.contains("_ready"), "{known} {unknown}");
        assert!(!unknown.contains("_term") && !unknown.contains("_age") && !unknown.contains("renewals"), "{unknown}");
    }

    #[test]
    fn prometheus_reads_the_counts() {
        let text = encode(&leader("web-0"), Counts { changes: 3, renewals: Some((20, 1)) }, None);
        let samples = [
            "podium_sidecar_is_leader 0",
            "podium_sidecar_leader_changes_total 3",
            "podium_sidecar_renewals_total{result=\"success\"} 20",
            "podium_sidecar_renewals_total{result=\"failure\"} 1",
        ];
        for sample in samples {
            assert!(text.lines().any(|line| line == sample), "{sample} in {text}");
        }
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 7, "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
