# Everything a fresh clone needs is installed by the targets that need it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test check bench soak lock clean

PYTHON ?= python3
BIN := .venv/bin
CODE := $(wildcard src tests examples bench scripts)
NODE := tests/node/node_modules/.package-lock.json
SERVERS := .venv/.servers

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo ## install what the demo needs and run it: two upstreams, three users, allowed and refused calls
	$(BIN)/sluicegate demo

serve: .venv/.demo ## the demo's set-up, left running; prints URL, token and client configuration
	$(BIN)/sluicegate demo --keep-running

test: .venv/.dev $(SERVERS) $(NODE) ## install what the tests need besides and run them all
	$(BIN)/python -m pytest

check: .venv/.dev ## format, lint, types, floors, sizes; needs no servers
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_sizes.py src
	$(BIN)/python scripts/check_portable.py

bench: .venv/.dev ## calls against direct and nginx as ratios, and the directory at full size against its budget
	scripts/system.sh bench
	$(BIN)/python -m bench

soak: .venv/.dev $(SERVERS) $(NODE) ## the tests that take minutes
	$(BIN)/python -m pytest -m soak

lock: .venv/.dev ## compile requirements/*.txt anew from pyproject.toml, and the Node lock file
	scripts/lock.sh

clean: ## remove what make and the tools made
	rm -rf .venv tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is remembered by empty files; the dev set contains the demo's.
.venv/.demo: requirements/demo.txt requirements/build.txt pyproject.toml scripts/bootstrap.sh
	PYTHON=$(PYTHON) scripts/bootstrap.sh demo

.venv/.dev: requirements/dev.txt requirements/build.txt pyproject.toml scripts/bootstrap.sh
	PYTHON=$(PYTHON) scripts/bootstrap.sh dev

$(SERVERS): scripts/system.sh | .venv/.dev
	scripts/system.sh test
	touch $@

$(NODE): tests/node/package-lock.json | .venv/.dev
	cd tests/node && ../../$(BIN)/npm ci --ignore-scripts
	touch $@
