# Installing system packages without asking questions. Sourced by the scripts beside it.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# The package manager of this machine: apt-get, dnf, yum, apk, brew, or nothing.
package_manager() {
    local manager
    for manager in apt-get dnf yum apk brew; do
        if command -v "$manager" >/dev/null 2>&1; then
            printf '%s\n' "$manager"
            return
        fi
    done
}

# Runs a command as root: directly, or through a sudo that needs no password (or, with a terminal,
# one that may ask for it).
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo -- "$@"
    else
        die "\"$*\" needs root, and there is no sudo that works without a password: run it as root and try again"
    fi
}

# install_packages MANAGER PACKAGE...
install_packages() {
    local manager=$1
    shift
    say "installing $* with $manager"
    # What the package manager says belongs on stderr: standard output is for results.
    {
        case $manager in
            apt-get)
                # A fresh image has no package lists; lists that are at hand usually do.
                apt_install "$@" || { as_root apt-get update -q && apt_install "$@"; }
                ;;
            dnf | yum) as_root "$manager" install -y -q "$@" ;;
            apk) as_root apk add --no-progress "$@" ;;
            brew) HOMEBREW_NO_AUTO_UPDATE=1 brew install "$@" ;;
        esac
    } >&2 || die "$manager could not install $*; install them by hand and try again"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=120 "$@"
}
