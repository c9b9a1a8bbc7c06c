#!/usr/bin/env bash
# Runs the edge's tests of TLS in the guest, whose kernel encrypts beneath sockets: there the same claims are about that.
# Twice: the guest's own kernel takes no other keys when a client updates its own, and a newer one does.
#
#   loadtest/guest/test-ktls.sh [TEST...]      of edge-node/tests: kernel_tls and fronts, if none is said
#
# The unit tests that name the kernel are among them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
[ $# -gt 0 ] || set -- kernel_tls fronts

tests=(--locked -p sluice-edge-node --lib)
for test in "$@"; do tests+=(--test "$test"); done
cargo test "${tests[@]}" --no-run
built=$(cargo test "${tests[@]}" --no-run --message-format=json 2>/dev/null | grep -o '"executable":"[^"]*' | cut -d'"' -f4)
mapfile -t programs < <(grep /deps/ <<<"$built")
edge=$(grep '/sluice-edge$' <<<"$built")

share=$(mktemp -d "${TMPDIR:-/tmp}/sluice-ktls.XXXXXX")
trap 'rm -rf "$share"' EXIT
cp "$edge" "${programs[@]}" "$share"
# Tests know the program by its path. Copied to the guest's memory: a page that has to come through the shared folder
# first would delay it.
command="mkdir -p '${edge%/*}' /tmp/tests && cp sluice-edge '$edge' && cp ./*-* /tmp/tests && cd /tmp/tests || exit 1
export GUEST_HAS_KERNEL_TLS=1 RUST_BACKTRACE=1
uname -r
failed=0
for test in *-*; do
    case \$test in
    sluice-edge) ;;
    sluice_edge_node-*) \"./\$test\" kernel || failed=1 ;;
    *) \"./\$test\" --test-threads=2 || failed=1 ;;
    esac
done
cat /proc/net/tls_stat
exit \$failed"
echo "TLS beneath sockets, in an emulated guest: about three minutes"
status=0
"$here/run.sh" "$share" "$command" || status=1
echo "The same with a newer kernel, which takes other keys"
GUEST_KERNEL=newer "$here/run.sh" "$share" "export GUEST_UPDATES_KEYS=1
$command" || status=1
exit $status
