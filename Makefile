# What can be done with a checkout. Every target installs what it needs where that is missing, and says so.

.PHONY: help demo test test-nfs soak lint bench compare audit

help:
	@echo 'make demo     build, start a coordinator and three edges, download through them; ARGS=--once ends after the checks'
	@echo 'make test     everything that must pass: tests, documentation tests, clippy, formatting'
	@echo 'make soak     ten minutes of clients that vanish over a store that hangs; LOADTEST_CHURN_SECONDS=3600 for an hour'
	@echo 'make test-nfs an edge over NFS whose server vanishes, in an emulated guest: five minutes; ARGS=4.2 or ARGS=3: only that NFS'
	@echo 'make lint     clippy and formatting only'
	@echo 'make bench    micro-benchmarks'
	@echo 'make compare  side by side with nginx, bare hyper and Python, 20 minutes; ARGS="--only stuck" and others, see ARGS=--help'
	@echo 'make audit    licences, sources and known faults of everything that is linked in'

demo:
	deploy/needs.sh build demo
	cargo build --locked --release -p sluice-coordinator -p sluice-edge-node --bins
	deploy/demo.sh $(ARGS)

# Tests that cross processes run the programs from the target folder, so those are built first.
test:
	deploy/needs.sh build test
	cargo build --locked --workspace --bins
	cargo test --locked --workspace --doc
	cargo nextest run --config-file .ci/nextest.toml --locked --workspace
	$(MAKE) --no-print-directory lint

soak:
	deploy/needs.sh build test
	cargo build --locked --workspace --bins
	LOADTEST_CHURN_SECONDS=$${LOADTEST_CHURN_SECONDS:-600} cargo test --locked -p sluice-loadtest --test churn

test-nfs:
	deploy/needs.sh build nfs
	cargo build --locked --release -p sluice-edge-node -p sluice-loadtest --bins
	loadtest/guest/test-nfs.sh $(ARGS)

lint:
	deploy/needs.sh build
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fmt --all --check

bench:
	deploy/needs.sh build
	cargo bench --locked -p sluice-benches -- $(ARGS)

compare:
	deploy/needs.sh build compare
	cargo build --locked --release -p sluice-coordinator -p sluice-edge-node -p sluice-benches --bins
	cargo run --locked --release -p sluice-benches --bin compare -- --out target/compare.json $(ARGS)

audit:
	deploy/needs.sh build audit
	deploy/audit.sh
