# Sourced by the scripts beside it.
# shellcheck shell=bash

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

# Runs a command as root: directly, or with sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "This needs root: $* — run it as root, or install sudo."
    fi
}

# Installs Debian packages: need_packages PURPOSE PACKAGE...
need_packages() {
    local purpose=$1
    shift
    command -v apt-get >/dev/null || die "$purpose needs: $*. This is not Debian or Ubuntu, so install them by hand and run again."
    say "Installing $* ($purpose)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
