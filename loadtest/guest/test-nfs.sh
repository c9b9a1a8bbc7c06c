#!/usr/bin/env bash
# Runs the programs that were built for release (`make test-nfs` does that first) in the guest: an edge over a kernel's
# NFS mount whose server vanishes. What is checked: loadtest/src/bin/nfs-guest.
#
#   loadtest/guest/test-nfs.sh [VERSION...]      of NFS: 4.2 and 3, if none is said
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${CARGO_TARGET_DIR:-$here/../../target}/release

[ $# -gt 0 ] || set -- 4.2 3
for version in "$@"; do
    case $version in
    4.2) options=ro,vers=4.2 ;;
    # Its locks are another protocol, which nobody here speaks.
    3) options=ro,vers=3,nolock ;;
    *)
        echo "usage: loadtest/guest/test-nfs.sh [4.2|3 ...]" >&2
        exit 2
        ;;
    esac
    echo "NFS $version, in an emulated guest: about two minutes and a half"
    # Copied to the guest's memory: a page of a program that has to come through the shared folder first would delay it.
    GUEST_MOUNT=$options "$here/run.sh" "$programs" 'cp nfs-guest sluice-edge /tmp && exec /tmp/nfs-guest'
done
