# Sourced after ../lib.sh by the scripts for real nodes: programs and cgroups. Defines variables and functions only.

cni_plugins=(ptp host-local loopback)

# Appends the programs that the machine lacks to PATH.
use_programs() { # DIRECTORY
  local triplet
  unpacked=$1
  export PATH="$PATH:/usr/sbin:/sbin:$1/usr/sbin:$1/usr/bin:$1/sbin:$1/bin"
  for triplet in "$1"/usr/lib/*-linux-gnu* "$1"/lib/*-linux-gnu*; do
    [[ ! -d $triplet ]] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$triplet"
  done
}

# Prints the directory of the CNI plugins; if they are not installed, a directory where they could be.
cni_directory() {
  local directory
  for directory in "${unpacked-}"/usr/lib/cni /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    [[ ! -x $directory/ptp ]] || break
  done
  printf '%s\n' "$directory"
}

# Mounts the cgroups in this mount namespace, unless the machine has mounted them. Version 2 cannot be used if version 1 has the
# memory controller.
mount_cgroups() {
  local controller hierarchy
  ! mountpoint --quiet /sys/fs/cgroup || return 0
  hierarchy=$(while read -r controller number _; do [[ $controller != memory ]] || echo "$number"; done </proc/cgroups)
  if ((${hierarchy:-0} == 0)); then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    return
  fi
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir "/sys/fs/cgroup/$controller" && mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || return
  done
}

# Prints the roots of the cgroup hierarchies: one in version 2, one for each controller in version 1.
cgroup_hierarchies() {
  local root
  if [[ $(stat --file-system --format=%T /sys/fs/cgroup) == cgroup2fs ]]; then
    echo /sys/fs/cgroup
    return
  fi
  for root in /sys/fs/cgroup/*; do
    [[ -L $root || $root == */unified || ! -e $root/cgroup.procs ]] || printf '%s\n' "$root"
  done
}

# Creates the cgroup with all available controllers.
make_cgroup() { # PATH
  local root path part controller
  for root in $(cgroup_hierarchies); do
    path=$root
    for part in ${1//\// }; do
      if [[ -e $path/cgroup.controllers ]]; then # version 2: enable the controllers for the children
        for controller in $(<"$path/cgroup.controllers"); do echo "+$controller" >"$path/cgroup.subtree_control" || return; done
      fi
      path+=/$part
      mkdir -p -- "$path" || return
      if [[ -e $path/cpuset.cpus && ! -e $path/cgroup.controllers ]]; then # version 1: empty by default, which admits no process
        cat -- "${path%/*}/cpuset.cpus" >"$path/cpuset.cpus" && cat -- "${path%/*}/cpuset.mems" >"$path/cpuset.mems" || return
      fi
    done
  done
}

# Removes the cgroup and its children. Fails while it contains a process. (With version 1, runc creates one in version 2, too.)
remove_cgroup() { # PATH
  local path
  for path in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
    [[ ! -d $path ]] || find "$path" -depth -type d -exec rmdir {} + || return
  done
}
