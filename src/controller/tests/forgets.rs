//! Active and standby replicas forget deleted objects.

use super::*;
use crate::controller::observe::cached;

#[tokio::test(start_paused = true)]
async fn a_replica_that_stands_by_remembers_nothing_of_elections_that_came_and_went() {
    let shared = shared(Script::default(), []);
    shared.elections.close();
    shared.cleanups.close();
    for number in 0..100 {
        let (name, revision) = (format!("web-{number}"), 100 + 10 * number);
        let claimed = |object: &mut serde_json::Value| {
            object["metadata"]["uid"] = format!("pod-{number}").into();
            object["metadata"]["annotations"] = serde_json::json!({ names::claim(&name): "20" });
        };
        let mut world = shared.world();
        let changes = [
            apply(&mut world, election(&name, revision, |_| ())),
            apply(&mut world, pod("a", revision + 1, claimed)),
            delete(&mut world, election(&name, revision + 2, |_| ())),
            delete(&mut world, pod("a", revision + 3, claimed)),
        ];
        drop(world);
        changes.into_iter().for_each(|changes| shared.queue(changes));
    }
    // An unrelated pod keeps the namespace.
    apply(&mut shared.world(), pod("b", 5_000, |_| ()));
    assert_eq!((shared.elections.depth(), shared.cleanups.depth()), (0, 0));
    let world = shared.world();
    for number in 0..100 {
        assert!(world.retired(&key(&format!("web-{number}"))).is_none(), "{number}");
    }
    assert_eq!(world.orphaned().len(), 0);
}

#[test]
fn an_election_that_goes_is_worked_on_a_last_time() {
    let mut world = world([election("web", 10, |_| ())]);
    let changes = delete(&mut world, election("web", 20, |_| ()));
    assert!(changes.affected.is_empty() && changes.gone.contains(&key("web")));
}

#[tokio::test(start_paused = true)]
async fn the_last_time_forgets_it() {
    let shared = shared(Script::default(), [election("web", 10, |_| ()), lease("web", 50, "b", 40)]);
    let reconciler = Reconciler::default();
    reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    shared.problems.is_new(&key("web"), "electing", "no");
    assert!(format!("{reconciler:?}").contains("\"web\""), "{reconciler:?}");
    let changes = delete(&mut shared.world(), election("web", 60, |_| ()));
    shared.queue(changes);
    reconciler.reconcile(&shared, &key("web"), Instant::now(), Slot::unlimited()).await;
    assert!(!format!("{reconciler:?}{:?}", shared.problems).contains("\"web\""), "{reconciler:?}");
}

#[test]
fn a_pod_that_an_answer_showed_to_be_gone_is_not_brought_back_by_what_is_older() {
    let mut world = world([election("web", 10, |_| ()), pod("a", 30, |_| ())]);
    let is_there = |world: &World| world.version(Kind::Pods, "default", "a").is_some();
    // A read whose response precedes the deletion, and arrives after that of the next read.
    let ticket = world.ticket(Kind::Pods, "default");
    world.answered_gone(Kind::Pods, "default", "a", &"a-uid".into());
    world.answered(ticket, pod("a", 45, |_| ()));
    assert!(!is_there(&world), "an older answer");
    // Its deletionTimestamp was set after the cached version.
    apply(&mut world, pod("a", 50, |object| object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()));
    assert!(!is_there(&world), "an older event of the same UID");
    world.watched(Kind::Pods, None, Event::Init);
    world.watched(Kind::Pods, None, Event::InitApply(pod("a", 50, |_| ())));
    world.watched(Kind::Pods, None, Event::InitDone);
    assert!(!is_there(&world), "a list that was answered before");
    delete(&mut world, pod("a", 60, |_| ()));
    apply(&mut world, pod("a", 70, |object| object["metadata"]["uid"] = "another".into()));
    assert!(is_there(&world), "another one of that name");
}

#[test]
fn what_is_gone_is_remembered_until_the_watch_has_come_to_it() {
    let mut stream = crate::controller::observe::stream::Stream::default();
    let cached::Object::Pod(gone) = pod("a", 30, |_| ()).object else { panic!("a pod") };
    let version = |revision: i64| pod("a", revision, |_| ()).object.version();
    stream.note_gone("default", "a", gone.version);
    stream.come_to("default", "a", &version(50), false);
    assert!(stream.is_past("default", "a", &version(50)));
    stream.come_to("default", "a", &version(60), true);
    assert!(!format!("{stream:?}").contains("a-uid"), "{stream:?}");
}
