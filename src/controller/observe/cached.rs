//! Cached form of each object: the parts that elections need, in Podium's types.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde::Deserialize;
use tokio::time::Instant;

use super::compact::{Keys, Pairs};
use super::conditions::Conditions;
use super::managed;
use super::settings::{Parsed, parse};
use super::workload;
use crate::api::{Election, ElectionStatus, Reason, names};
use crate::controller::key::Kind;
use crate::controller::limits::Limits;
use crate::election::cost::DeletionCost;
use crate::election::snapshot::{PodState, Problem, SwitchoverRequest, Workload};
use crate::ids::{NotAnInteger, ResourceVersion, Version};
use crate::lease::object;
use crate::lease::record::Lease;

/// A pod with only the fields that elections need.
#[derive(kube::Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
#[serde(from = "Sent")]
pub struct PodObject {
    metadata: ObjectMeta,
    /// The labels that Podium set last.
    ours: Keys,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Deserialize)]
struct Sent {
    metadata: Needed,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<PodCondition>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    /// As text: an unreadable time must not make the pod unreadable, and a list of pods with it.
    last_transition_time: Option<String>,
}

/// Metadata of a pod that elections need. `ObjectMeta` would build a tree for each of the many managed fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Needed {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<managed::Entry>>,
}

impl From<Sent> for PodObject {
    fn from(Sent { metadata, spec, status }: Sent) -> Self {
        let Needed {
            name,
            namespace,
            uid,
            resource_version,
            labels,
            annotations,
            creation_timestamp,
            deletion_timestamp,
            owner_references,
            managed_fields,
        } = metadata;
        let metadata = ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            labels,
            annotations,
            creation_timestamp,
            deletion_timestamp,
            owner_references,
            ..ObjectMeta::default()
        };
        Self { metadata, ours: managed::ours(&managed_fields.unwrap_or_default()), spec, status }
    }
}

/// Returns identity and version.
fn version(metadata: &ObjectMeta) -> Result<Version, NotAnInteger> {
    let resource_version = ResourceVersion::parse(metadata.resource_version.as_deref().unwrap_or_default())?;
    Ok(Version { uid: metadata.uid.as_deref().unwrap_or_default().into(), resource_version })
}

/// A pod, independent of any Election.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPod {
    /// Identity and version.
    pub version: Version,
    /// `metadata.labels`
    pub labels: Pairs,
    /// The keys of those labels that Podium set last.
    pub ours: Keys,
    /// The values of its claims, by the name of the Election.
    pub claims: Pairs,
    /// State in its life cycle.
    pub state: PodState,
    /// Its conditions.
    pub conditions: Conditions,
    /// `podium.dev/candidate: "false"`
    pub opted_out: bool,
    /// `podium.dev/priority`
    pub priority: i64,
    /// Its deletion cost, if it has one.
    pub cost: Option<Box<DeletionCost>>,
    /// `spec.nodeName`
    pub node: Option<Box<str>>,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// Its workload.
    pub workload: Workload,
    /// Index in [`names::REVISION_LABELS`] of its revision label.
    pub revision_label: Option<u8>,
}

/// A Lease, and the object to write back.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedLease {
    /// Its content.
    pub lease: Lease,
    /// The object without managed fields: a PUT must keep what other clients wrote into it.
    pub object: Arc<LeaseObject>,
    /// First observation of this version.
    pub seen: Instant,
}

impl CachedPod {
    /// The note of the Elections' deletion costs.
    pub fn cost_note(&self) -> Option<&str> {
        self.cost.as_ref()?.note.as_deref()
    }
}

impl CachedLease {
    /// Identity and version.
    pub fn version(&self) -> Version {
        Version { uid: self.lease.uid.clone(), resource_version: self.lease.resource_version }
    }
}

/// An Election.
#[derive(Clone, Debug)]
pub struct CachedElection {
    /// Identity and version.
    pub version: Version,
    /// `metadata.generation`
    pub generation: i64,
    /// It has a deletionTimestamp.
    pub terminating: bool,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// The parsed spec, or its problem.
    pub parsed: Result<Arc<Parsed>, Problem>,
    /// The status.
    pub status: ElectionStatus,
    /// The switchover that its annotations request.
    pub switchover: SwitchoverRequest,
}

/// One object of the three kinds that the controller watches.
#[derive(Clone, Debug)]
pub enum Object {
    /// A pod.
    Pod(CachedPod),
    /// A Lease.
    Lease(CachedLease),
    /// An Election.
    Election(CachedElection),
}

/// An object with its namespace and name.
#[derive(Clone, Debug)]
pub struct Named {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// The object.
    pub object: Object,
}

impl Object {
    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pod(_) => Kind::Pods,
            Self::Lease(_) => Kind::Leases,
            Self::Election(_) => Kind::Elections,
        }
    }

    /// Identity and version.
    pub fn version(&self) -> Version {
        match self {
            Self::Pod(pod) => pod.version.clone(),
            Self::Lease(lease) => lease.version(),
            Self::Election(election) => election.version.clone(),
        }
    }
}

/// The namespace of node heartbeats: one Lease for each node, renewed every ten seconds. They are the bulk of all Leases of a
/// cluster and are not watched.
pub const NODE_LEASES: &str = "kube-node-lease";

fn served(namespace: &str) -> Result<(), Problem> {
    if namespace != NODE_LEASES {
        return Ok(());
    }
    let message = format!("Elections are not served in the namespace {NODE_LEASES}: create it in another one");
    Err(Problem { reason: Reason::InvalidSpec, message })
}

fn named(metadata: &ObjectMeta, object: Object) -> Named {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Named { namespace: text(&metadata.namespace), name: text(&metadata.name), object }
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Converts a pod.
///
/// # Errors
/// If its resourceVersion is not an integer.
pub fn pod(object: PodObject) -> Result<Named, NotAnInteger> {
    let PodObject { metadata, ours, spec, status } = object;
    let none = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&none);
    let claims =
        annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(names::CLAIM_PREFIX)?, value.as_str())));
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let (workload, revision_label) = workload::of(owner, metadata.labels.as_ref().unwrap_or(&none));
    let labels = metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let state = match status.phase.as_deref() {
        Some("Failed") => PodState::Failed,
        Some("Succeeded") => PodState::Succeeded,
        _ if metadata.deletion_timestamp.is_some() => PodState::Terminating,
        Some("Running") => PodState::Running,
        _ => PodState::Pending,
    };
    let conditions = status.conditions.into_iter().map(|PodCondition { type_, status, last_transition_time }| {
        (type_, (status == "True", last_transition_time.and_then(|time| time.parse().ok())))
    });
    let pod = CachedPod {
        version: version(&metadata)?,
        labels: Pairs::of(labels),
        ours,
        claims: Pairs::of(claims),
        state,
        conditions: Conditions::reported(&conditions.collect()),
        opted_out: annotations.get(names::CANDIDATE).is_some_and(|value| value == "false"),
        priority: annotations.get(names::PRIORITY).and_then(|value| value.parse().ok()).unwrap_or(0),
        cost: Some(DeletionCost::of(annotations)).filter(|cost| *cost != DeletionCost::default()).map(Box::new),
        node: spec.node_name,
        created: created(&metadata),
        workload,
        revision_label,
    };
    Ok(named(&metadata, Object::Pod(pod)))
}

/// Converts a Lease. One that cannot be parsed, for example because a time is out of range, counts as damaged, and another
/// client's as held. It must not block the others.
///
/// # Errors
/// If its resourceVersion is not an integer.
pub fn lease(guard: DeserializeGuard<LeaseObject>) -> Result<Named, NotAnInteger> {
    let mut lease = object::readable(guard);
    lease.metadata.managed_fields = None;
    let metadata = lease.metadata.clone();
    let cached = CachedLease { lease: object::read(&lease)?, object: Arc::new(lease), seen: Instant::now() };
    Ok(named(&metadata, Object::Lease(cached)))
}

/// Converts an Election. One that cannot be parsed is kept with the reason, so that it does not block the others.
///
/// # Errors
/// If its resourceVersion is not an integer.
pub fn election(guard: DeserializeGuard<Election>, limits: &Limits) -> Result<Named, NotAnInteger> {
    let (metadata, parsed, status) = match guard.0 {
        Ok(election) => {
            let name = election.metadata.name.clone().unwrap_or_default();
            let namespace = election.metadata.namespace.clone().unwrap_or_default();
            let parsed = served(&namespace).and_then(|()| parse(&namespace, &name, &election.spec, limits));
            (election.metadata, parsed, election.status.unwrap_or_default())
        }
        Err(invalid) => {
            let message =
                format!("the object cannot be read ({}): correct it and apply the CRD of this version", invalid.error);
            (invalid.metadata, Err(Problem { reason: Reason::InvalidSpec, message }), ElectionStatus::default())
        }
    };
    let annotation = |name| metadata.annotations.as_ref()?.get(name).cloned();
    let election = CachedElection {
        switchover: SwitchoverRequest { term: annotation(names::SWITCHOVER_TERM), to: annotation(names::SWITCHOVER_TO) },
        version: version(&metadata)?,
        generation: metadata.generation.unwrap_or(0),
        terminating: metadata.deletion_timestamp.is_some(),
        created: created(&metadata),
        parsed: parsed.map(Arc::new),
        status,
    };
    Ok(named(&metadata, Object::Election(election)))
}
