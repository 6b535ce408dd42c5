//! The indices of a namespace agree with a full scan.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::SelectorExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conditions::Clocks;
use super::namespace::Namespace;
use crate::controller::fixtures::{election, pod};
use crate::controller::key::Kind;

/// A step. Pods and Elections are `a`, `b` and `c`.
#[derive(Clone, Debug)]
enum Step {
    Pod { name: &'static str, uid: u8, labels: BTreeMap<&'static str, &'static str>, claims: BTreeSet<&'static str> },
    NoPod(&'static str),
    Election { name: &'static str, uid: u8, selector: Value },
    NoElection(&'static str),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.as_slice())
}

fn labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    prop::collection::btree_map(prop::sample::select(vec!["app", "tier"]), prop::sample::select(vec!["x", "y"]), 0..3)
}

fn selector() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    let expression = (prop::sample::select(vec!["app", "tier"]), operator).prop_map(|(key, operator)| {
        let mut expression = json!({ "key": key, "operator": operator });
        if operator.ends_with("In") {
            expression["values"] = json!(["x"]);
        }
        expression
    });
    (labels(), prop::collection::vec(expression, 0..2))
        .prop_map(|(labels, expressions)| json!({ "matchLabels": labels, "matchExpressions": expressions }))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (name(), 0..2u8, labels(), prop::collection::btree_set(name(), 0..2))
            .prop_map(|(name, uid, labels, claims)| Step::Pod { name, uid, labels, claims }),
        1 => name().prop_map(Step::NoPod),
        3 => (name(), 0..2u8, selector()).prop_map(|(name, uid, selector)| Step::Election { name, uid, selector }),
        1 => name().prop_map(Step::NoElection),
    ]
}

fn take(cache: &mut Namespace, clocks: &Clocks, step: &Step, at: i64) {
    match step {
        Step::NoPod(name) => drop(cache.remove(Kind::Pods, name)),
        Step::NoElection(name) => drop(cache.remove(Kind::Elections, name)),
        Step::Pod { name, uid, labels, claims } => {
            let object = pod(name, at, |object| {
                object["metadata"]["uid"] = uid.to_string().into();
                object["metadata"]["labels"] = json!(labels);
                let claims = claims.iter().map(|claim| (format!("term.podium.dev/{claim}"), json!("5")));
                object["metadata"]["annotations"] = Value::Object(claims.collect());
            });
            cache.put(name, object.object, at.unsigned_abs(), clocks.now());
        }
        Step::Election { name, uid, selector } => {
            let object = election(name, at, |object| {
                object["metadata"]["uid"] = uid.to_string().into();
                object["metadata"]["generation"] = at.into();
                object["spec"]["selector"] = selector.clone();
            });
            cache.put(name, object.object, at.unsigned_abs(), clocks.now());
        }
    }
}

proptest! {
    #[test]
    fn the_indices_say_what_looking_at_everything_says(steps in prop::collection::vec(step(), 1..24)) {
        let mut cache = Namespace::default();
        let clocks = Clocks::new(std::sync::Arc::new(k8s_openapi::jiff::Timestamp::now));
        for (number, step) in steps.iter().enumerate() {
            take(&mut cache, &clocks, step, 10 + i64::try_from(number).unwrap());
            let selects = |election: &str, pod: &str| {
                let parsed = cache.elections.get(election).and_then(|seen| seen.value.parsed.as_ref().ok());
                parsed.is_some_and(|parsed| parsed.selector.matches(&cache.pods[pod].value.labels.to_map()))
            };
            for (name, pod) in &cache.pods {
                let matching: Vec<&str> = NAMES.into_iter().filter(|election| selects(election, name)).collect();
                prop_assert_eq!(pod.matching.iter().map(|name| &**name).collect::<Vec<_>>(), matching, "{}", name);
            }
            for election in NAMES {
                let related = |(name, pod): &(&super::compact::Name, &super::namespace::KnownPod)| {
                    selects(election, name) || pod.value.claims.get(election).is_some()
                };
                let related: Vec<_> = cache.pods.iter().filter(related).map(|(name, _)| name.clone()).collect();
                let indexed: Vec<_> = cache.related.get(election).into_iter().flatten().cloned().collect();
                prop_assert_eq!(indexed, related, "{}", election);
            }
        }
    }
}
