# Every target installs what it needs into .venv first; the second time that takes no time.
# Needs Python 3.11, make and git. PYTHON=/path/to/python3.11 chooses another interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo test test-all coverage lint format bench docs lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Test processes: one a core, at most four, as each may hold 2 GiB. PROCESSES=0 runs all in one, for a debugger.
PROCESSES ?= logical
PYTEST := $(BIN)/python -m pytest
BESIDE := -n $(PROCESSES) --maxprocesses 4 --dist loadfile

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED)  ## install into .venv, with the pinned versions

# Without the constraints pip backtracks for minutes. pip would compile on one core: compileall does on all.
# What it cannot compile are files for newer Pythons, which some packages hold.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rayplat needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

demo: $(INSTALLED)  ## the whole loop on real flights, from events to a traced prediction
	$(BIN)/rayplat run examples/flights

test: $(INSTALLED)  ## the tests that are not slow, several at once
	$(PYTEST) $(BESIDE) -m 'not slow'

test-all: $(INSTALLED)  ## the tests, the slow ones too, with coverage
	$(PYTEST) $(BESIDE) -m 'not slow' --cov --cov-report=
	$(PYTEST) -m slow --cov --cov-append --cov-report=term

coverage: $(INSTALLED)  ## the tests that are not slow, with coverage
	$(PYTEST) $(BESIDE) -m 'not slow' --cov --cov-report=term

lint: $(INSTALLED)  ## format, lint, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## put the format right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)  ## run every benchmark beside its peers and write docs/performance.md
	$(BIN)/python benchmarks/run_all.py

docs: $(INSTALLED)  ## write docs/reference/ from the code
	$(BIN)/python docs/generate_reference.py

# Local version tags (+cpu) name one build of a release, and addresses one registry: neither is for others.
lock:  ## compile constraints.txt from pyproject.toml; pins that still fit stay, LOCK=--upgrade renews them
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	"$(PYTHON)" -m venv "$$folder/venv"; sed /^torch==/d constraints.txt > "$$folder/compiled.txt"; \
	"$$folder/venv/bin/python" -m pip install --disable-pip-version-check --quiet uv; \
	"$$folder/venv/bin/uv" pip compile pyproject.toml --all-extras --python-version 3.11 --quiet \
	  --no-header --no-annotate $(LOCK) $${PIP_FIND_LINKS:+--find-links "$$PIP_FIND_LINKS"} \
	  --output-file "$$folder/compiled.txt"; \
	sed -E -e '/^(--|#|rayplat[= @])/d' -e 's/^([^=]+==[^+ ]+)\+[A-Za-z0-9.]+/\1/' "$$folder/compiled.txt" > "$$folder/constraints.txt"; \
	if grep -n '://' "$$folder/constraints.txt"; then echo 'a pin holds an address: constraints.txt is left as it was'; exit 1; fi; \
	mv "$$folder/constraints.txt" constraints.txt; \
	wc -l constraints.txt

clean:  ## remove what can be made again, except .venv
	rm -rf .bench build dist .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
