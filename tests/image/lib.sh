# Shared by build and run, which source it in the root of the project; it only defines things.

say() { printf 'tests/image/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
cannot() { say "the image cannot be built here: $*"; exit 3; }

. tests/packages.sh

# Everything is installed by the first to come: two apt-gets at a time are one too many.
require_machine() {
  [[ $(uname -s) == Linux ]] || cannot "it is not Linux."
  ((EUID == 0)) || cannot "only root can give a build its own root directory."
  unshare --mount --net --pid --fork true 2>/dev/null || cannot "mounts and networks of one's own are not allowed here."
  type -P cargo >/dev/null || cannot "there is no cargo."
  require buildah buildah gcc gcc libc6-dev "$(gcc -print-file-name=libc.a 2>/dev/null)" \
    curl curl iproute2 ip jq jq openssl openssl perl perl
}
