# Every command does its own set-up: only Python 3.11 or newer with venv is needed.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

.PHONY: help run test check format lock bench bench-compare chaos chaos-mutants demo clean

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1mmake %-14s\033[0m %s\n", $$1, $$2}'

run: $(READY) ## start everything on this machine (Ctrl-C stops it)
	@exec $(BIN)/tocsin up

test: $(READY_DEV) ## everything that CI runs: lint, types, contracts, all tests
	@$(MAKE) --no-print-directory check
	@exec $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY_DEV) ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY_DEV) ## format the code
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

demo: $(READY) ## watch an outage from failure to webhook
	@exec $(BIN)/tocsin demo

bench: $(READY_DEV) ## measure everything beside Prometheus + blackbox_exporter (half an hour)
	@$(BIN)/python -m bench $(ARGS) && $(BIN)/python -m bench.document

bench-compare: $(READY_DEV) ## the last kept measurement against the one before, as ratios
	@exec $(BIN)/python -m bench.compare

chaos: $(READY_DEV) ## break everything for ten minutes and prove that nothing was lost or doubled
	@exec $(BIN)/python -m tests.chaos $(if $(FAULT),--fault $(FAULT)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(TRIALS),--trials $(TRIALS)) $(ARGS)

chaos-mutants: $(READY_DEV) ## remove each guard in turn and see that the suite notices
	@exec $(BIN)/python -m tests.chaos.mutants $(ARGS)

lock: $(READY_DEV) ## compile requirements*.in into hash-pinned requirements*.txt
	@for name in requirements requirements-uv requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' $$name.in -o $$name.txt; done

clean: ## remove the virtual environment and caches (not the data directory)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

# A wrong Python or an unreachable package registry is one line; the full output stays in .venv/install.log.
$(READY): requirements.txt pyproject.toml tools/install.sh
	@tools/install.sh $(PYTHON) $(VENV) requirements.txt && touch $@

$(READY_DEV): requirements-dev.txt requirements.txt pyproject.toml tools/install.sh
	@tools/install.sh $(PYTHON) $(VENV) requirements-dev.txt && touch $(READY) $@
