# make run: everything, from prices to the A/B report. make test: the tests. Both need Python 3.11 and nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed

export DAGSTER_HOME := $(CURDIR)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# Where `make ui` and `make mlflow` answer: each links to the other.
PORT ?= 3000
MLFLOW_PORT ?= 5001
export DAGSTER_UI_URL ?= http://127.0.0.1:$(PORT)
export MLFLOW_UI_URL ?= http://127.0.0.1:$(MLFLOW_PORT)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where a shell sets it, each of the many processes that the tests start would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test test-statistics ui mlflow check docs pictures results bench bench-ab stop clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(SETUP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 (Debian: apt install python3.11 python3.11-venv) or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(SETUP) ## virtual environment with pinned packages

run: $(SETUP) ## prices -> features -> models -> serving -> A/B report
	@$(BIN)/financial-assets run

test: $(SETUP) ## the tests (those that need an absent Debian package are skipped, naming it)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not statistics"

test-statistics: $(SETUP) ## error rates by simulation, which make test leaves out
	$(BIN)/python -m pytest -n 2 --dist load -m statistics

ui: $(SETUP) ## Dagster in the browser
	$(BIN)/dg dev --host 127.0.0.1 --port $(PORT)

check: $(SETUP) ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --project pyproject.toml

docs: $(SETUP) ## the manual as a site in site/; a broken link or anchor fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "$(CURDIR)/site/index.html"

pictures: $(SETUP) ## the pictures in docs/images/, from a finished run (needs Debian's chromium)
	$(BIN)/python docs/make_pictures.py

# Bounded by its folds: 5 of the sample and 3 of the simulated universe, six variants and the baselines each. Heavier
# variants and other prices: make results RESULTS="--variants baseline,transformer --prices mine.parquet --output mine.md"
RESULTS ?= --output docs/results.md
results: $(SETUP) ## docs/results.md: walk-forward of six variants and all baselines (less than an hour; can be interrupted)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.results $(RESULTS)

bench: $(SETUP) ## every figure that README and docs quote
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/drift
	@$(MAKE) --no-print-directory bench-ab

bench-ab: $(SETUP) ## the A/B engine's goals: error rates, power, time, each with a naive control
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ab

mlflow: $(SETUP) ## MLflow in the browser: trainings, model cards, versions, decisions
	@$(BIN)/mlflow server --host 127.0.0.1 --port $(MLFLOW_PORT) --workers 1 \
		--backend-store-uri $(or $(MLFLOW_TRACKING_URI),sqlite:///$(abspath $(or $(FINANCIAL_ASSETS_HOME),.financial_assets))/mlflow.db)

stop: ## end the local serving plane
	@test ! -x $(BIN)/financial-assets || $(BIN)/financial-assets stop

clean: stop ## remove all state and the virtual environment
	rm -rf $(or $(FINANCIAL_ASSETS_HOME),.financial_assets) .dagster .logs_queue .telemetry logs .pytest_cache .ruff_cache .hypothesis site .financial_assets_demonstration $(VENV)
