# Shared by build, up, down and kubectl, which source it; it only defines things. Linux, bash 4.4, coreutils, util-linux's flock.
#
# A cluster is one state directory, $clusters/NAME:
#   bin             link to the directory of the binaries (cluster/build); made first, deleted last: it marks the directory as ours
#   kubeconfig      made last: it exists if and only if the cluster was once completely up
#   nodes           how many fake nodes were asked for
#   kwokctl.yaml    what we ask of kwokctl; kwokctl.log is what it said
#   .kwok/          kwokctl's own: in clusters/NAME kwok.yaml with every component's command line, etcd/ pki/ pids/ logs/
#   logs            link to those logs
#   real/           what real nodes have, see nodes/manage.sh; it exists if there are any
# All its processes are started by paths in that directory, so argv[0] tells whose they are, however they came to run.

cluster_dir=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
cache=${PODIUM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/podium}
kubernetes=kubernetes${PODIUM_KUBERNETES:+-$PODIUM_KUBERNETES} # the module of the control plane
clusters=$(realpath -m -- "${PODIUM_CLUSTER_STATE:-$cluster_dir/../.cluster}")

say() { printf 'cluster/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# The comment at the top of the script is its help.
help() {
  local line
  while read -r line && [[ $line == '#'* ]]; do
    [[ $line == '#!'* ]] || printf '%s\n' "${line#'#'}"
  done <"$0"
}

# What a go.mod requires: "go" gives 1.26.0, a module path gives v1.2.3.
required_version() { # go|MODULE [DIRECTORY]
  local name version
  while read -r name version _; do
    [[ $name != "$1" ]] || { printf '%s\n' "$version"; return; }
  done <"$cluster_dir/${2-$kubernetes}/go.mod"
  die "no $1 in cluster/${2-$kubernetes}/go.mod"
}

# Sets name, state (its directory) and home (kwokctl's directory in there).
choose() { # NAME
  local LC_ALL=C
  [[ $1 =~ ^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "\"$1\" is not a name for a cluster: 1 to 40 of a-z, 0-9 and -, no - at the ends."
  name=$1 state=$clusters/$1 home=$clusters/$1/.kwok/clusters/$1
}

# Nobody's directory may be deleted because PODIUM_CLUSTER_STATE is not what it should be.
is_ours() { # STATE
  [[ -L $1/bin || -z $(ls -A -- "$1" 2>/dev/null) ]]
}

# Ports and addresses belong to the network namespace, which all users and checkouts on the machine share: the lock is one on the namespace.
# It is held from the choice until what was chosen is in use.
lock_ports() { exec 8</proc/self/ns/net && flock 8; }
unlock_ports() { exec 8<&-; }

# One up or down of a cluster at a time. The lock is one on the state directory itself, so that `down` leaves nothing behind;
# hence whoever waited for it must look whether it still is the state directory.
lock_state() {
  while :; do
    # Twice, as a `down` may remove the parent directory in between.
    mkdir -p -- "$state" 2>/dev/null || mkdir -p -- "$state" || die "cannot make the directory $state."
    { exec 9<"$state"; } 2>/dev/null || continue
    flock --nonblock 9 || { say "waiting for another up or down of cluster $name"; flock 9; }
    [[ /dev/fd/9 -ef $state ]] || continue
    is_ours "$state" || die "$state is not a cluster's directory: it is left alone."
    return
  done
}

# Every process whose program is a file below DIR, by its command line: PID files go stale, and their PIDs are used again.
# Zombies have no command line; where nothing reaps them they would count as running for ever.
processes() { # DIR: prints "PID<tab>PROGRAM<tab>ARGUMENT1"
  local file argv
  for file in /proc/[0-9]*/cmdline; do
    argv=()
    { mapfile -d '' -t -n 2 argv <"$file"; } 2>/dev/null || continue
    [[ ${argv[0]-} != "$1"/* ]] || printf '%s\t%s\t%s\n' "${file//[!0-9]/}" "${argv[0]}" "${argv[1]-}"
  done
}

# SIGKILL: what dies by it is thrown away or repaired, and a stopped process does not take a SIGTERM. Repeated, as kwokctl may be
# starting more.
kill_processes() { # DIR
  local pid tries=0 list
  while list=$(processes "$1") && [[ $list ]]; do
    ((++tries <= 200)) || die "these processes do not die: ${list//$'\n'/, }"
    while IFS=$'\t' read -r pid _; do kill -KILL "$pid" 2>/dev/null || true; done <<<"$list"
    sleep 0.05
  done
}

# Deletes what is in the state directory; bin last, see is_ours.
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

# Runs kubectl or kwokctl with the cluster and nothing of the user's: no ~/.kube, ~/.kwok, KUBECONFIG or KWOK_ variables.
# (KWOK_WORKDIR would be the obvious way to tell kwokctl its directory, but kwokctl takes it to end at the first space.)
# The components descend from kwokctl; they must not hold our locks, nor a pipe that somebody reads to its end: all that is
# inherited is closed.
pinned() ( # PROGRAM ARGUMENT…
  close_inherited
  exec env -i PATH="$state/bin" HOME="$state" KUBECONFIG="$home/kubeconfig.yaml" "$state/bin/$1" "${@:2}"
)

# The error in the last line of a log, be it klog's err="…" or JSON's "error":"…".
last_words() { # FILE
  local line
  line=$(tail -n 1 -- "$1")
  [[ ! $line =~ \"?err(or)?\"?[=:]\"([^\"]+) ]] || line=${BASH_REMATCH[2]}
  printf '%s\n' "${line:0:300}"
}
