#!/usr/bin/env bash
# Has the programs write their manual pages and completions, into the folder papers beside them.
#
#   deploy/papers.sh         PROGRAMS (target/release): the folder they were built into;
#                            PAPERS: another folder to write into
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=${PROGRAMS:-${CARGO_TARGET_DIR:-target}/release}
papers=${PAPERS:-$programs/papers}
rm -rf "$papers"
for program in sluice-coordinator sluice-edge sluicectl; do
    "$programs/$program" --papers "$papers"
done
