# walhook: `make` lists the targets. Everything needs only Rust's toolchain; what else is missing
# (a C compiler, PostgreSQL's server programs) is installed with the system's package manager.

CARGO ?= cargo
# More words for the command at hand: make demo ARGS="--for 10s"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix regress lint fmt bench bench-build bench-readme build clean compiler postgres

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: compiler postgres ## Live CRM traffic on a throwaway Postgres, every change a signed webhook (ARGS="--for 10s")
	@$(CARGO) build --locked --profile fast --bin walhook
	@"$${CARGO_TARGET_DIR:-target}/fast/walhook" demo $(ARGS)

test: compiler postgres ## Run all tests, on real Postgres servers and real HTTP (ARGS="name")
	@. scripts/tests.sh && $(CARGO) test --locked --lib --bins --tests $(ARGS)

test-matrix: compiler ## Run the tests about Postgres on versions 14, 16, 17 and 18 (ARGS="17 -- standby")
	@scripts/test-matrix $(ARGS)

regress: compiler postgres ## Run PostgreSQL's own regression suite on a followed database (ARGS="plpgsql")
	@scripts/regress $(ARGS)

lint: compiler ## Check formatting and run clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt --all

bench: compiler postgres ## Measure speed, latency, CPU and memory next to what they should reach
	@$(CARGO) bench --locked --profile fast --bench pipeline -- $(ARGS)

bench-build: compiler ## Measure a clean release build and its binary, for the table of bench
	@scripts/bench-build

bench-readme: ## Put the table of the last bench into README.md
	@scripts/bench-readme

build: compiler ## Build the release binary: target/release/walhook
	$(CARGO) build --locked --release --bin walhook

clean: ## Remove everything built
	$(CARGO) clean

compiler:
	@scripts/install-compiler

postgres:
	@scripts/install-postgres
