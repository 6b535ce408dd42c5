//! Namespaces are served independently.

use std::collections::BTreeSet;

use super::*;
use crate::controller::key::Scope;

fn in_namespace(namespace: &str, mut item: Named) -> Named {
    item.namespace = namespace.into();
    item
}

fn key_in(namespace: &str) -> crate::controller::key::Key {
    crate::controller::key::Key { namespace: namespace.into(), ..key("web") }
}

/// Lists these objects of one kind.
fn list(world: &mut World, kind: Kind, namespace: &str, items: Vec<Named>) -> Changes {
    world.watched(kind, Some(namespace), Event::Init);
    for item in items {
        world.watched(kind, Some(namespace), Event::InitApply(in_namespace(namespace, item)));
    }
    world.watched(kind, Some(namespace), Event::InitDone)
}

fn left_behind() -> Named {
    pod("a", 41, |object| {
        object["metadata"]["labels"]["leader"] = "true".into();
        object["metadata"]["annotations"] = serde_json::json!({ names::claim("gone"): "20" });
        set_by(object, names::MANAGER, &["leader"]);
    })
}

#[test]
fn a_namespace_asks_for_work_as_soon_as_its_own_lists_are_there_and_not_before() {
    let mut world = World::new(
        &Scope::Namespaces(["a".to_owned(), "b".to_owned()].into()),
        std::sync::Arc::new(k8s_openapi::jiff::Timestamp::now),
    );
    for kind in [Kind::Elections, Kind::Pods] {
        let items = if kind == Kind::Pods { vec![left_behind()] } else { vec![election("web", 10, |_| ())] };
        for namespace in ["a", "b"] {
            let changes = list(&mut world, kind, namespace, items.clone());
            assert_eq!(changes, Changes::default(), "{namespace}: whose Lease is missing looks like a lost one");
        }
    }
    assert!(!world.serves_any());
    let changes = list(&mut world, Kind::Leases, "a", vec![]);
    assert_eq!(changes.affected, BTreeSet::from([key_in("a")]));
    assert_eq!(changes.orphaned.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a/gone"]);
    assert!(world.serves("a") && !world.serves("b"));

    let mut put = |namespace: &str, revision| {
        let item = in_namespace(namespace, pod("b", revision, ready));
        world.watched(Kind::Pods, Some(namespace), Event::Apply(item)).affected
    };
    assert_eq!((put("a", 60), put("b", 60)), (BTreeSet::from([key_in("a")]), BTreeSet::new()));
    assert_eq!(world.everything().affected, BTreeSet::from([key_in("a")]));
    assert_eq!(world.orphaned().len(), 1);

    let changes = list(&mut world, Kind::Leases, "b", vec![lease("web", 20, "a", 15)]);
    assert_eq!(changes.affected, BTreeSet::from([key_in("b")]));
    assert_eq!(world.everything().affected.len(), 2);
    // Later lists only report changes.
    assert_eq!(list(&mut world, Kind::Leases, "b", vec![lease("web", 20, "a", 15)]), Changes::default());
}
