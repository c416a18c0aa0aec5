# The commands of the house. `make run` and `make test` install what they need into .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON := $(VENV)/bin/python
JOBS ?= 2
PYTEST ?= -m "not slow"
STAMP := $(VENV)/.mxpipe-installed
NATIVE := $(shell find native -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.txt' -o -name '*.cmake' \) 2>/dev/null)
SOURCES := mxpipe operators integrations dags scripts tests benchmarks

.PHONY: help install run example ui stop test slow faults pages check format bench bench-quick bench-compare asan tsan portable clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

$(STAMP): pyproject.toml constraints.txt scripts/install.sh scripts/requirements.py $(NATIVE)
	@VENV=$(VENV) JOBS=$(JOBS) bash scripts/install.sh
	@touch $@

install: $(STAMP) ## Build the engine and install it with its extras into .venv, from constraints.txt

run: $(STAMP) ## January to March of the flight-delay retraining: Airflow, Spark, the engine, MLflow, a served champion
	@$(PYTHON) scripts/run_months.py

EXAMPLE ?= digits
example: $(STAMP) ## Another example DAG on real data: EXAMPLE=digits, recommender or demand_forecast
	@$(PYTHON) scripts/run_example.py $(EXAMPLE)

ui: $(STAMP) ## Airflow and the MLflow UI on loopback with the DAG loaded, until Ctrl-C
	@exec $(PYTHON) scripts/ui.py

stop: ## Stop the inference server that `make run` left running
	@$(PYTHON) scripts/stop_server.py

test: $(STAMP) ## All tests but the slow ones
	@$(PYTHON) -m pytest $(PYTEST)

slow: $(STAMP) ## The slow tests: three months end to end, Spark's and MLflow's long ways, faults and pages
	@$(PYTHON) -m pytest -m slow

faults: $(STAMP) ## Kill, fill, lock and race trainings in a whole Airflow; prints what became of each
	@$(PYTHON) -m pytest -m slow tests/faults

pages: $(STAMP) ## Airflow's pages in a headless Chromium, if there is one; SCREENSHOTS=docs/images takes pictures
	@MXPIPE_SCREENSHOTS=$(abspath $(SCREENSHOTS)) $(PYTHON) -m pytest -m slow tests/pages

check: $(STAMP) ## Style, types, layers: what a change must pass before it is read
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash scripts/check.sh

format: $(STAMP) ## Put Python and C++ into the house style
	@$(VENV)/bin/ruff check --fix --quiet $(wildcard $(SOURCES)) && $(VENV)/bin/ruff format --quiet $(wildcard $(SOURCES))
	@git ls-files 'native/*.cpp' 'native/*.hpp' | xargs -r $(VENV)/bin/clang-format -i

bench: $(STAMP) ## Ours, the peers' (installed into build/bench) and the machine's limits: hours; BENCH="--only T3"
	@VENV=$(VENV) bash scripts/bench.sh full $(BENCH)

bench-quick: $(STAMP) ## The same over fewer workloads, peers and rounds: under five minutes
	@VENV=$(VENV) bash scripts/bench.sh quick $(BENCH)

bench-compare: $(STAMP) ## The quick run; fails where it is 15% slower, against the peers, than the stored ratios
	@VENV=$(VENV) bash scripts/bench.sh compare $(BENCH)

asan: $(STAMP) ## The native tests under the address and undefined-behaviour sanitizers
	@VENV=$(VENV) JOBS=$(JOBS) bash scripts/sanitize.sh address,undefined

tsan: $(STAMP) ## The native tests under the thread sanitizer
	@VENV=$(VENV) JOBS=$(JOBS) bash scripts/sanitize.sh thread

portable: ## Build without oneDNN into build/portable and run the engine's tests there
	@JOBS=$(JOBS) bash scripts/portable.sh

clean: ## Remove what was built and what runs have written; keep .venv
	@rm -rf build var dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache $(STAMP)
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
