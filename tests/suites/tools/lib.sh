# Sourced by each job, which runs in a folder of its own in a mount: quiet times are 1 s, of empty files 2 s.
# OUT: a folder outside of the mount.
set -euo pipefail
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
state() { getfattr --only-values -n user.seal.state -- "$1" 2>/dev/null || echo none; }
# Waits until each file is in a state.
is() { # state, files
    local wanted=$1 file
    shift
    for file in "$@"; do
        for _ in $(seq 150); do [[ $(state "$file") != "$wanted" ]] || continue 2; sleep 0.1; done
        fail "$file is $(state "$file"), not $wanted"
    done
}
# Long enough for whatever would be sealed by time.
quiet() { sleep 3.5; }
refused() { ! "$@" >/dev/null 2>&1 || fail "it should have been refused: $*"; }
