# Sourced by build and run in the root of the repository. Defines functions only.

say() { printf 'tests/image/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
cannot() { say "the image cannot be built here: $*"; exit 3; }

. tests/lib.sh
. tests/packages.sh

# Installs the programs of both scripts, because two apt-gets cannot run at the same time.
require_machine() {
  [[ $(uname -s) == Linux ]] || cannot "it is not Linux."
  ((EUID == 0)) || cannot "a build needs its own root directory, which requires root."
  unshare --mount --net --pid --fork true 2>/dev/null || cannot "this user may not create mount and network namespaces."
  type -P cargo >/dev/null || cannot "there is no cargo."
  require buildah buildah gcc gcc libc6-dev "$(gcc -print-file-name=libc.a 2>/dev/null)" \
    curl curl iproute2 ip jq jq openssl openssl perl perl
}
