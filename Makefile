# Needs Python 3.11 or newer, make and the package registries; nothing else. Targets: make help
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV ?= .venv
# Options for `python -m venv`, e.g. VENV_ARGS=--system-site-packages to use a torch that the system has.
VENV_ARGS ?=
# The Python to build .venv with; without it, the first that is new enough. One that only a shim names does not count.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

# Processes that tests run in; each has servers of its own. ARGS='-n 0 tests/x.py' runs one file in this process.
WORKERS ?= 2
# In the order of the folders: left to xdist, files with few tests come last, which are the longest.
side_by_side := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bin := $(VENV)/bin
# What .venv was last prepared with. A change of either input prepares it again; otherwise nothing is done.
stamp := $(VENV)/.prepared
test_stamp := $(VENV)/.prepared-for-tests
inputs := pyproject.toml constraints.txt Makefile
lint_tree := .cache/lint/gradtrace
pip := $(bin)/python -m pip --disable-pip-version-check

.PHONY: help venv run test test-long test-full lint format docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(stamp) ## make .venv and install gradtrace into it (PYTHON=..., VENV_ARGS=...)

run: $(stamp) ## train the default workload, trace, store, and print what was seen (ARGS='...' for more)
	@$(bin)/gradtrace run char-lstm $(ARGS)

test: $(test_stamp) lint ## install what tests need, check style and types, run all tests
	@.ci/chromium
	$(bin)/python -m pytest -m 'not full' $(side_by_side) $(ARGS)

test-long: $(test_stamp) ## only the long tests, those that `make test` leaves out
	@.ci/chromium
	$(bin)/python -m pytest -m full $(side_by_side) $(ARGS)

test-full: $(test_stamp) lint ## all tests, the long ones included
	@.ci/chromium
	$(bin)/python -m pytest $(side_by_side) $(ARGS)

lint: $(test_stamp) ## ruff, mypy and the import rules
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	@mkdir -p $(lint_tree)
	@for part in tracer service queries; do ln -sfn ../../../$$part $(lint_tree)/$$part; done
	MYPYPATH=.cache/lint $(bin)/mypy -p gradtrace
	PYTHONPATH=.cache/lint:. $(bin)/lint-imports --no-logo --cache-dir .cache/import-linter

format: $(test_stamp) ## put the code into the house style
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

docs: $(test_stamp) ## build the documentation site into build/site; a warning is an error
	$(bin)/sphinx-build -q -W --keep-going -d build/doctrees docs build/site
	@echo "Open build/site/index.html"

bench: $(test_stamp) ## measure tracing and storing against plain training (minutes)
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
		name=$$(basename $$file .py); echo "== $$name"; $(bin)/python -m benchmarks.$$name $(ARGS) || exit 1; done

clean: ## remove .venv and everything generated
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(bin)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv found; install one, or say make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv $(VENV_ARGS) $(VENV)

# A torch that .venv can already import stays: its own version takes the place of the pinned one, and the CUDA
# libraries that the pinned one brings are left out.
$(VENV)/constraints.txt: $(inputs) | $(bin)/python
	@torch=$$($(bin)/python -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null); \
	if [ -n "$$torch" ]; then \
		grep -vE '^(torch|triton|nvidia-|cuda-)' constraints.txt > $@; echo "torch==$$torch" >> $@; \
		echo "Keeping the torch $$torch that $(VENV) has."; \
	else cp constraints.txt $@; fi

$(stamp): $(VENV)/constraints.txt
	$(pip) install -c $(VENV)/constraints.txt -e .
	@touch $@

$(test_stamp): $(stamp)
	$(pip) install -c $(VENV)/constraints.txt -e '.[test]'
	@touch $@
