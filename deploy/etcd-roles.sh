#!/usr/bin/env bash
# Users and roles of etcd with the least that each program needs, by etcdctl. Passwords are read from standard input, a
# line without spaces, and are in no argument. Everything may be repeated: a user that is there gets the new password.
#
#   deploy/etcd-roles.sh roles                what coordinators may, and what all edges may
#   deploy/etcd-roles.sh coordinator USER     a user for coordinators
#   deploy/etcd-roles.sh edge ID              a user for the edge of this id, which may write that edge's record alone
#   deploy/etcd-roles.sh lock                 the user root, and from then on nobody comes in without a password
#
# Which etcd: ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY, and once it is locked ETCDCTL_USER=root:PASSWORD,
# as etcdctl takes them. PREFIX is `prefix` of the programs' [etcd] sections.
set -euo pipefail

export ETCDCTL_API=3
prefix=${PREFIX:-/sluice/}
case $prefix in
/*/) ;;
*)
    echo "PREFIX begins and ends with a slash, as etcd.prefix does" >&2
    exit 2
    ;;
esac

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

make_role() {
    etcdctl role get "$1" >/dev/null 2>&1 || etcdctl role add "$1"
}

# role, read or readwrite, what follows the prefix; all that begins so where it ends with a slash.
may() {
    case $3 in
    */) etcdctl role grant-permission "$1" "$2" "$prefix$3" --prefix=true ;;
    *) etcdctl role grant-permission "$1" "$2" "$prefix$3" ;;
    esac
}

make_user() {
    if etcdctl user get "$1" >/dev/null 2>&1; then
        etcdctl user passwd "$1" --interactive=false
    else
        etcdctl user add "$1" --interactive=false
    fi
}

coordinator=sluice-coordinator
edge=sluice-edge

case ${1:-} in
roles)
    [ $# -eq 1 ] || usage
    make_role $coordinator
    # Edges' records are the edges' own.
    may $coordinator read edges/
    for place in coordinators/ election/ keys/ ticket-keys/ clients/ orders/ revoked/ blocked/; do
        may $coordinator readwrite $place
    done
    make_role $edge
    for place in keys/ revoked/ blocked/; do
        may $edge read $place
    done
    ;;
coordinator)
    [ $# -eq 2 ] || usage
    make_user "$2"
    etcdctl user grant-role "$2" $coordinator
    ;;
edge)
    [ $# -eq 2 ] || usage
    # As ids of edges are, so that no role reaches further than a key.
    [[ $2 =~ ^[A-Za-z0-9._-]{1,63}$ ]] || { echo "an edge's id is 1 to 63 of A-Z a-z 0-9 . _ -" >&2; exit 2; }
    make_role "$edge-$2"
    may "$edge-$2" readwrite "edges/$2"
    make_user "$2"
    etcdctl user grant-role "$2" $edge
    etcdctl user grant-role "$2" "$edge-$2"
    ;;
lock)
    [ $# -eq 1 ] || usage
    make_user root
    etcdctl user grant-role root root
    etcdctl auth enable
    ;;
*) usage ;;
esac
