# Sourced by test scripts, which run in the root of the repository. Defines functions only.

# Makes signals end the script through its EXIT trap.
exit_on_signals() {
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# Gives the clusters that this script and its tests start a temporary state directory. When the script exits, stop_clusters
# stops them and deletes the directory.
use_temporary_clusters() { # NAME
  PODIUM_CLUSTER_STATE=$(mktemp -d "${TMPDIR:-/tmp}/podium-$1.XXXXXX")
  export PODIUM_CLUSTER_STATE
  trap stop_clusters EXIT
  exit_on_signals
}

stop_clusters() {
  trap '' HUP INT TERM
  cluster/down --all
  rm -rf -- "$PODIUM_CLUSTER_STATE"
}
