# Every target sets up what it needs in .venv by itself (tools/setup.sh).

SHELL := /bin/bash
BIN := .venv/bin
# Tests run side by side, one process a core.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint binary test-binary image-check bench bench-pool bench-startup faults chaos lock sbom licences audit docs clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv (the other targets do it by themselves)
	@tools/setup.sh

demo: setup ## Schedule a synthetic organization of 100,000 contacts (ARGS="--contacts 1000000")
	@$(BIN)/schedctl demo $(ARGS)

test: setup ## Run the fast tests (ARGS="-k name")
	@$(PYTEST) -m "not slow and not binary" $(ARGS)

test-all: setup lint binary image-check ## Run lint and all tests, the binary's and the image's too, as CI does
	@tools/browser.sh
	@$(PYTEST) $(ARGS)

binary: setup ## Compile the program: build/binary/email-scheduler and build/binary/folder
	@tools/binary.sh

test-binary: binary ## Run the tests of the compiled program
	@$(PYTEST) -m binary $(ARGS)

image-check: setup ## Build the image without Docker and start what comes of it (needs root)
	@tools/image-check.sh

lint: setup ## Check style and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/shellcheck -x -P deploy deploy/*.sh tools/*.sh .ci/run

bench: setup ## Time whole runs against the floor, 10,000 to 3,000,000 contacts (ARGS="--contacts 100000")
	@$(BIN)/python tests/bench/run.py $(ARGS)

bench-pool: setup ## Time what the process pool earns
	@$(BIN)/python tests/bench/throughput.py $(ARGS)

bench-startup: binary ## Time the daemon from exec to listening, compiled and not, warm and cold
	@$(BIN)/python tests/bench/startup.py

faults: setup ## Fail every kind of disk operation once and write docs/FAULTS.md
	@$(BIN)/python -m tests.faults.table

docs: setup ## Write the generated pages again: docs/CLI.md, docs/SETTINGS.md, the picture of a check
	@$(BIN)/python tools/make_docs.py
	@$(BIN)/python tools/check_picture.py

chaos: setup ## Kill, fill disks, move clocks and damage files at full length; write it into docs/FAULTS.md
	@$(BIN)/python -m tests.chaos.table $(ARGS)

sbom: setup ## Write build/sbom.cdx.json, the bill of materials of the locked packages
	@$(BIN)/python tools/sbom.py --out build/sbom.cdx.json

licences: setup ## Check the licences of all components and write docs/LICENCES.md
	@$(BIN)/python tools/licences.py

audit: setup ## Check components against advisories in the OSV format (ADVISORIES="all.zip")
	@$(BIN)/python tools/check_vulnerabilities.py $(ADVISORIES)

lock: setup ## Lock the dependencies anew, with hashes and without addresses
	@tools/lock.sh

clean: ## Remove what was built and .venv
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
