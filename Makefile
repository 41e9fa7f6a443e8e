# Two commands: `make book` and `make test`. Both make .venv from the lock file when it is not current.

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12) python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES ?= 2
# nbmake passes over every folder named _build.
SMOKE := runs/smoke

export JIADF_CACHE ?= $(CURDIR)/_build/cache
# Everything here is small: one thread a process is faster than two that wait for each other.
export OMP_NUM_THREADS ?= 1
# Freed memory stays in the process (jiadf/memory.py), in notebooks and tests too.
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 2147483647
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book test unit notebooks-test browser-test lint lock clean
.DELETE_ON_ERROR:

book: $(STAMP)
	$(BIN)/snakemake --cores $(CORES) --rerun-incomplete --quiet rules

test: lint unit notebooks-test browser-test

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(STAMP)
	$(BIN)/python -m pytest -q -n $(CORES) tests --ignore=tests/book/test_pages.py

notebooks-test: $(STAMP)
	$(BIN)/python book/execute.py --prepare-only --params params/smoke.yaml --out $(SMOKE) notebooks/*.ipynb
	$(BIN)/python -m pytest -q --nbmake --nbmake-timeout=600 $(SMOKE)

browser-test: book
	$(BIN)/python tests/book/ensure_browser.py
	$(BIN)/python -m pytest -q tests/book/test_pages.py

# uv resolves for every platform and Python at once: python -m pip install uv
lock:
	uv pip compile pyproject.toml --extra book --extra dev --universal --python-version 3.11 \
		--no-header --no-annotate -o requirements.lock

clean:
	rm -rf _build .snakemake runs/smoke
