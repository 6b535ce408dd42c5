//! The cause of a term: a closed set, because a metric's labels must not name pods as the message does.

use crate::wire_names::wire_names;

wire_names! {
    /// The cause of a term.
    pub enum Cause {
        /// The first term of the Election.
        InitialElection = "initial_election",
        /// A candidate became eligible after a vacancy.
        BecameEligible = "became_eligible",
        /// The leader's pod is gone.
        Gone = "gone",
        /// The leader's pod is terminating.
        Terminating = "terminating",
        /// The leader's pod is not Ready.
        NotReady = "not_ready",
        /// The leader's pod failed, was evicted or completed.
        Ended = "ended",
        /// The leader's pod is not running.
        NotRunning = "not_running",
        /// The leader's pod does not match the selector.
        NotSelected = "not_selected",
        /// The leader's pod opted out.
        OptedOut = "opted_out",
        /// The leader's pod carries the label with a foreign value.
        LabelConflict = "label_conflict",
        /// Another Election owns the leader's pod.
        Overlap = "overlap",
        /// The node of the leader's pod is silent.
        NodeUnreachable = "node_unreachable",
        /// The followed Lease names another pod, or none that can lead.
        HolderChanged = "holder_changed",
        /// The holder of the followed Lease released it.
        LeaseReleased = "lease_released",
        /// The followed Lease expired, or was deleted.
        LeaseExpired = "lease_expired",
        /// A switchover was requested.
        Switchover = "switchover",
        /// The node of the leader's pod drains.
        NodeDraining = "node_draining",
        /// A pod outranked the leader for `spec.preemption.delaySeconds`.
        Preempted = "preempted",
        /// The Lease was deleted, blanked or edited.
        LeaseLost = "lease_lost",
        /// The Election adopted a Lease.
        LeaseAdopted = "lease_adopted",
        /// A pod or the status carried a term above the Lease's.
        TermRepaired = "term_repaired",
        /// A cause that this version does not know.
        Unknown = "unknown",
    }
}
