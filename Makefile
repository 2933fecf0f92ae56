# `make demo` and `make test` need python3 (3.11 or newer) and make, nothing else.
PYTHON ?= python3
DATA_DIR ?= data
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/python
LOCKS := requirements-build.lock requirements.lock
# The locks are complete: pip resolves nothing, and builds nothing with whatever tools are newest that day.
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-heavy lint bench coverage lock

help:
	@echo 'make demo        the whole system with sample data (DATA_DIR=data PORT=8000)'
	@echo 'make test        the tests                 make test-heavy  faults, scale, whole stack'
	@echo 'make lint        ruff, imports, mypy       make bench       the benchmark table'
	@echo 'make coverage    the branches that the tests take, by file, and as pages in build/coverage'
	@echo 'make install     only the virtual environment in $(VENV)'
	@echo 'make lock        renew requirements.lock (needs uv)'

install: $(STAMP)

# Install only if a lock is newer than the stamp.
$(STAMP): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'Python 3.11 or newer is needed; "$(PYTHON)" is missing or older. Name another: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo 'This Python can make no virtual environments: install its venv module (Debian, Ubuntu: python3-venv).' >&2; exit 1; }
	@echo 'Installing the locked dependencies into $(VENV) ...'
	@$(RUN) -c '' 2>/dev/null || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -r requirements-build.lock
	@$(PIP_INSTALL) --no-build-isolation --use-pep517 -r requirements.lock
	@touch $(STAMP)

demo: export DATA_DIR := $(DATA_DIR)
demo: export PORT := $(PORT)
demo: $(STAMP)
	@exec $(RUN) -m app.demo

test: $(STAMP)
	@$(RUN) -m pytest -n 2 -m 'not heavy'

test-heavy: $(STAMP)
	@$(RUN) -m pytest -n 2 -m heavy

lint: $(STAMP)
	@$(RUN) -m ruff check .
	@$(VENV)/bin/lint-imports --no-logo
	@$(RUN) -m mypy

bench: $(STAMP)
	@$(RUN) -m tests.bench

# Killed processes, and helpers of the engine that get an environment of their own, leave no figures.
coverage: $(STAMP)
	@mkdir -p build
	@rm -f build/.coverage build/.coverage.*
	@status=0; $(RUN) -m coverage run -m pytest -n 2 -m 'not heavy' || status=$$?; \
	  $(RUN) -m coverage combine --quiet && $(RUN) -m coverage report && $(RUN) -m coverage html --quiet; exit $$status

lock:
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock
