//! Rule 11: labels that the cleanup removes or keeps.

use super::*;

/// The pod `a` with the claim of `web` and the label, which this field manager set.
fn labeled_by(manager: &str, revision: i64) -> Named {
    pod("a", revision, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
        set_by(object, manager, &["leader"]);
    })
}

/// The same without a field manager.
fn labeled_by_nobody(revision: i64) -> Named {
    pod("a", revision, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
    })
}

/// The same pod without the label.
fn unlabeled(revision: i64) -> Named {
    pod("a", revision, |object| object["metadata"]["annotations"] = json!({ names::claim("web"): "20" }))
}

fn left_behind() -> Named {
    labeled_by(names::MANAGER, 41)
}

async fn removed(answer: Result<Vec<Named>, Refusal>, serves_elections: bool) -> Vec<Write> {
    let script = Script { to_reads: answers([answer]), serves_elections, ..Script::default() };
    let shared = shared(script, [left_behind()]);
    clean_up(&shared, &key("web")).await;
    shared.server.writes.into_inner().unwrap()
}

#[tokio::test]
async fn rule_11_the_label_of_a_deleted_election_goes_and_the_term_stays() {
    let writes = removed(Err(absent(true)), true).await;
    let [Write::PatchPod { name, patch }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(name, "a");
    let metadata = json!({ "uid": "a-uid", "resourceVersion": "41", "labels": { "leader": null } });
    assert_eq!(patch["metadata"], metadata);
}

#[tokio::test]
async fn rule_11_nothing_is_swept_without_the_servers_word_about_this_very_election() {
    assert!(removed(Ok(vec![election("web", 50, |_| ())]), true).await.is_empty(), "it exists");
    assert!(removed(Err(absent(false)), true).await.is_empty(), "something else was not found");
    assert!(removed(Err(absent(true)), false).await.is_empty(), "the resource is not served");
    assert!(removed(Err(Refusal::Unknown("timeout".into())), true).await.is_empty(), "no answer");
}

#[tokio::test]
async fn a_pod_that_may_not_be_written_to_does_not_keep_the_others_from_being_swept() {
    let refused = Err(Refusal::Denied("no".into()));
    let script = Script {
        to_reads: answers([Err(absent(true))]),
        to_writes: answers([refused]),
        serves_elections: true,
        ..Script::default()
    };
    let second = pod("b", 42, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
        set_by(object, names::MANAGER, &["leader"]);
    });
    let shared = shared(script, [left_behind(), second]);
    assert_eq!(clean_up(&shared, &key("web")).await, Outcome::Backoff, "it is tried again");
    let writes = shared.server.writes.lock().unwrap();
    let pods: Vec<&str> =
        writes.iter().map(|write| if let Write::PatchPod { name, .. } = write { name } else { "" }).collect();
    assert_eq!(pods, ["a", "b"]);
}

#[tokio::test]
async fn a_label_that_another_election_has_on_the_pod_is_not_swept() {
    let claimed = pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20", names::claim("other"): "30" });
        set_by(object, names::MANAGER, &["leader"]);
    });
    assert_eq!(swept_beside_another(claimed).await.len(), 0);
}

#[tokio::test]
async fn a_label_that_another_election_only_waits_for_is_swept() {
    assert_eq!(swept_beside_another(left_behind()).await.len(), 1);
}

/// Returns the cleanup's writes while the Election `other` matches the pod under the same key.
async fn swept_beside_another(pod: Named) -> Vec<Write> {
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [pod, election("other", 12, |_| ())]);
    clean_up(&shared, &key("web")).await;
    shared.server.writes.into_inner().unwrap()
}

/// A pod that `web` led under the key `leader`, with a user's label under another allowed key.
fn led_and_labeled() -> Named {
    pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["labels"]["team.example/leader"] = "alice".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
    })
}

#[tokio::test]
async fn of_an_election_that_was_seen_only_its_own_label_is_swept() {
    let script = Script {
        to_reads: answers([Err(absent(true))]),
        to_writes: answers([Ok(vec![unlabeled(55)])]),
        serves_elections: true,
        ..Script::default()
    };
    let shared = shared(script, [election("web", 10, |_| ()), led_and_labeled()]);
    let changes = delete(&mut shared.world(), election("web", 50, |_| ()));
    assert_eq!(changes.orphaned.into_iter().collect::<Vec<_>>(), [key("web")]);
    assert_eq!(clean_up(&shared, &key("web")).await, Outcome::Done);
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchPod { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(patch["metadata"]["labels"], json!({ "leader": null }));
    assert!(shared.world().retired(&key("web")).is_none(), "nothing is remembered for ever");
    let by_hand = pod("a", 60, |object| {
        object["metadata"]["labels"]["team.example/leader"] = "bob".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20" });
    });
    let changes = apply(&mut shared.world(), by_hand);
    assert!(changes.orphaned.is_empty(), "once: what is labeled afterwards is its user's");
    assert_eq!(clean_up(&shared, &key("web")).await, Outcome::Done);
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_election_made_again_with_another_label_does_not_leave_the_former_one_behind() {
    for label in [("new.example/leader", "true"), ("leader", "yes")] {
        made_again_with(label).await;
    }
}

async fn made_again_with((label, value): (&str, &str)) {
    let again = || {
        election("web", 60, |object| {
            object["metadata"]["uid"] = "another".into();
            object["spec"]["label"] = json!({ "key": label, "value": value });
        })
    };
    let script = Script { to_reads: answers([Ok(vec![again()])]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), led_and_labeled()]);
    delete(&mut shared.world(), election("web", 50, |_| ()));
    let changes = apply(&mut shared.world(), again());
    assert!(changes.orphaned.contains(&key("web")) && changes.affected.contains(&key("web")));
    clean_up(&shared, &key("web")).await;
    let writes = shared.server.writes.lock().unwrap().clone();
    let [Write::PatchPod { patch, .. }] = &writes[..] else { panic!("{writes:#?}") };
    assert_eq!(patch["metadata"]["labels"], json!({ "leader": null }));
}

/// `web` was observed and deleted, and the cleanup is complete.
async fn after_the_sweep<const N: usize>(pods: [Named; N]) -> Shared<Script> {
    let script = Script {
        to_reads: answers([Err(absent(true)), Err(absent(true))]),
        to_writes: answers([Ok(vec![unlabeled(51)])]),
        serves_elections: true,
        ..Script::default()
    };
    let shared = shared(script, [election("web", 10, |_| ())].into_iter().chain(pods));
    delete(&mut shared.world(), election("web", 50, |_| ()));
    clean_up(&shared, &key("web")).await;
    shared
}

#[tokio::test]
async fn rule_11_a_label_that_somebody_sets_after_the_sweep_is_theirs() {
    let shared = after_the_sweep([labeled_by(names::MANAGER, 41)]).await;
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
    for revision in [52, 54] {
        assert!(apply(&mut shared.world(), labeled_by("kubectl-label", revision)).orphaned.is_empty());
        clean_up(&shared, &key("web")).await;
        apply(&mut shared.world(), unlabeled(revision + 1));
    }
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1, "once");
}

#[tokio::test]
async fn rule_11_a_label_that_is_set_anew_before_the_sweep_is_theirs() {
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), labeled_by(names::MANAGER, 41)]);
    delete(&mut shared.world(), election("web", 50, |_| ()));
    apply(&mut shared.world(), unlabeled(51));
    apply(&mut shared.world(), labeled_by("kubectl-label", 52));
    clean_up(&shared, &key("web")).await;
    assert!(shared.server.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn rule_11_a_restart_takes_no_label_that_podium_did_not_set() {
    for by_somebody in [labeled_by("kubectl-label", 41), labeled_by_nobody(41)] {
        let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
        let shared = shared(script, [by_somebody]);
        assert!(shared.world().orphaned().is_empty());
        clean_up(&shared, &key("web")).await;
        assert!(shared.server.reads.lock().unwrap().is_empty() && shared.server.writes.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn rule_11_a_label_that_was_under_way_when_its_election_was_swept_goes_too() {
    // It arrives with the claim, or after it, from a controller that has not observed the deletion.
    for before in [pod("a", 41, |_| ()), unlabeled(41)] {
        let shared = after_the_sweep([before]).await;
        assert!(shared.server.writes.lock().unwrap().is_empty(), "nobody is labeled yet");
        assert!(apply(&mut shared.world(), labeled_by(names::MANAGER, 52)).orphaned.contains(&key("web")));
        clean_up(&shared, &key("web")).await;
        assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn rule_11_a_late_label_of_a_former_election_goes_also_where_another_one_has_the_name() {
    let again = || {
        election("web", 60, |object| {
            object["metadata"]["uid"] = "another".into();
            object["spec"]["label"] = json!({ "key": "new.example/leader" });
        })
    };
    let shared = after_the_sweep([unlabeled(41)]).await;
    apply(&mut shared.world(), again());
    assert!(apply(&mut shared.world(), labeled_by(names::MANAGER, 61)).orphaned.contains(&key("web")));
    *shared.server.to_reads.lock().unwrap() = [Ok(vec![again()])].into();
    *shared.server.to_writes.lock().unwrap() = [Ok(vec![unlabeled(65)])].into();
    clean_up(&shared, &key("web")).await;
    assert_eq!(shared.server.writes.lock().unwrap().len(), 1);
    let own = pod("a", 71, |object| {
        object["metadata"]["labels"]["new.example/leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "65" });
        set_by(object, names::MANAGER, &["new.example/leader"]);
    });
    assert!(apply(&mut shared.world(), own).orphaned.is_empty(), "its own label is not left over");
}

#[tokio::test]
async fn an_election_that_the_caches_do_not_know_yet_is_asked_for_before_its_label_is_taken() {
    let claimed = pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20", names::claim("other"): "30" });
        set_by(object, names::MANAGER, &["leader"]);
    });
    let answers = answers([Err(absent(true)), Ok(vec![election("other", 42, |_| ())])]);
    let shared = shared(Script { to_reads: answers, serves_elections: true, ..Script::default() }, [claimed]);
    clean_up(&shared, &key("web")).await;
    let reads = shared.server.reads.lock().unwrap().clone();
    assert_eq!(reads, [Read::Election("web".into()), Read::Election("other".into())]);
    assert!(shared.server.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_pod_of_an_election_that_cannot_be_read_is_spared() {
    let unreadable = election("bad", 12, |object| object["spec"] = json!({ "selector": 7 }));
    let its_leader = pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = json!({ names::claim("web"): "20", names::claim("bad"): "30" });
        set_by(object, names::MANAGER, &["leader"]);
    });
    let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [unreadable, its_leader]);
    clean_up(&shared, &key("web")).await;
    assert!(shared.server.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn rule_11_an_election_whose_spec_became_unusable_keeps_the_leader_that_it_has() {
    let broken = || {
        election("web", 60, |object| {
            object["metadata"]["generation"] = 2.into();
            object["spec"] = json!({ "selector": {} });
        })
    };
    let script = Script { to_reads: answers([Ok(vec![broken()])]), serves_elections: true, ..Script::default() };
    let shared = shared(script, [election("web", 10, |_| ()), led_and_labeled()]);
    apply(&mut shared.world(), broken());
    clean_up(&shared, &key("web")).await;
    assert_eq!(*shared.server.reads.lock().unwrap(), [Read::Election("web".into())]);
    assert!(shared.server.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_change_of_the_spec_retires_nothing() {
    let shared = shared(Script::default(), [election("web", 10, |_| ()), led_and_labeled()]);
    let changed = election("web", 20, |object| {
        object["metadata"]["generation"] = 2.into();
        object["spec"]["minReadySeconds"] = 5.into();
    });
    assert!(apply(&mut shared.world(), changed).orphaned.is_empty());
    assert!(shared.world().retired(&key("web")).is_none());
}

/// The pod `a` with the claim and the demand of `web`, after it had 5, and perhaps with the label.
fn demanded(labeled: bool) -> Named {
    pod("a", 41, |object| {
        if labeled {
            object["metadata"]["labels"]["leader"] = "true".into();
            set_by(object, names::MANAGER, &["leader"]);
        }
        object["metadata"]["annotations"] = json!({
            names::claim("web"): "20", names::POD_DELETION_COST: "100", names::DELETION_COSTS: "web=100; original=5",
        });
    })
}

#[tokio::test]
async fn deletion_cost_of_a_deleted_election_is_given_back() {
    for labeled in [false, true] {
        let script = Script { to_reads: answers([Err(absent(true))]), serves_elections: true, ..Script::default() };
        let shared = shared(script, [demanded(labeled)]);
        assert!(shared.world().orphaned().contains(&key("web")));
        clean_up(&shared, &key("web")).await;
        let writes = shared.server.writes.lock().unwrap().clone();
        let [Write::PatchPod { patch, .. }] = &writes[..] else { panic!("one write: {writes:#?}") };
        let restored = json!({ names::POD_DELETION_COST: "5", names::DELETION_COSTS: null });
        assert_eq!(patch["metadata"]["annotations"], restored, "the term stays");
        assert_eq!(patch["metadata"].get("labels"), labeled.then_some(&json!({ "leader": null })));
    }
}

#[tokio::test]
async fn deletion_cost_of_an_existing_election_is_not_cleaned_up() {
    let shared =
        shared(Script { serves_elections: true, ..Script::default() }, [election("web", 10, |_| ()), demanded(false)]);
    assert!(shared.world().orphaned().is_empty());
    clean_up(&shared, &key("web")).await;
    assert_eq!(shared.server.writes.lock().unwrap().len(), 0);
    delete(&mut shared.world(), election("web", 50, |_| ()));
    apply(&mut shared.world(), election("web", 60, |object| object["metadata"]["uid"] = "again".into()));
    clean_up(&shared, &key("web")).await;
    assert_eq!(shared.server.writes.lock().unwrap().len(), 0, "the new Election demands what its own spec says");
}
