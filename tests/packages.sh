# Sourced by scripts that need programs that a fresh Debian lacks. Defines require. The script must define say and cannot.

# Installs the packages of missing programs or files, if the machine has apt-get. It looks up programs in PATH only: a shell function,
# alias or builtin with the same name does not count.
require() { # PACKAGE PROGRAM|/FILE …
  local missing=() said
  while (($#)); do
    [[ $2 == /* && -e $2 ]] || type -P -- "$2" >/dev/null || missing+=("$1")
    shift 2
  done
  ((${#missing[@]})) || return 0
  type -P apt-get >/dev/null || cannot "no ${missing[*]}."
  say "installing ${missing[*]}"
  said=$(install_packages "${missing[@]}" </dev/null 2>&1) ||
    cannot "apt-get failed to install ${missing[*]}: $(tail -n 1 <<<"$said")"
}

# Uses its own lists and cache of apt, so that it neither needs up-to-date lists nor waits for the downloads of another apt-get. While
# another apt-get installs packages, as a new machine does by itself, this one waits.
install_packages() ( # PACKAGE …
  own=$(mktemp -d) || exit
  trap 'rm -rf -- "$own"' EXIT
  mkdir -- "$own/lists" "$own/cache" || exit
  apt=(apt-get -o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3
    -o DPkg::Lock::Timeout=600)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "$@"
)
