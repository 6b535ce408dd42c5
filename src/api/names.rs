//! The names of Podium's API, labels and annotations.

/// The API group of the `Election` resource.
pub const GROUP: &str = podium_campaign::ELECTION_GROUP;

/// The group and version of the `Election` resource.
pub const API_VERSION: &str = "podium.dev/v1beta1";

/// The field manager and reporting controller of every write.
pub const MANAGER: &str = "podium";

/// On a Lease: the holder, as `name/uid`. Absent without a holder. Names repeat, UIDs do not.
pub const HOLDER: &str = "podium.dev/holder";

/// On a Lease: the current term, a decimal integer.
pub const TERM: &str = "podium.dev/term";

/// On a Lease: the UIDs, separated by commas, of former holders that are not known to be fenced.
pub const UNFENCED: &str = "podium.dev/unfenced";

/// On a Lease: the UID of the Election that it was written for.
pub const INCARNATION: &str = podium_campaign::ELECTION_ANNOTATION;

/// On a Lease: a checksum of the annotations that describe the term. It detects that mutating admission changed a part of them.
pub const CHECKSUM: &str = "podium.dev/checksum";

/// On a Lease: the cause of the current term, one of [`Cause`](crate::lease::cause::Cause).
pub const CAUSE: &str = "podium.dev/cause";

/// On a Lease: the cause of the current term as a message, also for the Event.
pub const REASON: &str = "podium.dev/reason";

/// On a Lease: the name of the Election that may adopt it. Written by the Lease's owner.
pub const ALLOW_ADOPTION_BY: &str = "podium.dev/allow-adoption-by";

/// On a Lease: its elector. [`SIDECAR`] allows an Election of the Lease's name to adopt it.
pub const ELECTOR: &str = "podium.dev/elector";

/// The value of [`ELECTOR`] that Podium's campaigning sidecar writes.
pub const SIDECAR: &str = "sidecar";

/// On a pod: `"false"` makes it ineligible in every Election. Written by users.
pub const CANDIDATE: &str = "podium.dev/candidate";

/// On a pod: an integer; the higher one is elected first. It preempts a healthy leader only with `spec.preemption`. Written by users.
pub const PRIORITY: &str = "podium.dev/priority";

/// On a pod: Kubernetes' own annotation. A ReplicaSet that scales down deletes pods with a lower cost first.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// On a pod: the deletion cost that each Election demands, and the one that the pod had before:
/// `<election>=<cost>,…; original=<cost>`. Written by the controller.
pub const DELETION_COSTS: &str = "podium.dev/deletion-costs";

/// On an Election: the term that a switchover ends. It acts while the Lease has that very term. Written by users.
pub const SWITCHOVER_TERM: &str = "podium.dev/switchover-term";

/// On an Election, beside [`SWITCHOVER_TERM`]: the name of the pod to elect. Written by users.
pub const SWITCHOVER_TO: &str = "podium.dev/switchover-to";

/// The prefix of a pod's claim annotation: `term.podium.dev/<election>: "<term>"`.
pub const CLAIM_PREFIX: &str = "term.podium.dev/";

/// Returns the name of the annotation by which an Election claims a pod. Its value is the term. It is the fence, so it is never
/// removed or lowered on a live pod.
///
/// ```
/// assert_eq!(podium::api::names::claim("web"), "term.podium.dev/web");
/// ```
pub fn claim(election: &str) -> String {
    format!("{CLAIM_PREFIX}{election}")
}

/// The value of a claim without a term: the pod may be elected, and was not yet.
pub const CLAIMED: &str = "0";

/// Taints of a node whose pods are to leave: cordoned, Cluster Autoscaler, Karpenter, shutdown and out of service.
pub const DRAIN_TAINTS: [&str; 5] = [
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];

/// The revision labels of Deployments, of Argo's Rollouts, and of StatefulSets and DaemonSets.
pub const REVISION_LABELS: [&str; 3] = ["pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash"];
