# make run     the whole workflow, from nothing to the table (CORES=8, CONFIG=config/imagenet.yaml)
# make test    every test; make lint: formatting, lint and types; make bench: what takes longer
# make check   validate a configuration and plan, run nothing
# make help    this text

PYTHON ?= python3
CORES ?= all
CONFIG ?=
VENV := .venv
BIN := $(VENV)/bin
CONFIGFILE := $(if $(CONFIG),--configfile $(CONFIG))
# The commands of the environment, ort-vamc and ort-vamp among them, are found by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run check test lint format bench help clean-venv
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile | head -n 5

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mnasbench needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing the environment into $(VENV) (once; about 2 GB)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(VENV)/installed
	snakemake --cores $(CORES) $(CONFIGFILE)
	@python workflow/scripts/show_results.py

check: $(VENV)/installed
	snakemake --cores 1 $(CONFIGFILE) --dry-run --quiet

# A file of tests at a time on each of two cores: what a module makes once is then used by all its tests.
test: $(VENV)/installed
	pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint
	mypy

format: $(VENV)/installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/rules

bench: $(VENV)/installed
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark"; python $$benchmark || exit 1; done
