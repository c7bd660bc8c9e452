# make run: set up and run the main job.  make test: check everything.  make ui: open Dagster, MLflow and the lineage page.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --require-virtualenv
# by the package that is here, whose path may hold what the first line of a script cannot
BIKES := $(BIN)/python -m bikes_assets
export PYTHONDONTWRITEBYTECODE :=
# the environment of a project that was copied or moved is still of where it was made: it would run what is there
$(shell made="$$(sed -n 's/^command = //p' $(VENV)/pyvenv.cfg 2>/dev/null)"; \
  [ -L $(VENV) ] || [ -z "$$made" ] || [ "$${made%" $$(pwd -P)/$(VENV)"}" != "$$made" ] || rm -rf $(VENV))

.DEFAULT_GOAL := help
.PHONY: help setup run check test ui soak bench lock clean lint types contracts fast
# what each prints is printed together; without that option, make is older than 4
SIDE_BY_SIDE = $(MAKE) --no-print-directory --jobs 4 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

help:  ## show the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.run  ## install what the pipeline needs, from the lock file
	@$(BIKES) setup

run: setup  ## materialize every asset for every month of the source
	@$(BIKES) run

ui: setup  ## open Dagster, MLflow and the lineage page on 127.0.0.1
	@$(BIKES) ui

check: $(VENV)/.dev  ## what to run while working, some minutes: lint, types, import contracts, tests that take no long
	@$(SIDE_BY_SIDE) lint types contracts fast

lint:
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types:
	@$(BIN)/basedpyright

contracts:
	@$(BIN)/lint-imports

fast:
	@$(BIN)/python -m pytest --fast -n auto --maxprocesses 4

# conftest.py says in which order, and what is run by one process
test: $(VENV)/.dev  ## lint, types, import contracts and all tests
	@$(SIDE_BY_SIDE) lint types contracts
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

soak: $(VENV)/.dev  ## run the long campaigns whole and write a dated report under docs/; ONLY=path for some of them
	@BIKES_SOAK=1 $(BIN)/python -m pytest -m soak $(ONLY)

bench: $(VENV)/.dev  ## run the benchmarks and write docs/benchmarks.md; ONLY="load run" for some of them
	@$(BIN)/python benchmarks $(ONLY)

lock:  ## resolve the dependencies anew; needs uv
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
	  --quiet --group build pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
	  --quiet --group build --group dev --all-extras --constraint requirements.lock pyproject.toml -o requirements-dev.lock
	@# with the versions above wherever the tool allows them, so that its environment is small beside that of the tests
	cp requirements-dev.lock examples/dbt/requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
	  --quiet examples/dbt/requirements.in -o examples/dbt/requirements.lock
	cp requirements-dev.lock bikes_assets_tests/other_ends/feast.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
	  --quiet bikes_assets_tests/other_ends/feast.in -o bikes_assets_tests/other_ends/feast.lock
	cp requirements-dev.lock bikes_assets_tests/other_ends/amundsen.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
	  --quiet --no-deps bikes_assets_tests/other_ends/amundsen.in -o bikes_assets_tests/other_ends/amundsen.lock

clean:  ## remove what was produced: environment, tables, models, runs
	rm -rf $(VENV) .venv-* .env && git clean -fdxq data

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked dependencies into $(VENV)"
	@$(PIP) --require-hashes --compile -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@$(PIP) --require-hashes --compile -r requirements-dev.lock
	@touch $@
