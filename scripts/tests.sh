# Where the tests' servers live, and how many tests run at once. Sourced by what runs tests.
# shellcheck shell=sh

# Each test has a database of its own, and some a server: thousands of files that are made and soon
# removed, which a disk's file system does many times slower than memory does.
memory=/dev/shm
if [ -z "${TMPDIR:-}" ] && [ -d "$memory" ] && [ -w "$memory" ] &&
    [ "$(df -Pk "$memory" | awk 'NR == 2 { print $4 }')" -ge 4194304 ]; then
    export TMPDIR="$memory"
fi

# Most tests wait for a server most of the time.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((3 * $(getconf _NPROCESSORS_ONLN)))}"

# The libraries that receivers verify signatures with.
scripts/install-verifiers
