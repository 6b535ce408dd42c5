# What there is to do here, one line each. Anything longer than that is a script.

.DEFAULT_GOAL := help
.PHONY: help build generate fmt lint unit model simulate e2e chart chaos image nodes scale alerts otlp deny bench fresh test test-oldest demo
.NOTPARALLEL:

help: ## lists the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## builds the optimised binary, target/release/podium
	cargo build --release --locked

generate: ## renews the files that are made from others: crds/, docs/metrics.md, and in charts/ what is rendered and listed
	cargo run --quiet --locked -- crd >crds/elections.podium.dev.yaml.new
	mv crds/elections.podium.dev.yaml.new crds/elections.podium.dev.yaml
	cargo run --quiet --locked -- metrics >docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	charts/render

fmt: ## formats the code
	cargo fmt

lint: ## formatting, clippy and documentation, with warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

unit: ## the tests that need no cluster
	cargo test --locked --lib --bins --example sbom --test crd --test krew --test pages --test purity --test figures --test scripts
	cargo test --locked --test watchdog --test flood
	cargo test --locked --profile explore --test model
	cargo test --locked --doc

model: ## explores the safety protocol as far as a quarter of an hour goes; `make test` explores what is done in a minute
	cargo test --locked --profile explore --test model -- --large

simulate: ## worlds in which everything goes wrong: SEEDS=N of them from FROM=N on, or SEED=N in full
	cargo test --locked --profile explore --test simulation -- --nocapture

e2e: ## the end-to-end tests, on a local cluster of their own; or on that of PODIUM_KUBECONFIG
	tests/e2e/run

chart: ## the chart: what is rendered of it, and releases on a local cluster of their own, from installing to uninstalling
	tests/chart/run

chaos: ## three minutes (PODIUM_CHAOS_SECONDS) in which controllers, API server and etcd are killed and paused while pods come and go
	tests/chaos/run

nodes: ## the tests on real nodes: kubelets and containers, on a cluster of their own; says why where there can be none
	tests/nodes/run

scale: ## the end-to-end tests that are too large for every day: 5,000 pods, 200 Elections on the same pods
	tests/e2e/run --ignored --nocapture

image: ## builds the container image without a registry, and checks it; says so where this machine cannot
	tests/image/run

test: export PODIUM_CHAOS_SECONDS ?= 90
test: lint unit simulate e2e chart chaos image nodes ## everything, with 90 seconds of chaos

test-oldest: export PODIUM_KUBERNETES = 1.33
test-oldest: ## the end-to-end tests on the oldest Kubernetes that is supported
	tests/e2e/run

# Not part of `test`, which is one of the two.
fresh: ## README's two commands on a fresh Debian made for that, with nothing else of this machine than Rust and Go: an hour, as root
	tests/fresh/run

demo: ## the story in a minute: a real cluster, an Election, a leader that is replaced
	examples/demo/run

# Not part of `test`: it needs nothing of Podium but these rules.
alerts: ## tests the alert rules of the chart with Prometheus' promtool, which is built the first time
	tests/alerts/run

# Not part of `test`: what it compiles, for two and a half minutes on a busy machine of 2 cores, is for this alone.
otlp: ## the export of traces, which is not built by default: lint, that they arrive at a collector, and what is logged meanwhile
	cargo clippy --locked --all-targets --features otlp -- -D warnings
	cargo test --locked --features otlp --bin podium --test otlp

# Not part of `test`: what was allowed yesterday may be known as vulnerable today, and no change of Podium's would be to blame.
deny: ## checks licences, duplicates, sources and known vulnerabilities of what Podium depends on, with cargo-deny, which is built the first time
	tests/deny/run

# Not part of `test`: nothing is timed there, and nothing fails here because something got slower.
bench: ## what Podium costs and how fast it is, beside what others do: a table, and what got worse. ONLY="NAME…" of benches/, KEEP=1 into docs
	benches/run $(if $(KEEP),--keep) $(ONLY)
