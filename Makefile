# Each target is one command; anything longer is a script.

.DEFAULT_GOAL := help
.PHONY: help build generate fmt lint unit model simulate e2e chart chaos image nodes scale alerts otlp deny bench fresh test test-oldest demo
.NOTPARALLEL:

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## Build the release binary, target/release/podium
	cargo build --release --locked

generate: ## Update the generated files: crds/, docs/reference/, and the rendered manifests and table of values in charts/
	cargo run --quiet --locked -- crd >crds/elections.podium.dev.yaml.new
	mv crds/elections.podium.dev.yaml.new crds/elections.podium.dev.yaml
	cargo run --quiet --locked -- metrics >docs/reference/metrics.md.new
	mv docs/reference/metrics.md.new docs/reference/metrics.md
	GENERATE=1 cargo test --quiet --locked --bin podium --test reference reference
	charts/render

fmt: ## Format the code
	cargo fmt --all

lint: ## Check formatting, run clippy and build the documentation; warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

unit: ## Run the tests that need no cluster
	cargo test --locked --lib --bins --example sbom --test crd --test krew --test pages --test docs --test reference --test purity --test layers --test figures --test scripts
	cargo test --locked --package podium-campaign --lib
	cargo test --locked --test watchdog --test flood
	cargo test --locked --profile explore --test model
	cargo test --locked --workspace --doc

model: ## Explore the model of the safety protocol for 15 minutes; `make unit` explores it for one minute
	cargo test --locked --profile explore --test model -- --large

simulate: ## Run simulations with faults: SEEDS=N simulations starting with seed FROM=N, or SEED=N with full output
	cargo test --locked --profile explore --test simulation -- --nocapture

e2e: ## Run the end-to-end tests on a temporary local cluster, or on that of PODIUM_KUBECONFIG
	tests/e2e/run

chart: ## Test the chart: rendered manifests, and install, upgrade and uninstall on a temporary local cluster
	tests/chart/run

chaos: ## Kill and pause controllers, API server and etcd for 3 minutes (PODIUM_CHAOS_SECONDS) while pods are created and deleted
	tests/chaos/run

nodes: ## Run the tests on real nodes (kubelets and containers) of a temporary cluster; skipped if the machine cannot run them
	tests/nodes/run

scale: ## Run the large end-to-end tests: 5,000 pods, 200 Elections on the same pods
	tests/e2e/run --ignored --nocapture

image: ## Build the container image without a registry, and check it; skipped if the machine cannot build it
	tests/image/run

test: export PODIUM_CHAOS_SECONDS ?= 90
test: lint unit simulate e2e chart chaos image nodes ## Run all tests, with 90 seconds of chaos

test-oldest: export PODIUM_KUBERNETES = 1.33
test-oldest: ## Run the end-to-end tests on the oldest supported Kubernetes version
	tests/e2e/run

# Not part of `test`: it runs `make test`.
fresh: ## Run the commands of the README on a fresh Debian that has only Rust and Go: one hour, as root
	tests/fresh/run

demo: ## Show an election and a failover on a real control plane, in one minute
	examples/demo/run

# Not part of `test`: it tests no code of Podium, and promtool takes minutes to build.
alerts: ## Test the alert rules of the chart with promtool, which is built the first time
	tests/alerts/run

# Not part of `test`: no other target uses what it compiles for two and a half minutes.
otlp: ## Lint and test the export of traces (feature otlp, off by default)
	cargo clippy --locked --all-targets --features otlp -- -D warnings
	cargo test --locked --features otlp --bin podium --test otlp

# Not part of `test`: a new advisory makes it fail without any change of Podium.
deny: ## Check licenses, duplicates, sources and known vulnerabilities of the dependencies with cargo-deny, which is built the first time
	tests/deny/run

# Not part of `test`: it reports regressions, but does not fail.
bench: ## Run the benchmarks and report regressions. ONLY="NAME…" selects benchmarks, KEEP=1 updates docs/benchmarks.md
	benches/run $(if $(KEEP),--keep) $(ONLY)
