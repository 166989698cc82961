# kvmshim: set-up, build, tests. `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Tests start kvmshim a thousand times: it is not to be compiled anew each time.
unexport PYTHONDONTWRITEBYTECODE
CLIENTS := build/clients
# Where `--profile test` puts programs.
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
STAMP := $(VENV)/.installed

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: setup
setup: $(STAMP) ## Install system packages (root, Debian) and the Python environment

$(STAMP): requirements.lock tools/setup.sh
	tools/setup.sh $(PYTHON) $(VENV)
	touch $@

PROFILE ?= release

.PHONY: build
build: $(STAMP) ## Build the engine and install kvmshim into the environment: PROFILE=checked builds faster and checks more
	maturin develop --profile $(PROFILE) --quiet >/dev/null

.PHONY: clients
clients: $(STAMP) ## Compile the small KVM clients of the tests
	$(MAKE) --silent -C tests/clients OUT=$(CURDIR)/$(CLIENTS)

.PHONY: demo
demo: build clients ## Run a small KVM program on kvmshim
	kvmshim run -- $(CLIENTS)/demo

.PHONY: test
test: build clients ## All tests but those that need CUSE
	tools/run_tests.sh

.PHONY: test-cuse
test-cuse: build clients ## The clients against a real /dev/kvm made by CUSE, in user-mode Linux
	pytest -q tests/cuse

.PHONY: test-kill
test-kill: build clients ## SIGKILL at 200 random moments
	KVMSHIM_KILLS=200 pytest -q tests/kill

.PHONY: test-destroy
test-destroy: build clients ## 10 000 VMs that end while everything of theirs is under way
	KVMSHIM_DESTROYS=10000 pytest -q tests/kill/test_destroy.py

.PHONY: test-inhibit
test-inhibit: build ## Each test of inhibited flushes 1 000 times
	KVMSHIM_INHIBITS=1000 pytest -q tests/ioctl/test_hyperv_tlb_flush_inhibit.py

SMP_ROUNDS ?= 20

.PHONY: test-smp
test-smp: build ## 64 vCPUs and the memory ordering of two, SMP_ROUNDS times as long as in `make test`
	KVMSHIM_SMP_ROUNDS=$(SMP_ROUNDS) pytest -q tests/smp
	LITMUS_LAPS=$(SMP_ROUNDS) cargo test --release --quiet --package cpu-engine \
		--test memory_order -- --test-threads=1

.PHONY: soak
soak: build clients ## VMMs for long: 1 000 sandboxes of hyperlight, SIGKILL at 50 moments of a boot
	KVMSHIM_SANDBOXES=1000 KVMSHIM_BOOT_KILLS=50 pytest -q -s tests/vmms

.PHONY: kvm-ioctls
kvm-ioctls: build ## The kvm-ioctls crate's own tests against `kvmshim run`
	python -m tools.kvm_ioctls

SEED ?= 1
WALKS ?= 1000000

.PHONY: walks
walks: build ## WALKS page walks of a guest against the model in tests/walk, from SEED
	python -m tests.walk --walks $(WALKS) --seed $(SEED)

BENCH ?=

.PHONY: bench
bench: build clients ## What exits, starts and programs cost, beside TCG: BENCH='--guest-rounds 5 matmul' (see docs/bench.md)
	python -m tools.bench $(BENCH)

SELFTESTS ?=

.PHONY: selftests
selftests: build ## The KVM selftests of Linux 6.1: SELFTESTS='--tier 1 cpuid' (see docs/selftests.md)
	python -m tools.selftests $(SELFTESTS)

GUESTS ?=

.PHONY: guests
guests: build ## Real systems under real VMMs: GUESTS='--jobs 2 q35' (see docs/guests.md)
	python -m tools.guests $(GUESTS)

MINUTES ?= 30

.PHONY: load
load: build ## Linux at work on 4 vCPUs for MINUTES: gzip, sha256sum, fork, pipes, tmpfs
	python -m tools.guests --minutes $(MINUTES) "at work"

.PHONY: lockstep
lockstep: build ## Linux boots in both tiers at once, compared block by block (minutes)
	KVMSHIM_TIER=lockstep python -m tools.guests --patience 10 "cpu max"

CASES ?= 1000000
ORACLE ?=

.PHONY: oracle
oracle: ## Random instructions on the host and in the engine: CASES=n SEED=s ORACLE='--code Add'
	cargo build --quiet --profile test --workspace --bin kvmshim-oracle
	$(BUILT)/kvmshim-oracle --cases $(CASES) --seed $(SEED) $(ORACLE)

RUNS ?= 100000

.PHONY: fuzz
fuzz: ## Raw bytes and wild addresses as guest code, in every mode: RUNS=n SEED=s
	RAW_BYTES_RUNS=$(RUNS) ISOLATION_RUNS=$(RUNS) RAW_BYTES_SEED=$(SEED) \
		cargo test --quiet --package cpu-engine --test raw_bytes

.PHONY: coverage
coverage: ## Lines and handlers of the interpreter that the Rust tests and the oracle reach
	python3 -m tools.coverage

.PHONY: gen
gen: $(STAMP) ## Write the generated Python modules and the tables of docs/support.md
	cargo build --quiet --profile test --workspace --bin kvmshim-gen
	$(BUILT)/kvmshim-gen .
	python -m tools.declare
	ruff format --quiet kvmshim/*/*_gen.py microv/*_gen.py
	$(MAKE) --no-print-directory microv/_native
	python -m tools.support

# The handlers import the engine; any build of it will do.
microv/_native:
	$(MAKE) --no-print-directory build

.PHONY: miri
miri: ## The radix of guest memory under Miri (needs a nightly toolchain with it)
	MIRIFLAGS="-Zmiri-disable-weak-memory-emulation -Zmiri-permissive-provenance" \
		cargo +nightly miri test --package cpu-mem --lib

.PHONY: lint
lint: $(STAMP) ## Formatters, linters, types, layers, generated files
	cargo fmt --check
	cargo clippy --release --workspace --all-targets --quiet -- --deny warnings
	ruff check
	ruff format --check
	mypy
	lint-imports
	python -m tools.check
	$(MAKE) --no-print-directory gen
	git diff --exit-code -- '*_gen.py' README.md docs/support.md

.PHONY: clean
clean: ## Remove what was built
	rm -rf target build $(VENV)
