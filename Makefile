# Two commands: `make repro` runs the study of params.yaml, `make test` the tests.
PYTHON ?= python3
VENV   := .venv
WORKERS ?= 2
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup repro test test-all bench lint ui lock clean

help:
	@echo "make repro     set up $(VENV), run the study of params.yaml and bring MLflow up to date"
	@echo "make test      set up $(VENV), check style and types, run the fast tests"
	@echo "make test-all  the same with the slow tests: kills, torchrun, clones that run dvc repro"
	@echo "make bench     measure speed against plain ways, into reports/benchmarks.md (ten minutes)"
	@echo "make ui        open MLflow's web page"
	@echo "make lock      resolve requirements.lock anew from pyproject.toml (needs uv)"
	@echo "make clean     remove $(VENV), resume states and caches of tools"

setup: $(VENV)/.installed

# the stamp is written last: an interrupted installation is taken up again
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# check records the versions of torch and numpy, so that another torch makes cohorts due; DVC skips
# stages whose committed tables match, so MLflow is brought up to date by a command of its own
repro: setup
	kgaps check
	dvc repro
	kgaps track sync

test: setup lint
	pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-all: setup lint
	pytest -n $(WORKERS) --dist loadfile

bench: setup
	python benchmarks

lint: setup
	ruff check .
	ruff format --check .
	mypy

ui: setup
	MLFLOW_DISABLE_TELEMETRY=true mlflow ui \
		--backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"

lock:
	uv pip compile pyproject.toml --extra cluster --extra dev --extra faces --universal --python-version 3.11 \
		--generate-hashes --no-header --output-file requirements.lock

clean:
	rm -rf $(VENV) .kgaps .mypy_cache .pytest_cache .ruff_cache
