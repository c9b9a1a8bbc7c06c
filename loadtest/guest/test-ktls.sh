#!/usr/bin/env bash
# Runs the edge's tests of TLS in the guest, whose kernel encrypts beneath sockets: there the same claims are about that.
#
#   loadtest/guest/test-ktls.sh [TEST...]      of edge-node/tests: kernel_tls and fronts, if none is said
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
[ $# -gt 0 ] || set -- kernel_tls fronts

cargo build --locked --workspace --bin sluice-edge
programs=()
for test in "$@"; do
    built=$(cargo test --locked --workspace --test "$test" --no-run --message-format=json 2>/dev/null |
        grep -o '"executable":"[^"]*/'"$test"'-[^"]*"' | cut -d'"' -f4)
    # Other packages may have tests of that name.
    for program in $built; do
        if grep -aq 'edge-node/tests' "$program"; then programs+=("$program"); fi
    done
done
[ ${#programs[@]} -gt 0 ] || { echo "there is no such test: $*" >&2; exit 2; }
edge=$(dirname "${programs[0]}")/../sluice-edge
edge=$(realpath "$edge")

share=$(mktemp -d "${TMPDIR:-/tmp}/sluice-ktls.XXXXXX")
trap 'rm -rf "$share"' EXIT
cp "$edge" "${programs[@]}" "$share"
# Tests know the program by its path. Copied to the guest's memory: a page that has to come through the shared folder
# first would delay it.
command="mkdir -p '${edge%/*}' /tmp/tests && cp sluice-edge '$edge' && cp ./*-* /tmp/tests && cd /tmp/tests || exit 1
export GUEST_HAS_KERNEL_TLS=1 RUST_BACKTRACE=1
failed=0
for test in *-*; do
    [ \"\$test\" = sluice-edge ] || \"./\$test\" --test-threads=2 || failed=1
done
cat /proc/net/tls_stat
exit \$failed"
echo "TLS beneath sockets, in an emulated guest: about three minutes"
"$here/run.sh" "$share" "$command"
