//! The checker can fail: hand-made histories that break one promise each. No cluster is needed.

use std::collections::BTreeSet;

use podium_test_support::checker::{Kind, Revision, Watched, violations};

fn lease(version: i64, term: &str, holder: &str) -> Revision {
    let annotations = [("podium.dev/term".into(), term.into()), ("podium.dev/holder".into(), holder.into())].into();
    Revision { kind: Kind::Lease, name: "web".into(), uid: "l".into(), annotations, ..pod(version, "", None, None) }
}

fn pod(version: i64, name: &str, label: Option<&str>, term: Option<&str>) -> Revision {
    Revision {
        version,
        kind: Kind::Pod,
        name: name.into(),
        uid: format!("uid-{name}"),
        labels: label.map(|value| ("leader".into(), value.into())).into_iter().collect(),
        annotations: term.map(|term| ("term.podium.dev/web".into(), term.into())).into_iter().collect(),
        gone: false,
        altered: false,
    }
}

/// `a` leads with term 4, and then, properly, `b` with term 7.
fn proper() -> Vec<Revision> {
    vec![
        pod(1, "a", None, None),
        pod(2, "b", None, None),
        Revision { annotations: [].into(), ..lease(4, "", "") },
        lease(5, "4", "a/uid-a"),
        pod(6, "a", Some("true"), Some("4")),
        lease(8, "7", "b/uid-b"),
        pod(9, "a", None, Some("7")),
        pod(10, "b", Some("true"), Some("7")),
    ]
}

fn watched(election: &str) -> Watched {
    Watched { election: election.into(), key: "leader".into(), value: "true".into(), lease: election.into() }
}

/// What is found when `changed` takes the place of the revisions of the same numbers, and is added otherwise.
fn found(changed: &[Revision], forged: &[i64]) -> Vec<String> {
    let mut history = proper();
    history.retain(|revision| changed.iter().all(|changed| changed.version != revision.version));
    history.extend_from_slice(changed);
    history.sort_by_key(|revision| revision.version);
    violations(&history, &[watched("web")], &BTreeSet::from_iter(forged.iter().copied()))
}

#[track_caller]
fn assert_found(changed: &[Revision], words: &str) {
    let found = found(changed, &[]);
    assert!(found.iter().any(|violation| violation.contains(words)), "{found:?}");
}

#[test]
fn a_proper_history_breaks_nothing() {
    assert_eq!(found(&[], &[]), [""; 0]);
}

#[test]
fn two_labels_at_one_revision_are_found_although_the_end_is_right() {
    let late = [pod(9, "b", Some("true"), Some("7")), pod(10, "a", None, Some("7"))];
    assert_found(&late, r#"revision 9: several pods carry the label: ["a", "b"]"#);
}

#[test]
fn a_label_before_the_lease_names_its_pod_is_found() {
    assert_found(&[lease(11, "7", "b/uid-b"), pod(8, "a", None, Some("4"))], "with which no Lease named it");
    assert_found(&[pod(10, "b", Some("true"), None)], "with which no Lease named it");
    assert_found(&[pod(10, "b", Some("true"), Some("4"))], "with which no Lease named it");
}

#[test]
fn a_label_of_a_pod_that_only_has_the_holders_name_is_found() {
    let namesake = Revision { uid: "another".into(), ..pod(10, "b", Some("true"), Some("7")) };
    assert_found(&[namesake], "with which no Lease named it");
}

#[test]
fn a_new_term_on_a_labelled_pod_needs_the_lease_too() {
    assert_found(&[pod(7, "a", Some("true"), Some("5"))], "with which no Lease named it");
}

#[test]
fn a_term_that_goes_back_or_is_shared_is_found() {
    assert_found(&[lease(11, "4", "a/uid-a")], "went back from 7 to 4");
    assert_found(&[lease(11, "7", "a/uid-a")], "share the term 7");
    assert_found(&[lease(11, "7", "")], "share the term 7");
    assert_found(&[lease(11, "seven", "b/uid-b")], "is not a number");
}

#[test]
fn terms_grow_through_the_deletion_of_the_lease() {
    let gone = Revision { gone: true, ..lease(11, "7", "b/uid-b") };
    let again = Revision { uid: "l2".into(), ..lease(12, "6", "b/uid-b") };
    assert_found(&[gone, again], "went back from 7 to 6");
}

#[test]
fn a_term_taken_from_a_living_pod_is_found() {
    assert_found(&[pod(11, "a", None, None)], r#"the term of a went from Some("7") to None"#);
    assert_found(&[pod(11, "a", None, Some("6"))], r#"the term of a went from Some("7") to Some("6")"#);
}

#[test]
fn what_the_test_forged_breaks_nothing_and_what_follows_from_it_is_judged() {
    let forged = pod(11, "a", Some("true"), Some("99"));
    assert_eq!(found(std::slice::from_ref(&forged), &[11]), [""; 0]);
    assert!(!found(std::slice::from_ref(&forged), &[]).is_empty(), "undeclared, it does");
    assert_eq!(found(&[forged.clone(), pod(12, "a", None, Some("7"))], &[11]), [""; 0], "it heals");
    // Once the Lease names the pod, its label counts.
    let elected = [forged, lease(12, "11", "a/uid-a"), pod(13, "a", Some("true"), Some("11"))];
    assert!(found(&elected, &[11]).iter().any(|violation| violation.contains("several pods")));
}

#[test]
fn a_pod_that_is_gone_leads_no_more() {
    let gone = [Revision { gone: true, ..pod(9, "a", Some("true"), Some("4")) }];
    assert_eq!(found(&gone, &[]), [""; 0]);
}

#[test]
fn elections_that_use_the_same_label_are_told_apart_by_the_lease_that_named_the_pod() {
    let mut history = proper();
    let claim = |term: &str| [("term.podium.dev/db".into(), term.into())].into();
    let of_db = |revision: Revision| Revision { name: "db".into(), ..revision };
    history.push(of_db(lease(11, "3", "c/uid-c")));
    history.push(Revision { annotations: claim("3"), ..pod(12, "c", Some("true"), None) });
    let both = [watched("web"), watched("db")];
    assert_eq!(violations(&history, &both, &BTreeSet::new()), [""; 0]);
    history.push(of_db(lease(14, "13", "d/uid-d")));
    history.push(Revision { annotations: claim("13"), ..pod(15, "d", Some("true"), None) });
    let found = violations(&history, &both, &BTreeSet::new());
    assert_eq!(found, [r#"revision 15: several pods carry the label: ["c", "d"]"#]);
}

#[test]
fn an_election_that_was_made_again_with_another_label_is_told_from_the_former_one() {
    let mut history = proper();
    let other = [("a.example/leader".into(), "true".into())].into();
    history.push(pod(11, "b", None, Some("7")));
    history.push(lease(13, "12", "a/uid-a"));
    history.push(Revision { labels: other, ..pod(14, "a", None, Some("12")) });
    let again = Watched { key: "a.example/leader".into(), ..watched("web") };
    assert_eq!(violations(&history, &[watched("web"), again], &BTreeSet::new()), [""; 0]);
}
