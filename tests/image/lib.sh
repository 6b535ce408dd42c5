# Shared by build and run, which source it; it only defines things.

say() { printf 'tests/image/%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
cannot() { say "the image cannot be built here: $*"; exit 3; }

# Installs the packages whose programs or files are missing, where Debian's are at hand.
require() { # PACKAGE PROGRAM|FILE …
  local missing=() said
  while (($#)); do
    [[ -e $2 ]] || command -v "$2" >/dev/null || missing+=("$1")
    shift 2
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || cannot "no ${missing[*]}."
  say "installing ${missing[*]}"
  said=$({ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"; } \
    </dev/null 2>&1) || cannot "apt-get does not install ${missing[*]}: $(tail -n 1 <<<"$said")"
}

# Everything is installed by the first to come: two apt-gets at a time are one too many.
require_machine() {
  [[ $(uname -s) == Linux ]] || cannot "it is not Linux."
  ((EUID == 0)) || cannot "only root can give a build its own root directory."
  unshare --mount --net --pid --fork true 2>/dev/null || cannot "mounts and networks of one's own are not allowed here."
  command -v cargo >/dev/null || cannot "there is no cargo."
  require buildah buildah gcc gcc libc6-dev "$(gcc -print-file-name=libc.a 2>/dev/null)" \
    curl curl iproute2 ip jq jq openssl openssl perl perl
}
