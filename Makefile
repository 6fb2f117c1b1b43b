# Two commands are all that a new machine needs: `make demo` (the main job) and `make test` (everything that CI runs).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint fuzz bench bench-quick bench-docs fmt docs clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: ## Install what is missing, or name the command that does
	@scripts/setup

build: setup ## Build the node
	cargo build

demo: build ## Two complete nodes on this machine, enrolled with each other, one answer from both
	target/debug/mosaic demo

test: ## Format, lints, the boundaries of the crates, and every test
	@scripts/setup tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	scripts/check-boundaries
	cargo test --workspace

lint: setup ## Format check, lints and boundaries only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/check-boundaries

fuzz: setup ## Every fuzz target for a minute (stable Rust)
	scripts/fuzz 60

# A release build of the node and of what measures it. `make bench-quick CASES="list handshakes"` runs cases by name.
CASES ?=

bench-quick: ## The node's numbers beside nginx, pgbench and postgres_fdw, in short rounds (CASES=… chooses)
	@scripts/setup bench
	cargo build --release -p mosaic -p mosaic-bench
	target/release/mosaic-bench --quick $(CASES)

bench: ## The same with long rounds, ten million rows, and ten minutes of mixed load (CASES=… chooses)
	@scripts/setup bench
	cargo build --release -p mosaic -p mosaic-bench
	target/release/mosaic-bench $(CASES)

bench-docs: ## Put the last table of `make bench` into docs/PERFORMANCE.md
	@test -s target/bench/table.md || { echo 'run make bench-quick or make bench first' >&2; exit 1; }
	@awk '/^<!-- table -->/ { print; while ((getline line < "target/bench/table.md") > 0) print line; skip = 1 } \
	      /^<!-- \/table -->/ { skip = 0 } !skip && !/^<!-- table -->/' docs/PERFORMANCE.md > target/bench/PERFORMANCE.md
	@cp target/bench/PERFORMANCE.md docs/PERFORMANCE.md

fmt: ## Format the code
	cargo fmt --all

docs: setup ## The code's own documentation
	cargo doc --workspace --no-deps

clean: ## Remove what was built
	cargo clean
