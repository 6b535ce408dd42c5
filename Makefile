# What there is to do here, one line each. Anything longer than that is a script.

.DEFAULT_GOAL := help
.PHONY: help build generate fmt lint unit model simulate e2e chaos scale test demo
.NOTPARALLEL:

help: ## lists the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## builds the optimised binary, target/release/podium
	cargo build --release --locked

generate: ## renews the files that are made from the code: crds/, docs/metrics.md
	cargo run --quiet --locked -- crd >crds/elections.podium.dev.yaml.new
	mv crds/elections.podium.dev.yaml.new crds/elections.podium.dev.yaml
	cargo run --quiet --locked -- metrics >docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md

fmt: ## formats the code
	cargo fmt

lint: ## formatting, clippy and documentation, with warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

unit: ## the tests that need no cluster
	cargo test --locked --lib --bins --test crd --test pages --test purity
	cargo test --locked --test keeper
	cargo test --locked --test model
	cargo test --locked --doc

model: ## explores the safety protocol as far as a quarter of an hour goes; `make test` explores what is done in a minute
	cargo test --locked --test model -- --large

simulate: ## worlds in which everything goes wrong: SEEDS=N of them from FROM=N on, or SEED=N in full
	cargo test --locked --test simulation -- --nocapture

e2e: ## the end-to-end tests, on a local cluster of their own; or on that of PODIUM_KUBECONFIG
	tests/e2e/run

chaos: ## three minutes (PODIUM_CHAOS_SECONDS) in which controllers, API server and etcd are killed and paused while pods come and go
	tests/chaos/run

scale: ## the end-to-end tests that are too large for every day: 5,000 pods, 200 Elections on the same pods
	tests/e2e/run --ignored --nocapture

test: export PODIUM_CHAOS_SECONDS ?= 90
test: lint unit simulate e2e chaos ## everything, with 90 seconds of chaos

demo: ## the story in a minute: a real cluster, an Election, a leader that is replaced
	examples/demo/run

# Not part of `test`: it needs nothing of Podium but these rules.
.PHONY: alerts
alerts: ## tests the alert rules of the chart with Prometheus' promtool, which is built the first time
	tests/alerts/run
