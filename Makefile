# The two commands: `make demo` and `make test`. Both install what they need.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/springald/target
CARGO_FLAGS := --release --workspace --locked
VRL_FLAGS := --locked --manifest-path vector/Cargo.toml
SPRINGALD := $(CARGO_TARGET_DIR)/release/springald

.PHONY: demo bench chaos sim observe slt fuzz-sql test build setup format lint unit vrl settings reference dashboards clean

# TPC-H from nothing to verified answers: make demo ARGS="--scale 10 --slots 1 --memory 3GiB --json out.json"
demo: build
	@$(SPRINGALD) demo $(ARGS)

# Springald beside DataFusion in one process: make bench ARGS="--scale 10 --runs 3 --json out.json --chart out.svg"
bench: build
	@$(SPRINGALD) bench $(ARGS)

# A cluster under load whose processes are killed, stopped and cut off: make chaos ARGS="--minutes 10 --fault-every 5s --json out.json"
chaos: build
	@$(CARGO_TARGET_DIR)/release/springald-chaos $(ARGS)

# A cluster with the whole pipeline of events, and what arrives: make observe ARGS="--json out.json"; SKIPPED without Vector.
observe: build
	@$(CARGO_TARGET_DIR)/release/springald-observe $(ARGS)

# DataFusion's sqllogictest scripts through Flight SQL, and in process: make slt ARGS="--files window.slt --keep-going"
slt: build
	@root=$$(./scripts/slt.sh) && $(CARGO_TARGET_DIR)/release/springald-slt --root "$$root" $(ARGS)

# Random queries, in stages and whole, beside DataFusion in process: make fuzz-sql ARGS="--seed 1 --queries 24000 --json out.json"
fuzz-sql: build
	@$(CARGO_TARGET_DIR)/release/springald-fuzz-sql $(ARGS)

# Schedulers in a simulated world, one run for each seed: make sim SEEDS=10000; what happens in one of them: make sim SEED=7
sim:
	SPRINGALD_SIM_SEED=$(SEED) SPRINGALD_SIM_SEEDS=$(SEEDS) cargo test $(CARGO_FLAGS) --lib \
		-- sim::tests::given_any_seed --nocapture

# Everything that must hold before a change lands.
test: setup format lint unit

build: setup
	cargo build $(CARGO_FLAGS)

# Tools that the build and the tests need and that cargo does not bring.
setup:
	@./scripts/setup.sh

format:
	cargo fmt --all --check
	cargo fmt --manifest-path vector/Cargo.toml --check

lint:
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	cargo clippy $(VRL_FLAGS) --all-targets -- -D warnings

unit: build vrl
	cargo test $(CARGO_FLAGS)

# The programs of the pipeline: a workspace of its own, see vector/Cargo.toml.
vrl: setup
	cargo build $(VRL_FLAGS)
	cargo test $(VRL_FLAGS)

# The settings reference, from the settings' own documentation.
settings: build
	@mkdir -p docs
	env -i $(SPRINGALD) standalone --generate-config > docs/settings.yaml

# Pages of docs/ that are made from the code: events, metrics.
reference: build
	@mkdir -p docs
	$(SPRINGALD) reference events > docs/events.md
	$(SPRINGALD) reference metrics > docs/metrics.md

# Grafana's dashboards, from the script that describes them.
dashboards:
	python3 deploy/grafana/generate.py

clean:
	cargo clean
