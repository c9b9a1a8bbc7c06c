#!/usr/bin/env bash
# Licences, sources and bans of everything that is linked in; known faults too, where their database can be reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

database=https://github.com/rustsec/advisory-db
checks=(bans licenses sources)
if GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --exit-code "$database" HEAD >/dev/null 2>&1; then
    checks+=(advisories)
else
    printf 'advisories: not checked, %s cannot be reached from here\n' "$database"
fi
exec cargo deny --config .deny.toml --workspace --locked --all-features check --hide-inclusion-graph "${checks[@]}"
