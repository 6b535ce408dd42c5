# Sourced after ../lib.sh and lib.sh by up, down and node: the real nodes of a cluster. Defines variables and functions only.
#
# A real node is a tree of processes with its own PID, mount, UTS and network namespaces: containerd, kubelet, kube-proxy and the
# containers of its pods. Its process 1 is cluster/nodes/init. When process 1 exits, the kernel kills the others, and deletes the
# mounts, links, routes and nftables rules of the node with the namespaces. Only cgroups remain, and are removed.
#
# The nodes are connected to a switch, a network namespace that exists as long as its only process, cluster/images/relay:
#
#   this machine              the switch                        real-I
#   podium-ID  NET.1  ======  host    |
#                                     | bridge 198.51.100.1
#                             real-I  | ======================  eth0 NET.(10+I)  ======  pods, 198.B.(C+I).0/24
#
# ID is a hash of the state directory. NET is 198.B.C, and no other cluster on the machine uses 198.B.C.0/20. The addresses are those
# for network tests (RFC 2544), which are not used elsewhere. At 198.51.100.1, the endpoint of the Service kubernetes, relay
# forwards connections to the API server on 127.0.0.1. Only nodes and pods can reach that address; nothing listens on it on the
# machine itself. Nodes have routes to the nodes, the pods and the machine only.
#
#   $state/real/count    number of real nodes
#   $state/real/images/  archives of the images that all nodes have
#   $state/real/net      B.C
#   $state/real/real-I/  configuration and logs of a node; lib/ and log/ are its /var/lib and /var/log

most_nodes=9 # the addresses in 198.B.C.0/20 and after 198.B.C.10 suffice for 9
api=198.51.100.1

# Sets id to a short name of the cluster, unique on this machine. The name of a link has at most 15 characters.
choose_id() {
  id=$(printf %s "$state" | sha256sum)
  id=podium-${id:0:8}
}

# Appends the programs of real nodes to PATH. If the machine cannot run real nodes, says why and exits with 3.
find_programs() {
  [[ ! ${unpacked-} ]] || return 0
  local directory
  directory=$("$cluster_dir/real-nodes") || exit 3
  use_programs "$directory"
}

# Prints the process 1 of each node, or of one node.
node_processes() { # [NODE]: prints "PID<tab>NODE"
  local pid program
  while IFS=$'\t' read -r pid program _; do
    # The unshare that waits for it, and its forks, have the same name.
    [[ $program == */init && $(sed -n 's/^NSpid:.*\t//p' "/proc/$pid/status" 2>/dev/null) == 1 ]] || continue
    program=${program%/init}
    printf '%s\t%s\n' "$pid" "${program##*/}"
  done < <(processes "$state/real${1+/$1}")
}

node_process() { # NODE
  local pid
  IFS=$'\t' read -r pid _ < <(node_processes "$1") && printf '%s\n' "$pid"
}

switch_process() {
  local pid program
  while IFS=$'\t' read -r pid program _; do
    [[ $program != "$state/bin/relay" ]] || { printf '%s\n' "$pid"; return; }
  done < <(processes "$state/bin")
  return 1
}

# Runs ip(8) in the network namespace of a process, or on this machine.
ip_of() { # PID|- ARGUMENT…
  if [[ $1 == - ]]; then
    ip "${@:2}"
  else
    nsenter --net --target "$1" ip "${@:2}"
  fi
}

# Starts a program in its own session, so that it outlives the terminal. It holds none of our locks. Descriptor 3 is our network
# namespace.
background() { # LOG NAME PROGRAM ARGUMENT…: NAME is its argv[0]
  (
    close_inherited
    exec setsid bash -c 'exec -a "$0" "$@"' "${@:2}" >>"$1" 2>&1 </dev/null 3</proc/self/ns/net
  ) &
  disown # so that bash neither waits for it nor reports its end
}

# Sets net to B.C, the addresses of the nodes: those of an earlier start, or unused ones.
choose_net() {
  local slot tries destination
  local -A used=()
  if [[ -s $state/real/net ]]; then
    net=$(<"$state/real/net")
    return
  fi
  while read -r destination _; do
    [[ ! $destination =~ ^(local|broadcast)?\ ?198\.(18|19)\.([0-9]+) ]] || used[${BASH_REMATCH[2]}.$((BASH_REMATCH[3] / 16 * 16))]=1
  done < <(ip -4 route show table all | sed -E 's/^(local|broadcast|unreachable|blackhole|prohibit) //')
  slot=$((RANDOM % 32))
  for ((tries = 0; tries < 32; tries++, slot = (slot + 1) % 32)); do
    net=$((18 + slot / 16)).$((slot % 16 * 16))
    [[ ${used[$net]-} ]] || break
  done
  ((tries < 32)) || die "no addresses are free for nodes: this machine has routes to all of 198.18.0.0/15."
  printf '%s\n' "$net" >"$state/real/net"
}

address() { printf '198.%s.%d\n' "$net" "$((10 + $1))"; }                 # of the node NUMBER
pods() { printf '198.%s.%d.0/24\n' "${net%.*}" "$((${net#*.} + $1))"; } # of the node NUMBER

# Creates the switch and the machine's link to it.
start_switch() {
  local switch number deadline=$((SECONDS + 10))
  lock_ports # addresses belong to the whole machine, too
  choose_net
  ip link delete "$id" 2>/dev/null || true # left by a switch that was killed
  background "$state/real/relay.log" "$state/bin/relay" unshare --net "$state/bin/relay" "$api:$api_port" "127.0.0.1:$api_port"
  # unshare runs first, in our network namespace.
  until switch=$(switch_process) && [[ ! /proc/$switch/ns/net -ef /proc/self/ns/net ]]; do
    ((SECONDS < deadline)) || die "the nodes' network does not start: $(last_words "$state/real/relay.log")"
    sleep 0.02
  done
  ip link add "$id" type veth peer name host netns "$switch"
  {
    printf '%s\n' "link set lo up" "link add bridge type bridge" "link set bridge up" "link set host master bridge up" \
      "address add $api/32 dev bridge" "route add 198.$net.0/24 dev bridge"
    for ((number = 1; number <= most_nodes; number++)); do printf 'route add %s via %s\n' "$(pods "$number")" "$(address "$number")"; done
  } | ip_of "$switch" -batch -
  {
    printf '%s\n' "address add 198.$net.1/24 dev $id" "link set $id up"
    for ((number = 1; number <= most_nodes; number++)); do printf 'route add %s via %s\n' "$(pods "$number")" "$(address "$number")"; done
  } | ip_of - -batch -
  unlock_ports
  until [[ $(switch_listeners) == "$(hexadecimal "$api"):$(printf %04X "$api_port")" ]]; do
    ((SECONDS < deadline)) || die "the nodes' network listens on \"$(switch_listeners)\" instead of $api:$api_port: $(last_words "$state/real/relay.log")"
    sleep 0.02
  done
}

hexadecimal() { # ADDRESS, as in /proc/net/tcp
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  printf %02X%02X%02X%02X "$d" "$c" "$b" "$a"
}

# Prints the addresses on which the switch listens.
switch_listeners() {
  local address status
  while read -r _ address _ status _; do
    [[ $status != 0A ]] || printf '%s\n' "$address"
  done < <(cat "/proc/$(switch_process)/net/tcp" "/proc/$(switch_process)/net/tcp6" 2>/dev/null)
}

# Issues a client certificate with the cluster's CA, and writes a kubeconfig with it.
issue() { # FILE SUBJECT
  {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "$2" |
      openssl x509 -req -CA "$home/pki/ca.crt" -CAkey "$home/pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 3650 \
        -extfile <(echo extendedKeyUsage=clientAuth) -out "$1.crt"
  } 2>"$1.log" || die "openssl issues no certificate: $(tail -n 1 -- "$1.log")"
  cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: podium
contexts: [{name: podium, context: {cluster: podium, user: node}}]
clusters: [{name: podium, cluster: {server: "https://$api:$api_port", certificate-authority: "$home/pki/ca.crt"}}]
users: [{name: node, user: {client-certificate: "$1.crt", client-key: "$1.key"}}]
YAML
}

configure_node() { # NUMBER
  local node=real-$1 directory=$state/real/real-$1
  mkdir -p -- "$directory"/{cni,lib,log}
  issue "$directory/kubelet" "/O=system:nodes/CN=system:node:$node"
  issue "$directory/kube-proxy" /CN=system:kube-proxy
  # The native snapshotter copies: it works on every file system, and the images are small. Root in a container may not lower
  # oom_score_adj. containerd reads version 2 of this file since 1.6.
  cat >"$directory/containerd.toml" <<TOML
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$(cni_directory)"
  conf_dir = "$directory/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
TOML
  # Routed, not bridged: a bridge would bypass kube-proxy's rules for packets between pods of a node.
  cat >"$directory/cni/10-pods.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/cni",
 "ranges": [[{"subnet": "$(pods "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  # No image is garbage-collected, because none can be pulled. A full disk of the machine evicts no pods.
  cat >"$directory/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$id/$node
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
resolvConf: ""
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$home/pki/ca.crt"}}
authorization: {mode: Webhook}
volumePluginDir: /var/lib/kubelet/volume-plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
YAML
  # The conntrack settings apply to the whole machine: kube-proxy must not change them.
  cat >"$directory/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 198.$net.0/20
hostnameOverride: $node
clientConnection: {kubeconfig: "$directory/kube-proxy.kubeconfig"}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

# Starts a node, which waits for its link.
start_node() { # NUMBER
  local node=real-$1 directory=$state/real/real-$1
  [[ -e $directory/kube-proxy.yaml ]] || configure_node "$1"
  remove_cgroups "$id/$node"
  background "$directory/init.log" "$directory/init" \
    unshare --mount --uts --pid --net --fork --kill-child --mount-proc bash -c 'exec -a "$0" bash "$@"' "$directory/init" \
    "$cluster_dir/nodes/init" "$node" "$state" "$unpacked" "$id/$node" "$(address "$1")"
}

# Connects a node to the switch, unless it is connected.
plug_in() { # NUMBER
  local pid number node=real-$1 switch deadline=$((SECONDS + 10))
  switch=$(switch_process) || die "there is no switch to plug $node into."
  ! ip_of "$switch" link show "$node" >/dev/null 2>&1 || return 0
  until pid=$(node_process "$node"); do
    ((SECONDS < deadline)) || die "$node does not start: $(last_words "$state/real/$node/init.log")"
    sleep 0.02
  done
  ip_of "$switch" link add "$node" type veth peer name eth0 netns "$pid"
  ip_of "$switch" link set "$node" master bridge up
  {
    printf '%s\n' "link set lo up" "address add $(address "$1")/24 dev eth0" "link set eth0 up"
    for ((number = 1; number <= most_nodes; number++)); do
      ((number == $1)) || printf 'route add %s via %s\n' "$(pods "$number")" "$(address "$number")"
    done
    printf 'route add %s dev eth0\n' "$api" # last, because the node waits for it
  } | ip_of "$pid" -batch -
}

api_port() { sed -n 's/^ *kubeApiserverPort: //p' "$state/kwokctl.yaml"; }

# Prints the number of real nodes that the cluster should have.
real_nodes() { cat -- "$state/real/count" 2>/dev/null || echo 0; }

# Returns whether exactly this number of nodes run and are connected.
real_nodes_run() { # NUMBER
  local number=0 switch pid node links
  (($1 == $(real_nodes))) || return
  (($1 > 0)) || return 0
  find_programs
  switch=$(switch_process) || return
  links=" $(ip_of "$switch" -brief link show 2>/dev/null | sed 's/[@ ].*//' | tr '\n' ' ')"
  while IFS=$'\t' read -r pid node; do
    ((++number))
    [[ $links == *" $node "* ]] || return
  done < <(node_processes)
  ((number == $1))
}

# Starts missing nodes, and removes surplus ones. Running nodes are not changed.
run_real_nodes() { # NUMBER
  local number begun started=() path
  choose_id
  for path in "$state"/real/real-*; do
    number=${path##*-}
    [[ ! -d $path ]] || ((number <= $1)) || remove_node "$number"
  done
  if (($1 == 0)); then
    remove_real_nodes
    rm -rf -- "$state/real"
    return
  fi
  find_programs
  [[ ! $state =~ ^/(run|var/lib|var/log)/ ]] || die "real nodes have a /${BASH_REMATCH[1]} of their own: PODIUM_CLUSTER_STATE must be elsewhere."
  api_port=$(api_port)
  mkdir -p -- "$state/real/images"
  make_images
  switch_process >/dev/null || start_switch
  choose_net
  begun=$(date --utc +%FT%TZ)
  for ((number = 1; number <= $1; number++)); do
    node_process "real-$number" >/dev/null || { start_node "$number" && started+=("real-$number"); }
  done
  for ((number = 1; number <= $1; number++)); do plug_in "$number"; done
  printf '%s\n' "$1" >"$state/real/count"
  [[ ! ${started-} ]] || await_nodes "$begun" "${started[@]}"
}

# Waits until the nodes have reported Ready since a time: an earlier status does not count.
await_nodes() { # TIME NODE…
  local node name status heartbeat deadline=$((SECONDS + patience)) begun=$1 waiting=" ${*:2} "
  local condition=".status.conditions[?(@.type=='Ready')]"
  while [[ $waiting == *[a-z]* ]]; do
    while read -r name status heartbeat; do
      [[ $status != True || $heartbeat < $begun ]] || waiting=${waiting/ $name / }
    done < <(pinned kubectl get nodes --output \
      "jsonpath={range .items[*]}{.metadata.name} {$condition.status} {$condition.lastHeartbeatTime}{'\n'}{end}" 2>"$state/real/kubectl.log")
    read -r node _ <<<"$waiting"
    ((SECONDS < deadline)) || die "$node is not Ready after $patience s; its logs are in $state/real/$node, the last of its kubelet's:" \
      "$(last_words "$state/real/$node/kubelet.log")"
    sleep 0.1
  done
}

# Creates the images that all nodes have.
make_images() {
  local applet links=()
  [[ ! -e $state/real/images/shell.tar ]] || return 0
  for applet in $(busybox --list); do [[ $applet == busybox ]] || links+=("bin/$applet@busybox"); done
  make_image pause /pause "$state/bin/pause=pause" tmp/
  make_image web /web "$state/bin/web=web" tmp/
  make_image shell /bin/sh "$(type -P busybox)=bin/busybox" "$state/bin/web=bin/web" "${links[@]}" tmp/
}

make_image() { # NAME ENTRYPOINT ENTRY…: see cluster/images/archive
  "$state/bin/archive" "$state/real/images/.$1.tar" "localhost/$1:test" "${@:2}" || die "cannot make the image $1."
  mv -- "$state/real/images/.$1.tar" "$state/real/images/$1.tar"
}

kill_node() { # NODE
  kill_processes "$state/real/$1"
  remove_cgroups "$id/$1"
}

remove_node() { # NUMBER
  kill_node "real-$1"
  pinned kubectl delete node "real-$1" --ignore-not-found >/dev/null
  rm -rf -- "$state/real/real-$1"
}

# Kills the processes of real nodes, and removes everything on the machine that has the cluster's id.
remove_real_nodes() {
  local switch deadline=$((SECONDS + 20))
  choose_id
  kill_processes "$state/real"
  while switch=$(switch_process); do kill -KILL "$switch" 2>/dev/null || true; done
  while link_is_left; do # the kernel removes it with the switch, but later; ip(8) may be missing
    ip link delete "$id" 2>/dev/null || true
    ((SECONDS < deadline)) || die "cannot remove the network link $id."
    sleep 0.02
  done
  remove_cgroups "$id"
}

link_is_left() { [[ $(</proc/net/dev) == *" $id:"* ]]; }

# Returns whether remove_real_nodes has anything to remove. (Cgroups are not visible if they are not mounted.)
real_nodes_are_left() {
  local root
  choose_id
  [[ ! -d $state/real ]] && ! link_is_left || return 0
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do [[ ! -d $root/$id ]] || return 0; done
  return 1
}

# Retries, because the kernel removes the processes of a killed node one after the other.
remove_cgroups() { # PATH
  local deadline=$((SECONDS + 20))
  ((EUID == 0)) || return 0
  until unshare --mount bash -c '. "$0"; mount_cgroups && remove_cgroup "$1"' "$cluster_dir/nodes/lib.sh" "$1" 2>/dev/null; do
    ((SECONDS < deadline)) || die "cannot remove the cgroup $1: a process in it does not die."
    sleep 0.05
  done
}
