# Every target sets up what it needs; a Python >= 3.12 on PATH or in a pyenv is all that must be there.

VENV := .venv
PY := $(VENV)/bin/python
BENCH_VENV := .venv-bench
BENCH_PY := $(BENCH_VENV)/bin/python
PYTEST_ARGS ?=

# A Python named on the command line (make setup PYTHON=...) must reach scripts/find_python.sh. The
# variable is exported only when set, because an empty PYTHON would be taken as a name.
ifdef PYTHON
export PYTHON
endif

ENV_FILES := pyproject.toml constraints.txt scripts/make_env.sh scripts/find_python.sh

.DEFAULT_GOAL := help
.PHONY: help setup demo test validate bench lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make the environment .venv (the other targets do it when needed)

# The stamps are written last, so that an installation that was cut off is repeated.
$(VENV)/.installed: $(ENV_FILES)
	scripts/make_env.sh $(VENV) dev
	@touch $@

$(BENCH_VENV)/.installed: $(ENV_FILES)
	scripts/make_env.sh $(BENCH_VENV) bench
	@touch $@

demo: $(VENV)/.installed ## fit a multi-state model to real data and write demo/report.html
	$(VENV)/bin/mjp fit cav --out demo --seed 0
	@echo "The report is in demo/report.html"

test: $(VENV)/.installed ## the fast tests
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(PYTEST_ARGS)

validate: $(VENV)/.installed ## the slow statistical tests
	$(PY) -m pytest -m slow $(PYTEST_ARGS)

bench: $(BENCH_VENV)/.installed ## benchmarks against other packages, in an environment of their own
	$(BENCH_PY) benchmarks/run.py

lint: $(VENV)/.installed ## ruff and pyright
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: $(VENV)/.installed ## format the code and apply ruff's safe fixes
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

clean: ## remove the environments, caches and the demo's output
	rm -rf $(VENV) $(BENCH_VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
