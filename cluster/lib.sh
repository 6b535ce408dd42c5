# Sourced by build, up, down, node and kubectl. Defines variables and functions only. Requires Linux, bash 4.4, coreutils and flock.
#
# Each cluster has a state directory, $clusters/NAME:
#   bin             link to the directory of the binaries (cluster/build). Created first, deleted last: it marks the directory as ours
#   kubeconfig      created last: it exists if and only if the cluster has been completely up
#   nodes           number of fake nodes
#   kwokctl.yaml    configuration of kwokctl; its output is in kwokctl.log
#   .kwok/          state of kwokctl: clusters/NAME has kwok.yaml with the command lines of the components, etcd/ pki/ pids/ logs/
#   logs            link to these logs
#   real/           state of real nodes, see nodes/manage.sh. It exists if there are any
# All processes of a cluster are started by paths in this directory, so argv[0] identifies their cluster.

cluster_dir=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
cache=${PODIUM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/podium}
kubernetes=kubernetes${PODIUM_KUBERNETES:+-$PODIUM_KUBERNETES} # the Go module of the control plane
clusters=$(realpath -m -- "${PODIUM_CLUSTER_STATE:-$cluster_dir/../.cluster}")

say() { printf 'cluster/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints the comment at the top of the script.
help() {
  local line
  while read -r line && [[ $line == '#'* ]]; do
    [[ $line == '#!'* ]] || printf '%s\n' "${line#'#'}"
  done <"$0"
}

# Prints the version that a go.mod requires: 1.26.0 for "go", v1.2.3 for a module path.
required_version() { # go|MODULE [DIRECTORY]
  local name version
  while read -r name version _; do
    [[ $name != "$1" ]] || { printf '%s\n' "$version"; return; }
  done <"$cluster_dir/${2-$kubernetes}/go.mod"
  die "no $1 in cluster/${2-$kubernetes}/go.mod"
}

# Sets name, state (the state directory) and home (the directory of kwokctl in it).
choose() { # NAME
  local LC_ALL=C
  [[ $1 =~ ^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "\"$1\" is not a name for a cluster: 1 to 40 of a-z, 0-9 and -, no - at the ends."
  name=$1 state=$clusters/$1 home=$clusters/$1/.kwok/clusters/$1
}

# Guards against deleting another directory because PODIUM_CLUSTER_STATE is wrong.
is_ours() { # STATE
  [[ -L $1/bin || -z $(ls -A -- "$1" 2>/dev/null) ]]
}

# Locks the network namespace, because all users and checkouts share its ports and addresses. The lock is held from the choice of a
# port or address until it is in use.
lock_ports() { exec 8</proc/self/ns/net && flock 8; }
unlock_ports() { exec 8<&-; }

# Allows one up or down of a cluster at a time. It locks the state directory itself, so that `down` leaves no lock file. After the
# wait, the locked directory may have been deleted.
lock_state() {
  while :; do
    # Twice, because a `down` may remove the parent directory in between.
    mkdir -p -- "$state" 2>/dev/null || mkdir -p -- "$state" || die "cannot make the directory $state."
    { exec 9<"$state"; } 2>/dev/null || continue
    flock --nonblock 9 || { say "waiting for another up or down of cluster $name"; flock 9; }
    [[ /dev/fd/9 -ef $state ]] || continue
    is_ours "$state" || die "$state is not a cluster's directory: it is left alone."
    return
  done
}

# Lists the processes whose program is below DIR, by their command line, because PID files become stale and PIDs are reused.
# Zombies have no command line: a zombie that is never reaped does not count as running.
processes() { # DIR: prints "PID<tab>PROGRAM<tab>ARGUMENT1"
  local file argv
  for file in /proc/[0-9]*/cmdline; do
    argv=()
    { mapfile -d '' -t -n 2 argv <"$file"; } 2>/dev/null || continue
    [[ ${argv[0]-} != "$1"/* ]] || printf '%s\t%s\t%s\n' "${file//[!0-9]/}" "${argv[0]}" "${argv[1]-}"
  done
}

# Sends SIGKILL: the state is deleted or repaired afterwards, and a stopped process ignores SIGTERM. Repeats, because kwokctl may
# start more processes.
kill_processes() { # DIR
  local pid tries=0 list
  while list=$(processes "$1") && [[ $list ]]; do
    ((++tries <= 200)) || die "these processes do not die: ${list//$'\n'/, }"
    while IFS=$'\t' read -r pid _; do kill -KILL "$pid" 2>/dev/null || true; done <<<"$list"
    sleep 0.05
  done
}

# Deletes the contents of the state directory; bin last, see is_ours.
empty_state() {
  local path
  for path in "$state"/* "$state"/.[!.]*; do
    [[ $path == "$state/bin" ]] || rm -rf -- "$path"
  done
  rm -f -- "$state/bin"
}

close_inherited() {
  local fd
  for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    ((fd < 3)) || eval "exec $fd>&-"
  done
}

# Runs kubectl or kwokctl without the user's configuration: no ~/.kube, ~/.kwok, KUBECONFIG or KWOK_ variables.
# (HOME instead of KWOK_WORKDIR, because kwokctl truncates that at the first space.)
# The components are descendants of kwokctl. They must hold neither our locks nor a pipe that is read to its end, so all inherited
# descriptors are closed.
pinned() ( # PROGRAM ARGUMENT…
  close_inherited
  exec env -i PATH="$state/bin" HOME="$state" KUBECONFIG="$home/kubeconfig.yaml" "$state/bin/$1" "${@:2}"
)

# Prints the error in the last line of a log: klog's err="…" or JSON's "error":"…".
last_words() { # FILE
  local line
  line=$(tail -n 1 -- "$1")
  [[ ! $line =~ \"?err(or)?\"?[=:]\"([^\"]+) ]] || line=${BASH_REMATCH[2]}
  printf '%s\n' "${line:0:300}"
}
