# Two commands: `make book` and `make test`. Both make .venv from the lock file when it is not current.

# The first that starts: what is on the path may lead nowhere (a shim of pyenv).
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES ?= 2
# nbmake passes over every folder named _build.
EXECUTED := runs/executed

export JIADF_CACHE ?= $(CURDIR)/_build/cache
# Everything here is small: one thread a process is faster than two that wait for each other.
export OMP_NUM_THREADS ?= 1
# Freed memory stays in the process (jiadf/memory.py), in notebooks and tests too.
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 2147483647
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book test unit notebooks-test browser-test lint lock clean
.DELETE_ON_ERROR:

# Killed without a chance to clean up, snakemake leaves its locks; whose process is gone is known.
RUNNING := .snakemake/make_book.pid

book: $(STAMP)
	@if test -f $(RUNNING) && ls .snakemake/locks/* >/dev/null 2>&1 && ! kill -0 `cat $(RUNNING)` 2>/dev/null; \
	then echo "make book: process `cat $(RUNNING)` is gone; its locks are removed" \
		&& $(BIN)/snakemake --unlock --quiet; fi
	@mkdir -p .snakemake
	@sh -c 'echo $$$$ > $(RUNNING); \
		exec $(BIN)/snakemake --cores $(CORES) --rerun-incomplete --quiet rules'; \
	status=$$?; test $$status -ge 128 || rm -f $(RUNNING); exit $$status

test: lint unit notebooks-test browser-test

# What builds a package is locked, too, and comes first.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation

$(STAMP): requirements.lock requirements-build.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or 3.12 starts: make PYTHON=PATH" >&2; exit 1; }
	$(BIN)/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements-build.lock
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps -e .
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(STAMP)
	$(BIN)/python -m pytest -q -n $(CORES) tests --ignore=tests/book/test_pages.py

# What nbmake executed is what the book shows: no page is executed twice.
notebooks-test: $(STAMP)
	rm -rf $(EXECUTED)
	$(BIN)/python book/execute.py --prepare-only --out $(EXECUTED)
	$(BIN)/python -m pytest -q -n $(CORES) --nbmake --overwrite --nbmake-timeout=900 $(EXECUTED)
	mkdir -p _build/source/notebooks
	mv $(EXECUTED)/*.ipynb _build/source/notebooks/

browser-test: book
	$(BIN)/python tests/book/ensure_browser.py
	$(BIN)/python -m pytest -q tests/book/test_pages.py

# uv resolves for every platform and Python at once: python -m pip install uv
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock:
	$(LOCK) pyproject.toml --extra book --extra dev -o requirements.lock
	printf 'setuptools\nsetuptools-scm\nwheel\n' | $(LOCK) - -c requirements.lock -o requirements-build.lock

clean:
	rm -rf _build .snakemake runs/executed
