# Everything there is to do with this repository, also on a fresh machine: `make demo` and `make test` set it up.
#
# Only this and cargo are needed to understand what runs; `.ci/run` runs the same targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(HOME)/.cache/headwater
# One folder for all clones, outside of them, and never cleaned: RocksDB takes longer to compile than all else together.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PATH := $(CACHE)/bin:$(HOME)/.cargo/bin:$(PATH)

# The full NAB series, when they are at hand: the tests that use all 31 sensors read them, and say so when they cannot.
NAB := $(abspath $(firstword $(wildcard ../shared/data/nab)))
ifneq ($(NAB),)
export HEADWATER_NAB ?= $(NAB)
endif

# Asked when a target runs and not before, because `setup` may have installed it. A compiler that changes its name makes
# cargo compile RocksDB again: run cargo through make, or set CC and CXX as it does.
COMPILERS := if command -v ccache >/dev/null; then export CC="ccache gcc" CXX="ccache g++"; fi;

.PHONY: help setup demo test bench bench-smoke fmt fmt-check lint doc deny fuzz check

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Installs what is missing to compile: g++, libclang, ccache (with apt-get)
	@.ci/setup

demo: setup ## Runs the IoT sensor example over all readings; DEMO_ARGS="--help" shows what it can do
	@$(COMPILERS) cargo run --locked --example iot_sensors -- run --once $(DEMO_ARGS)

test: setup ## Runs all tests, those in the documentation included; TEST_ARGS="--test architecture" for one
	@$(COMPILERS) cargo test --workspace --locked $(TEST_ARGS)

bench: setup ## Runs the benchmarks, optimised; BENCH_ARGS="--bench engine" for one
	@$(COMPILERS) cargo bench --locked -p headwater-benches $(BENCH_ARGS)

bench-smoke: setup ## Runs the benchmarks for a moment, to see that they work
	@$(COMPILERS) cargo bench --locked --profile dev -p headwater-benches --bench engine --bench observers --bench replay --bench latency --bench scaling --bench restart -- --smoke
	@$(COMPILERS) cargo bench --locked --profile dev -p headwater-benches --bench log -- --test

fmt: ## Formats the source
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

fmt-check: ## Fails when the source is not formatted
	@cargo fmt --all -- --check
	@cargo fmt --manifest-path fuzz/Cargo.toml -- --check

lint: setup ## Runs clippy over everything; a warning is an error
	@$(COMPILERS) cargo clippy --workspace --all-targets --locked -- -D warnings

doc: setup ## Makes the documentation; a warning is an error
	@$(COMPILERS) RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny: ## Checks licences, bans and sources of dependencies
	@command -v cargo-deny >/dev/null || CARGO_TARGET_DIR=$(CACHE)/tools cargo install cargo-deny --locked --root $(CACHE)
	@cargo deny --locked --workspace check bans licenses sources

# Seconds for each target, on one core.
FUZZ_SECONDS ?= 600
FUZZ_LIMITS = -max_total_time=$(FUZZ_SECONDS) -len_control=0 -timeout=30 -print_final_stats=1

# Codecs are C, and see each allocation counted: the address sanitizer is for them. The other targets are about files; without it
# they run several times as often, and may take as much memory as is said here.
fuzz: setup ## Feeds the log what was not written, three ways; FUZZ_SECONDS=600 for each
	@command -v cargo-fuzz >/dev/null || CARGO_TARGET_DIR=$(CACHE)/tools cargo install cargo-fuzz --locked --root $(CACHE)
	@rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
	@$(COMPILERS) echo "fuzz: batch, $(FUZZ_SECONDS) s"; \
	cargo +nightly fuzz run --target-dir $(CARGO_TARGET_DIR)/fuzz batch -- \
	    $(FUZZ_LIMITS) -max_len=4096 -rss_limit_mb=1024 -malloc_limit_mb=200
	@$(COMPILERS) plain=(--sanitizer none --no-trace-compares --target-dir $(CARGO_TARGET_DIR)/fuzz-plain); \
	for target in journal recovery; do \
	    cargo +nightly fuzz build "$${plain[@]}" $$target; \
	    echo "fuzz: $$target, $(FUZZ_SECONDS) s"; \
	    (ulimit -v 3000000; cargo +nightly fuzz run "$${plain[@]}" $$target -- \
	        $(FUZZ_LIMITS) -max_len=1024 -rss_limit_mb=512); \
	done

check: fmt-check lint test doc deny ## Everything that must hold before a change is done
