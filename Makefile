# make init     look at DATA=folder and MODEL=net.onnx, timm:name or torchvision:name (WEIGHTS=file), write mine.yaml
# make run      everything, from nothing to the table and results/report.html
# make check    say whether the configuration is right and what would run; run nothing
# make verify   the same after reading every image and result again, whatever its size and time
# make results  show the last run's table again
# make test     every test
# make lint     formatting, lint and types; make format mends what it can
# make bench    what takes longer: side-by-side measurements against peers
# make help     this text
#
# CORES=8                    at most so many cores (all)
# CONFIG=mine.yaml           settings on top of config/config.yaml; several: CONFIG="mine.yaml config/vacc.yaml"
# PYTHON=python3.11          the Python that the environment is made with, 3.11 or newer
# NO_COLOR=1                 no colours on the terminal
#
# One row again: .venv/bin/snakemake --cores all mnasnet0_5-int8-percentile
# Two runs compared: .venv/bin/python workflow/scripts/compare.py RESULTS_A RESULTS_B

PYTHON ?= python3
CORES ?= all
CONFIG ?=
VENV := .venv
BIN := $(VENV)/bin
CONFIGFILE := $(if $(CONFIG),--configfile $(CONFIG))
# Snakemake has a flag for what other tools take from the environment.
COLOUR := $(if $(NO_COLOR),--nocolor)
# On a terminal pip shows what it loads, with bars; a log needs none of it.
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(shell test -t 2 || echo --quiet)
# The commands of the environment, ort-vamc and ort-vamp among them, are found by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: init run check verify results test lint format audit bench help
.DEFAULT_GOAL := help

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mnasbench needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing the environment into $(VENV) (once; about 2 GB, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	@$(PIP) --requirement requirements.lock && $(PIP) --no-deps --no-build-isolation --editable . || \
		{ echo "make: the environment could not be installed; pip says why above (no network, a full disk, an" \
			"index without a version of requirements.lock?); the next call goes on" >&2; exit 2; }
	@touch $@

# The values stand in the environment, where make puts them: a shell never reads a name of a file.
init: $(VENV)/installed
	@[ -n "$$DATA" ] && [ -n "$$MODEL" ] || { echo "make: init wants DATA=folder and MODEL=net.onnx, timm:name or" \
		"torchvision:name (and WEIGHTS=file, CONFIG=file to write)" >&2; exit 2; }
	@python workflow/scripts/init.py --data "$$DATA" --model "$$MODEL" $${WEIGHTS:+--weights "$$WEIGHTS"} \
		--output "$${CONFIG:-mine.yaml}"

run: $(VENV)/installed
	@case "$(CORES)" in \
		all|[1-9]|[1-9][0-9]|[1-9][0-9][0-9]|[1-9][0-9][0-9][0-9]) ;; \
		*) echo "make: CORES=$(CORES): expected a number of cores, 1 or more, or all" >&2; exit 2 ;; \
	esac
	@for file in $(CONFIG); do \
		[ -f "$$file" ] || { echo "make: CONFIG=$$file: there is no such file" >&2; exit 2; }; \
	done
	@python workflow/scripts/check_config.py --files_only $(CONFIGFILE)
	snakemake --cores $(CORES) $(CONFIGFILE) $(COLOUR)
	@python workflow/scripts/show_results.py

check: $(VENV)/installed
	@python workflow/scripts/check_config.py $(CONFIGFILE)

results: $(VENV)/installed
	@python workflow/scripts/show_results.py

verify: $(VENV)/installed
	snakemake --dry-run --cores 1 $(CONFIGFILE) --config verify=contents

# A file of tests at a time on each of two cores: what a module makes once is then used by all its tests.
test: $(VENV)/installed
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	python .ci/lint_workflow.py
	mypy

format: $(VENV)/installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/rules

# Known vulnerabilities of what is pinned; where the index cannot be reached it says so and nothing is known.
audit: $(VENV)/installed
	python -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

bench: $(VENV)/installed
	MNASBENCH_KILLS=20 pytest tests/workflow/test_interrupted.py
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark"; python $$benchmark || exit 1; done
