# Sourced by the other scripts.
# shellcheck shell=bash

heading() { printf '\n== %s\n' "$*"; }

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
        die "Root is required for: $*. Run the command as root, or install sudo."
    fi
}

# Installs Debian packages: need_packages PURPOSE PACKAGE...
need_packages() {
    local purpose=$1
    shift
    command -v apt-get >/dev/null || die "$purpose requires $*, and this is neither Debian nor Ubuntu. Install them and run the command again."
    heading "Installing $* ($purpose)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
