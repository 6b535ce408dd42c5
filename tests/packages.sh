# Sourced by scripts that need programs which a fresh Debian lacks: it defines require. The script itself defines say and cannot.

# Installs the packages whose programs or files are missing, if apt-get is at hand. A program is looked up as a file in PATH: a shell
# function, alias or builtin of that name is not the program.
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
    cannot "apt-get does not install ${missing[*]}: $(tail -n 1 <<<"$said")"
}

# Lists and cache are not the machine's: nothing has to be up to date, and no download of another apt-get is in the way. If another one
# is installing, as a new machine does by itself, this one waits.
install_packages() ( # PACKAGE …
  own=$(mktemp -d) || exit
  trap 'rm -rf -- "$own"' EXIT
  mkdir -- "$own/lists" "$own/cache" || exit
  apt=(apt-get -o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3
    -o DPkg::Lock::Timeout=600)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "$@"
)
