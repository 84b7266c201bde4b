# Each target creates .venv if needed (tools/setup.sh).

SHELL := /bin/bash
BIN := .venv/bin
# Tests run in parallel, one process per core.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup
# `make coverage` fails below this percentage. Raise it when the figure rises.
COVERAGE_FLOOR := 85

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-loaded lint coverage pythons binary test-binary image-check bench bench-pool \
	bench-startup faults chaos attack lock sbom licences audit docs measure clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Create .venv; the other targets do this if needed
	@tools/setup.sh

demo: setup ## Schedule a synthetic organization of 100,000 contacts (ARGS="--contacts 1000000")
	@$(BIN)/schedctl demo $(ARGS)

test: setup ## Run the fast tests (ARGS="-k name")
	@$(PYTEST) -m "not slow and not binary" $(ARGS)

test-all: setup lint coverage binary image-check ## Run lint and all tests, as CI does: the fast ones with coverage
	@tools/browser.sh
	@$(PYTEST) -m "slow or binary" $(ARGS)

test-loaded: setup ## Run the fast tests next to four busy loops (LOOPS=8, LIMIT_S=3600, ARGS="-k name")
	@tools/test_loaded.sh $(ARGS)

coverage: setup ## Run the fast tests with coverage; fail below the floor (report: build/coverage/html)
	@rm -rf build/coverage && mkdir -p build/coverage
	@COVERAGE_FILE=$(CURDIR)/build/coverage/data $(PYTEST) -m "not slow and not binary" --cov --cov-report=html:build/coverage/html \
	  --cov-fail-under=$(COVERAGE_FLOOR) $(ARGS)

binary: setup ## Compile the program: build/binary/email-scheduler and build/binary/folder
	@tools/binary.sh

test-binary: binary ## Run the tests of the compiled program
	@$(PYTEST) -m binary $(ARGS)

image-check: setup ## Build the image without Docker and check that it works (needs root)
	@tools/image-check.sh

lint: setup ## Check style, types, layers and language
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/shellcheck -x -P deploy deploy/*.sh tools/*.sh .ci/run
	@$(BIN)/python tools/check_words.py
	@out=$$($(BIN)/python -m pytest -q --tb=line -k "cycle or downward" tests/test_layers.py 2>&1) || { echo "$$out"; exit 1; }

pythons: setup ## Check that every locked package has a wheel for every supported Python
	@tools/pythons.sh $(ARGS)

bench: setup ## Time complete runs against the floor, 10,000 to 3,000,000 contacts (ARGS="--contacts 100000")
	@$(BIN)/python -m tests.bench.run $(ARGS)

bench-pool: setup ## Time the process pool: one worker against two
	@$(BIN)/python -m tests.bench.throughput $(ARGS)

bench-startup: binary ## Time the daemon from exec to listening: compiled or not, warm and cold
	@$(BIN)/python -m tests.bench.startup

faults: setup ## Try every kind of disk fault and write docs/FAULTS.md
	@$(BIN)/python -m tests.faults.table

chaos: setup ## Kill, fill disks, move clocks and damage files at full length; add the results to docs/FAULTS.md
	@$(BIN)/python -m tests.chaos.table $(ARGS)

attack: setup ## Attack the daemon's sockets at full length; add the results to docs/FAULTS.md (ARGS="watchers")
	@$(BIN)/python -m tests.attack.table $(ARGS)

sbom: setup ## Write build/sbom.cdx.json, the bill of materials of the locked packages
	@$(BIN)/python tools/sbom.py --out build/sbom.cdx.json

licences: setup ## Check the licences of all components and write docs/LICENCES.md
	@$(BIN)/python tools/licences.py

audit: setup ## Check components against advisories in the OSV format (ADVISORIES="all.zip")
	@$(BIN)/python tools/check_vulnerabilities.py $(ADVISORIES)

docs: setup ## Generate docs/CLI.md, docs/SETTINGS.md and the pictures of the docs
	@$(BIN)/python tools/make_docs.py
	@$(BIN)/python tools/check_picture.py
	@$(BIN)/python tools/layers_picture.py

measure: setup ## Print sizes, docstrings, comments and line lengths of the code
	@$(BIN)/python tools/measure_code.py $(ARGS)

lock: setup ## Lock the dependencies, with hashes and without addresses
	@tools/lock.sh $(ARGS)

clean: ## Remove .venv and everything that was built
	rm -rf .venv build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
