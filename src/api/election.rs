//! The `Election` type: spec and status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::selector::{DNS_NAME, LABEL_KEY};

/// What is wanted: which pods take part, and how the leader is marked.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "podium.dev",
    version = "v1",
    kind = "Election",
    namespaced,
    status = "ElectionStatus",
    derive = "PartialEq",
    category = "podium",
    doc = "An Election keeps exactly one of the ready pods that match its selector labelled as the leader.",
    selectable = ".status.leader",
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Eligible", type_ = "string", json_path = ".status.eligible"),
    printcolumn(name = "Transitions", type_ = "integer", json_path = ".status.transitions"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.since"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.term", priority = 1),
    printcolumn(name = "Label", type_ = "string", json_path = ".spec.label.key", priority = 1),
    printcolumn(name = "Lease", type_ = "string", json_path = ".status.lease", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    validation = Rule::new("self.spec.label.key == oldSelf.spec.label.key && self.spec.label.value == oldSelf.spec.label.value && (!has(oldSelf.spec.label.followerValue) || (has(self.spec.label.followerValue) && self.spec.label.followerValue == oldSelf.spec.label.followerValue))")
        .message("spec.label is immutable, because pods carry it (only a followerValue may be added): delete the Election, wait until its label is gone from them, and create one with the new label")
        .field_path(".spec.label"),
    validation = Rule::new("(has(self.spec.leaseName) ? self.spec.leaseName : self.metadata.name) == (has(oldSelf.spec.leaseName) ? oldSelf.spec.leaseName : oldSelf.metadata.name)")
        .message("spec.leaseName is immutable, because the Lease holds the term: delete the Election and create one with the new name")
        .field_path(".spec.leaseName")
)]
#[serde(rename_all = "camelCase")]
pub struct ElectionSpec {
    /// The pods that take part, by their labels. Only pods of the Election's own namespace. An empty selector is refused.
    pub selector: LabelSelector,

    /// The label that the leader carries, and nobody else; a Service that selects on it reaches the leader only. Immutable.
    #[serde(default)]
    pub label: LeaderLabel,

    /// The name of the Lease in which the election is held. Default: the Election's name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = DNS_NAME),
        with = "String"
    )]
    pub lease_name: Option<String>,

    /// The pod condition that makes a candidate: `Ready`, or a readiness gate of your own, such as `example.com/in-sync`.
    #[serde(default = "ready")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = LABEL_KEY)
    )]
    pub ready_condition: String,

    /// How long a pod must have been Ready before it may become leader, in seconds. A leader that stays Ready is not asked again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i32,

    /// What becomes of a leader that is no longer Ready while no other pod may lead. Clear: it loses the label, and a Service
    /// on the label has no address. Hold: it keeps the label, until its pod is deleted, fails or goes.
    #[serde(default)]
    pub when_no_candidate: WhenNoCandidate,

    /// How long a leader whose Ready turned False keeps the podium, in seconds: for probes that flap. A leader that is
    /// deleted, evicted or failed is replaced at once, always.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub failover_delay_seconds: i32,

    /// Stops elections: no new term begins, whatever happens to the leader. A change that has begun is finished, and labels
    /// are still repaired.
    #[serde(default)]
    pub suspend: bool,
}

/// What becomes of a leader that is no longer Ready while no other pod may lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WhenNoCandidate {
    /// It loses the label.
    #[default]
    Clear,
    /// It keeps the label, until its pod is deleted, fails or goes.
    Hold,
}

fn ready() -> String {
    "Ready".into()
}

/// The label that marks the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.followerValue) || self.followerValue != self.value")
    .message("followerValue must differ from value: otherwise nobody could tell the leader from its followers"))]
pub struct LeaderLabel {
    /// The label's key. The controller's `--label-keys` says which keys it may write; by default `leader` and `*/leader`.
    #[serde(default = "default_key")]
    #[x_kube(validation = Rule::new("self.indexOf('/') <= 253").message("a label key's prefix has at most 253 characters: shorten it"))]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = LABEL_KEY)
    )]
    pub key: String,
    /// The label's value on the leader.
    #[serde(default = "default_value")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE))]
    pub value: String,
    /// The label's value on the pods that could lead but do not, for a Service that reaches the followers. Without it they
    /// do not carry the label. It may be added later, but not changed or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL_VALUE), with = "String")]
    pub follower_value: Option<String>,
}

/// A label's value, not empty.
const LABEL_VALUE: &str = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

impl LeaderLabel {
    /// Whether this is one of the values that the Election writes under the key.
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

/// What is: who leads, since when, and whether anything needs a person. Written by the controller; a projection of the Lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectionStatus {
    /// The generation of the spec that this status speaks of; -1 until the controller has looked at it.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// The name of the pod that leads. Absent while nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub leader: Option<String>,
    /// The UID of the pod that leads: a re-created pod has the same name, but is another pod.
    #[serde(default, rename = "leaderUID", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub leader_uid: Option<String>,
    /// The fencing token. It grows with every change, also across deletions, and no two leaders ever share one. It is not
    /// counted from 1: it is the resourceVersion of the Lease that the change replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub term: Option<i64>,
    /// How often the leader changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub transitions: Option<i32>,
    /// When this term began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub since: Option<Time>,
    /// How many pods match the selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub candidates: Option<i32>,
    /// How many of the matching pods could lead now, as "2/3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub eligible: Option<String>,
    /// The name of the Lease in which the election is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub lease: Option<String>,
    /// Ready: the API server has confirmed the label on `leader` for this term. Stalled: a person is needed; the message says for what.
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
            transitions: None,
            since: None,
            candidates: None,
            eligible: None,
            lease: None,
            conditions: None,
        }
    }
}

impl ElectionStatus {
    /// The condition of this type, if the status has one.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().flatten().find(|condition| condition.type_ == kind)
    }
}
