//! The `Election` type: spec and status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::selector::{DNS_NAME, LABEL_KEY};
use super::{LabelSelector, Reason};

/// Desired state: which pods are candidates and how the leader is labeled.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "podium.dev",
    version = "v1beta1",
    kind = "Election",
    namespaced,
    status = "ElectionStatus",
    derive = "PartialEq",
    category = "podium",
    doc = "Election elects one of the ready pods that match its selector and labels it as the leader.",
    selectable = ".status.leader",
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Eligible", type_ = "integer", json_path = ".status.eligibleCandidates"),
    printcolumn(name = "Candidates", type_ = "integer", json_path = ".status.candidates"),
    printcolumn(name = "Transitions", type_ = "integer", json_path = ".status.leaderTransitions"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.acquireTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextLeader", priority = 1),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1),
    printcolumn(name = "Label", type_ = "string", json_path = ".spec.label.key", priority = 1),
    printcolumn(name = "Lease", type_ = "string", json_path = ".status.leaseName", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    validation = Rule::new("self.spec.label.key == oldSelf.spec.label.key && self.spec.label.value == oldSelf.spec.label.value && (!has(oldSelf.spec.label.followerValue) || (has(self.spec.label.followerValue) && self.spec.label.followerValue == oldSelf.spec.label.followerValue))")
        .message("spec.label is immutable, because pods carry it (only followerValue may be added): delete the Election, wait until its label is gone from the pods, and create an Election with the new label")
        .field_path(".spec.label"),
    validation = Rule::new("(has(self.spec.leaseName) ? self.spec.leaseName : self.metadata.name) == (has(oldSelf.spec.leaseName) ? oldSelf.spec.leaseName : oldSelf.metadata.name)")
        .message("spec.leaseName is immutable, because the Lease holds the term: delete the Election and create one with the new name")
        .field_path(".spec.leaseName"),
    validation = Rule::new("has(self.spec.leaderFrom) == has(oldSelf.spec.leaderFrom) && (!has(self.spec.leaderFrom) || self.spec.leaderFrom == oldSelf.spec.leaderFrom)")
        .message("spec.leaderFrom is immutable, also whether it is set: delete the Election and create another one")
        .field_path(".spec.leaderFrom"),
    validation = Rule::new("!has(self.spec.leaderFrom) || self.spec.leaderFrom.lease.name != (has(self.spec.leaseName) ? self.spec.leaseName : self.metadata.name)")
        .message("spec.leaderFrom.lease.name must be the Lease of another elector, and spec.leaseName (default: the Election's name) the Election's own: set spec.leaseName to an unused name")
        .field_path(".spec.leaderFrom.lease.name"),
    validation = Rule::new("!has(self.spec.leaderFrom) || !has(self.spec.preferences) || size(self.spec.preferences) == 0")
        .message("spec.preferences must be empty with spec.leaderFrom, because the Lease decides who leads: remove one of them")
        .field_path(".spec.preferences"),
    validation = Rule::new("!has(self.spec.leaderFrom) || !has(self.spec.preemption) || self.spec.preemption.policy == 'Never'")
        .message("spec.preemption.policy must be Never with spec.leaderFrom, because the Lease decides who leads: remove one of them")
        .field_path(".spec.preemption.policy")
)]
#[serde(rename_all = "camelCase")]
pub struct ElectionSpec {
    /// Selects the candidates: pods in the Election's namespace, by their labels. Must not be empty.
    pub selector: LabelSelector,

    /// Label that only the leader carries. A Service that selects it reaches the leader. Immutable.
    #[serde(default)]
    pub label: LeaderLabel,

    /// Name of the Lease that holds the election. Default: the Election's name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = DNS_NAME),
        with = "String"
    )]
    pub lease_name: Option<String>,

    /// Pod condition that makes a candidate eligible: `Ready`, or a readiness gate such as `example.com/in-sync`. Default `Ready`.
    #[serde(default = "ready")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = LABEL_KEY)
    )]
    pub ready_condition: String,

    /// Seconds that a pod must have been Ready before it is eligible. Not re-evaluated for the current leader. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i32,

    /// Policy for a leader that is not Ready while no candidate is eligible. Release: the controller removes the label, and a
    /// Service on the label has no endpoint. Retain: the leader keeps the label until its pod is deleted, evicted or failed.
    /// Default Release.
    #[serde(default)]
    pub when_none_eligible: WhenNoneEligible,

    /// Seconds to keep a leader that became NotReady before failing over. Ignored when its pod is deleted, evicted or failed.
    /// Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub failover_delay_seconds: i32,

    /// Preferences among eligible pods, by their labels: the weights of all matching entries add up, and are added to the pod's
    /// `podium.dev/priority`. The highest sum is elected first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub preferences: Vec<Preference>,

    /// Whether an eligible pod with a higher sum of priority and preferences replaces a healthy leader.
    #[serde(default)]
    pub preemption: Preemption,

    /// Order of eligible pods with the same sum, of which none is of an outdated revision. LongestReady: the pod that has been
    /// Ready for the longest time. Spread: by a hash of Election and pod, so that the leaders of many Elections over the same
    /// pods spread. Default LongestReady.
    #[serde(default)]
    pub tie_break: TieBreak,

    /// Policy for a leader whose node drains: it is cordoned, or has a taint of a drain, a disruption or a shutdown. Ignore: it
    /// leads until its pod is deleted. Switchover: it hands over while it is healthy, if a candidate on another node is eligible.
    /// Needs the controller's permission to watch Nodes. Default Ignore.
    #[serde(default)]
    pub when_node_drains: WhenNodeDrains,

    /// Seconds without a heartbeat of its node after which a pod counts as unreachable, while the node of another candidate sends
    /// heartbeats. Without it a pod on a lost node is replaced when Kubernetes sets its Ready condition, after 40 to 50 seconds.
    /// Needs the controller's permission to watch Leases in kube-node-lease. Values below 24 act as 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 20, max = 300), with = "i32")]
    pub node_heartbeat_timeout_seconds: Option<i32>,

    /// Deletion cost of the leader's pod: the controller sets its annotation `controller.kubernetes.io/pod-deletion-cost` together
    /// with the label, and restores the former value when the pod stops leading. A ReplicaSet that scales down then deletes
    /// followers first. If several Elections set it on one pod, the highest counts. Without it the controller leaves the
    /// annotation alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2_147_483_647, max = 2_147_483_647), with = "i32")]
    pub leader_deletion_cost: Option<i32>,

    /// Takes the leader from a Lease on which others elect, such as the replicas of an operator: the leader is the matching pod that
    /// this Lease names. The controller only reads it. Readiness does not apply to the leader. `preferences` and `preemption` must
    /// not be set. `failoverDelaySeconds`, `tieBreak`, `whenNodeDrains`, `nodeHeartbeatTimeoutSeconds` and switchover annotations
    /// have no effect. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LeaderFrom")]
    pub leader_from: Option<LeaderFrom>,

    /// Suspends elections: no new term begins, even when the leader fails. The controller completes a failover that has begun
    /// and still repairs labels. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// Policy for a leader that is not Ready while no candidate is eligible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WhenNoneEligible {
    /// The controller removes the label.
    #[default]
    Release,
    /// The leader keeps the label until its pod is deleted, evicted or failed.
    Retain,
}

/// A preference for pods with certain labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preference {
    /// Weight, from -1000 to 1000. Pods with a negative sum are elected last.
    #[schemars(range(min = -1000, max = 1000))]
    pub weight: i32,
    /// Selects pods by their labels. Must not be empty.
    pub selector: LabelSelector,
}

/// Whether a pod with a higher sum replaces a healthy leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preemption {
    /// Never: a healthy leader stays. PreferHigher: an eligible pod that has outranked the leader for `delaySeconds` replaces it
    /// in a planned switchover. Default Never.
    #[serde(default)]
    pub policy: PreemptionPolicy,
    /// Seconds for which one pod must have outranked the leader without interruption. Counted anew when the controller restarts.
    /// Default 300.
    #[serde(default = "preemption_delay")]
    #[schemars(range(min = 0, max = 86400))]
    pub delay_seconds: i32,
}

fn preemption_delay() -> i32 {
    300
}

impl Default for Preemption {
    fn default() -> Self {
        Self { policy: PreemptionPolicy::default(), delay_seconds: preemption_delay() }
    }
}

/// Policy for a healthy leader that another pod outranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PreemptionPolicy {
    /// A healthy leader stays.
    #[default]
    Never,
    /// A pod that outranks it for the delay replaces it.
    PreferHigher,
}

/// Order among equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum TieBreak {
    /// The pod that has been Ready for the longest time.
    #[default]
    LongestReady,
    /// By a rendezvous hash of the Election's UID and the pod's UID.
    Spread,
}

/// Policy for a leader whose node drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WhenNodeDrains {
    /// It leads until its pod is deleted.
    #[default]
    Ignore,
    /// It hands over while it is healthy.
    Switchover,
}

/// The elector that decides who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderFrom {
    /// The Lease that names the leader.
    pub lease: FollowedLease,
}

/// A Lease on which others elect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowedLease {
    /// Name of the Lease, in the Election's namespace. Not that of an Election.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = DNS_NAME)
    )]
    pub name: String,
    /// What the Lease's `holderIdentity` is. PodName: the name of the leader's pod, alone or followed by `_` and any text, or its
    /// UID. NodeName: the name of its node, alone or followed by `_` and any text, as of pods in the host's network. Default
    /// PodName.
    #[serde(default)]
    pub holder: HolderForm,
}

/// What the `holderIdentity` of a followed Lease is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum HolderForm {
    /// The pod's name, alone or followed by `_` and any text, or its UID.
    #[default]
    PodName,
    /// The name of the pod's node, alone or followed by `_` and any text.
    NodeName,
}

fn ready() -> String {
    "Ready".into()
}

/// Label that marks the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.followerValue) || self.followerValue != self.value")
    .message("followerValue must differ from value, which marks the leader"))]
pub struct LeaderLabel {
    /// Key of the label. The controller's `--allowed-label-keys` must include it: by default `leader` and `*/leader`. Default
    /// `leader`.
    #[serde(default = "default_key")]
    #[x_kube(validation = Rule::new("self.indexOf('/') <= 253").message("the prefix of a label key must have at most 253 characters: shorten it"))]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = LABEL_KEY)
    )]
    pub key: String,
    /// Value of the label on the leader. Default `true`.
    #[serde(default = "default_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE))]
    pub value: String,
    /// Value of the label on eligible pods that do not lead, for a Service that selects followers. Without it they do not carry
    /// the label. May be added later, but not changed or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE), with = "String")]
    pub follower_value: Option<String>,
}

/// A label value that is not empty.
const LABEL_VALUE: &str = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

impl LeaderLabel {
    /// Returns whether the Election writes this value under the key.
    pub fn owns(&self, value: &str) -> bool {
        self.value == value || self.follower_value.as_deref() == Some(value)
    }
}

fn default_key() -> String {
    "leader".into()
}

fn default_value() -> String {
    "true".into()
}

impl Default for LeaderLabel {
    fn default() -> Self {
        Self { key: default_key(), value: default_value(), follower_value: None }
    }
}

/// Observed state: the leader, its term and the conditions. Written by the controller as a projection of the Lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectionStatus {
    /// Generation of the spec that this status reflects; -1 before the controller has observed the Election.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Name of the leader's pod. Absent while there is no leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub leader: Option<String>,
    /// UID of the leader's pod: a recreated pod has the same name and another UID.
    #[serde(default, rename = "leaderUID", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub leader_uid: Option<String>,
    /// Fencing token. It grows with every change of leader, also across deletions, and no two leaders share one. Not counted
    /// from 1: it is the resourceVersion of the Lease that the change replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub term: Option<i64>,
    /// Time at which this term began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub acquire_time: Option<Time>,
    /// Number of changes from one leader to another.
    #[serde(default)]
    pub leader_transitions: i32,
    /// Number of pods that match the selector.
    #[serde(default)]
    pub candidates: i32,
    /// Number of candidates that are eligible.
    #[serde(default)]
    pub eligible_candidates: i32,
    /// Name of the Lease that holds the election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub lease_name: Option<String>,
    /// Name of the pod that would be elected if the leader failed. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub next_leader: Option<String>,
    /// Ready: the API server has confirmed the label on `leader` for this term. Degraded: elections work and something needs
    /// attention. Stalled: no progress without a person. Degraded and Stalled are absent unless they are True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 8, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]), with = "Vec<Condition>")]
    pub conditions: Option<Vec<Condition>>,
}

fn unobserved() -> i64 {
    -1
}

impl Default for ElectionStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            leader: None,
            leader_uid: None,
            term: None,
            acquire_time: None,
            leader_transitions: 0,
            candidates: 0,
            eligible_candidates: 0,
            lease_name: None,
            next_leader: None,
            conditions: None,
        }
    }
}

impl ElectionStatus {
    /// The condition of this type, if the status has one.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }

    /// Returns whether the condition of this type is True for this reason.
    pub fn is(&self, kind: &str, reason: Reason) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True" && condition.reason == reason.as_str())
    }
}
