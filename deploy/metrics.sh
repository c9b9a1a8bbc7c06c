#!/usr/bin/env bash
# Writes the list of all metrics, deploy/METRICS.md, from what the programs say of their own.
#
#   deploy/metrics.sh        PROGRAMS (target/release): the folder they were built into;
#                            METRICS: another file to write
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=${PROGRAMS:-${CARGO_TARGET_DIR:-target}/release}
papers=$(mktemp -d)
trap 'rm -rf "$papers"' EXIT
PROGRAMS=$programs PAPERS=$papers deploy/papers.sh
{
    cat <<'END'
# Metrics

What `/metrics` of each program's admin port has, in Prometheus' text format. Made by `make metrics` from the programs; a test
holds this list, the programs and what running ones export together.

A counter goes up from 0 at the program's start. A histogram `X` is `X_bucket` by upper bound `le`, `X_sum` and `X_count`. No label
has a value that a caller or a file chose: those that there can be are listed, and every one of a counter's is there from the
start; ids of edges are those that the coordinator knows, and gauges of an edge that left go within a scrape or two.
END
    for program in sluice-coordinator sluice-edge; do
        echo
        cat "$papers/metrics/$program.md"
    done
} >"${METRICS:-deploy/METRICS.md}"
