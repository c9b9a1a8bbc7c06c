# What can be done with a checkout. Every target installs what it needs where that is missing, and says so.

.PHONY: help build demo loadtest test test-nfs test-ktls test-install soak lint bench bench-instructions figures metrics fuzz compare beside-wrk ways-out simulate audit install dist deb test-deb

# Whom `make loadtest` asks.
COORDINATOR ?= http://127.0.0.1:8080

help:
	@echo 'make demo     build, start a coordinator and three edges, download through them; ARGS=--once ends after the checks'
	@echo 'make loadtest measure the cluster of make demo, which runs in another terminal; the report is target/loadtest/report.html'
	@echo 'make test     everything that must pass: tests, documentation tests, clippy, formatting'
	@echo 'make soak     ten minutes of clients that vanish over a store that hangs; LOADTEST_CHURN_SECONDS=3600 for an hour'
	@echo 'make test-nfs an edge over NFS whose server vanishes, in an emulated guest: five minutes; ARGS=4.2 or ARGS=3: only that NFS'
	@echo 'make test-ktls an edge whose TLS the kernel goes on with, in the same guest, with two kernels: six minutes; ARGS=fronts: only those tests'
	@echo 'make test-install  what of the runbook takes systemd under a systemd of its own, with root'\''s rights: a minute'
	@echo 'make test-deb the Debian packages in a fresh root without systemd, and under a systemd of their own: three minutes, with root'\''s rights'
	@echo 'make lint     clippy and formatting only'
	@echo 'make bench    every part by itself, and one edge by the way bytes leave: a table with what limits each; ARGS=open: only those'
	@echo 'make bench-instructions  the parts by instructions, for busy machines; BASE=target/earlier.json compares'
	@echo 'make figures  writes the figures of benches/results/ into the documents that have them (benches/figures.toml)'
	@echo 'make metrics  writes the list of all metrics, deploy/METRICS.md, from the programs'
	@echo 'make fuzz     every parser of strangers'\'' bytes under libFuzzer, a minute each; FUZZ_SECONDS=600, ARGS="head range" only those'
	@echo 'make compare  side by side with nginx, bare hyper and Python, an hour; ARGS="--only stuck" and others, see ARGS=--help'
	@echo 'make beside-wrk  the load test beside wrk: that they agree, and what each costs'
	@echo 'make ways-out what sending takes by the calls alone, whatever the server: a minute, with root'\''s rights'
	@echo 'make simulate how routing fares in a cluster of any size; ARGS="--edges 10000 --zones 100" and others, see ARGS=--help'
	@echo 'make audit    licences, sources and known faults of everything that is linked in'
	@echo 'make build    the programs, in target/release, with their manual pages and completions'
	@echo 'make install  what was built, with units and papers; PREFIX=/usr/local, DESTDIR= a root to install into'
	@echo 'make dist     build a release in target/dist: an archive, what is linked in (SBOM), checksums'
	@echo 'make deb      the same programs as Debian packages, in target/dist too; MAINTAINER="Name <address>"'

build:
	deploy/needs.sh build
	cargo build --locked --release -p sluice-coordinator -p sluice-edge-node --bins
	deploy/papers.sh

# Builds nothing, so that it may be root's.
install:
	deploy/install.sh

dist: build
	deploy/dist.sh

deb: build
	deploy/needs.sh deb
	deploy/deb.sh

demo:
	deploy/needs.sh build demo
	cargo build --locked --release -p sluice-coordinator -p sluice-edge-node --bins
	deploy/demo.sh $(ARGS)

loadtest:
	deploy/needs.sh build
	cargo build --locked --release -p sluice-loadtest --bin sluice-loadtest
	$${CARGO_TARGET_DIR:-target}/release/sluice-loadtest run --coordinator $(COORDINATOR) \
		--scenario deploy/samples/demo-load.toml --report target/loadtest $(ARGS)

# Tests that cross processes run the programs from the target folder, so those are built first.
test:
	deploy/needs.sh build test
	cargo build --locked --workspace --bins
	cargo test --locked --workspace --doc
	cargo test --locked -p sluice-benches --bench parts --bench routing --bench edge --bench redirect
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

test-ktls:
	deploy/needs.sh build nfs
	loadtest/guest/test-ktls.sh $(ARGS)

test-install: build
	deploy/needs.sh install
	loadtest/guest/test-install.sh

test-deb: deb
	deploy/needs.sh install test-deb
	loadtest/guest/test-deb.sh

lint:
	deploy/needs.sh build
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fmt --all --check

bench:
	deploy/needs.sh build
	began=$$(date +%s) && \
	cargo bench --locked -p sluice-benches --bench parts --bench routing --bench edge --bench redirect -- $(if $(ARGS),'$(ARGS)') && \
	cargo run --locked --profile bench -p sluice-benches --bin bench-summary -- --out target/bench.json --since $$began \
		--criterion $${CARGO_TARGET_DIR:-target}/criterion

bench-instructions:
	deploy/needs.sh build instructions
	cargo bench --locked -p sluice-benches --bench instructions -- $(if $(BASE),--base $(abspath $(BASE))) \
		--out $(abspath target/instructions.json) $(ARGS)

figures:
	deploy/needs.sh build
	cargo run --locked -p sluice-benches --bin figures -- --write

metrics: build
	deploy/metrics.sh

fuzz:
	deploy/needs.sh build fuzz
	benches/fuzz/run.sh $(ARGS)

compare:
	deploy/needs.sh build compare
	cargo build --locked --release -p sluice-coordinator -p sluice-edge-node -p sluice-benches --bins
	cargo run --locked --release -p sluice-benches --bin compare -- --out target/compare.json $(ARGS)

ways-out:
	deploy/needs.sh build
	cargo build --locked --release -p sluice-benches --bin ways-out
	$${CARGO_TARGET_DIR:-target}/release/ways-out $(ARGS)

beside-wrk:
	deploy/needs.sh build compare
	cargo build --locked --release -p sluice-edge-node -p sluice-loadtest --bins
	$${CARGO_TARGET_DIR:-target}/release/beside-wrk $(ARGS)

simulate:
	deploy/needs.sh build
	cargo run --locked --release -p sluice-loadtest --bin sluice-loadtest -- simulate --json target/simulation.json $(ARGS)

audit:
	deploy/needs.sh build audit
	deploy/audit.sh
