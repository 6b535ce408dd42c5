//! Elections and their leaders.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use podium::api::{Election, ElectionStatus};
use podium_test_support::checker::Watched;
use serde_json::{Value, json};

use super::scenario::Scenario;
use super::waiting::eventually;

/// The leader on which status, Lease and pods agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub name: String,
    pub uid: String,
    pub term: i64,
    /// Number of leader changes.
    pub transitions: i32,
}

impl Scenario {
    /// Creates two pods and the Election `web`, and waits until `web-0` leads.
    pub async fn led(&self) -> Leader {
        self.led_with(json!({})).await
    }

    /// Like [`Self::led`], with additional spec fields.
    pub async fn led_with(&self, fields: Value) -> Leader {
        self.pods(["web-0", "web-1"]).await;
        self.election_with("web", fields).await;
        self.leader_is("web", "web-0").await
    }

    /// Creates an Election of the pods labeled `app: web`.
    pub async fn election(&self, name: &str) -> Election {
        self.election_with(name, json!({})).await
    }

    /// Creates an Election of the pods labeled `app: web` with additional spec fields, and has the checker watch it.
    pub async fn election_with(&self, name: &str, fields: Value) -> Election {
        let mut spec = json!({ "selector": { "matchLabels": { "app": "web" } } });
        for (key, value) in fields.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        let election = self.try_election(name, spec).await.expect("the Election is accepted");
        let label = &election.spec.label;
        let lease = election.spec.lease_name.clone().unwrap_or_else(|| name.into());
        self.watch(Watched { election: name.into(), key: label.key.clone(), value: label.value.clone(), lease });
        election
    }

    /// Requests an Election with exactly this spec.
    pub async fn try_election(&self, name: &str, spec: Value) -> kube::Result<Election> {
        let object =
            json!({ "apiVersion": "podium.dev/v1beta1", "kind": "Election", "metadata": { "name": name }, "spec": spec });
        // Untyped: the type would reject some specs that the API server should judge.
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let created = self.raw_elections().create(&PostParams::default(), &object).await?;
        created.try_parse().map_err(|error| panic!("{error}"))
    }

    /// Untyped Elections, including those that do not fit the type.
    pub fn raw_elections(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.cluster.client.clone(), &self.namespace, &ApiResource::erase::<Election>(&()))
    }

    pub async fn status(&self, election: &str) -> Result<ElectionStatus, String> {
        let election = self.api::<Election>().get(election).await.map_err(|error| error.to_string())?;
        let status = election.status.clone().unwrap_or_default();
        let current = election.metadata.generation == Some(status.observed_generation);
        current.then_some(status).ok_or_else(|| "the status is of an older generation".into())
    }

    /// Waits until the Election has a leader.
    pub async fn leader(&self, election: &str) -> Leader {
        self.leader_when(election, "there is a leader", |_| true).await
    }

    /// Waits until this pod leads.
    pub async fn leader_is(&self, election: &str, pod: &str) -> Leader {
        self.leader_when(election, &format!("{pod} leads"), |leader| leader.name == pod).await
    }

    /// Waits for a leader in a later term than `former`.
    pub async fn leader_after(&self, election: &str, former: &Leader) -> Leader {
        self.leader_when(election, "a later term has a leader", |leader| leader.term > former.term).await
    }

    /// Waits for a leader that satisfies the condition, and on which status, Lease and pods agree.
    pub async fn leader_when(&self, election: &str, what: &str, wanted: impl Fn(&Leader) -> bool) -> Leader {
        eventually(&format!("{election}: {what}"), async || {
            let leader = self.look(election).await?;
            if wanted(&leader) { Ok(leader) } else { Err(format!("{leader:?}")) }
        })
        .await
    }

    /// Waits for a vacancy: no label, no holder, and the status is not Ready. Returns the status.
    pub async fn vacancy(&self, election: &str) -> ElectionStatus {
        eventually(&format!("{election}: nobody leads"), async || {
            let (status, labeled, holder) = self.gather(election).await?;
            let ready = status.condition("Ready").is_some_and(|condition| condition.status == "False");
            let vacant = status.leader.is_none() && labeled.is_empty() && holder.is_none() && ready;
            vacant.then(|| status.clone()).ok_or_else(|| format!("{status:?}, labeled: {labeled:?}, holder: {holder:?}"))
        })
        .await
    }

    /// Waits for this status and reason of the condition. Returns its message.
    pub async fn condition(&self, election: &str, kind: &str, status: &str, reason: &str) -> String {
        eventually(&format!("{election}: {kind}={status} with reason {reason}"), async || {
            let seen = self.status(election).await?;
            let condition =
                seen.condition(kind).filter(|condition| condition.status == status && condition.reason == reason);
            condition.map(|condition| condition.message.clone()).ok_or_else(|| format!("{seen:?}"))
        })
        .await
    }

    /// Waits until the Election is neither Stalled nor Degraded.
    pub async fn recovered(&self, election: &str) {
        eventually(&format!("{election} is neither Stalled nor Degraded"), async || {
            let seen = self.status(election).await?;
            let troubled = ["Stalled", "Degraded"].iter().any(|kind| seen.condition(kind).is_some());
            if troubled { Err(format!("{seen:?}")) } else { Ok(()) }
        })
        .await;
    }

    pub async fn patch_election(&self, name: &str, spec: Value) -> kube::Result<Election> {
        self.api::<Election>().patch(name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await
    }

    /// Sets annotations of the Election, or removes those that are null.
    pub async fn annotate_election(&self, name: &str, annotations: Value) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let how = PatchParams::default();
        self.api::<Election>().patch(name, &how, &patch).await.expect("the Election is annotated");
    }

    /// Waits until this pod would be elected next.
    pub async fn next_is(&self, election: &str, next: Option<&str>) {
        eventually(&format!("{election}: {next:?} is next"), async || {
            let seen = self.status(election).await?.next_leader;
            if seen.as_deref() == next { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// The cause of the present term, as the Lease stores it.
    pub async fn cause(&self, lease: &str) -> String {
        let lease = self.api::<Lease>().get_metadata(lease).await.expect("the Lease is there");
        lease.annotations().get("podium.dev/cause").cloned().unwrap_or_default()
    }

    /// When the present term began, by the clock of the controller, which is that of the test. The status has whole seconds only.
    pub async fn began(&self, lease: &str) -> Timestamp {
        let lease = self.api::<Lease>().get(lease).await.expect("the Lease is there");
        lease.spec.and_then(|spec| spec.acquire_time).expect("a term has a time").0
    }

    pub async fn delete_election(&self, name: &str) {
        self.api::<Election>().delete(name, &DeleteParams::default()).await.expect("the Election is deleted");
    }

    /// Waits until no pod has this label key. Returns the pods.
    pub async fn nobody_labeled(&self, key: &str) -> Vec<Pod> {
        eventually(&format!("nobody carries the label {key}"), async || {
            let pods = self.api::<Pod>().list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let labeled: Vec<_> =
                pods.iter().filter(|pod| pod.labels().contains_key(key)).map(ResourceExt::name_any).collect();
            if labeled.is_empty() { Ok(pods) } else { Err(format!("{labeled:?}")) }
        })
        .await
    }

    /// Waits until the Lease is gone.
    pub async fn lease_is_gone(&self, name: &str) {
        eventually(&format!("the Lease {name} is gone"), async || match self.api::<Lease>().get_metadata_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Patches the Lease, to deceive Podium.
    pub async fn forge_lease(&self, name: &str, change: Value) -> Lease {
        let how = PatchParams::default();
        let lease = self.api::<Lease>().patch(name, &how, &Patch::Merge(change)).await.expect("the Lease is edited");
        self.forged(&lease);
        lease
    }

    /// Proof without a timeout: a controller that served a new Election, with its own pod, has reconciled all earlier
    /// changes.
    pub async fn serve_another(&self, name: &str) {
        self.pod(&format!("{name}-0"), json!({ "labels": { "app": name } })).await;
        self.election_with(name, json!({ "selector": { "matchLabels": { "app": name } } })).await;
        self.leader(name).await;
    }

    /// Waits until the status counts this many eligible candidates and candidates.
    pub async fn eligible(&self, election: &str, eligible: i32, candidates: i32) {
        eventually(&format!("{election}: {eligible} of {candidates} candidates are eligible"), async || {
            let status = self.status(election).await?;
            let counts = (status.eligible_candidates, status.candidates);
            if counts == (eligible, candidates) { Ok(()) } else { Err(format!("{counts:?}")) }
        })
        .await;
    }

    async fn look(&self, election: &str) -> Result<Leader, String> {
        let (status, labeled, holder) = self.gather(election).await?;
        let seen = || format!("{status:?}, labeled: {labeled:?}, holder: {holder:?}");
        let (Some(name), Some(uid), Some(term)) = (&status.leader, &status.leader_uid, status.term) else {
            return Err(seen());
        };
        let ready = status.condition("Ready").is_some_and(|condition| condition.status == "True");
        let expected = (format!("{name}/{uid}"), term.to_string());
        if !ready || labeled != [expected.clone()] || holder != Some(expected) {
            return Err(seen());
        }
        let (name, uid, transitions) = (name.clone(), uid.clone(), status.leader_transitions);
        Ok(Leader { name, uid, term, transitions })
    }

    /// Returns the status, the labeled pods, and the Lease's holder, the latter as `name/uid` with their terms.
    async fn gather(
        &self,
        election: &str,
    ) -> Result<(ElectionStatus, Vec<(String, String)>, Option<(String, String)>), String> {
        let text = |error: kube::Error| error.to_string();
        let object = self.api::<Election>().get(election).await.map_err(text)?;
        let label = format!("{}={}", object.spec.label.key, object.spec.label.value);
        let labeled = self.api::<Pod>().list_metadata(&ListParams::default().labels(&label)).await.map_err(text)?;
        // Other Elections may use the label for their own pods.
        let is_others =
            |claim: &str| claim.starts_with("term.podium.dev/") && claim != format!("term.podium.dev/{election}");
        let labeled = labeled.items.iter().filter_map(|pod| {
            let claim = pod.annotations().get(&format!("term.podium.dev/{election}")).cloned();
            let elsewhere = claim.is_none() && pod.annotations().keys().any(|key| is_others(key));
            (!elsewhere)
                .then(|| (format!("{}/{}", pod.name_any(), pod.uid().unwrap_or_default()), claim.unwrap_or_default()))
        });
        let lease = object.spec.lease_name.as_deref().unwrap_or(election);
        let lease = self.api::<Lease>().get_metadata_opt(lease).await.map_err(text)?;
        let annotations = lease.map(|lease| lease.annotations().clone()).unwrap_or_default();
        let part = |name: &str| annotations.get(name).cloned();
        let holder = part("podium.dev/holder").zip(part("podium.dev/term"));
        Ok((self.status(election).await?, labeled.collect(), holder))
    }
}
