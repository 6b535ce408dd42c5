//! After the faults, every Election must have one leader, and Lease, label and status must name it.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams};
use podium_test_support::checker::Watched;
use serde_json::Value;

use crate::setup::elections;
use crate::world::{World, group_of, is_eligible};

/// The current objects, read from the API server.
pub struct Now {
    pub pods: Vec<Pod>,
    /// Leases by name.
    pub leases: BTreeMap<String, Lease>,
    /// Elections by name.
    pub elections: BTreeMap<String, DynamicObject>,
}

impl Now {
    /// Reads them.
    pub async fn look(world: &World) -> kube::Result<Self> {
        let all = ListParams::default();
        let pods = world.api::<Pod>().list(&all).await?.items;
        let leases = world.api::<Lease>().list(&all).await?.items;
        let elections = elections(&world.client).list(&all).await?.items;
        Ok(Self {
            pods,
            leases: leases.into_iter().map(|lease| (lease.name_any(), lease)).collect(),
            elections: elections.into_iter().map(|election| (election.name_any(), election)).collect(),
        })
    }

    /// The Elections without a consistent leader, each with what was found.
    pub fn unrest(&self, watched: impl Iterator<Item = Watched>) -> Vec<String> {
        watched
            .filter_map(|watched| self.judge(&watched).err().map(|what| format!("{}: {what}", watched.election)))
            .collect()
    }

    fn judge(&self, watched: &Watched) -> Result<(), String> {
        let election = self.elections.get(&watched.election).ok_or("there is no such Election")?;
        let lease = self.leases.get(&watched.lease).ok_or("there is no Lease")?;
        let status = &election.data["status"];
        let mine = self.pods.iter().filter(|pod| group_of(&pod.name_any()) == group_of(&watched.election));
        let labeled: Vec<&Pod> = mine.filter(|pod| pod.labels().get(&watched.key) == Some(&watched.value)).collect();
        let names: Vec<String> = labeled.iter().map(|pod| pod.name_any()).collect();
        let seen = || format!("labeled: {names:?}; Lease: {:?}; status: {status}", lease.annotations());
        let [leader] = labeled[..] else { return Err(seen()) };
        let (name, uid) = (leader.name_any(), leader.uid().unwrap_or_default());
        let annotation = |key: &str| lease.annotations().get(key).map(String::as_str);
        let term = leader.annotations().get(&format!("term.podium.dev/{}", watched.election)).map(String::as_str);
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is = |kind: &str, expected: &str| {
            conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == expected)
        };
        let agreed = is_eligible(leader)
            && term.is_some()
            && annotation("podium.dev/term") == term
            && annotation("podium.dev/holder") == Some(&format!("{name}/{uid}"))
            && lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&name)
            && status["leader"] == name.as_str()
            && status["leaderUID"] == uid.as_str()
            && status["term"].as_i64().map(|term| term.to_string()).as_deref() == term
            && status["observedGeneration"] == Value::from(election.metadata.generation)
            && is("Ready", "True");
        if agreed { Ok(()) } else { Err(seen()) }
    }
}
