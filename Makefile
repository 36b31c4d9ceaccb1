# Two commands are enough: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A file or a class of tests per core at a time, so that its models load once; one thread each. tests/conftest.py says in which order.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses auto --dist loadscope --no-loadscope-reorder --durations 25

# Tests start many processes: the package and the tests are compiled once, not in each of them.
unexport PYTHONDONTWRITEBYTECODE

# Torch's OpenMP workers spin while they wait, which halves the speed of a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help venv demo install-test test test-fast test-slow lint format bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

venv: $(VENV)/.installed ## Make .venv with the package and its pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test,slurm,ray,methods]'
	@touch $@ $(VENV)/.installed

install-test: $(VENV)/.installed-test ## Make .venv with what the tests need

demo: venv ## Run DPO on the embedded world, offline, and print its table
	$(BIN)/polm-bench run +recipe=dpo
	@echo
	@echo "Look at the runs in the MLflow UI:  $(BIN)/polm-bench ui"

test: lint test-fast test-slow ## Lint, type-check and test; the fast tests first

test-fast: install-test ## Tests of under five seconds
	$(PYTEST) -m "not slow"

test-slow: install-test ## Tests that train, build or open a browser
	$(PYTEST) -m slow

lint: install-test ## Ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install-test ## Mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: venv ## Time start-up, a cold cell, one that shares its SFT, a cached one
	$(BIN)/python benchmarks/spine.py

clean: ## Remove .venv and caches; runs in .polm/ stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
