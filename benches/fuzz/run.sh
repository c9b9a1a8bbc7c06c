#!/usr/bin/env bash
# Runs fuzz targets under libFuzzer, one after the other, each for FUZZ_SECONDS (60) or FUZZ_RUNS executions, on what is
# in the corpus and what earlier runs found. What breaks one is left in target/fuzz/TARGET.
#
#   benches/fuzz/run.sh [TARGET ...]
#
# Coverage comes from LLVM's own pass, which stable compilers have. There is no address sanitizer, which they lack: what is
# fuzzed has no `unsafe`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
coverage=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
# Named, so that build scripts and macros are compiled without it.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="${coverage[*]}" CARGO_TARGET_DIR=$target \
    cargo build --locked --profile fuzz --target "$host" -p sluice-fuzz --features libfuzzer --bin fuzz

if [ -n "${FUZZ_RUNS:-}" ]; then
    bound=(-runs="$FUZZ_RUNS")
else
    bound=(-max_total_time="${FUZZ_SECONDS:-60}")
fi
if [ $# -eq 0 ]; then
    for folder in benches/fuzz/corpus/*/; do set -- "$@" "$(basename "$folder")"; done
fi
for name in "$@"; do
    mkdir -p "$target/$name/found"
    printf '%s\n' "== $name"
    # The first folder takes what is new.
    FUZZ_TARGET=$name "$target/$host/fuzz/fuzz" "$target/$name/found" "benches/fuzz/corpus/$name" \
        -artifact_prefix="$target/$name/" -max_len=1024 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=1 "${bound[@]}" 2>&1 | grep -v -E 'NEW|REDUCE|pulse|RELOAD|NEW_FUNC' || exit 1
done
