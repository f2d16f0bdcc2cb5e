# The two commands: `make demo` and `make test`. Both install what they need.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/springald/target
CARGO_FLAGS := --release --workspace --locked
SPRINGALD := $(CARGO_TARGET_DIR)/release/springald

.PHONY: demo bench chaos sim test build setup format lint unit settings clean

# TPC-H from nothing to verified answers: make demo ARGS="--scale 10 --slots 1 --memory 3GiB --json out.json"
demo: build
	@$(SPRINGALD) demo $(ARGS)

# Springald beside DataFusion in one process: make bench ARGS="--scale 10 --runs 3 --json out.json --chart out.svg"
bench: build
	@$(SPRINGALD) bench $(ARGS)

# A cluster under load whose processes are killed, stopped and cut off: make chaos ARGS="--minutes 10 --fault-every 5s --json out.json"
chaos: build
	@$(CARGO_TARGET_DIR)/release/springald-chaos $(ARGS)

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

lint:
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

unit: build
	cargo test $(CARGO_FLAGS)

# The settings reference, from the settings' own documentation.
settings: build
	@mkdir -p docs
	env -i $(SPRINGALD) standalone --generate-config > docs/settings.yaml

clean:
	cargo clean
