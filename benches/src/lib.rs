//! Side-by-side runs against other servers (`src/bin/`) and micro-benchmarks (`benches/`). Nothing depends on it.
