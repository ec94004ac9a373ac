# Shoal's commands. `make run` and `make test` work on a fresh machine; the rest builds on them.
SHELL := bash
.DEFAULT_GOAL := help
PAGE_SOURCES := $(shell find viewer-web/src viewer-web/public viewer-web/*.html viewer-web/*.ts viewer-web/package-lock.json -type f 2>/dev/null)

.PHONY: help run test test-rust test-web test-e2e check bench bench-origin fuzz soak setup setup-run clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: setup-run viewer-web/dist/index.html ## Install what is missing, build, start with the demo stream
	cargo build --release --bin broadcaster
	exec target/release/broadcaster serve --demo

test: setup test-web test-rust test-e2e ## Install what is missing, run every fast test: Rust, TypeScript, real browser

test-rust: setup viewer-web/dist/index.html
	cargo test --workspace

test-web: setup
	npm --prefix viewer-web test

# The browser tests run the binary that the Rust tests built.
test-e2e: setup viewer-web/dist/index.html test-rust
	npm --prefix viewer-web run e2e

check: setup viewer-web/dist/index.html ## Format, lints, types, licences, page size
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo check -p shoal-common --target wasm32-unknown-unknown
	npm --prefix viewer-web run check
	cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
	cargo deny --log-level error check bans licenses sources
	@if cargo deny --log-level off fetch db 2>/dev/null; then cargo deny --log-level error check advisories; \
	else echo "check: the advisory database cannot be reached from here; advisories were not checked" >&2; fi

bench: setup viewer-web/dist/index.html ## Print the benchmark table (long)
	scripts/bench.sh

bench-origin: setup viewer-web/dist/index.html ## Row 8: segments against nginx, 8,000 blocked requests
	cargo run --release --example bench_origin

soak: setup viewer-web/dist/index.html ## One hour of the demo: memory may not grow (row 9)
	cargo build --release --bin broadcaster
	scripts/soak.sh

fuzz: setup viewer-web/dist/index.html ## Each fuzz target for a minute (needs the nightly toolchain)
	scripts/fuzz.sh

setup:
	@scripts/setup.sh

setup-run:
	@scripts/setup.sh --run-only

viewer-web/dist/index.html: $(PAGE_SOURCES)
	npm --prefix viewer-web run build
	@touch $@

clean: ## Remove everything that was built
	cargo clean
	rm -rf viewer-web/dist viewer-web/node_modules
